"""The gradients that some methods start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.linear import LinearPlace
from adapterlab.surgery.sites import Place


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
