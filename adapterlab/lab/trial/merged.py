"""Score an adapter with its weights merged, as it is deployed.

A merged model runs without the adapter's overhead, so a method that is slow to apply is scored as fast as any other. The
base weights are restored bit for bit.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery import attach
>>> handle = attach(torch.nn.Sequential(torch.nn.Linear(4, 4)), adapter("lora", rank=2))
>>> with merged(handle) as control:
...     control.strength = 0.5
...     print(handle.sites["0"].merged)
True
>>> handle.sites["0"].merged, handle.strength
(False, 0.5)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from adapterlab.surgery.handle import Handle
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.weights import quantized
from adapterlab.tasks.base import Control
from adapterlab.tasks.halving import out_of_memory

EXACT = (torch.float32, torch.float64)
"""Dtypes of a base whose merged weights keep an adapter's change; 16 bits would round most of its digits away."""


@contextmanager
def merged(handle: Handle, enabled: bool = True) -> Iterator[Control]:
    """Yield a control of the adapter's strength that keeps the adapter merged at whatever strength is set.

    An adapter that cannot be merged without loss is left as it is attached, and so is one whose merged weights do not fit
    in memory beside the base's.

    Args:
        handle: The attached adapter.
        enabled: False to leave the adapter as it is attached.

    Yields:
        The control. After the block the adapter is not merged, at the strength that was set last.
    """
    control = _Merging(handle) if enabled and can_merge(handle) else handle
    try:
        yield control
    finally:
        handle.unmerge()


def can_merge(handle: Handle) -> bool:
    """Return True if the method changes weights, and all weights of the base have an exact dtype.

    Args:
        handle: The attached adapter.
    """
    model = handle.model
    exact = all(parameter.dtype in EXACT for parameter in model.parameters())
    return handle.adapter.mergeable and exact and not any(quantized(layer) for layer in linears(model).values())


class _Merging:
    """A control that merges the adapter, and merges it again whenever the strength is set."""

    def __init__(self, handle: Handle) -> None:
        self._handle, self._fits = handle, True
        self._merge()

    @property
    def strength(self) -> float:
        return self._handle.strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._handle.unmerge()
        try:
            self._handle.strength = value
        finally:
            self._merge()

    def _merge(self) -> None:
        """Merge the adapter, unless it is the base itself (strength 0) or memory is short."""
        if self._handle.strength == 0 or not self._fits:
            return
        try:
            self._handle.merge()
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._handle.unmerge()
            self._fits = False
