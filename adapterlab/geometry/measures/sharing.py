"""Subspaces that the changes of different layers share: the claim behind shared banks, as in VB-LoRA and VeRA.

>>> from adapterlab.geometry.change import InMemory
>>> base, change = torch.zeros(6, 4), torch.outer(torch.arange(6.0), torch.ones(4))
>>> layers = InMemory({f"h.{i}.up_proj": (base, base + (i + 1) * change) for i in range(3)})
>>> values, nulls = share(layers, k=1)
>>> {name: round(value, 4) for name, value in values["up 6x4"].items()}
{'left_overlap(1)': 1.0, 'right_overlap(1)': 1.0, 'left_common_basis(1)': 1.0, 'right_common_basis(1)': 1.0}
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from adapterlab.adapters.context import Factors, Role, same_place
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import Change, WeightChange
from adapterlab.geometry.measures.base import DRAWS, Layer, null_from
from adapterlab.geometry.measures.spectrum import numerical_rank
from adapterlab.geometry.result import Null
from adapterlab.surgery.init.svd_cache import default_factors
from adapterlab.surgery.model.roles import role_of

DIRECTIONS = 8
"""Directions of a subspace."""
SMALL = 256
"""Side of a matrix up to which its top eigenvalues are found by a full decomposition."""
TOLERANCE = 1e-4
"""Relative error of the top eigenvalues of a larger matrix (`scipy.sparse.linalg.eigsh`)."""
Values = dict[str, dict[str, float]]
"""By group of layers and name of the measure, its value."""
Nulls = dict[str, dict[str, Null]]
"""By group of layers and name of the measure, its value for random changes."""


def share(
    change: Change,
    k: int = DIRECTIONS,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    factors: Callable[[Tensor], Factors] | None = None,
) -> tuple[Values, Nulls]:
    """Measure what the changes of layers of one role and shape have in common.

    For the output side (`left`) and the input side (`right`):

    - `overlap(k)`: mean over pairs of layers of the mean squared cosine of the principal angles between the top `k`
      singular subspaces of the two changes, from 0 to 1; `k` over the side for random changes (Hu et al. 2021, equation 4).
      Of a pair in which a change has a smaller numerical rank, that many directions are compared.
    - `common_basis(k)`: share of the squared norm that the best common basis of `k` directions keeps, with every change
      scaled to norm one. It is the sum of the top `k` eigenvalues of the sum of `dW dW^T` (or `dW^T dW`), divided by its
      trace.

    The null of `overlap` holds for changes of any spectrum, so sharing is judged by it. That of `common_basis` is for normal
    changes of full rank: changes of low rank keep more even if they share nothing, in `n` layers at least `1 / n` of what
    their own top `k` directions hold.

    Args:
        change: The change. Its layers are read group by group, and not kept.
        k: Directions of a subspace, at least one.
        draws: Random changes that the nulls are estimated from, with independent normal entries.
        seed: Seed of the draws.
        factors: Singular value decomposition of a change, cached; by default the cache of this process.

    Returns:
        Values and their nulls by group, such as `query 256x256`. Layers without a role are grouped by their place in the
        block. Unchanged layers are left out, and groups of fewer than two layers.

    Raises:
        AdapterlabError: `k` is below one.
    """
    if k < 1:
        raise AdapterlabError(f"shared subspaces of k = {k} directions: give at least one")
    values: Values = {}
    nulls: Nulls = {}
    for name, paths in _groups(change.shapes).items():
        layers = [layer for layer in map(change.read, paths) if layer.norm]
        if len(layers) > 1:
            values[name] = _measure(layers, k, factors or default_factors())
            nulls[name] = dict(_null(layers[0].shape, len(layers), k, draws, seed))
    return values, nulls


def _groups(shapes: Mapping[str, tuple[int, int]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, (rows, columns) in shapes.items():
        role = role_of(path)
        name = same_place(path) if role is Role.OTHER else role.value
        found.setdefault(f"{name} {rows}x{columns}", []).append(path)
    return found


def _measure(layers: Sequence[WeightChange], k: int, factors: Callable[[Tensor], Factors]) -> dict[str, float]:
    rows, columns = layers[0].shape
    left, right = torch.zeros(rows, rows), torch.zeros(columns, columns)
    lefts, rights = [], []
    for change in layers:
        delta = (change.delta / change.norm).float()
        left.addmm_(delta, delta.T)
        right.addmm_(delta.T, delta)
        layer = Layer(change, factors)
        count = min(k, max(1, numerical_rank(layer)))
        lefts.append(layer.of_delta.u[:, :count].float())
        rights.append(layer.of_delta.vt[:count].T.float())
    return _named(k, _overlap(lefts), _overlap(rights), _kept(left, k), _kept(right, k))


def _named(k: int, *values: float) -> dict[str, float]:
    names = ("left_overlap", "right_overlap", "left_common_basis", "right_common_basis")
    return {f"{name}({k})": value for name, value in zip(names, values, strict=True)}


def _overlap(bases: Sequence[Tensor]) -> float:
    """Return the mean over pairs of the mean squared cosine of the principal angles between orthonormal bases."""
    pairs = itertools.combinations(bases, 2)
    return float(np.mean([float((a.T @ b).square().sum()) / min(a.shape[1], b.shape[1]) for a, b in pairs]))


def _kept(gram: Float[Tensor, "side side"], k: int) -> float:
    """Return the share of the trace in the top eigenvalues."""
    matrix = gram.double().numpy(force=True)
    return min(1.0, _top(matrix.__matmul__, len(matrix), k, lambda: matrix) / float(np.trace(matrix)))


def _top(product: Callable[[np.ndarray], np.ndarray], side: int, k: int, dense: Callable[[], np.ndarray]) -> float:
    """Return the sum of the top eigenvalues of a positive semidefinite matrix."""
    if side <= max(SMALL, 2 * k):
        return float(np.linalg.eigvalsh(dense())[-k:].sum())
    operator = LinearOperator((side, side), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=side)
    return float(eigsh(operator, k, which="LA", tol=TOLERANCE, v0=start, return_eigenvectors=False).sum())


@lru_cache(maxsize=64)
def _null(shape: tuple[int, int], layers: int, k: int, draws: int, seed: int) -> dict[str, Null]:
    """Return the nulls of all layers of a shape.

    Top singular subspaces of normal changes are uniformly distributed. The sum of `dW dW^T` over the layers has a Wishart
    distribution with `layers * in` degrees of freedom; the norms of the changes, one in the measure, vary in it by a share
    of `1 / sqrt(2 out in)`.
    """
    rng = np.random.default_rng(seed)
    rows, columns = shape
    drawn = [
        _named(
            k,
            _random_overlap(rng, rows, min(k, *shape), layers),
            _random_overlap(rng, columns, min(k, *shape), layers),
            _random_kept(rng, rows, layers * columns, k),
            _random_kept(rng, columns, layers * rows, k),
        )
        for _ in range(draws)
    ]
    return {name: null_from([draw[name] for draw in drawn]) for name in drawn[0]}


def _random_overlap(rng: np.random.Generator, side: int, k: int, layers: int) -> float:
    return _overlap([torch.from_numpy(np.linalg.qr(rng.normal(size=(side, k)))[0]) for _ in range(layers)])


def _random_kept(rng: np.random.Generator, side: int, freedom: int, k: int) -> float:
    """Return the share of the trace in the top eigenvalues of `L L^T`, which has a Wishart distribution."""
    if freedom < side:
        factor = rng.normal(size=(side, freedom))
    else:  # Bartlett's decomposition
        factor = np.tril(rng.normal(size=(side, side)), -1)
        np.fill_diagonal(factor, np.sqrt(rng.chisquare(freedom - np.arange(side))))
    top = _top(lambda x: factor @ (factor.T @ x), side, k, lambda: factor @ factor.T)
    return top / float(np.square(factor).sum())
