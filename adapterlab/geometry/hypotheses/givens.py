"""Givens rotations: the input features are rotated by a chain of plane rotations.

>>> Givens().count(1, (4, 8))
7
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        scale = 2 / max(change.norm**2, 1e-300)

        def sweep(state: _Chain) -> tuple[_Chain, float]:
            """Improve the rounds from one end to the other; the next sweep goes back."""
            state = state.copy()
            last = len(state.angles) - 1
            for at in range(last + 1) if state.at == 0 else range(last, -1, -1):
                state.move_to(at)
                state.improve()
            return state, 1 - scale * state.gain

        fit = best_of(_starts(cross, setting.seed), sweep, setting)
        weight = change.base.clone()
        for at in reversed(range(len(fit.state.angles))):
            _turn_columns(weight, fit.state.angles[at], 2**at)
        return Nearest(weight, fit.converged)


@dataclass
class _Chain:
    """Angles of all rounds, and the cross product as one round sees it.

    With `R = L P Q` around round `at`, `seen = L^T cross Q^T`, so that `sum(R * cross) = sum(P * seen)`.
    """

    seen: Float[Tensor, "in in"]
    angles: list[Float[Tensor, " pairs"]]
    at: int = 0
    gain: float = 0.0
    """`sum((R - I) * cross)`."""

    def copy(self) -> _Chain:
        """Return a chain that can be changed without changing this one."""
        return _Chain(self.seen.clone(), list(self.angles), self.at, self.gain)

    def move_to(self, at: int) -> None:
        """See the cross product from another round."""
        while self.at < at:
            _turn_columns(self.seen.T, -self.angles[self.at], 2**self.at)
            _turn_columns(self.seen, -self.angles[self.at + 1], 2 ** (self.at + 1))
            self.at += 1
        while self.at > at:
            _turn_columns(self.seen, self.angles[self.at], 2**self.at)
            _turn_columns(self.seen.T, self.angles[self.at - 1], 2 ** (self.at - 1))
            self.at -= 1

    def improve(self) -> None:
        """Set the angles of this round to the best given the others."""
        first, second = _planes(self.seen.shape[1], 2**self.at)
        seen = self.seen
        cos = (seen[first, first] + seen[second, second]).double()
        sin = (seen[second, first] - seen[first, second]).double()
        old = self.angles[self.at].double()
        self.gain += float((torch.hypot(cos, sin) - cos * old.cos() - sin * old.sin()).sum())
        self.angles[self.at] = torch.atan2(sin, cos).to(seen.dtype)


def _starts(cross: Float[Tensor, "in in"], seed: int) -> Iterator[_Chain]:
    width = cross.shape[0]
    rounds = (width - 1).bit_length()
    none = [torch.zeros(len(_planes(width, 2**r)[0]), dtype=cross.dtype) for r in range(rounds)]
    yield _Chain(cross, none)
    yield _Chain(cross, none, at=rounds - 1)
    generator = torch.Generator().manual_seed(seed)
    while True:
        angles = [START * torch.randn(len(a), generator=generator, dtype=cross.dtype) for a in none]
        seen, turned = cross.clone(), torch.eye(width, dtype=cross.dtype)
        for at in reversed(range(1, rounds)):
            _turn_columns(seen, angles[at], 2**at)
        for at in reversed(range(rounds)):
            _turn_columns(turned, angles[at], 2**at)
        start = (turned.T - torch.eye(width, dtype=cross.dtype)).double()
        yield _Chain(seen, angles, gain=float((start * cross.double()).sum()))


def _planes(width: int, stride: int) -> tuple[Tensor, Tensor]:
    """Return the first and the second feature of each plane of the round with this stride."""
    leaders = torch.arange(0, width, stride)
    pairs = len(leaders) // 2
    return leaders[0 : 2 * pairs : 2], leaders[1 : 2 * pairs : 2]


def _turn_columns(matrix: Float[Tensor, "rows width"], angle: Float[Tensor, " pairs"], stride: int) -> None:
    """Multiply a matrix from the right by the transpose of a round's rotation, in place."""
    pairs = len(angle)
    first, second = matrix[:, : 2 * pairs * stride : 2 * stride], matrix[:, stride : 2 * pairs * stride : 2 * stride]
    cos, sin = angle.cos(), angle.sin()
    # The rotation [[cos, -sin], [sin, cos]], transposed.
    turned = first * cos - second * sin
    second.copy_(first * sin + second * cos)
    first.copy_(turned)
