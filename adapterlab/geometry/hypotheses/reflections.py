"""Reflections: the input features are reflected a few times.

>>> import torch
>>> half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
>>> [nearest] = Reflections().project([WeightChange("q", torch.eye(3), half_turn)], 2, Setting())
>>> torch.allclose(nearest.weight, half_turn, atol=1e-6)
True
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.orthogonal.hra import HRA
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting
from adapterlab.geometry.hypotheses.descent import best_of
from adapterlab.geometry.hypotheses.rotation import nearest_rotations

EXPANDED = 8
"""Directions of the gradient, beyond the span of the normals, in which a sweep searches for better normals."""
POWER_STEPS = 2
"""Block power steps towards the leading planes of the first-order rotation, for starts after the first."""


class Reflections(LayerHypothesis):
    """`W' = W H_1 ... H_r`, `H_i = I - 2 u_i u_i^T` with unit normals `u_i (in,)`; the size is the even `r`.

    This is HRA (Yuan et al. 2024, equation 1). Given the other reflections, the best normal is the eigenvector of the
    smallest eigenvalue of a symmetric matrix. A sweep solves for each normal within the span of the present normals and the
    leading directions of the gradient, so the eigenproblems are small. Then it takes the best product of reflections in the
    span of the new normals, a rotation there, by an orthogonal Procrustes problem. The first start is the span of the
    leading right singular vectors of the change; these are the normals' span if the change is of this class.
    """

    name = "reflections"
    title = "Reflections"
    statement = "Useful change is a few reflections: orthogonal and low-rank at once."
    adapters = ("hra",)
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return HRA().sizes(shapes)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size * shape[1]

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        fit = best_of(self._starts(change, size, setting), lambda chain: chain.improved(), setting)
        space, turn = fit.state.space, fit.state.turn
        moved = change.base @ space
        return Nearest(change.base + (moved @ turn - moved) @ space.T, fit.converged)

    def _starts(self, change: WeightChange, size: int, setting: Setting) -> Iterator[_Chain]:
        _, _, vt = setting.factors(change.delta)
        yield _Chain.within(change, vt[:size].T)
        generator = torch.Generator().manual_seed(setting.seed)
        while True:
            space = torch.randn(change.shape[1], size, generator=generator, dtype=change.base.dtype)
            for _ in range(POWER_STEPS):
                # Of W^T dW - dW^T W, to first order the gain of a rotation in each plane.
                skew = change.base.T @ (change.delta @ space) - change.delta.T @ (change.base @ space)
                space = torch.linalg.qr(skew)[0]
            yield _Chain.within(change, space)


@dataclass(frozen=True, eq=False)
class _Chain:
    """A product of reflections as a rotation of the span of their normals."""

    change: WeightChange
    space: Float[Tensor, "in r"]
    """Orthonormal basis of the span."""
    turn: Float[Tensor, "r r"]
    """The best rotation there."""

    @classmethod
    def within(cls, change: WeightChange, space: Float[Tensor, "in r"]) -> _Chain:
        """Return the best product of reflections whose normals lie in a span."""
        cross = ((change.base @ space).T @ (change.tuned @ space)).double()
        return cls(change, space, nearest_rotations(cross).to(space.dtype))

    @property
    def residual(self) -> float:
        cross = (self.change.base @ self.space).T @ (self.change.tuned @ self.space)
        eye = torch.eye(len(self.turn), dtype=self.turn.dtype)
        gain = float(((self.turn - eye) * cross).double().sum())
        return 1 - 2 * gain / max(self.change.norm**2, 1e-300)

    def improved(self) -> tuple[_Chain, float]:
        """Return a better chain and its residual."""
        base, tuned, rank = self.change.base, self.change.tuned, self.space.shape[1]
        moved = self.space @ self.turn - self.space
        back = self.space @ self.turn.T - self.space
        gradient = base.T @ (tuned @ back) + tuned.T @ (base @ moved)
        gradient = gradient - self.space @ (self.space.T @ gradient)
        u = torch.linalg.svd(gradient, full_matrices=False).U[:, : min(EXPANDED, base.shape[1] - rank)]
        wider = torch.linalg.qr(torch.cat([self.space, u], 1))[0]
        cross = ((base @ wider).T @ (tuned @ wider)).double().numpy()
        inside = (wider.T @ self.space).double().numpy()
        normals = _better_normals(_normals(self.turn.double().numpy()) @ inside.T, cross)
        basis = np.linalg.qr(normals.T)[0]
        chain = _Chain.within(self.change, torch.linalg.qr(wider @ torch.from_numpy(basis).to(wider.dtype))[0])
        return chain, chain.residual


Normals = Float[np.ndarray, "r width"]


def _normals(turn: Float[np.ndarray, "r r"]) -> Normals:
    """Return unit normals of reflections whose product is a rotation of an even number of dimensions."""
    rank = len(turn)
    form, basis = scipy.linalg.schur(turn, output="real")
    found: list[Float[np.ndarray, " r"]] = []
    at = 0
    while at < rank:
        if at + 1 < rank and abs(form[at + 1, at]) > 1e-12:
            # A rotation of this plane, by two reflections whose normals are at half its angle.
            half = np.arctan2(form[at + 1, at], form[at, at]) / 2
            found += [np.cos(half) * basis[:, at] + np.sin(half) * basis[:, at + 1], basis[:, at]]
            at += 2
        else:
            if form[at, at] < 0:
                found.append(basis[:, at])
            at += 1
    while len(found) < rank:
        found += [basis[:, len(found) // 2]] * 2  # two equal reflections cancel
    return np.stack(found)


def _better_normals(normals: Normals, cross: Float[np.ndarray, "width width"]) -> Normals:
    """Return normals of a product of reflections with a larger inner product with `cross`, each the best given the others."""
    normals = normals.copy()

    def reflect(matrix: Float[np.ndarray, "width width"], normal: Float[np.ndarray, " width"]) -> None:
        """Multiply by the reflection from the right, in place."""
        matrix -= 2 * np.outer(matrix @ normal, normal)

    seen = cross.copy()
    for normal in normals[:0:-1]:
        reflect(seen, normal)
    for at in range(len(normals)):
        if at:
            reflect(seen, normals[at])
            reflect(seen.T, normals[at - 1])
        _, vectors = scipy.linalg.eigh(seen + seen.T, subset_by_index=(0, 0))
        normals[at] = vectors[:, 0]
    return normals
