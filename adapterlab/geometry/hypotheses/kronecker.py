"""Kronecker: the change repeats one matrix, with a factor for each block.

>>> import torch
>>> c, d = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [2.0, 1.0]])
>>> [nearest] = Kronecker().project([WeightChange("q", torch.zeros(4, 4), torch.kron(c, d))], 2, Setting())
>>> torch.allclose(nearest.weight, torch.kron(c, d), atol=1e-5)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import eigsh
from torch import Tensor

from adapterlab.adapters.rank.lokr import LoKr
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting

DENSE = 64
"""Smaller side of the rearranged change up to which all its eigenvalues are computed, instead of the largest alone."""


class Kronecker(LayerHypothesis):
    """`W' = W + kron(C, D)`; the size is the largest dimension of the small side `C`, and a smaller one has more parameters.

    The sides are split as `lokr` splits them for that `factor`. The nearest product follows from the leading singular pair
    of the rearranged change, whose rows are its blocks (Van Loan and Pitsianis 1993). `lokr(full=True)` makes all these
    changes; without it, the large side has a low rank where that saves parameters.
    """

    name = "kronecker"
    title = "Kronecker product"
    statement = "The change repeats one matrix over the blocks of the weight, with a factor for each block."
    adapters = ("lokr",)
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        largest = max(isqrt(side) for shape in shapes for side in shape)
        reached = {max(max(LoKr(factor=f).split(*shape)[0]) for shape in shapes) for f in range(2, largest + 1)}
        return sorted(reached - {1}, reverse=True)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return sum(prod(side) for side in LoKr(factor=size).split(*shape))

    def fits(self, size: int, shape: tuple[int, int]) -> bool:
        return size > 1

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        (r1, c1), (r2, c2) = LoKr(factor=size).split(*change.shape)
        blocks = change.delta.reshape(r1, r2, c1, c2).transpose(1, 2).reshape(r1 * c1, r2 * c2)
        small = _leading_left(blocks)
        large = (small @ blocks).reshape(r2, c2)
        return Nearest(change.base + torch.kron(small.reshape(r1, c1), large))


def _leading_left(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, " rows"]:
    """Return the left singular vector of the largest singular value; there are at most as many rows as columns."""
    gram = matrix @ matrix.T
    if len(gram) <= DENSE:
        leading: Tensor = torch.linalg.eigh(gram)[1][:, -1]
        return leading
    start = np.ones(len(gram), dtype=gram.numpy().dtype)
    _, vectors = eigsh(gram.numpy(), k=1, which="LA", v0=start)
    return torch.from_numpy(np.ascontiguousarray(vectors[:, 0]))
