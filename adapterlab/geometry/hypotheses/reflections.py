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

FLAT = 1e-5
"""Decrease of the residual by a sweep below which the normals are improved one by one, too."""
POWER_STEPS = 2
"""Block power steps towards the leading planes of the first-order rotation, for the second start."""


class Reflections(LayerHypothesis):
    """`W' = W H_1 ... H_r`, `H_i = I - 2 u_i u_i^T` with unit normals `u_i (in,)`; the size is the even `r`.

    This is HRA (Yuan et al. 2024, equation 1). An even number of reflections is a rotation of the span of their normals, any
    rotation, and the best one in a given span solves an orthogonal Procrustes problem. A sweep solves it in the span of the
    present normals and of the gradient, and keeps the `r / 2` planes of that rotation that lower the residual most, if they
    do. Where they do not, each normal in turn becomes the best given the others: the eigenvector of the smallest eigenvalue
    of a symmetric matrix. The first start is the span of the leading right singular vectors of the change, which is that of
    the normals if the change is of this class; the second follows from the effect of a rotation to first order.
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

    def directions(self, size: int) -> int:
        return size

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        spaces = self._spaces(change, size, setting)
        fit = best_of((_Chain.within(change, space) for space in spaces), _Chain.improved, setting)
        chain = fit.state
        return Nearest(change.base + (chain.base @ chain.turn - chain.base) @ chain.space.T, fit.converged)

    def _spaces(self, change: WeightChange, size: int, setting: Setting) -> Iterator[Float[Tensor, "in r"]]:
        _, _, vt = setting.factors(change.delta)
        yield vt[:size].T
        generator = torch.Generator().manual_seed(setting.seed)
        space = torch.randn(change.shape[1], size, generator=generator, dtype=change.base.dtype)
        for _ in range(POWER_STEPS):
            # Of W^T dW - dW^T W, to first order the gain of a rotation in each plane.
            skew = change.base.T @ (change.delta @ space) - change.delta.T @ (change.base @ space)
            space = torch.linalg.qr(skew)[0]
        yield space


@dataclass(frozen=True, eq=False)
class _Chain:
    """A product of reflections as a rotation of the span of their normals."""

    change: WeightChange
    space: Float[Tensor, "in r"]
    """Orthonormal basis of the span."""
    base: Float[Tensor, "out r"]
    """`W` times that basis."""
    tuned: Float[Tensor, "out r"]
    """The changed weight times that basis."""
    turn: Float[Tensor, "r r"]
    """The best rotation there."""
    residual: float

    @classmethod
    def within(cls, change: WeightChange, space: Float[Tensor, "in r"]) -> _Chain:
        """Return the best product of reflections whose normals lie in a span."""
        return cls.of(change, space, change.base @ space, change.tuned @ space)

    @classmethod
    def of(cls, change: WeightChange, space: Tensor, base: Tensor, tuned: Tensor) -> _Chain:
        """Return the same, with the two products with the weights given."""
        cross = (base.T @ tuned).double()
        turn = nearest_rotations(cross)
        gain = float(((turn - torch.eye(len(turn), dtype=turn.dtype)) * cross).sum())
        return cls(change, space, base, tuned, turn.to(space.dtype), 1 - 2 * gain / change.norm**2)

    def improved(self) -> tuple[_Chain, float]:
        """Return a chain that is better, or this one, and its residual."""
        weights, rank = (self.change.base, self.change.tuned), self.space.shape[1]
        gradient = weights[0].T @ (self.tuned @ self.turn.T - self.tuned)
        gradient = gradient + weights[1].T @ (self.base @ self.turn - self.base)
        outside = gradient - self.space @ (self.space.T @ gradient)
        wider = torch.linalg.qr(torch.cat([self.space, outside], 1)[:, : len(self.space)])[0]
        base, tuned = (weight @ wider for weight in weights)
        cross = (base.T @ tuned).double()
        planes = _best_planes(nearest_rotations(cross).numpy(), cross.numpy(), rank)
        chosen = torch.from_numpy(planes).to(wider.dtype)
        best = _Chain.of(self.change, wider @ chosen, base @ chosen, tuned @ chosen)
        if self.residual - best.residual < FLAT:
            normals = _normals(self.turn.double().numpy()) @ (self.space.T @ wider).double().numpy()
            span = np.linalg.qr(_better_normals(normals, cross.numpy()).T)[0]
            chosen = torch.from_numpy(span).to(wider.dtype)
            other = _Chain.of(self.change, wider @ chosen, base @ chosen, tuned @ chosen)
            best = min(self, best, other, key=lambda each: each.residual)
        return best, best.residual


def _best_planes(
    turn: Float[np.ndarray, "width width"], cross: Float[np.ndarray, "width width"], rank: int
) -> Float[np.ndarray, "width rank"]:
    """Return a basis of those planes of a rotation that add most to its inner product with `cross`."""
    form, basis = scipy.linalg.schur(turn, output="real")
    seen = basis.T @ cross @ basis
    gains = (form - np.eye(len(form))) * seen
    planes: list[tuple[float, list[int]]] = []
    at = 0
    while at < len(form):
        single = at + 1 == len(form) or abs(form[at + 1, at]) < 1e-12
        axes = [at] if single else [at, at + 1]
        planes.append((float(gains[np.ix_(axes, axes)].sum()), axes))
        at += len(axes)
    planes.sort(key=lambda plane: -plane[0])
    chosen = [axis for _, axes in planes for axis in axes][:rank]
    kept: np.ndarray = basis[:, chosen]
    return kept


def _normals(turn: Float[np.ndarray, "r r"]) -> Float[np.ndarray, "r r"]:
    """Return unit normals of reflections whose product is a rotation of an even number of dimensions."""
    form, basis = scipy.linalg.schur(turn, output="real")
    found: list[np.ndarray] = []
    at = 0
    while at < len(form):
        if at + 1 < len(form) and abs(form[at + 1, at]) > 1e-12:
            # A rotation of this plane: two reflections whose normals are at half its angle.
            half = np.arctan2(form[at + 1, at], form[at, at]) / 2
            found += [np.cos(half) * basis[:, at] + np.sin(half) * basis[:, at + 1], basis[:, at]]
            at += 2
        else:
            found += [basis[:, at]] if form[at, at] < 0 else []
            at += 1
    while len(found) < len(form):
        found += [basis[:, len(found) // 2]] * 2  # two equal reflections cancel
    return np.stack(found)


def _better_normals(
    normals: Float[np.ndarray, "r width"], cross: Float[np.ndarray, "width width"]
) -> Float[np.ndarray, "r width"]:
    """Return normals of a product with a larger inner product with `cross`, each the best given the others."""
    normals, seen = normals.copy(), cross.copy()
    for normal in normals[:0:-1]:
        seen -= 2 * np.outer(seen @ normal, normal)
    for at, normal in enumerate(normals):
        if at:
            before = normals[at - 1]
            seen -= 2 * np.outer(seen @ normal, normal)
            seen -= 2 * np.outer(before, before @ seen)
        normals[at] = scipy.linalg.eigh(seen + seen.T, subset_by_index=(0, 0))[1][:, 0]
    return normals
