"""Effects of a weight change on activations: drift, angles, and the similarity of the residual streams.

>>> layer = nn.Linear(3, 3, bias=False)
>>> weight = layer.weight.detach()
>>> found = measure_activations(nn.Sequential(layer), {"0": 2 * weight}, [{"input": torch.randn(8, 3)}])
>>> {name: round(value, 4) for name, value in found["0"].items()}
{'drift': 1.0, 'angle': 0.0, 'norm_drift': 1.0}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.in_model import with_weights
from adapterlab.geometry.stream import StreamMoments
from adapterlab.surgery.model.decoder import Decoder

Inputs = Mapping[str, Tensor]
"""Inputs of one call of the model by name; tokens that an `attention_mask` hides are not measured."""


@torch.no_grad()
def measure_activations(
    model: nn.Module, tuned: Mapping[str, Float[Tensor, "out in"]], batches: Iterable[Inputs]
) -> dict[str, dict[str, float]]:
    """Measure the effect of a weight change on a model's activations.

    Only sums are kept between batches: a few numbers for each linear layer, and three matrices `(width, width)` in float64
    for each block.

    Args:
        model: The base model, in evaluation mode, without adapters on the changed layers. Its weights are replaced by the
            tuned ones during the call.
        tuned: Changed weights by path of the linear layer.
        batches: Inputs, read once.

    Returns:
        Measures by path. Of each changed layer that ran, with its input `h` in the base model:

        - `drift`: `E|dW h|^2 / E|W h|^2`, infinite if `W h` is zero throughout
        - `angle`: mean angle between `W h` and `(W + dW) h`, in degrees
        - `norm_drift`: `sqrt(E|(W + dW) h|^2 / E|W h|^2) - 1`

        Of each block, comparing its output (the residual stream) in the base and in the tuned model:

        - `cka`: linear centered kernel alignment, 1 for equal streams up to a rotation and a scale (Kornblith et al. 2019,
          equations 3 and 4)
        - `procrustes`: smallest squared distance of the centered streams over all rotations, divided by the squared norm of
          the base's (Schönemann 1966)

        A model without a list of blocks has no measures of blocks.

    Raises:
        AdapterlabError: There are no batches, or no unmasked token.
    """
    layers = {path: _LayerSums(model.get_submodule(path), weight) for path, weight in tuned.items()}
    streams = {path: StreamMoments() for path in _blocks(model)}
    calls = 0
    for batch in batches:
        calls += 1
        mask = batch.get("attention_mask")
        kept = None if mask is None else mask.bool().flatten()
        before = _run(model, batch, streams, {path: partial(sums.add, kept=kept) for path, sums in layers.items()})
        if streams:
            with with_weights(model, tuned):
                after = _run(model, batch, streams, {})
            for path, moments in streams.items():
                moments.add(*(_rows(stream[path], kept) for stream in (before, after)))
    found = {path: sums.measures() for path, sums in layers.items() if sums.tokens}
    if not found:
        raise AdapterlabError(
            "no activations to measure: there are no batches"
            if not calls
            else "no activations to measure: no changed layer has seen a token, since all are masked or it did not run"
        )
    return found | {path: moments.measures() for path, moments in streams.items()}


@dataclass
class _LayerSums:
    """Sums over tokens of one layer's outputs."""

    layer: nn.Module
    tuned: Tensor
    tokens: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))

    def add(self, h: Tensor, kept: Tensor | None) -> None:
        """Add the tokens of one call, as inputs `(*, in)` of the layer."""
        weight = self.layer.get_parameter("weight")
        base = weight.T if isinstance(self.layer, Conv1D) else weight
        h = _rows(h, kept)
        before, change = (h @ base.T).double(), (h @ (self.tuned.to(base) - base).T).double()
        after = before + change
        squares = (x.square().sum() for x in (change, before, after))
        self.sums += torch.stack([*squares, _angles(before, after).sum()]).cpu()
        self.tokens += len(h)

    def measures(self) -> dict[str, float]:
        """Return the measures of the layer."""
        change, before, after, angle = self.sums.tolist()
        return {
            "drift": change / before if before else math.inf,
            "angle": angle / self.tokens,
            "norm_drift": math.sqrt(after / before) - 1 if before else math.inf,
        }


def _angles(first: Float[Tensor, "tokens out"], second: Float[Tensor, "tokens out"]) -> Float[Tensor, " tokens"]:
    """Return the angles between rows in degrees, exact for small angles too; 0 where a row is zero."""
    a, b = nn.functional.normalize(first), nn.functional.normalize(second)
    angle = 2 * torch.atan2(torch.linalg.vector_norm(a - b, dim=1), torch.linalg.vector_norm(a + b, dim=1))
    return torch.rad2deg(torch.where(a.any(1) & b.any(1), angle, 0.0))


def _blocks(model: nn.Module) -> list[str]:
    try:
        return [block.path for block in Decoder(model).blocks]
    except AdapterlabError:
        return []


def _run(model: nn.Module, batch: Inputs, streams: Iterable[str], inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run the model on a batch; return the outputs of blocks, and give the inputs of layers to functions."""
    outputs: dict[str, Tensor] = {}

    def keep(path: str, module: nn.Module, args: Any, output: Any) -> None:
        outputs[path] = output[0] if isinstance(output, tuple) else output

    with _hooks() as hooks:
        for path in streams:
            hooks.append(model.get_submodule(path).register_forward_hook(partial(keep, path)))
        for path, receive in inputs.items():
            hook = partial(_give_input, receive)
            hooks.append(model.get_submodule(path).register_forward_pre_hook(hook))
        model(**batch)
    return outputs


@contextmanager
def _hooks() -> Iterator[list[Any]]:
    hooks: list[Any] = []
    try:
        yield hooks
    finally:
        for hook in hooks:
            hook.remove()


def _give_input(receive: Any, module: nn.Module, args: tuple[Tensor, ...]) -> None:
    receive(args[0])


def _rows(x: Float[Tensor, "*tokens width"], kept: Tensor | None) -> Float[Tensor, "kept width"]:
    """Return a row for each token that is not masked."""
    rows = x.flatten(0, -2)
    # A layer that sees other positions than the mask, such as the experts of a mixture, is measured on all it sees.
    return rows if kept is None or len(kept) != len(rows) else rows[kept.to(rows.device)]
