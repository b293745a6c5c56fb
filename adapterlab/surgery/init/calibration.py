"""Runs of the model that some methods are initialized from: gradients of the weights, and inputs of the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.context import Moments
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.linear_layers import LinearLayer


def weight_gradients(
    layers: Mapping[str, LinearLayer], loss: Callable[[], Tensor]
) -> dict[str, Float[Tensor, "out in"]]:
    """Return the gradient of a loss with respect to the weight of each linear layer.

    `requires_grad` of each weight is restored afterwards, and no `.grad` is set.

    Args:
        layers: Linear layers by path.
        loss: Runs the model on calibration data and returns a scalar; called once.

    Returns:
        Gradients by path, shaped `(out, in)` also for a `Conv1D`; zeros for a layer that the loss does not depend on.

    Raises:
        AdapterlabError: The loss depends on none of the weights.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> weight_gradients({"layer": layer}, lambda: layer(torch.ones(1, 2)).sum())
    {'layer': tensor([[1., 1.]])}
    """
    weights = [layer.weight for layer in layers.values()]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            value = loss()
            if not value.requires_grad:
                raise AdapterlabError(
                    "the loss given to attach does not depend on the model's weights: run the model in it"
                )
            gradients = torch.autograd.grad(value, weights, materialize_grads=True)
    finally:
        for weight, trainable in zip(weights, before, strict=True):
            weight.requires_grad_(trainable)
    return {
        path: gradient.T if isinstance(layer, Conv1D) else gradient
        for (path, layer), gradient in zip(layers.items(), gradients, strict=True)
    }


def layer_inputs(
    layers: Mapping[str, LinearLayer], runs: Sequence[Callable[[], object]]
) -> dict[str, list[Float[Tensor, "samples in"]]]:
    """Return the inputs of linear layers at the last token of each sequence.

    Args:
        layers: Linear layers by path.
        runs: Functions that each run the model on some sequences, padded on the left.

    Returns:
        For each path, one tensor for each of `runs`: the inputs of all its sequences, `(samples, in)`.

    Raises:
        AdapterlabError: A run does not call one of the layers.

    >>> layer = nn.Linear(2, 1)
    >>> layer_inputs({"layer": layer}, [lambda: layer(torch.arange(6.0).reshape(1, 3, 2))])
    {'layer': [tensor([[4., 5.]])]}
    """
    calls: dict[str, list[Tensor]] = {path: [] for path in layers}

    def record(path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach()
        calls[path].append(x[:, -1] if x.ndim == 3 else x)

    inputs: dict[str, list[Tensor]] = {path: [] for path in layers}
    hooks = [layer.register_forward_pre_hook(partial(record, path)) for path, layer in layers.items()]
    try:
        for run in runs:
            with torch.no_grad():
                run()
            for path, seen in calls.items():
                if not seen:
                    raise AdapterlabError(
                        f"a run given to attach never called the layer {path}: run the whole model in it"
                    )
                inputs[path].append(torch.cat(seen))
                seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


def input_moments(layers: Mapping[str, LinearLayer], runs: Sequence[Callable[[], object]]) -> dict[str, Moments]:
    """Return sums over the inputs of linear layers at all tokens; each takes the memory of an `(in, in)` matrix.

    Args:
        layers: Linear layers by path.
        runs: Functions that each run the model on some texts. Padding is counted like other tokens.

    Returns:
        Sums by path, in float64 for float64 inputs, else in float32.

    Raises:
        AdapterlabError: No run calls one of the layers.

    >>> layer = nn.Linear(2, 1)
    >>> input_moments({"layer": layer}, [lambda: layer(torch.arange(4.0).reshape(1, 2, 2))])["layer"].total
    tensor([2., 4.])
    """
    sums: dict[str, Moments] = {}

    def record(path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach().flatten(0, -2)
        x = x if x.dtype == torch.float64 else x.float()
        largest = float(x.max().abs())
        seen = Moments(len(x), 1, x.sum(0), x.T @ x, largest)
        if path in sums:
            tokens, calls, total, squares, before = sums[path]
            seen = Moments(tokens + len(x), calls + 1, total + seen.total, squares + seen.squares, max(before, largest))
        sums[path] = seen

    hooks = [layer.register_forward_pre_hook(partial(record, path)) for path, layer in layers.items()]
    try:
        with torch.no_grad():
            for run in runs:
                run()
    finally:
        for hook in hooks:
            hook.remove()
    if missing := [path for path in layers if path not in sums]:
        raise AdapterlabError(
            f"the runs given to attach never called the layer {missing[0]}: run the whole model in them"
        )
    return sums
