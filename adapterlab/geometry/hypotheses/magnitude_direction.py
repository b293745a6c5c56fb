"""Magnitude and direction: a gain on each row, and a change of the directions of low rank.

>>> MagnitudeDirection().count(2, (3, 5))
19
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
from adapterlab.geometry.hypotheses.gain import row_gains

OVERSAMPLED = 8
"""Directions beyond the rank that the search for the low-rank part keeps, so that it converges faster."""


class MagnitudeDirection(LayerHypothesis):
    """`W' = diag(d) W + L` with `L` of rank `r`; the size is `r`.

    DoRA's `m * V / |V|` with `V = W + B A` (Liu et al. 2024, equation 5; `m` and `|V|` of the rows) is this with `d = m /
    |V|` and `L = diag(d) B A`, since `m` is free. Given `L`'s row space, `d` and `L` are a least-squares fit in each row;
    given `d`, `L`'s row space follows from the singular vectors of `W_tuned - diag(d) W`, approached by one block power
    step each time, which never raises the residual either.
    """

    name = "magnitude_direction"
    title = "Magnitude and low-rank direction"
    statement = "The length and the direction of a neuron's weights change separately."
    adapters = ("dora",)
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(min(shape) for shape in shapes) + 1)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size * sum(shape) + shape[0]

    def directions(self, size: int) -> int:
        return size + OVERSAMPLED

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        base, tuned = change.base, change.tuned

        def sweep(state: _State) -> tuple[_State, float]:
            gains = _gains(base, tuned, state.row_space[:, :size])
            rest = tuned - gains[:, None] * base
            basis = torch.linalg.qr(rest.T @ (rest @ state.row_space))[0]
            _, s, vt = torch.linalg.svd(rest @ basis, full_matrices=False)
            left = float(torch.linalg.vector_norm(rest)) ** 2 - float(torch.linalg.vector_norm(s[:size])) ** 2
            return _State(basis @ vt.T, gains), max(0.0, left) / change.norm**2

        fit = best_of(self._starts(change, size, setting), sweep, setting)
        space, gains = fit.state.row_space[:, :size], fit.state.gains
        scaled = gains[:, None] * base
        return Nearest(scaled + ((tuned - scaled) @ space) @ space.T, fit.converged)

    def _starts(self, change: WeightChange, size: int, setting: Setting) -> Iterator[_State]:
        width = min(size + OVERSAMPLED, *change.shape)
        ones = change.base.new_ones(change.shape[0])
        _, _, vt = setting.factors(change.delta)
        yield _State(vt[:width].T, ones)
        generator = torch.Generator().manual_seed(setting.seed)
        rest = change.tuned - row_gains(change.base, change.tuned)[:, None] * change.base
        while True:
            probe = torch.randn(width, change.shape[0], generator=generator, dtype=rest.dtype)
            yield _State(torch.linalg.qr(rest.T @ (rest @ (probe @ rest).T))[0], ones)


class _State(NamedTuple):
    row_space: Float[Tensor, "in width"]
    """Orthonormal directions; the first ones span the row space of `L`."""
    gains: Float[Tensor, " out"]


def _gains(
    base: Float[Tensor, "out in"], tuned: Float[Tensor, "out in"], space: Float[Tensor, "in r"]
) -> Float[Tensor, " out"]:
    """Return the factors on the rows that are best if everything within a row space is free."""
    inside, wanted = base @ space, tuned @ space
    squares = base.square().sum(1)
    numerator = (base * tuned).sum(1) - (inside * wanted).sum(1)
    denominator = squares - inside.square().sum(1)
    # Rows within the row space, whose gain is free.
    free = denominator <= 1e-6 * squares
    return torch.where(free, 1.0, numerator / torch.where(free, 1.0, denominator))
