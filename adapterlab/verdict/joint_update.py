"""Update of all claims together: one likelihood for all runs, and the stated credences as a prior.

Claims that compare the same contestants share their runs, so their Bayes factors are not independent evidence. Here each
metric has one joint posterior of all contestants' values (`adapterlab.lab.statistics.joint`), and a claim is a
region of these values, or several that must all hold. What is no value of a contestant, such as a slope, has a posterior of
its own. The stated credences enter by exponential tilting: of all priors that give each claim its credence,
the one nearest to the model's own (minimum relative entropy; Csiszar 1975). Two claims that contradict each other can
therefore not both become likely, whatever their stated credences.

>>> import numpy as np
>>> holds = np.array([[True, False], [True, False], [False, True], [False, True]])  # claims that exclude each other
>>> weights = tilt(holds, [0.75, 0.25])(holds)
>>> (holds * weights[:, None]).sum(axis=0).round(2).tolist()
[0.75, 0.25]
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import SAMPLES, Evidence, Region, odds

ROUNDS = 500
"""Largest number of iterations in which the credences are matched."""
ENOUGH = 5_000
"""Effective number of draws from which a credence is computed: its standard error is then below 0.0075. With 39 claims the
weights leave one in a hundred draws."""
MOST_PARTS = 40
"""Largest number of samples of draws."""
STEEPEST = 12.0
"""Largest exponent of the tilting, for credences that contradict each other."""


@dataclass(frozen=True)
class Updated:
    """One claim after the update."""

    factor: float
    """Posterior odds over prior odds of the claim, without the credences of this and other claims, at full relevance."""
    after: float
    """Credence after the update."""


def update_together(
    regions: Mapping[str, Sequence[Region]],
    credences: Mapping[str, float],
    effects: Effects,
    relevances: Sequence[float],
) -> list[dict[str, Updated]]:
    """Update the credences of claims by the results of a study.

    Args:
        regions: By claim, the regions of values that must all hold; each contrast has one metric.
        credences: By claim, the credence before; one of exactly 0 or 1 does not move.
        effects: Effects estimated from finished contests.
        relevances: Correlations, from 0 to 1, of the differences that were measured with those that the claims mean.

    Returns:
        For each relevance, by claim, the Bayes factor and the new credence.
    """
    claims = list(regions)
    sampler = _Sampler.of(regions, effects)
    open_ = [i for i, claim in enumerate(claims) if 0 < credences[claim] < 1]
    places = [0.0, 1.0, *relevances]
    first = sampler.tables(0, places)
    tilted, parts = _tilted(sampler, first, open_, [credences[claims[i]] for i in open_])
    weight, weighted, plain = (np.zeros((len(places), count)) for count in (1, len(claims), len(claims)))
    for part in range(parts):
        for k, table in enumerate(first if part == 0 else sampler.tables(part, places)):
            unscaled = tilted.unscaled(table[:, open_])
            weight[k] += unscaled.sum()
            weighted[k] += unscaled @ table
            plain[k] += table.mean(axis=0) / parts
    factors = odds(plain[1]) / odds(plain[0])
    after = np.clip(weighted / weight, 0.5 / SAMPLES, 1 - 0.5 / SAMPLES)
    return [
        {
            claim: Updated(float(factors[i]), float(own[i]) if i in open_ else credences[claim])
            for i, claim in enumerate(claims)
        }
        for own in after[2:]
    ]


@dataclass(frozen=True)
class _Sampler:
    """Draws of what several claims are about."""

    claims: int
    blocks: Sequence[tuple[Evidence, Sequence[tuple[int, Region]]]]
    """By topic, the evidence and the regions of claims, each with the index of its claim. Topics are independent."""

    @classmethod
    def of(cls, regions: Mapping[str, Sequence[Region]], effects: Effects) -> _Sampler:
        topics: dict[str, list[tuple[int, Region]]] = defaultdict(list)
        for i, own in enumerate(regions.values()):
            for region in own:
                topics[region.contrast.metrics[0] if region.own is None else region.own.topic].append((i, region))
        blocks = [
            (found[0][1].own or Evidence.of(effects, topic, [region for _, region in found]), found)
            for topic, found in topics.items()
        ]
        return cls(len(regions), blocks)

    def tables(self, part: int, places: Sequence[float]) -> list[np.ndarray]:
        """Return for each relevance in which draws of a sample each claim holds, `(samples, claims)`."""
        found = [np.ones((SAMPLES, self.claims), dtype=bool) for _ in places]
        for evidence, about in self.blocks:
            for table, draws in zip(found, evidence.draws(places, part), strict=True):
                for i, region in about:
                    table[:, i] &= evidence.holds(draws, region)
        return found


def _tilted(
    sampler: _Sampler, first: Sequence[np.ndarray], open_: Sequence[int], credences: Sequence[float]
) -> tuple[Tilting, int]:
    """Return the tilting to the credences of the open claims, and the number of samples that it needs.

    The first sample is of the prior, then of the places; it shows how many effective draws the weights leave in each.
    """
    tilted = tilt(first[0][:, open_], credences)
    least = min(1 / float((tilted(table[:, open_]) ** 2).sum()) for table in first)
    parts = min(math.ceil(ENOUGH / least), MOST_PARTS)
    if parts > 1:
        prior = [first[0], *(sampler.tables(part, [0.0])[0] for part in range(1, parts))]
        tilted = tilt(np.concatenate(prior)[:, open_], credences)
    return tilted, parts


@dataclass(frozen=True)
class Tilting:
    """Exponential tilting of draws."""

    exponents: np.ndarray
    """One for each claim."""
    largest: float
    """Largest logarithm of a weight among the draws that it was found from."""

    def unscaled(self, holds: np.ndarray) -> np.ndarray:
        """Return weights of draws that are comparable between calls.

        Args:
            holds: Where each claim holds, `(samples, claims)`.
        """
        found: np.ndarray = np.exp(holds @ self.exponents - self.largest)
        return found

    def __call__(self, holds: np.ndarray) -> np.ndarray:
        """Return weights of draws that sum to 1.

        Args:
            holds: As for `unscaled`.
        """
        unscaled = self.unscaled(holds)
        found: np.ndarray = unscaled / unscaled.sum()
        return found


def tilt(holds: np.ndarray, credences: Sequence[float]) -> Tilting:
    """Find the exponential tilting of draws under which each claim has its credence.

    It minimizes the convex `log(mean(exp(holds @ exponents))) - exponents @ credences`, whose gradient is the difference
    between the tilted shares and the credences.

    Args:
        holds: For draws of the prior, where each claim holds, `(samples, claims)`.
        credences: Credence of each claim, between 0 and 1.

    Returns:
        The tilting. If none matches all credences, as for claims that contradict each other, it comes as near as bounded
        exponents allow.
    """
    if not credences:
        return Tilting(np.zeros(0), 0.0)
    table, wanted = holds.astype(np.float64), np.asarray(credences, dtype=np.float64)

    def dual(exponents: np.ndarray) -> tuple[float, np.ndarray]:
        log = table @ exponents
        top = log.max(initial=0.0)
        unscaled = np.exp(log - top)
        total = unscaled.sum()
        return float(np.log(total / len(log)) + top - exponents @ wanted), unscaled @ table / total - wanted

    found = minimize(
        dual,
        np.zeros(len(wanted)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-STEEPEST, STEEPEST)] * len(wanted),
        options={"maxiter": ROUNDS, "ftol": 1e-15, "gtol": 1e-6},
    ).x
    return Tilting(found, float((table @ found).max(initial=0.0)))
