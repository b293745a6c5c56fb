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
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import InMemory, OtherChange
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.submodules import in_adapter


@torch.no_grad()
def change_of(handle: Handle, tuned_name: str = "tuned") -> InMemory:
    """Return the change that an attached adapter makes to the weights of linear layers at its present strength.

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


def _rows_out(weight: Tensor, layer: nn.Module) -> Tensor:
    """Return a weight as `(out, in)` of a `Conv1D`, which stores it transposed, or the other way round."""
    return weight.T if isinstance(layer, Conv1D) else weight


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the model's own parameters by path, each as the model computes with it."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if not in_adapter(name)}
