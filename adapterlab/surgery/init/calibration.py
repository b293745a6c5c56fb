"""What some methods start from beside the weights: their gradients, and what the layers see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.linear import LinearPlace


def weight_gradients(places: Mapping[str, Place], loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """The gradient of `loss()` by the weight of each linear layer, `(out, in)`, by path; the model is left as it was.

    Raises `AdapterlabError` for a loss that does not come from these weights.
    """
    layers = {path: place.module for path, place in places.items() if isinstance(place, LinearPlace)}
    weights = [cast(nn.Parameter, layer.weight) for layer in layers.values()]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            value = loss()
            if not value.requires_grad:
                raise AdapterlabError(
                    "the loss given to attach does not come from the model's weights: run the model in it"
                )
            found = torch.autograd.grad(value, weights, materialize_grads=True)
    finally:
        for weight, trainable in zip(weights, before, strict=True):
            weight.requires_grad_(trainable)
    return {path: g.T if isinstance(layers[path], Conv1D) else g for path, g in zip(layers, found, strict=True)}


def layer_inputs(
    places: Mapping[str, Place], runs: Sequence[Callable[[], object]]
) -> dict[str, list[Float[Tensor, "samples in"]]]:
    """What each linear layer sees at the last token of each sequence, by path, for each of `runs` of the model.

    Raises `AdapterlabError` for a run that does not reach a layer.
    """
    seen: dict[str, list[Tensor]] = {path: [] for path, place in places.items() if isinstance(place, LinearPlace)}

    def see(path: str, module: nn.Module, args: Any) -> None:
        x = cast(Tensor, args[0]).detach()
        seen[path].append(x[:, -1] if x.ndim == 3 else x)

    found: dict[str, list[Tensor]] = {path: [] for path in seen}
    hooks = [cast(LinearPlace, places[path]).module.register_forward_pre_hook(partial(see, path)) for path in seen]
    try:
        for run in runs:
            with torch.no_grad():
                run()
            for path, calls in seen.items():
                if not calls:
                    raise AdapterlabError(f"a run given to attach never reached {path}: run the whole model in it")
                found[path].append(torch.cat(calls))
                calls.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return found
