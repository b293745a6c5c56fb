"""Hadamard: the entrywise product of two low-rank matrices.

>>> Hadamard().count(2, (3, 5))
32
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

RIDGE = 1e-7
"""Weight of the squared step of a least-squares fit, relative to the mean of the normal equations' diagonal."""


class Hadamard(LayerHypothesis):
    """`W' = W + (B1 A1) * (B2 A2)`, entrywise, with factors of rank `r`; the size is `r`.

    Given three of the factors, each row of the fourth is a least-squares fit (LoHa, Yeh et al. 2023, equation 3). A small
    penalty on its step keeps that stable, and the residual falling.
    """

    name = "hadamard"
    title = "Hadamard product"
    statement = (
        "The change is the entrywise product of two low-rank matrices, which gives a high rank for few parameters."
    )
    adapters = ("loha",)
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(min(shape) for shape in shapes) + 1)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return 2 * size * sum(shape)

    def directions(self, size: int) -> int:
        return size

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        scale = change.delta.abs().max().clamp_min(torch.finfo(change.delta.dtype).tiny)
        delta = change.delta / scale  # so that factors of order 1 can make it
        total = float(torch.linalg.vector_norm(delta)) ** 2

        def sweep(f: _Factors) -> tuple[_Factors, float]:
            other = f.b1 @ f.a1
            f = f._replace(b2=_rows(delta, other, f.a2, f.b2))
            f = f._replace(a2=_rows(delta.T, other.T, f.b2.T, f.a2.T).T)
            other = f.b2 @ f.a2
            f = f._replace(b1=_rows(delta, other, f.a1, f.b1))
            f = f._replace(a1=_rows(delta.T, other.T, f.b1.T, f.a1.T).T)
            return f, float(torch.linalg.vector_norm(delta - f.product)) ** 2 / total

        fit = best_of(self._starts(change, delta, size, setting), sweep, setting)
        return Nearest(change.base + scale * fit.state.product, fit.converged)

    def _starts(
        self, change: WeightChange, delta: Float[Tensor, "out in"], size: int, setting: Setting
    ) -> Iterator[_Factors]:
        generator = torch.Generator().manual_seed(setting.seed)
        rows, columns = change.shape

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=delta.dtype)

        u, s, vt = setting.factors(change.delta)
        root = (s[:size] / s[0].clamp_min(torch.finfo(s.dtype).tiny)).sqrt()
        # The nearest change of low rank times a matrix that is nearly one everywhere.
        first = torch.arange(size) == 0
        b2 = torch.where(first, 1.0, 0.1 * normal(rows, size))
        a2 = torch.where(first[:, None], 1.0, 0.1 * normal(size, columns))
        yield _Factors(u[:, :size] * root, root[:, None] * vt[:size], b2, a2)
        while True:
            yield _Factors(normal(rows, size), normal(size, columns), normal(rows, size), normal(size, columns))


class _Factors(NamedTuple):
    b1: Float[Tensor, "out r"]
    a1: Float[Tensor, "r in"]
    b2: Float[Tensor, "out r"]
    a2: Float[Tensor, "r in"]

    @property
    def product(self) -> Float[Tensor, "out in"]:
        return (self.b1 @ self.a1) * (self.b2 @ self.a2)


def _rows(
    delta: Float[Tensor, "out in"],
    other: Float[Tensor, "out in"],
    a: Float[Tensor, "r in"],
    before: Float[Tensor, "out r"],
) -> Float[Tensor, "out r"]:
    """Return the `b` for which `other * (b a)` is nearest to `delta`, near `before` where that is undetermined."""
    r = len(a)
    i, j = torch.triu_indices(r, r)
    upper = other.square() @ (a[i] * a[j]).T
    normal = upper.new_empty(len(delta), r, r)
    normal[:, i, j] = upper
    normal[:, j, i] = upper
    ridge = RIDGE * normal.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(delta.dtype).tiny
    wanted = (delta * other) @ a.T + ridge[:, None] * before
    solved: Tensor = torch.linalg.solve(normal + ridge[:, None, None] * torch.eye(r, dtype=delta.dtype), wanted)
    return solved
