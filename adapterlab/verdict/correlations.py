"""Results of a study on the statement that a gain or a loss follows a number of the learned changes of weights.

The rank correlation is over means of a contestant on a task: runs that differ by their seed alone are not independent. The
evidence is on Fisher's z, whose error depends little on the correlation.

>>> [round(share, 6) for share in shares([1.0, 2.0, 3.0], [2.0, 4.0, 9.0])]  # their mean is the correlation
[1.5, 0.0, 1.5]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from adapterlab.lab.analysis.contrast import Contrast, Term
from adapterlab.lab.analysis.evidence import MEASURED, ZERO, Evidence, Region
from adapterlab.lab.analysis.geometry import LEAST_MEANS, over_seeds
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics import Paired, at_any_time, from_error
from adapterlab.lab.statistics.rank_correlation import fisher_z, rank_correlation
from adapterlab.tasks.base import Part
from adapterlab.verdict.geometry_forms import GEOMETRY, SMALLEST_CORRELATION, Correlates
from adapterlab.verdict.statements import Pair, Statement

PARTS = {"in_domain": Part.TEST, "out_of_domain": Part.OOD, "forgetting": Part.BASE}
"""By name of a score, the part of the task that it is measured on."""


def correlation(test: Correlates, results: Results) -> Statement | str:
    """Return what a study measured of a correlation, or why it cannot be tested.

    Args:
        test: The test, with the names that its contestants have in the study.
        results: The study's contests.

    Returns:
        The statement. Its effect is the correlation less the value that it is compared with, positive if it points the
        claim's way; its pairs are the shares that each contestant and task has in the correlation.
    """
    means = over_seeds(results, test.number, PARTS[test.metric], test.of)
    means = [mean for mean in means if mean.task in test.tasks]
    if missing := [name for name in test.of if not any(mean.contestant == name for mean in means)]:
        return (
            f"this study did not measure {test.title} of {' and '.join(missing)} and the loss beside it: name it in "
            "geometry.of" + (f", and {test.measure} in geometry.measures" if test.measure else "")
        )
    if len(means) < LEAST_MEANS:
        return f"only {len(means)} pairs of a contestant and a task: a correlation takes {LEAST_MEANS}"
    numbers = [mean.number for mean in means]
    scores = [mean.rise if test.metric == "forgetting" else -mean.rise for mean in means]
    found = rank_correlation(numbers, scores)
    if not math.isfinite(found.rho):
        return f"{test.title} or what it is compared with does not vary over contestants and tasks"
    pairs = tuple(
        Pair(mean.task, 0, test.sign * (share - test.value), mean.trials)
        for mean, share in zip(means, shares(numbers, scores), strict=True)
    )
    z, freedom = fisher_z(found.rho, found.pairs), found.pairs - 2
    beyond = from_error(z.value - math.atanh(test.value), z.error, freedom, found.pairs)
    if results.study.report.racing:
        beyond = at_any_time(beyond, TYPICAL * SMALLEST_CORRELATION)
    of_z = from_error(z.value, z.error, freedom, found.pairs)
    return Statement(test, pairs, _effect(test, found.rho, beyond), _region(test, of_z))


def shares(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Return the products of standardized ranks, whose mean is Spearman's rank correlation.

    Args:
        first: Values of one quantity; they vary.
        second: Values of the other in the same order; they vary too.
    """
    ranks = (stats.zscore(stats.rankdata(values)) for values in (first, second))
    products: list[float] = np.multiply(*ranks).tolist()
    return products


def _effect(test: Correlates, rho: float, beyond: Paired) -> Paired:
    """Return the correlation less the value that it is compared with, in the claim's sense.

    Args:
        test: The test.
        rho: The correlation.
        beyond: Fisher's z of the correlation less that of the value.
    """
    limits = (math.tanh(limit + math.atanh(test.value)) for limit in (beyond.low, beyond.high))
    low, high = sorted(test.sign * (limit - test.value) for limit in limits)
    mean, error = test.sign * (rho - test.value), (1 - rho**2) * beyond.error
    return replace(beyond, mean=mean, low=low, high=high, error=error)


def _region(test: Correlates, of_z: Paired) -> Region:
    where = " and ".join(test.tasks)
    topic = f"geometry: correlation of {test.number} with {test.metric} of {' and '.join(sorted(test.of))} on {where}"
    terms = Term(MEASURED, GEOMETRY, float(test.sign)), Term(ZERO, GEOMETRY, -float(test.sign))
    contrast = Contrast(terms).beyond(test.sign * math.atanh(test.value))
    return Region(contrast, (where,), None, Evidence.on_number(topic, {where: of_z}, SMALLEST_CORRELATION))
