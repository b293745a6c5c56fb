"""Singular basis: a change of the weight's coordinates between its own singular vectors.

>>> import torch
>>> change = WeightChange("q", torch.diag(torch.tensor([3.0, 1.0])), torch.diag(torch.tensor([4.0, 1.0])))
>>> [nearest] = SVDBanded().project([change], 0, Setting())
>>> torch.allclose(nearest.weight, change.tuned)
True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterlab.adapters.svd.svft import SVFT
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import EVERY, LayerHypothesis, Nearest, Setting


class SVDBanded(LayerHypothesis):
    """`W' = U (S + M) V^T`, `M` zero but for `d` diagonals on either side of the main one; the size is `d`.

    Size 0 changes the singular values alone (SVFT, Lingam et al. 2024, section 3.1, `plain` and `banded`). The singular
    vectors are orthonormal, so the nearest `M` is that band of `U^T dW V`.
    """

    name = "svd_banded"
    title = "Band in the singular basis"
    statement = "Useful change combines a few pairs of the weight's own singular vectors."
    adapters = ("svft",)
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return SVFT().sizes(shapes)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return min(shape) * (2 * size + 1) - size * (size + 1)

    def directions(self, size: int) -> int:
        return EVERY

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        u, _, vt = setting.factors(change.base)
        core = (u.T @ change.delta) @ vt.T
        return Nearest(change.base + u @ (torch.triu(torch.tril(core, size), -size) @ vt))


class SVDTopK(LayerHypothesis):
    """`W' = W + U_k C V_k^T` with a free `C (k, k)` between the top `k` left and right singular vectors; the size is `k`.

    The nearest `C` is `U_k^T dW V_k`. SSVD with its `free` rotation makes these changes, and trains `k` numbers more.
    """

    name = "svd_top_k"
    title = "Top singular directions"
    statement = "Useful change lies between the weight's principal singular directions."
    adapters = ()
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(min(shape) for shape in shapes) + 1)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size * size

    def directions(self, size: int) -> int:
        return size

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        u, _, vt = setting.factors(change.base)
        left, right = u[:, :size], vt[:size]
        return Nearest(change.base + left @ ((left.T @ change.delta) @ right.T) @ right)
