"""Gain: the outputs, the inputs, or both sides of a layer are scaled.

>>> import torch
>>> change = WeightChange("q", torch.ones(2, 3), torch.tensor([[2.0, 2.0, 2.0], [3.0, 3.0, 3.0]]))
>>> [nearest] = Gain().project([change], 1, Setting())
>>> torch.equal(nearest.weight, change.tuned)
True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.context import Role
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting
from adapterlab.geometry.hypotheses.descent import best_of
from adapterlab.surgery.model.roles import role_of

START = 0.1
"""Standard deviation of the gains of random starts around 1."""


class Gain(LayerHypothesis):
    """Size 1: `W' = diag(g) W`, or `W diag(g)` for the last layer of a feed-forward block. Size 2: `diag(g) W diag(h)`.

    Size 1 is IA3 (Liu et al. 2022, section 3.3), and its nearest gain is a least-squares fit in each row or column. Size 2
    alternates between the sides, each such a fit given the other.
    """

    name = "gain"
    title = "Gain"
    statement = "Useful change is a gain on features that the model already computes."
    adapters = ("ia3",)
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return 1, 2

    def count(self, size: int, shape: tuple[int, int]) -> int:
        """Return the number of gains of one layer; for size 1 of one whose outputs are scaled.

        Args:
            size: 1 for one side, 2 for both.
            shape: `(out, in)`.
        """
        return shape[0] if size == 1 else sum(shape)

    def parameters(self, size: int, shapes: Mapping[str, tuple[int, int]]) -> int:
        if size == 2:
            return super().parameters(size, shapes)
        return sum(shape[1 if _scales_inputs(role_of(path)) else 0] for path, shape in shapes.items())

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        base, tuned = change.base, change.tuned
        if size == 1:
            inputs = _scales_inputs(change.role)
            return Nearest(base * column_gains(base, tuned) if inputs else base * row_gains(base, tuned)[:, None])
        products, squares = base * tuned, base * base

        def sweep(gains: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], float]:
            _, columns = gains
            rows = _ratio(products @ columns, squares @ columns.square())
            columns = _ratio(products.T @ rows, squares.T @ rows.square())
            left = torch.linalg.vector_norm(tuned - rows[:, None] * base * columns)
            return (rows, columns), float(left) ** 2 / change.norm**2

        fit = best_of(self._starts(change, setting.seed), sweep, setting)
        rows, columns = fit.state
        return Nearest(rows[:, None] * base * columns, fit.converged)

    def _starts(self, change: WeightChange, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows, columns = (change.base.new_ones(side) for side in change.shape)
        yield rows, columns
        yield rows, column_gains(change.base, change.tuned)
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield rows, columns + START * torch.randn(len(columns), generator=generator, dtype=columns.dtype)


def row_gains(base: Float[Tensor, "out in"], tuned: Float[Tensor, "out in"]) -> Float[Tensor, " out"]:
    """Return the factors on the rows of one weight that bring it nearest to another; 1 for rows of zeros.

    Args:
        base: The weight to scale.
        tuned: The weight to come near to.
    """
    return _ratio((base * tuned).sum(1), base.square().sum(1))


def column_gains(base: Float[Tensor, "out in"], tuned: Float[Tensor, "out in"]) -> Float[Tensor, " in"]:
    """Return the factors on the columns of one weight that bring it nearest to another; 1 for columns of zeros.

    Args:
        base: The weight to scale.
        tuned: The weight to come near to.
    """
    return _ratio((base * tuned).sum(0), base.square().sum(0))


def _ratio(numerator: Float[Tensor, " n"], denominator: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    zero = denominator <= 0
    return torch.where(zero, 1.0, numerator / torch.where(zero, 1.0, denominator))


def _scales_inputs(role: Role) -> bool:
    return role is Role.DOWN
