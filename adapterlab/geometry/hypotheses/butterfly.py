"""Butterfly: the input features are rotated by a product of two sparse factors.

>>> Butterfly().count(4, (8, 16))
48
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapterlab.adapters.orthogonal.boft import BOFT
from adapterlab.adapters.rotations import rotate_blocks
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting
from adapterlab.geometry.hypotheses.descent import best_of
from adapterlab.geometry.hypotheses.rotation import nearest_rotations

FACTORS = 2
"""Number of sparse factors, as in `boft` by default."""
START = 0.1
"""Standard deviation of the entries of the skew-symmetric matrices that random starts are made of."""


class Butterfly(LayerHypothesis):
    """`W' = W R^T`, `R = B_2 B_1`, with butterfly factors of rotations of `b` features; the size is `b`.

    Factor `i` combines halves of blocks that are `2^(i-1)` halves apart (Liu et al. 2023, equation 2), so `R` has blocks of
    `2 b` features. Given the other factor, the nearest factor is the nearest rotation in each of its blocks.
    """

    name = "butterfly"
    title = "Butterfly rotation"
    statement = "Useful change is a dense rotation, and a product of a few sparse rotations is enough."
    adapters = ("boft",)
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return BOFT(factors=FACTORS).sizes(shapes)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return FACTORS * shape[1] * (size - 1) // 2

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        span = size * 2 ** (FACTORS - 1)
        tuned, base = (w.unflatten(1, (-1, span)) for w in (change.tuned, change.base))
        cross = (tuned.permute(1, 2, 0) @ base.transpose(0, 1)).double()  # of T^T W, the blocks that R can reach
        orders = [_order(size // 2, factor) for factor in range(FACTORS)]

        def sweep(factors: list[Tensor]) -> tuple[list[Tensor], float]:
            first, second = factors
            first = _best_factor(second.mT @ cross, orders[0], size)
            second = _best_factor(cross @ first.mT, orders[1], size)
            turn = second @ first - torch.eye(span, dtype=cross.dtype)
            return [first, second], 1 - 2 * float((cross * turn).sum()) / change.norm**2

        fit = best_of(self._starts(cross, orders, size, setting.seed), sweep, setting)
        rotation = fit.state[1] @ fit.state[0]
        return Nearest(rotate_blocks(change.base, rotation.mT.to(change.base.dtype)), fit.converged)

    def _starts(
        self, cross: Float[Tensor, "runs span span"], orders: list[Tensor], size: int, seed: int
    ) -> Iterator[list[Tensor]]:
        eye = torch.eye(cross.shape[-1], dtype=cross.dtype).expand_as(cross)
        yield [eye, eye]
        yield [eye, _best_factor(cross, orders[1], size)]
        generator = torch.Generator().manual_seed(seed)
        while True:
            noise = START * torch.randn(cross.shape, generator=generator, dtype=cross.dtype)
            yield [eye, _best_factor(eye + noise - noise.mT, orders[1], size)]


def _order(half: int, factor: int) -> Int[Tensor, " span"]:
    """Return the features of a run in the order in which a factor's blocks are contiguous."""
    low, high = 2**factor, 2 ** (FACTORS - factor - 1)
    features = torch.arange(2**FACTORS * half).reshape(high, 2, low, half)
    return features.transpose(1, 2).flatten()


def _best_factor(
    cross: Float[Tensor, "runs span span"], order: Int[Tensor, " span"], size: int
) -> Float[Tensor, "runs span span"]:
    """Return the factor of largest inner product with `cross`."""
    starts = order.unflatten(0, (-1, size))
    rows, columns = starts[:, :, None], starts[:, None, :]
    factor = torch.zeros_like(cross)
    factor[:, rows, columns] = nearest_rotations(cross[:, rows, columns])
    return factor
