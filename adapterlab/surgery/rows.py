"""Adapters that differ between the rows of a batch.

Rows with the same adapter and strength run together through every adapted layer, so a batch costs about what it costs
with one adapter. Layers without adapters see the whole batch.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery.attach import attach
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> handle = attach(model, adapter("lora", rank=1), name="first")
>>> _ = [nn.init.normal_(p) for p in handle.parameters()]
>>> x = torch.ones(2, 4)
>>> with adapter_rows(model, ["first", "base"]):
...     mixed = model(x)
>>> adapted = model(x)
>>> handle.detach()
>>> bool(torch.allclose(mixed[0], adapted[0])), bool(torch.allclose(mixed[1], model(x)[1]))
(True, True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_layers import GradientCheckpointingLayer

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery.handle import attached
from adapterlab.surgery.model.call import Args, Kwargs
from adapterlab.surgery.sites.base import Site
from adapterlab.surgery.sites.linear import LinearSite
from adapterlab.surgery.sites.pair import PairHalf, PairSite
from adapterlab.surgery.sites.stack import LinearStack

BASE = "base"
"""Name that stands for the model without adapters; PEFT's `__base__` is understood too."""
NAMES, STRENGTHS = "adapter_names", "adapter_strengths"
"""Arguments of a model's call: the adapter of each row, and its strength."""


@dataclass(frozen=True)
class Group:
    """Rows with the same adapter at the same strength."""

    name: str
    """Name of the adapter, or `BASE`."""
    strength: float
    """Its strength."""
    rows: tuple[int, ...]
    """Numbers of the rows."""


@dataclass(frozen=True)
class AdapterRows:
    """The adapters of the rows of a batch."""

    groups: Sequence[Group]
    """Groups of rows; each row is in one."""
    count: int
    """Number of rows."""

    def apply(self, top: Callable[[Tensor], Tensor], stack: LinearStack, x: Tensor) -> Tensor:
        """Return the output of a layer.

        Args:
            top: The topmost entry of the layer's stack.
            stack: The stack.
            x: Input of the layer. Its first dimension may hold several entries for each row: beams, or tokens.

        Raises:
            AdapterlabError: The first dimension is not a multiple of the number of rows.
        """
        if x.shape[0] % self.count:
            raise AdapterlabError(
                f"a layer sees {x.shape[0]} rows, and {self.count} adapter names were given: give one for each row"
            )
        each = x.shape[0] // self.count
        if len(self.groups) == 1:
            with _only(stack, self.groups[0]):
                return top(x)
        entries = torch.arange(x.shape[0], device=x.device).view(self.count, each)
        indices = [entries[list(group.rows)].flatten() for group in self.groups]
        whole, outputs = _WholeBatch(stack.base.own_forward, x), []
        before, stack.base.in_place = stack.base.in_place, whole
        try:
            for group, index in zip(self.groups, indices, strict=True):
                with _only(stack, group):
                    outputs.append(top(whole.select(index)))
        finally:
            stack.base.in_place = before
        order = torch.cat(indices).argsort()
        return torch.cat(outputs).index_select(0, order)


class _WholeBatch:
    """A layer's own forward, run once for the whole batch if an adapter asks for the outputs of its rows.

    Args:
        forward: The layer's own forward.
        x: Input of the layer.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self.forward, self.x = forward, x
        self.output: Tensor | None = None
        self.rows: Tensor | None = None
        self.index: Tensor | None = None

    def select(self, index: Tensor) -> Tensor:
        """Return the rows at `index` of the input, which are the current rows from now on.

        Args:
            index: Numbers of the rows.
        """
        self.index, self.rows = index, self.x.index_select(0, index)
        return self.rows

    def __call__(self, x: Tensor) -> Tensor:
        if x is not self.rows or self.index is None:  # a method that changes the input of the layer
            return self.forward(x)
        if self.output is None:
            self.output = self.forward(self.x)
        return self.output.index_select(0, self.index)


@contextmanager
def _only(stack: LinearStack, group: Group) -> Iterator[None]:
    """Yield with the adapter of a group alone active on a layer, at the group's strength."""
    sites = [(key.partition(":")[0], _site(entry)) for key, entry in stack.items()]
    before = [(site, site.enabled, site.strength) for _, site in sites]
    try:
        for name, site in sites:
            site.enabled = name == group.name
            site.strength = group.strength
        yield
    finally:
        for site, enabled, strength in before:
            site.enabled, site.strength = enabled, strength


def _site(entry: nn.Module) -> Site:
    if isinstance(entry, PairHalf):
        return entry.site
    assert isinstance(entry, Site)
    return entry


@contextmanager
def adapter_rows(
    model: nn.Module, names: Sequence[str], strengths: Sequence[float] | float | None = None
) -> Iterator[None]:
    """Yield with an adapter of its own for each row of every batch: for calls, `generate` and training steps.

    The argument `adapter_names` of a model's call does the same for that call.

    Args:
        model: The model, with adapters of linear layers attached.
        names: The adapter of each row, or `"base"` for none.
        strengths: Strength of each row's adapter, or of all; by default each adapter's own.

    Raises:
        UnknownNameError: No adapter has such a name.
        AdapterlabError: An attached adapter is merged or adapts something other than linear layers, or a method does
            not support a strength.
    """
    rows = _grouped(model, names, strengths)
    stacks = [module for module in model.modules() if isinstance(module, LinearStack)]
    before = [stack.rows for stack in stacks]
    try:
        for stack in stacks:
            stack.rows = rows
        yield
    finally:
        for stack, own in zip(stacks, before, strict=True):
            stack.rows = own


def _grouped(model: nn.Module, names: Sequence[str], strengths: Sequence[float] | float | None) -> AdapterRows:
    handles = attached(model)
    if BASE in handles:
        raise AdapterlabError(f"{BASE!r} stands for the model without adapters: attach the adapter under another name")
    for handle in handles.values():
        kinds = {type(site) for site in handle.sites.values()}
        if not kinds <= {LinearSite, PairSite}:
            raise AdapterlabError(
                f"{handle.adapter.name} ({handle.name!r}) adapts {handle.adapter.site}s: rows of a batch can differ only in "
                "adapters of linear layers"
            )
        if any(site.merged for site in handle.sites.values()):
            raise AdapterlabError(f"the adapter {handle.name!r} is merged, the same for every row: unmerge() first")
    names = [BASE if name == "__base__" else name for name in names]
    if isinstance(strengths, int | float):
        strengths = [float(strengths)] * len(names)
    if not names or (strengths is not None and len(strengths) != len(names)):
        raise AdapterlabError(f"{len(names)} adapter names and {len(strengths or ())} strengths: give one for each row")
    groups: dict[tuple[str, float], list[int]] = {}
    for row, name in enumerate(names):
        if name != BASE and name not in handles:
            raise UnknownNameError("adapter", name, [*handles, BASE], where="adapter_names")
        strength = 0.0 if name == BASE else handles[name].strength if strengths is None else float(strengths[row])
        if name != BASE and (problem := handles[name].adapter.strength_problem(strength)):
            raise AdapterlabError(f"{handles[name].adapter.name}: {problem}")
        groups.setdefault((name, strength), []).append(row)
    return AdapterRows([Group(name, strength, tuple(rows)) for (name, strength), rows in groups.items()], len(names))


class RowsOfCalls:
    """Takes `adapter_names` and `adapter_strengths` from the calls of a model.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._running: list[Any] = []
        self.hooks: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True),
            model.register_forward_hook(self._end, always_call=True),
        ]

    def _begin(self, model: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        if NAMES not in kwargs and STRENGTHS not in kwargs:
            self._running.append(None)
            return None
        rest = {name: value for name, value in kwargs.items() if name not in (NAMES, STRENGTHS)}
        if kwargs.get(NAMES) is None:
            raise AdapterlabError(f"{STRENGTHS} needs {NAMES}: the adapter of each row")
        if torch.is_grad_enabled() and any(
            isinstance(block, GradientCheckpointingLayer) and block.gradient_checkpointing and block.training
            for block in model.modules()
        ):
            raise AdapterlabError(
                f"gradient checkpointing runs layers again after the call: use adapter_rows() around it in place of {NAMES}"
            )
        context = adapter_rows(model, kwargs[NAMES], kwargs.get(STRENGTHS))
        context.__enter__()
        self._running.append(context)
        return args, rest

    def _end(self, model: nn.Module, args: Args, output: object) -> None:
        context = self._running.pop() if self._running else None
        if context is not None:
            context.__exit__(None, None, None)
