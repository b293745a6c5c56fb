"""Effects with their standard errors: the spread over seeds, and the variance due to selecting a learning rate.

All reported seeds share one learning rate, selected from short noisy runs. With other tuning seeds another rate might have
been selected, and all reported runs would have shifted together. Without that variance, an adapter compared with itself
differs more often than its interval says; `adapterlab.lab.analysis.calibration` measures it.

>>> curve = Curve({1e-3: 1.0, 1e-2: 0.5, 1e-1: 1.0})
>>> round(curve(1e-2), 3), round(curve(10 ** -1.5), 3)
(0.5, 0.625)
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from adapterlab.lab.analysis.metrics import METRICS, Key, Measurements, Results, measure
from adapterlab.lab.analysis.noise_model import noise_scale
from adapterlab.lab.analysis.statistics import Across, Paired, across_tasks, paired, stratified
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import search
from adapterlab.lab.study.spec import Tuning
from adapterlab.lab.trial.spec import FROZEN

SELECTED_METRICS = {"in_domain", "in_domain_rewound"}
"""Metrics on the scale of the loss that the rate is selected by, to which the selection's variance applies."""
REPLAYS = 40
"""Simulated searches from which the variance of the selection is estimated."""


@dataclass(frozen=True)
class Effects:
    """Estimates effects from results, with the variance of the selection of a learning rate."""

    results: Results
    measured: Measurements
    """Every metric of every contestant."""
    selection_variances: Mapping[tuple[str, str], float]
    """By contestant and task, the variance of the reported loss due to the selection of a learning rate."""

    @classmethod
    def of(cls, results: Results) -> Effects:
        """Return an estimator for these results.

        Args:
            results: Finished contests; contests on a task that the frozen model was not scored on are left out.
        """
        scored = [
            c for (name, _), c in results.contests.items() if name != FROZEN and (FROZEN, c.task) in results.contests
        ]
        runs = {task: run_variance(results, task) for task in dict.fromkeys(c.task for c in scored)}
        return cls(
            results,
            measure(results),
            {(c.contestant, c.task): selection_variance(results, c, runs[c.task]) for c in scored},
        )

    def values(self, contestant: str, metric: str, tasks: Sequence[str] | None = None) -> dict[Key, float]:
        """Return a contestant's values by task and seed, without runs that diverged or have not ended.

        Args:
            contestant: Name of the contestant, or `FROZEN`.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.
        """
        wanted = self.results.study.tasks if tasks is None else tasks
        by_key = self.measured.get((contestant, metric), {})
        return {key: by_key[key] for task in wanted for key in by_key if key[0] == task}

    def gains(self, contestant: str, metric: str, tasks: Sequence[str] | None = None) -> dict[Key, float]:
        """Return the improvements over the frozen model by task and seed; positive is better.

        Args:
            contestant: Name of the contestant.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.
        """
        frozen = {task: value for (task, _), value in self.values(FROZEN, metric, tasks).items()}
        sign = METRICS[metric].sign
        return {
            (task, seed): sign * (value - frozen[task])
            for (task, seed), value in self.values(contestant, metric, tasks).items()
            if task in frozen
        }

    def differences(self, a: str, b: str, metric: str, tasks: Sequence[str] | None = None) -> dict[Key, float]:
        """Return the paired differences of two contestants by task and seed; positive if `a` is better.

        Args:
            a: Name of a contestant.
            b: Name of another.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.
        """
        mine, theirs = self.values(a, metric, tasks), self.values(b, metric, tasks)
        sign = METRICS[metric].sign
        return {key: sign * (mine[key] - theirs[key]) for key in mine if key in theirs}

    def surplus(
        self, own: tuple[str, str], other: tuple[str, str], share: float, tasks: Sequence[str] | None = None
    ) -> dict[Key, float]:
        """Return by task and seed the gain beyond a share of another gain; positive if it is larger.

        Args:
            own: A contestant and a metric.
            other: The contestant and the metric of the other gain.
            share: Share of the other gain, such as 0.9.
            tasks: Tasks; all of the results if None.
        """
        mine, theirs = self.gains(*own, tasks), self.gains(*other, tasks)
        return {key: mine[key] - share * theirs[key] for key in mine if key in theirs}

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
        return self.over_tasks(self.differences(a, b, metric, tasks), (a, b), metric)

    def gained(self, contestant: str, metric: str, tasks: Sequence[str] | None = None) -> Paired:
        """Estimate the improvement over the frozen model; positive is better.

        Args:
            contestant: Name of the contestant.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.

        Returns:
            The mean improvement with its interval and p-value.
        """
        return self.over_tasks(self.gains(contestant, metric, tasks), (contestant,), metric)

    def compare_across(self, a: str, b: str, metric: str) -> Across:
        """Estimate the difference of two contestants on tasks like these, by random effects over tasks.

        Args:
            a: Name of a contestant.
            b: Name of another.
            metric: Name of the metric.

        Returns:
            The overall effect and the spread between tasks.
        """
        differences = self.differences(a, b, metric)
        tasks = sorted({task for task, _ in differences})
        return across_tasks(
            {
                task: self.over_tasks({k: d for k, d in differences.items() if k[0] == task}, (a, b), metric)
                for task in tasks
            }
        )

    def over_tasks(self, numbers: Mapping[Key, float], contestants: Sequence[str], metric: str) -> Paired:
        """Average numbers over tasks with equal weights.

        Args:
            numbers: By task and seed. If every seed is 0, there is one number for each task, and the tasks are the sample.
            contestants: Contestants whose runs the numbers come from, for the variance of their selected rates.
            metric: Name of the metric.

        Returns:
            The mean with its interval and p-value.
        """
        by_task: dict[str, list[float]] = defaultdict(list)
        for (task, _), number in numbers.items():
            by_task[task].append(number)
        if all(seed == 0 for _, seed in numbers):
            return paired(list(numbers.values()))
        # Differences that are all exactly 0 come from the same runs and have no variance.
        if metric not in SELECTED_METRICS or not any(numbers.values()):
            return stratified(by_task)
        return stratified(
            by_task, {task: sum(self.selection_variances[name, task] for name in contestants) for task in by_task}
        )


def selection_variance(results: Results, contest: Contest, run_variance: float) -> float:
    """Return the variance of a contest's reported loss over the learning rates that might have been selected.

    The search is repeated many times on the curve that its own first rung shows, with new noise: a parametric bootstrap of
    the selection (Efron 2014). The noise has twice a run's variance, since the curve is no more certain than the runs that
    it comes from. Differences between losses grow with the gain of longer runs.

    Args:
        results: Results that the contest is part of.
        contest: The contest.
        run_variance: Variance of one run's validation loss on the contest's task.
    """
    losses = {lr: outcome.validation for lr, (_, outcome) in contest.first.items() if outcome.status == "ok"}
    frozen = results.frozen(contest.task).validation
    gain = frozen - min(losses.values(), default=frozen)
    reported = [outcome.validation for _, outcome in contest.reported.values() if outcome.status == "ok"]
    if run_variance == 0 or not reported or len(losses) < 2 or gain <= 0:
        return 0.0
    final = frozen - fmean(reported)
    second = frozen - min((outcome.validation for _, outcome in contest.second.values()), default=frozen)
    curve = Curve({lr: (loss - frozen) / gain for lr, loss in losses.items()})
    scales = {1: gain, 2: max(second, 0.0)}
    noise = np.random.default_rng(0).normal(0, math.sqrt(2 * run_variance), (REPLAYS, 64))
    selected = [_selected_rate(contest.study.tuning, curve, scales, list(draws)) for draws in noise]
    return float(np.var([max(final, 0.0) * curve(lr) for lr in selected if lr is not None], ddof=1))


class Curve:
    """Loss as a function of the learning rate: a parabola about the best rate tried, straight lines elsewhere.

    Args:
        losses: By learning rate, the loss.
    """

    def __init__(self, losses: Mapping[float, float]) -> None:
        self.x = [math.log10(lr) for lr in sorted(losses)]
        self.y = [losses[lr] for lr in sorted(losses)]
        best = self.y.index(min(self.y))
        self.inside: tuple[float, float] | None = None
        if 0 < best < len(self.x) - 1:
            near = slice(best - 1, best + 2)
            self.inside = self.x[best - 1], self.x[best + 1]
            self.parabola = [float(c) for c in np.polyfit(self.x[near], self.y[near], 2)]

    def __call__(self, rate: float) -> float:
        """Return the loss at a learning rate; beyond the rates tried, that of the nearest of them.

        Args:
            rate: Learning rate.
        """
        x = math.log10(rate)
        if self.inside and self.inside[0] <= x <= self.inside[1]:
            a, b, c = self.parabola
            return (a * x + b) * x + c
        if x <= self.x[0]:
            return self.y[0]
        if x >= self.x[-1]:
            return self.y[-1]
        i = bisect.bisect(self.x, x)
        share = (x - self.x[i - 1]) / (self.x[i] - self.x[i - 1])
        return self.y[i - 1] + share * (self.y[i] - self.y[i - 1])


def _selected_rate(tuning: Tuning, curve: Curve, scales: Mapping[int, float], draws: list[float]) -> float | None:
    """Return the rate that a search selects if losses are the curve's, at the scale of each rung, plus noise."""
    searching, losses = search(tuning), None
    while True:
        try:
            rung, wanted = searching.send(losses) if losses is not None else next(searching)
        except StopIteration as end:
            selected: float | None = end.value
            return selected
        losses = {lr: scales[rung] * curve(lr) + draws.pop() * noise_scale(curve(lr)) for lr in wanted}


def run_variance(results: Results, task: str) -> float:
    """Return the variance of one run's validation loss, without what its seed does to all contestants.

    This is the residual variance of a two-way layout, contestants by seeds; of a single contestant, the variance over
    seeds.

    Args:
        results: The results.
        task: Name of the task.
    """
    seeds = results.study.report.seeds
    table = np.array(
        [
            [contest.reported[seed][1].validation for seed in seeds]
            for contest in (results.contests.get((name, task)) for name in results.contestants)
            if contest is not None and set(contest.reported) == set(seeds)
        ]
    )
    return _residual_variance(table[np.isfinite(table).all(axis=1)] if len(table) else table)


def _residual_variance(table: np.ndarray) -> float:
    if table.size == 0 or table.shape[1] < 2:
        return 0.0
    rest = table - table.mean(axis=1, keepdims=True)
    if len(table) > 1:
        rest = rest - rest.mean(axis=0)
    return float((rest**2).sum() / (max(1, len(table) - 1) * (table.shape[1] - 1)))
