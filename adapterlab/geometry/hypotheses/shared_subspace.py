"""Shared subspace: layers of one shape change between the same few directions.

>>> SharedSubspace().parameters(2, {"h.0.q": (8, 8), "h.1.q": (8, 8)})
40
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import Hypothesis, Nearest, Setting, or_base
from adapterlab.geometry.hypotheses.descent import best_of


class SharedSubspace(Hypothesis):
    """`W'_l = W_l + U C_l V^T`: layers `l` of one shape share `U (out, k)` and `V (in, k)`; the size is `k`.

    The core `C_l (k, k)` is the layer's own. This is a Tucker-2 decomposition of the stacked changes, fitted by higher-order
    orthogonal iteration (De Lathauwer, De Moor and Vandewalle 2000): given one basis, the other moves towards the leading
    eigenvectors by a block power step, which never raises the residual. It is the assumption behind VB-LoRA and VeRA, whose
    own parameters are arranged differently, so it has no adapter here.
    """

    name = "shared_subspace"
    title = "Shared subspace"
    statement = "The changes of all layers of one shape lie between the same few directions."
    adapters = ()
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(min(shape) for shape in shapes) + 1)

    def parameters(self, size: int, shapes: Mapping[str, tuple[int, int]]) -> int:
        return sum(size * sum(shape) for shape in set(shapes.values())) + size * size * len(shapes)

    def groups(self, shapes: Mapping[str, tuple[int, int]]) -> Sequence[Sequence[str]]:
        by_shape = sorted(shapes, key=lambda path: shapes[path])
        return [list(paths) for _, paths in groupby(by_shape, key=lambda path: shapes[path])]

    def project(self, changes: Sequence[WeightChange], size: int, setting: Setting) -> Sequence[Nearest]:
        self.check(changes, size)
        if not any(change.norm for change in changes):
            return [Nearest(change.base) for change in changes]
        deltas = torch.stack([change.delta for change in changes])
        total = sum(change.norm**2 for change in changes)

        def sweep(bases: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], float]:
            left, right = bases
            right = _power_step(left.T @ deltas, right)
            seen = deltas @ right
            left = _power_step(seen.mT, left)
            return (left, right), 1 - float(torch.linalg.vector_norm(left.T @ seen)) ** 2 / total

        fit = best_of([_start(deltas, size, setting.seed)], sweep, setting)
        left, right = fit.state
        cores = left.T @ deltas @ right
        return [
            or_base(change, Nearest(change.base + left @ core @ right.T, fit.converged))
            for change, core in zip(changes, cores, strict=True)
        ]


def _power_step(seen: Float[Tensor, "layers k side"], basis: Float[Tensor, "side k"]) -> Float[Tensor, "side k"]:
    """Return an orthonormal basis nearer to the leading right singular vectors of the stacked `seen`."""
    stacked = seen.flatten(0, 1)
    moved: Tensor = torch.linalg.qr(stacked.T @ (stacked @ basis))[0]
    return moved


def _start(deltas: Float[Tensor, "layers out in"], size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the leading eigenvectors on the shorter side, and what follows from them on the other."""
    rows, columns = deltas.shape[1:]
    wide = rows < columns
    tall = deltas.mT if wide else deltas
    gram = sum(delta.T @ delta for delta in tall)
    assert isinstance(gram, Tensor)
    short = torch.linalg.eigh(gram)[1][:, -size:]
    seen = (tall @ short).mT
    probe = torch.randn(tall.shape[1], size, generator=torch.Generator().manual_seed(seed), dtype=deltas.dtype)
    long = _power_step(seen, _power_step(seen, probe))
    return (short, long) if wide else (long, short)
