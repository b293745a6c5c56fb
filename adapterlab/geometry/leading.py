"""Leading singular triplets of weights: exact, or by a randomized decomposition with an error bound where few are needed.

An exact decomposition of a weight of a model of 8 B takes about a minute of a core. If a run needs the leading triplets
alone, those of large weights come from the randomized range finder of Halko, Martinsson and Tropp (2011).

>>> weight = torch.ones(LARGE, 1) @ torch.ones(1, LARGE)
>>> leading = Leading(FactorCache(), lambda length: 4)
>>> leading(weight).s.shape, left_out(weight, leading(weight)) < 0.01
(torch.Size([5]), True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.geometry.hypotheses.base import Hypothesis
from adapterlab.geometry.measures.base import Measure
from adapterlab.surgery.init.svd_cache import FactorCache

LARGE = 2048
"""Smaller side of a weight from which on its leading triplets are found at random."""
FEW = 0.25
"""Share of all triplets up to which a randomized decomposition is the cheaper one by far."""
ITERATIONS = 4
"""Power iterations of a randomized decomposition."""
MORE = 1.25
"""Triplets that are found at random for each that is needed, since the last ones are the least exact."""
PROBES = 10
"""Random vectors of the error bound, which fails with a probability of `10^-PROBES`."""


@dataclass(frozen=True)
class Leading:
    """Decompositions of weights, with as many leading triplets as a run needs.

    Args:
        cache: Computes and holds them.
        count: By the smaller side of a weight, the number of triplets that are needed.
    """

    cache: FactorCache
    count: Callable[[int], int]

    def __call__(self, weight: Float[Tensor, "out in"]) -> Factors:
        """Return all triplets of a weight, or the leading ones of a large weight if no more are needed.

        Args:
            weight: The weight.
        """
        length = min(weight.shape)
        count = math.ceil(MORE * self.count(length))
        if length < LARGE or count > FEW * length:
            return self.cache(weight)
        return self.cache(weight, count, ITERATIONS)


def needed(measures: Iterable[Measure], sized: Iterable[tuple[Hypothesis, int]], always: int) -> Callable[[int], int]:
    """Return the number of leading triplets that measures and projections need, by the smaller side of a weight.

    Args:
        measures: The measures.
        sized: Hypotheses with their sizes.
        always: Triplets that are needed in any case.
    """
    of_measures = [measure.directions for measure in measures]
    of_hypotheses = [(each, size) for each, size in sized]

    def count(length: int) -> int:
        counts = [length if of is None else of(length) for of in of_measures]
        counts += [each.directions(size) for each, size in of_hypotheses]
        return min(length, max([always, *counts]))

    return count


def left_out(weight: Float[Tensor, "out in"], factors: Factors) -> float:
    """Return a bound on the spectral norm of what leading triplets leave out, as a share of the largest singular value.

    With the leading left vectors `U` and independent normal vectors `w_i`, `|A - U U^T A|` is at most
    `10 sqrt(2 / pi) max_i |(A - U U^T A) w_i|`, but with a probability of `10^-r` for `r` vectors (Halko, Martinsson and
    Tropp 2011, section 4.3). A singular value that is found is too small by at most this, and by its square over twice the
    value where that is less.

    Args:
        weight: The weight.
        factors: Its leading triplets.

    Returns:
        The share; 0 if no triplet is left out.
    """
    u, s, _ = factors
    if len(s) == min(weight.shape) or not len(s) or not s[0]:
        return 0.0
    generator = torch.Generator().manual_seed(1)  # other vectors than those that the range was found by
    seen = weight @ torch.randn(weight.shape[1], PROBES, generator=generator, dtype=weight.dtype).to(weight.device)
    rest = seen - u @ (u.T @ seen)
    return 10 * math.sqrt(2 / math.pi) * float(torch.linalg.vector_norm(rest, dim=0).max() / s[0])


def note(by_path: Mapping[str, float]) -> list[str]:
    """Return a remark on the layers with randomized decompositions, if there are any.

    Args:
        by_path: For each layer, its bound (`left_out`).
    """
    shares = {path: share for path, share in by_path.items() if share}
    if not shares:
        return []
    worst = max(shares, key=shares.__getitem__)
    return [
        f"The leading singular directions of {len(shares)} large layers were found by a randomized method. What they leave "
        f"out has a spectral norm of at most {100 * shares[worst]:.2g} % of the largest singular value, in {worst} (bound "
        "of Halko, Martinsson and Tropp 2011, section 4.3). If a measure needs all of them, such as rank, they are exact."
    ]
