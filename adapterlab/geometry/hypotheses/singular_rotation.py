"""Rotation in the singular basis: the weight's principal singular vectors are rotated, and its singular values shifted.

>>> SVDRotation().count(4, (8, 16))
10
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting
from adapterlab.geometry.hypotheses.descent import best_of
from adapterlab.geometry.hypotheses.rotation import nearest_rotations

START = 0.1
"""Standard deviation of the relative shifts of singular values of random starts."""


class SVDRotation(LayerHypothesis):
    """`W' = W + U_k ((S_k + dS) R - S_k) V_k^T`, `R` a rotation of the top `k` right singular vectors; the size is `k`.

    These are the changes of SSVD with a `strict` rotation (Wang et al. 2025, equations 8 to 10), and with `dS = 0` those of
    PSOFT without its gains (Wu et al. 2025). SSVD's default replaces `R` by its first-order approximation `I - 2 K`, and
    PSOFT's default has gains on both sides of `R`. Given `dS`, the nearest `R` solves an orthogonal Procrustes problem;
    given `R`, `dS` is a least-squares fit in each row.
    """

    name = "svd_rotation"
    title = "Rotation of principal singular vectors"
    statement = "The rotation that a task needs lies in the weight's principal subspace."
    adapters = ("ssvd", "psoft")
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(min(shape) for shape in shapes) + 1)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size * (size + 1) // 2

    def directions(self, size: int) -> int:
        return size

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        u, s, vt = setting.factors(change.base)
        u, s, vt = u[:, :size], s[:size], vt[:size]
        wanted = torch.diag(s) + (u.T @ change.delta) @ vt.T
        total = change.norm**2
        outside = change.norm**2 - float(torch.linalg.vector_norm(wanted - torch.diag(s))) ** 2

        def sweep(state: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], float]:
            values, _ = state
            turn = nearest_rotations(values[:, None] * wanted)
            values = (wanted * turn).sum(1)
            left = float(torch.linalg.vector_norm(wanted - values[:, None] * turn)) ** 2
            return (values, turn), (outside + left) / total

        fit = best_of(self._starts(s, wanted, setting.seed), sweep, setting)
        values, turn = fit.state
        return Nearest(change.base + u @ (values[:, None] * turn - torch.diag(s)) @ vt, fit.converged)

    def _starts(self, s: Tensor, wanted: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield s, wanted
        yield wanted.norm(dim=1), wanted
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield s * (1 + START * torch.randn(len(s), generator=generator, dtype=s.dtype)), wanted
