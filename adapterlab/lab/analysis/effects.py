"""Effects with their errors: what seeds show, and the luck of the choice of a learning rate that they cannot show.

The seeds that are reported share one learning rate, chosen from noisy short runs. With other tuning seeds another rate might
have been chosen, and all reported runs would have shifted together. Left out, an adapter compared with itself is
found different more often than an interval says; `adapterlab.lab.analysis.calibration` measures it.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from adapterlab.lab.analysis.metrics import Key, Results
from adapterlab.lab.analysis.noise_model import noise_scale
from adapterlab.lab.analysis.statistics import Across, Paired, across_tasks, paired, stratified
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import search
from adapterlab.lab.study.spec import Tuning

FOLLOWS_THE_CHOICE = {"in_domain", "in_domain_rewound"}
"""Metrics on the scale of the loss that the choice is made on, to which its luck carries over."""
REPLAYS = 40
"""Searches that are made again to see how their choices vary."""


def compare(results: Results, a: str, b: str, metric: str, tasks: Sequence[str] | None = None) -> Paired:
    """By how much `a` is better than `b`, over these tasks."""
    return over_tasks(results, results.differences(a, b, metric, tasks), (a, b), metric)


def gained(results: Results, contestant: str, metric: str, tasks: Sequence[str] | None = None) -> Paired:
    """By how much better than the frozen model, over these tasks."""
    return over_tasks(results, results.gains(contestant, metric, tasks), (contestant,), metric)


def compare_across(results: Results, a: str, b: str, metric: str) -> Across:
    """By how much `a` is better than `b` on tasks like these."""
    differences = results.differences(a, b, metric)
    tasks = sorted({task for task, _ in differences})
    return across_tasks(
        {
            task: over_tasks(results, {k: d for k, d in differences.items() if k[0] == task}, (a, b), metric)
            for task in tasks
        }
    )


def over_tasks(results: Results, numbers: Mapping[Key, float], contestants: Sequence[str], metric: str) -> Paired:
    """The mean of `numbers`, each task weighing the same, that come from runs of `contestants`.

    Where a metric gives one number for a whole task, the tasks are the sample.
    """
    by_task: dict[str, list[float]] = defaultdict(list)
    for (task, _), number in numbers.items():
        by_task[task].append(number)
    if all(seed == 0 for _, seed in numbers):
        return paired(list(numbers.values()))
    if metric not in FOLLOWS_THE_CHOICE or not any(numbers.values()):  # the same runs twice differ by nothing at all
        return stratified(by_task)
    luck = {
        task: sum(selection_variance(results, results.contests[name, task]) for name in contestants) for task in by_task
    }
    return stratified(by_task, luck)


def selection_variance(results: Results, contest: Contest) -> float:
    """Variance of a contest's loss over the learning rates that might have been chosen as well.

    The search is made again and again on the curve that its own first round shows, with fresh noise: a parametric
    bootstrap of the selection (Efron 2014). The noise has twice a run's variance, since the curve is not known better than
    the runs that it comes from. Losses of longer runs lie apart as their gains do.
    """
    variance = run_variance(results, contest.task) if contest.reported else 0.0
    losses = {lr: outcome.validation for lr, (_, outcome) in contest.first.items() if outcome.status == "ok"}
    frozen = results.frozen(contest.task).validation
    gain = frozen - min(losses.values(), default=frozen)
    if variance == 0 or len(losses) < 2 or gain <= 0:
        return 0.0
    key = contest.contestant, contest.task
    if key not in results.luck:
        final = frozen - fmean(outcome.validation for _, outcome in contest.reported.values() if outcome.status == "ok")
        second = frozen - min((outcome.validation for _, outcome in contest.second.values()), default=frozen)
        curve = Curve({lr: (loss - frozen) / gain for lr, loss in losses.items()})
        scales = {1: gain, 2: max(second, 0.0)}
        noise = np.random.default_rng(0).normal(0, math.sqrt(2 * variance), (REPLAYS, 64))
        found = [_chosen(contest.study.tuning, curve, scales, list(draws)) for draws in noise]
        results.luck[key] = float(np.var([max(final, 0.0) * curve(lr) for lr in found if lr is not None], ddof=1))
    return results.luck[key]


class Curve:
    """Loss by learning rate, from the few rates that were tried: a parabola about the best, straight lines elsewhere."""

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
        """The loss at a learning rate; beyond the tried ones, that of the last of them."""
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


def _chosen(tuning: Tuning, curve: Curve, scales: Mapping[int, float], draws: list[float]) -> float | None:
    """The rate that a search chooses where losses are the curve's, at the scale of each round, plus noise."""
    searching, losses = search(tuning), None
    while True:
        try:
            number, wanted = searching.send(losses) if losses is not None else next(searching)
        except StopIteration as end:
            return end.value
        losses = {lr: scales[number] * curve(lr) + draws.pop() * noise_scale(curve(lr)) for lr in wanted}


def run_variance(results: Results, task: str) -> float:
    """Variance of one run's validation loss beside what its seed does to all contestants alike.

    The residual of a two-way layout, contestants by seeds; with a single contestant, its variance over seeds.
    """
    if task not in results.run_variances:
        seeds = results.study.report.seeds
        table = np.array(
            [
                [contest.reported[seed][1].validation for seed in seeds]
                for contest in (results.contests.get((name, task)) for name in results.contestants)
                if contest is not None and set(contest.reported) == set(seeds)
            ]
        )
        table = table[np.isfinite(table).all(axis=1)] if len(table) else table
        results.run_variances[task] = _residual_variance(table)
    return results.run_variances[task]


def _residual_variance(table: np.ndarray) -> float:
    if table.size == 0 or table.shape[1] < 2:
        return 0.0
    rest = table - table.mean(axis=1, keepdims=True)
    if len(table) > 1:
        rest = rest - rest.mean(axis=0)
    return float((rest**2).sum()) / (max(1, len(table) - 1) * (table.shape[1] - 1))
