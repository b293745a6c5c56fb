"""Effects with their standard errors: what other seeds, another search for the rate, and other test rows would change.

An estimate averages a contrast (`adapterlab.lab.analysis.contrast`) over seeds and tasks. The variance on each task has
three parts: the spread over the reported seeds, which for a difference of two contestants is moderated by the spread of all
other pairs; the selection of the learning rate; and, for metrics that are means over rows, the choice of the rows. The tasks
are taken as they are: an estimate is about these tasks, and `compare_across` is about others like them.

>>> terms = difference("oft", "lora", "in_domain").terms
>>> [(key, values) for key, values in _aligned(terms, [{("prose", 1): 1.04, ("prose", 2): 1.05}, {("prose", 1): 1.06}])]
[(('prose', 1), [1.04, 1.06])]
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, TypeVar

import numpy as np

from adapterlab.lab.analysis.contrast import Contrast, Term, difference, gain
from adapterlab.lab.analysis.metrics import ANSWERS, METRICS, Key, Measurements, Results, measure, smallest_difference
from adapterlab.lab.analysis.rate_noise import rate_noise
from adapterlab.lab.analysis.rate_response import responses_on
from adapterlab.lab.analysis.rows import Rows, measure_rows
from adapterlab.lab.analysis.selection import NO_SELECTION, REPLAYS, Selection, select_again
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics import (
    NO_PRIOR,
    Across,
    Component,
    Paired,
    VariancePrior,
    across_tasks,
    at_any_time,
    average,
    fit_priors,
    from_error,
    holm,
    holm_at_any_time,
    paired,
    row_component,
)
from adapterlab.lab.trial.spec import FROZEN

K = TypeVar("K")
V = TypeVar("V")
FEWEST_TASKS = 3
"""Fewest tasks that are taken as a sample: two numbers from a coarse grid may agree by chance."""


class Sources(NamedTuple):
    """Variance of an estimate by its sources.

    >>> Sources(seeds=4e-6, search=0.0, rows=5e-6).error
    0.003
    """

    seeds: float
    """Due to the seeds of the reported runs."""
    search: float
    """Due to the selection of the learning rates."""
    rows: float
    """Due to the choice of the test rows."""

    @property
    def error(self) -> float:
        """Standard error of the estimate."""
        return math.sqrt(sum(self))


@dataclass(frozen=True)
class Effects:
    """Estimates effects from results."""

    results: Results
    measured: Measurements
    """Every metric of every contestant."""
    rows: Rows
    """By contestant and metric, the losses of each test row by task and seed, for the metrics that have them."""
    selections: Mapping[tuple[str, str], Selection]
    """By contestant and task, the rates that a repeated search would select."""
    priors: Mapping[tuple[str, str], VariancePrior]
    """By metric and task, the variances over seeds of the differences of all pairs of contestants."""
    pooled_df: Mapping[tuple[str, str], int]
    """By metric and task, the degrees of freedom of the residuals of contestants by seeds."""

    @classmethod
    def of(cls, results: Results, replays: int = REPLAYS) -> Effects:
        """Return an estimator for these results.

        Args:
            results: Finished contests; contests on a task that the frozen model was not scored on are left out.
            replays: Simulated searches of each contest, for the variance of the selection of its rate.
        """
        measured = measure(results)
        scored = [
            c for (name, _), c in results.contests.items() if name != FROZEN and (FROZEN, c.task) in results.contests
        ]
        priors, pooled_df = variance_priors(results, measured)
        tasks = list(dict.fromkeys(c.task for c in scored))
        noise = {task: rate_noise(results, task) for task in tasks}
        responses = {task: responses_on(results, task) for task in tasks}
        selections = {
            (c.contestant, c.task): select_again(results, c, noise[c.task], replays, responses[c.task]) for c in scored
        }
        return cls(results, measured, measure_rows(results), selections, priors, pooled_df)

    def values(self, contestant: str, metric: str, tasks: Sequence[str] | None = None) -> dict[Key, float]:
        """Return a contestant's values by task and seed, without runs that have no value.

        Args:
            contestant: Name of the contestant, or `FROZEN`.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.
        """
        wanted = self.results.study.tasks if tasks is None else tasks
        by_key = self.measured.get((contestant, metric), {})
        return {key: by_key[key] for task in wanted for key in by_key if key[0] == task}

    def numbers(self, contrast: Contrast, tasks: Sequence[str] | None = None) -> dict[Key, float]:
        """Return a contrast by task and seed, for the seeds that all of its contestants have.

        Pairs of runs are left out if neither saw the event that the metric waits for: they say nothing about each other.

        Args:
            contrast: The contrast.
            tasks: Tasks; all of the results if None.
        """
        tables = [self.values(term.contestant, term.metric, tasks) for term in contrast.terms]
        steps = self.results.study.training.steps
        unseen = len(contrast.terms) > 1 and all(METRICS[metric].censored for metric in contrast.metrics)
        return {
            key: sum(term.weight * number for term, number in zip(contrast.terms, found, strict=True)) - contrast.minus
            for key, found in _aligned(contrast.terms, tables)
            if not (unseen and min(found) >= steps)
        }

    def estimate(self, contrast: Contrast, tasks: Sequence[str] | None = None) -> Paired:
        """Estimate the mean of a contrast over seeds and, with equal weights, over tasks.

        Args:
            contrast: The contrast.
            tasks: Tasks; all of the results if None.

        Returns:
            The mean with its interval and p-value. Where each task has a single number, the tasks are the sample, and fewer
            than `FEWEST_TASKS` leave the error unknown. In a race they hold at whatever number of seeds it ended.
        """
        study, effect = self.results.study, self._estimate(contrast, tasks)
        if not study.report.racing:
            return effect
        metric = METRICS[contrast.pooled_metric or contrast.metrics[0]]
        return at_any_time(effect, TYPICAL * smallest_difference(metric, self.results))

    def adjust(self, p: Mapping[K, float]) -> dict[K, float]:
        """Return p-values adjusted for several tests: by Holm's method, or in a race by the one for e-values.

        Args:
            p: By test, the p-value.
        """
        return holm_at_any_time(p) if self.results.study.report.racing else holm(p)

    @property
    def correction(self) -> str:
        """Name of the correction for several tests."""
        return "e-Holm" if self.results.study.report.racing else "Holm"

    def _estimate(self, contrast: Contrast, tasks: Sequence[str] | None) -> Paired:
        numbers = self.numbers(contrast, tasks)
        by_task: dict[str, list[float]] = defaultdict(list)
        for (task, _), number in numbers.items():
            by_task[task].append(number)
        if not numbers:
            return from_error(math.nan, math.inf, 0, 0)
        if all(seed == 0 for _, seed in numbers):
            return _over_tasks(list(numbers.values()))
        means = [fmean(values) for values in by_task.values()]
        answers = all(METRICS[metric].unit == ANSWERS for metric in contrast.metrics)
        if not any(numbers.values()) and not answers:  # from the same runs: differences of exactly 0 have no variance
            return from_error(0.0, 0.0, len(numbers) - 1, len(numbers)) if len(numbers) > 1 else paired([0.0])
        seeds = self._over_seeds(contrast, by_task)
        if seeds is None:
            return from_error(fmean(means), math.inf, 0, len(numbers))
        parts = [[seeds[task], *self._selected(contrast, task), *self._rows(contrast, task)] for task in by_task]
        effect = average(means, parts, len(numbers))
        if (
            answers and effect.mean == effect.error == 0
        ):  # all answers were scored as equal, which says little of others
            return from_error(0.0, math.inf, 0, len(numbers))
        return effect

    def sources(self, contrast: Contrast) -> Sources | None:
        """Return the variance of an estimate by its sources, with equal weights over the tasks.

        Args:
            contrast: The contrast.

        Returns:
            The variances; None if that of the seeds is unknown.
        """
        by_task: dict[str, list[float]] = defaultdict(list)
        for (task, _), number in self.numbers(contrast).items():
            by_task[task].append(number)
        seeds = self._over_seeds(contrast, by_task)
        if seeds is None or not by_task:
            return None
        weight = 1 / len(by_task) ** 2
        return Sources(
            weight * sum(seeds[task].variance for task in by_task),
            weight * sum(part.variance for task in by_task for part in self._selected(contrast, task)),
            weight * sum(part.variance for task in by_task for part in self._rows(contrast, task)),
        )

    def _over_seeds(self, contrast: Contrast, by_task: Mapping[str, Sequence[float]]) -> dict[str, Component] | None:
        """Return by task the variance of the mean over seeds; None if no task has two seeds."""
        metric, found = contrast.pooled_metric, {}
        spread = 1.0 if metric is None else contrast.spread
        for task, values in by_task.items():
            prior = NO_PRIOR if metric is None else self.priors.get((metric, task), NO_PRIOR)
            if len(values) > 1:
                most = 0 if metric is None else self.pooled_df.get((metric, task), 0)
                variance, df = prior.combine(float(np.var(values, ddof=1)) / spread, len(values) - 1, most)
                found[task] = Component(variance * spread, df)
            elif prior.df > 0:
                found[task] = Component(prior.variance * spread, prior.df)
        if not found:
            return None
        usual = Component(fmean(part.variance for part in found.values()), min(part.df for part in found.values()))
        return {task: found.get(task, usual).times(1 / len(values)) for task, values in by_task.items()}

    def _selected(self, contrast: Contrast, task: str) -> list[Component]:
        return [
            self.selections.get((name, task), NO_SELECTION).component(contrast.weights_of(name))
            for name in contrast.trained
        ]

    def _rows(self, contrast: Contrast, task: str) -> list[Component]:
        """Return the variance due to the test rows; of metrics on different rows, one component each."""
        found = []
        for metric in contrast.metrics:
            terms = [term for term in contrast.terms if term.metric == metric]
            tables = [_on_task(self.rows.get((term.contestant, metric), {}), task) for term in terms]
            sums = [
                np.sum([term.weight * losses for term, losses in zip(terms, found_rows, strict=True)], axis=0)
                for _, found_rows in _aligned(terms, tables)
            ]
            if sums:
                found.append(row_component(np.array(sums)))
        return found

    def by_task(self, contrast: Contrast, tasks: Sequence[str] | None = None) -> dict[str, Paired]:
        """Estimate a contrast on each task that has numbers for it.

        Args:
            contrast: The contrast.
            tasks: Tasks; all of the results if None.

        Returns:
            By task, the estimate; tasks without numbers are left out.
        """
        found = dict.fromkeys(task for task, _ in self.numbers(contrast, tasks))
        return {task: self.estimate(contrast, [task]) for task in found}

    def compare(self, a: str, b: str, metric: str, tasks: Sequence[str] | None = None) -> Paired:
        """Estimate the paired difference of two contestants; positive if `a` is better.

        Args:
            a: Name of a contestant.
            b: Name of another.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.

        Returns:
            The mean difference with its interval and p-value.
        """
        return self.estimate(difference(a, b, metric), tasks)

    def gained(self, contestant: str, metric: str, tasks: Sequence[str] | None = None) -> Paired:
        """Estimate the improvement over the frozen model; positive is better.

        Args:
            contestant: Name of the contestant.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.

        Returns:
            The mean improvement with its interval and p-value.
        """
        return self.estimate(gain(contestant, metric), tasks)

    def compare_across(self, a: str, b: str, metric: str) -> Across:
        """Estimate the difference of two contestants on tasks like these, by random effects over tasks.

        Args:
            a: Name of a contestant.
            b: Name of another.
            metric: Name of the metric.

        Returns:
            The overall effect and the spread between tasks.
        """
        return across_tasks(self.by_task(difference(a, b, metric)))


def _over_tasks(numbers: Sequence[float]) -> Paired:
    if len(numbers) < FEWEST_TASKS:
        return from_error(fmean(numbers), math.inf, 0, len(numbers))
    return paired(numbers)


def _on_task(values: Mapping[Key, V], task: str) -> dict[Key, V]:
    return {key: value for key, value in values.items() if key[0] == task}


def _aligned(terms: Sequence[Term], tables: Sequence[Mapping[Key, V]]) -> Iterator[tuple[Key, list[V]]]:
    """Yield each task and seed that all trained contestants have, with the value of each term.

    The frozen model has one value for each task, which serves every seed.
    """
    trained = [table for term, table in zip(terms, tables, strict=True) if term.contestant != FROZEN]
    for key in (trained or tables)[0]:
        places = [(key[0], 0) if term.contestant == FROZEN else key for term in terms]
        if all(place in table for place, table in zip(places, tables, strict=True)):
            yield key, [table[place] for place, table in zip(places, tables, strict=True)]


def residual_df(counts: Sequence[int]) -> int:
    """Return the degrees of freedom of the residuals of contestants by seeds, from the number of seeds of each contestant.

    >>> residual_df([3, 3, 3])
    4

    Args:
        counts: Number of seeds of each contestant; those with fewer than two do not count.
    """
    several = [count - 1 for count in counts if count > 1]
    return sum(several) - max(several, default=0)


def variance_priors(
    results: Results, measured: Measurements
) -> tuple[dict[tuple[str, str], VariancePrior], dict[tuple[str, str], int]]:
    """Fit the distribution of the variances over seeds of the differences of all pairs of contestants.

    Args:
        results: Finished contests.
        measured: Every metric of every contestant.

    Returns:
        By metric and task, the prior, and the degrees of freedom of all residuals.
    """
    priors: dict[tuple[str, str], VariancePrior] = {}
    freedom: dict[tuple[str, str], int] = {}
    for metric in METRICS:
        spread: dict[str, list[float]] = {}
        df: dict[str, list[int]] = {}
        for task in results.study.tasks:
            tables = [_on_task(measured.get((name, metric), {}), task) for name in results.contestants]
            pairs = [[a[key] - b[key] for key in a if key in b] for a, b in itertools.combinations(tables, 2)]
            spread[task] = [float(np.var(values, ddof=1)) for values in pairs if len(values) > 1]
            df[task] = [len(values) - 1 for values in pairs if len(values) > 1]
            freedom[metric, task] = residual_df([len(table) for table in tables])
        priors.update({(metric, task): prior for task, prior in fit_priors(spread, df).items()})
    return priors, freedom
