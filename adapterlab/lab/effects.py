"""Effects with their errors: what seeds show, and the luck of the choice of a learning rate that they cannot show.

The seeds that are reported share one learning rate, chosen from noisy short runs. With other tuning seeds another rate might
have been chosen, and all reported runs would have shifted together. Left out, an adapter compared with itself is
found different more often than an interval says; `adapterlab.lab.honesty` measures it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtr

from adapterlab.lab.contest import Contest
from adapterlab.lab.metrics import Key, Results
from adapterlab.lab.statistics import Across, Paired, across_tasks, stratified

FOLLOWS_THE_CHOICE = {"in_domain", "in_domain_rewound"}
"""Metrics on the scale of the loss that the choice is made on, to which its luck carries over."""


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
    """The mean of `numbers`, each task weighing the same, that come from runs of `contestants`."""
    by_task: dict[str, list[float]] = defaultdict(list)
    for (task, _), number in numbers.items():
        by_task[task].append(number)
    if metric not in FOLLOWS_THE_CHOICE or not any(numbers.values()):  # the same runs twice differ by nothing at all
        return stratified(by_task)
    luck = {
        task: sum(luck_of_choice(results, results.contests[name, task]) for name in contestants) for task in by_task
    }
    return stratified(by_task, luck)


def luck_of_choice(results: Results, contest: Contest) -> float:
    """Variance of a contest's loss over the learning rates that might have been chosen as well.

    The two best of the last round are compared again with fresh noise: by how much they differ, and how often the other
    would have won, give the variance (a bootstrap of the selection, Efron 2014).
    """
    losses = sorted(outcome.validation for _, outcome in contest.second.values())
    if len(losses) < 2 or not math.isfinite(losses[1]):
        return 0.0
    variance = run_variance(results, contest.task)
    if variance == 0:
        return 0.0
    apart = losses[1] - losses[0]
    other = float(ndtr(-apart / math.sqrt(2 * variance)))
    return other * (1 - other) * apart**2


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
