"""Response of each metric to the learning rate, from the runs of full length beside the chosen rate.

Runs of full length at more than one rate are those of a search's second rung and those that measure the regret; they are
scored on all parts. A contest that has none, since its search ended with the first rung, is given the typical response of
the others on its task.

>>> line = fit_line({1e-3: 0.01, 1e-2: 0.03})
>>> round(line.slope, 3), round(line(1e-2), 3)
(0.02, 0.01)
>>> typical([Line(0.03, 1e-2), Line(-0.01, 1e-2)], 1e-2).slope == (0.0005 ** 0.5)
True
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol

import numpy as np

from adapterlab.lab.analysis.metrics import ANSWERS, METRICS, Metric, Results
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial

ON_TASK = ("in_domain", "in_domain_rewound", "tenth_of_data")
"""Metrics that respond as the validation losses of the search do."""


class Response(Protocol):
    """A metric as a function of the learning rate."""

    def __call__(self, rate: float) -> float:
        """Return the metric at a learning rate, up to a constant.

        Args:
            rate: Learning rate.
        """


@dataclass(frozen=True)
class Line:
    """Straight line in the logarithm of the rate, constant far from where it was fitted."""

    slope: float
    """Change of the metric per decade."""
    centre: float
    """Rate at which it is 0."""
    reach: float = math.inf
    """Decades from the centre beyond which it is constant."""

    def __call__(self, rate: float) -> float:
        """Return the line at a learning rate.

        Args:
            rate: Learning rate.
        """
        return self.slope * max(-self.reach, min(self.reach, math.log10(rate / self.centre)))


def fit_line(values: Mapping[float, float]) -> Line | None:
    """Fit a straight line by least squares, constant half a decade beyond the rates; None for fewer than two rates.

    Args:
        values: By learning rate, the metric.

    Returns:
        The line.
    """
    rates = sorted(rate for rate, value in values.items() if math.isfinite(value))
    if len(rates) < 2:
        return None
    x = np.log10(rates)
    slope = float(np.polyfit(x, [values[rate] for rate in rates], 1)[0])
    return Line(slope, float(10 ** x.mean()), float(x[-1] - x[0]) / 2 + 0.5)


def typical(lines: Sequence[Line], centre: float) -> Line:
    """Return a line whose slope is the root mean square of others' slopes, the sign of their mean and their mean reach.

    Args:
        lines: At least one line.
        centre: Rate at which it is 0.
    """
    slopes = [line.slope for line in lines]
    slope = math.copysign(math.sqrt(fmean(slope**2 for slope in slopes)), fmean(slopes))
    return Line(slope, centre, fmean(line.reach for line in lines))


def responses_of(results: Results, contest: Contest) -> dict[str, Line]:
    """Return by metric its response to the rate, as far as the contest has runs of full length at more than one rate.

    Args:
        results: Results that the contest is part of.
        contest: The contest.
    """
    lines = {
        name: fit_line(_at_full_length(results, contest, metric))
        for name, metric in METRICS.items()
        if name not in ON_TASK and metric.unit != ANSWERS
    }
    return {name: line for name, line in lines.items() if line is not None}


def responses_on(results: Results, task: str) -> dict[str, list[Line]]:
    """Return by metric the responses to the rate of the contestants on a task that have one.

    Args:
        results: Finished contests.
        task: Name of the task.
    """
    found: dict[str, list[Line]] = defaultdict(list)
    for (name, where), contest in results.contests.items():
        if where == task and name != FROZEN:
            for metric, line in responses_of(results, contest).items():
                found[metric].append(line)
    return found


def _at_full_length(results: Results, contest: Contest, metric: Metric) -> dict[float, float]:
    """Return by rate the mean of a metric over the contest's runs of full length that were scored on all parts.

    Those that measure the regret have the same seeds at each rate; those of the second rung are used if there are none.
    """
    beside = [run for run in contest.measured if len(run[1].scores) > 1]
    whole = beside or [run for run in contest.second.values() if len(run[1].scores) > 1]
    by_rate: dict[float, list[float]] = defaultdict(list)
    for seed, value in metric.read(results, _only(contest, whole)).items():
        by_rate[whole[seed][0].lr].append(value)
    return {lr: fmean(values) for lr, values in by_rate.items()}


def _only(contest: Contest, runs: Sequence[tuple[Trial, Outcome]]) -> Contest:
    """Return the contest with these runs alone, as reported ones."""
    return replace(contest, reported=dict(enumerate(runs)), tenth={}, first={})
