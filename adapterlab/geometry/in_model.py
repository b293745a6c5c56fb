"""The change that an attached adapter makes, and models with other weights for a while.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery import attach
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> handle = attach(model, adapter("lora", rank=2))
>>> with torch.no_grad():
...     handle.sites["0"].trained["b"].fill_(1.0).shape
torch.Size([4, 2])
>>> change_of(handle).read("0").norm > 0
True
>>> handle.detach()
>>> with with_weights(model, {"0": torch.zeros(4, 4)}):
...     float(model[0].weight.detach().abs().sum())
0.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import InMemory, OtherChange
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.submodules import in_adapter


def changes_linear_weights(adapter: Adapter) -> bool:
    """Return True if a method can change weights of linear layers, so that its changes have a geometry.

    >>> from adapterlab.adapters import adapter
    >>> [changes_linear_weights(adapter(name)) for name in ("lora", "full_ft", "ln_tuning", "reft")]
    [True, True, False, False]

    Args:
        adapter: The method with its settings.
    """
    if isinstance(adapter, ParameterAdapter):
        return adapter.selects(nn.Linear(1, 1), "weight")
    return adapter.mergeable


@torch.no_grad()
def change_of(handle: Handle, tuned_name: str = "tuned") -> InMemory:
    """Return the change that an attached adapter makes to the weights of linear layers at its present strength.

    It is computed in float32 at least, so that a base of 16 bits does not round most of it away.

    Args:
        handle: The adapter, not merged. It is merged for the duration of the call.
        tuned_name: Name of the changed model.

    Returns:
        The weights of the linear layers that the adapter changes, and the sizes of its other changes. The weights are
        copies, so they outlive the adapter.

    Raises:
        AdapterlabError: The method changes no weight of a linear layer, such as a prompt.
    """
    model = handle.model
    with in_float32(model):
        base = _parameters(model)
        handle.merge()
        try:
            tuned = _parameters(model)
        finally:
            handle.unmerge()
    layers = {f"{path}.weight": (path, layer) for path, layer in linears(model).items()}
    weights: dict[str, tuple[Tensor, Tensor]] = {}
    others = []
    for name, before in base.items():
        after = tuned.get(name)
        if after is None or torch.equal(before, after):
            continue
        if name in layers:
            path, layer = layers[name]
            weights[path] = _rows_out(before, layer).float(), _rows_out(after, layer).float()
        else:
            size, base_size = (float(torch.linalg.vector_norm(t.double())) for t in (after - before, before))
            others.append(OtherChange(name, size, size / base_size if base_size else float("inf")))
    if not weights:
        raise AdapterlabError(f"{handle.adapter.name} changes no weight of a linear layer, so it has no geometry")
    return InMemory(weights, tuned_name=tuned_name, others=others)


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Hold the floating-point parameters of a model in float32, or more, for the duration of a `with` block.

    Args:
        model: The model; afterwards its parameters are the same tensors as before.
    """
    low = [p for p in model.parameters() if p.dtype in (torch.float16, torch.bfloat16)]
    before = [p.data for p in low]
    try:
        for parameter in low:
            parameter.data = parameter.data.float()
        yield
    finally:
        for parameter, data in zip(low, before, strict=True):
            parameter.data = data


@contextmanager
def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give linear layers other weights for the duration of a `with` block.

    Args:
        model: The model, without adapters on these layers.
        weights: Weights `(out, in)` by path of the layer, in any floating-point dtype.
    """
    layers = {path: model.get_submodule(path) for path in weights}
    before: dict[str, Tensor] = {path: layer.get_parameter("weight").data for path, layer in layers.items()}
    try:
        for path, layer in layers.items():
            layer.weight.data = (
                _rows_out(weights[path], layer).to(before[path].dtype).to(before[path].device).contiguous()
            )
        yield
    finally:
        for path, layer in layers.items():
            layer.get_parameter("weight").data = before[path]


class ChangeStrength:
    """A control of the strength of a change of weights: 0 for the base, 1 for the changed weights, a line through both.

    Args:
        model: The base model.
        weights: Changed weights `(out, in)` by path of the layer.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self.kept: dict[str, Any] = {}
        """Results of the base model on the examples that are scored, which a task keeps between calls."""
        self._model, self._weights = model, weights
        self._placed, self._strength = ExitStack(), 0.0

    @property
    def strength(self) -> float:
        """Factor on the change, 0 at first."""
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        if value == self._strength:
            return
        self._placed.close()
        self._strength = 0.0
        if value:
            weights = {path: self._at(path, weight, value) for path, weight in self._weights.items()}
            self._placed.enter_context(with_weights(self._model, weights))
        self._strength = value

    def _at(self, path: str, weight: Tensor, strength: float) -> Tensor:
        if strength == 1:
            return weight
        layer = self._model.get_submodule(path)
        base = _rows_out(layer.get_parameter("weight").data, layer).to(weight)
        return base + strength * (weight - base)


@contextmanager
def changed(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[ChangeStrength]:
    """Give linear layers other weights for the duration of a `with` block, in which their strength can be set.

    Args:
        model: The model, without adapters on these layers.
        weights: Weights `(out, in)` by path of the layer.

    Yields:
        The control of the strength of their change, at 1.
    """
    control = ChangeStrength(model, weights)
    try:
        control.strength = 1.0
        yield control
    finally:
        control.strength = 0.0


def _rows_out(weight: Tensor, layer: nn.Module) -> Tensor:
    """Return a weight as `(out, in)` of a `Conv1D`, which stores it transposed, or the other way round."""
    return weight.T if isinstance(layer, Conv1D) else weight


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the model's own parameters by path, each as the model computes with it."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if not in_adapter(name)}
