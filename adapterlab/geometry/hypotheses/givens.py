"""Givens rotations: the input features are rotated by a chain of plane rotations.

>>> Givens().count(1, (4, 8))
7
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting
from adapterlab.geometry.hypotheses.descent import best_of

START = 0.05
"""Standard deviation of the angles of random starts, in radians."""


class Givens(LayerHypothesis):
    """`W' = W R^T`, `R = P_1 P_2 ...`, where `P_r` rotates the planes of features `2^r k` and `2^(r-1) (2 k + 1)`.

    There is one angle less than there are features (Ma et al. 2024, equations 3 and 4; `goft` for widths that are not
    powers of two), so the class has a single size, 1. Given the other rounds, each angle of a round is closed form.
    """

    name = "givens"
    title = "Givens rotations"
    statement = (
        "A chain of plane rotations, with one angle per feature, is as useful as any rotation of a layer's input."
    )
    adapters = ("goft",)
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return (1,) if all(columns > 1 for _, columns in shapes) else ()

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return shape[1] - 1

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        cross = change.tuned.T @ change.base
        scale = 2 / change.norm**2

        def sweep(chain: _Chain) -> tuple[_Chain, float]:
            improved = _improved(chain, cross)
            return improved, 1 - scale * improved.gain

        fit = best_of(_starts(cross, setting.seed), sweep, setting)
        weight = change.base.clone()
        for at in reversed(range(len(fit.state.angles))):
            _turn(weight, fit.state.angles[at], 2**at)
        return Nearest(weight, fit.converged)


class _Chain(NamedTuple):
    angles: list[Tensor]
    """Angles of each round; a plane is a pair of neighbors among the features that the round before left as first."""
    gain: float
    """`sum((R - I) * cross)`."""


def _improved(chain: _Chain, cross: Float[Tensor, "in in"]) -> _Chain:
    """Return the chain after each round, from the first, has been set to the best given the others.

    With `R = L P Q` around a round `P`, `sum(R * cross) = sum(P * seen)` for `seen = L^T cross Q^T`. `L` and `Q` mix only
    features of the rounds before and after, so at each round half the rows and columns can be dropped.
    """
    after = _products(chain.angles)[1:]
    angles, gain, left = list(chain.angles), chain.gain, cross
    for at, old in enumerate(chain.angles):
        pairs = len(old)
        rest = after[at][:pairs]
        first, second = left[: 2 * pairs : 2], left[1 : 2 * pairs : 2]
        cos = (first[:, ::2] * rest).sum(1) + second[:, 1::2].diagonal()
        sin = (second[:, ::2] * rest).sum(1) - first[:, 1::2].diagonal()
        cos, sin = cos.double(), sin.double()
        gain += float((torch.hypot(cos, sin) - cos * old.double().cos() - sin * old.double().sin()).sum())
        angle = angles[at] = torch.atan2(sin, cos).to(cross.dtype)
        turned = angle.cos()[:, None] * first[:, ::2] + angle.sin()[:, None] * second[:, ::2]
        left = torch.cat([turned, left[2 * pairs :, ::2]])
    return _Chain(angles, gain)


def _products(angles: Sequence[Tensor]) -> list[Tensor]:
    """Return `P_r P_(r+1) ...` for each round and 1 after the last, on the features that take part."""
    products = [angles[0].new_ones(1, 1)]
    for angle in reversed(angles):
        pairs, rest = len(angle), products[0]
        width = pairs + len(rest)
        cos, sin = angle.cos(), angle.sin()
        product = rest.new_zeros(width, width)
        product[: 2 * pairs : 2, ::2] = cos[:, None] * rest[:pairs]
        product[1 : 2 * pairs : 2, ::2] = sin[:, None] * rest[:pairs]
        product[: 2 * pairs : 2, 1::2].diagonal().copy_(-sin)
        product[1 : 2 * pairs : 2, 1::2].diagonal().copy_(cos)
        product[2 * pairs :, ::2] = rest[pairs:]
        products.insert(0, product)
    return products


def _starts(cross: Float[Tensor, "in in"], seed: int) -> Iterator[_Chain]:
    width, none = len(cross), []
    while width > 1:
        none.append(cross.new_zeros(width // 2))
        width -= width // 2
    yield _Chain(none, 0.0)
    generator = torch.Generator().manual_seed(seed)
    while True:
        angles = [START * torch.randn(len(each), generator=generator, dtype=cross.dtype) for each in none]
        moved = _products(angles)[0] - torch.eye(len(cross), dtype=cross.dtype)
        yield _Chain(angles, float((moved * cross).double().sum()))


def _turn(matrix: Float[Tensor, "rows width"], angle: Float[Tensor, " pairs"], stride: int) -> None:
    """Multiply a matrix from the right by the transpose of a round's rotation, in place."""
    end = 2 * len(angle) * stride
    first, second = matrix[:, : end : 2 * stride], matrix[:, stride : end : 2 * stride]
    cos, sin = angle.cos(), angle.sin()
    turned = first * cos - second * sin
    second.copy_(first * sin + second * cos)
    first.copy_(turned)
