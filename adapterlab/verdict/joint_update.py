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

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import SAMPLES, Evidence, Region, odds
from adapterlab.lab.statistics.joint import Draws

ROUNDS = 200
"""Largest number of passes over the claims when the credences are matched."""
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
    topics: dict[str, list[tuple[int, Region]]] = defaultdict(list)
    for i, claim in enumerate(claims):
        for region in regions[claim]:
            topics[region.contrast.metrics[0] if region.own is None else region.own.topic].append((i, region))
    blocks = [
        (found[0][1].own or Evidence.of(effects, topic, [region for _, region in found]), found)
        for topic, found in topics.items()
    ]

    def where(draw: Callable[[Evidence], Draws]) -> np.ndarray:
        table = np.ones((SAMPLES, len(claims)), dtype=bool)
        for block, found in blocks:
            draws = draw(block)
            for i, region in found:
                table[:, i] &= block.holds(draws, region)
        return table

    prior, full = where(Evidence.prior), where(lambda block: block.posterior(1.0))
    open_ = [i for i, claim in enumerate(claims) if 0 < credences[claim] < 1]
    tilted = tilt(prior[:, open_], [credences[claims[i]] for i in open_])
    factors = odds(full.mean(axis=0)) / odds(prior.mean(axis=0))
    found = []
    for relevance in relevances:
        table = where(lambda block, at=relevance: block.posterior(at))  # type: ignore[misc]
        after = (table * tilted(table[:, open_])[:, None]).sum(axis=0)
        found.append(
            {
                claim: Updated(
                    float(factors[i]),
                    credences[claim] if i not in open_ else float(np.clip(after[i], 0.5 / SAMPLES, 1 - 0.5 / SAMPLES)),
                )
                for i, claim in enumerate(claims)
            }
        )
    return found


def tilt(holds: np.ndarray, credences: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    """Find the exponential tilting of draws under which each claim has its credence.

    Args:
        holds: For draws of the prior, where each claim holds, `(samples, claims)`.
        credences: Credence of each claim, between 0 and 1.

    Returns:
        A function that gives draws, by where each claim holds in them, their weights, which sum to 1. If no tilting matches
        all credences, as for claims that contradict each other, it comes as near as a bounded exponent allows.
    """
    exponents = np.zeros(len(credences))

    def weights(table: np.ndarray) -> np.ndarray:
        log = table @ exponents
        unscaled = np.exp(log - log.max())
        shares: np.ndarray = unscaled / unscaled.sum()
        return shares

    for _ in range(ROUNDS):
        largest = 0.0
        for i, credence in enumerate(credences):
            share = float(np.clip(weights(holds) @ holds[:, i], 1e-6, 1 - 1e-6))
            change = float(np.log(credence / (1 - credence) * (1 - share) / share))
            exponents[i] = np.clip(exponents[i] + change, -STEEPEST, STEEPEST)
            largest = max(largest, abs(change))
        if largest < 1e-4:
            break
    return weights
