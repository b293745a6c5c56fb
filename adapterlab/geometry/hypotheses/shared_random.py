"""Shared random directions: fixed random factors, and a layer's own gains on them.

>>> SharedRandom().count(4, (8, 16))
12
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.linear import in_sixteenths
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting
from adapterlab.geometry.hypotheses.descent import best_of

MOST = 256
"""Largest number of random directions, the default of `vera`: a fit takes a time that is cubic in it."""


class SharedRandom(LayerHypothesis):
    """`W' = W + diag(b) B diag(d) A`, with random `A (r, in)` and `B (out, r)` that all layers share; the size is `r`.

    The gains `b (out,)` and `d (r,)` are the layer's own (VeRA, Kopiczko et al. 2023, equation 2). A smaller layer uses the
    part of the factors that fits. Given `d`, `b` is a least-squares fit in each row; given `b`, `d` solves normal equations.
    `A` and `B` are drawn from `Setting.seed`, uniform as in `vera`, so the residual is that of one draw.
    """

    name = "shared_random"
    title = "Shared random directions"
    statement = "Random directions are enough; a layer only learns how much of each to use."
    adapters = ("vera",)
    exact = False

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return [size for size in in_sixteenths(1, MOST) if size < MOST] + [MOST]

    def fits(self, size: int, shape: tuple[int, int]) -> bool:
        return 1 <= size <= MOST

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size + shape[0]

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        a, b = random_factors(size, change.shape, setting.seed)
        a, b = a.to(change.base.dtype), b.to(change.base.dtype)
        gram, seen = a @ a.T, change.delta @ a.T

        def sweep(state: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], float]:
            gains, _ = state
            scaled = gains[:, None] * b
            normal = (scaled.T @ scaled) * gram
            # A little of the diagonal keeps it solvable where directions outnumber the entries.
            normal = normal + torch.diag(normal.diagonal() * 1e-9 + torch.finfo(normal.dtype).tiny)
            d = torch.linalg.solve(normal, (scaled * seen).sum(0))
            along = ((b * d) @ gram * (b * d)).sum(1)  # squared norms of the rows of B diag(d) A
            found = (b * d * seen).sum(1)
            gains = found / along.clamp_min(torch.finfo(along.dtype).tiny)
            left = change.norm**2 - float((found * gains).double().sum())
            return (gains, d), left / change.norm**2

        fit = best_of(self._starts(change, size, setting.seed), sweep, setting)
        gains, d = fit.state
        return Nearest(change.base + gains[:, None] * ((b * d) @ a), fit.converged)

    def _starts(self, change: WeightChange, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows, dtype = change.shape[0], change.base.dtype
        d = torch.ones(size, dtype=dtype)
        yield change.delta.norm(dim=1), d
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield torch.randn(rows, generator=generator, dtype=dtype), d


def random_factors(
    size: int, shape: tuple[int, int], seed: int
) -> tuple[Float[Tensor, "size in"], Float[Tensor, "out size"]]:
    """Return the random factors `A` and `B`; those of a smaller layer or size are parts of those of a larger one.

    Args:
        size: Number of random directions.
        shape: `(out, in)` of the layer.
        seed: Seed of the draw.

    >>> a, b = random_factors(2, (3, 4), 0)
    >>> larger, _ = random_factors(2, (3, 9), 0)
    >>> torch.equal(larger[:, :4], a)
    True
    """
    rows, columns = shape
    a, b = (
        torch.rand(side, MOST, generator=torch.Generator().manual_seed(2 * seed + at), dtype=torch.float64) * 2 - 1
        for at, side in enumerate((columns, rows))
    )
    return a[:, :size].T, b[:, :size]
