"""Learning rates that a repeated search might have selected, and the variance that this adds to a reported metric.

All reported seeds of a contest share one rate, which was selected from a few noisy runs. With other tuning seeds a neighbour
might have been selected, and every reported run would have shifted together; the spread over the reported seeds does not
show that. The search is repeated many times on the curve that its own runs show, with new noise (a parametric bootstrap of
the selection, Efron 2014), and each metric's own response to the rate turns the spread of rates into a variance.

>>> curve = Curve({1e-3: 1.0, 1e-2: 0.5, 1e-1: 1.0})
>>> round(curve(1e-2), 3), round(curve(10 ** -1.5), 3)
(0.5, 0.625)
>>> Selection({1e-3: 0.5, 1e-2: 0.5}, {"forgetting": Line(0.02, 1e-2)}).variance({"forgetting": 1.0})
0.0001
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import Protocol

import numpy as np

from adapterlab.lab.analysis.metrics import METRICS, Metric, Results
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import search
from adapterlab.lab.statistics.components import Component
from adapterlab.lab.trial.spec import FROZEN

REPLAYS = 1000
"""Simulated searches from which the distribution of the selected rate is estimated. With 60 of them, which all contests
shared, the intervals of the quick study were up to 30 % too narrow, since far rates are selected rarely."""
ROUGH_REPLAYS = 60
"""Simulated searches of each contest where many studies are simulated, whose Monte Carlo errors average out."""
CURVE_NOISE = 1.5
"""Variance of a new run about the curve, in variances of one run: its own, and half of one for the noise of the curve. On
repeated searches of real runs (`benchmarks/aa_bank.py`) the simulated variance of the selection is then 1.2 times the true
one; with 1 in its place it is .7 times, with 2 it is 1.9 times."""
SELECTION_DF = 5.0
"""Degrees of freedom of the variance of the selection, which is estimated from a handful of runs."""


class Response(Protocol):
    """A metric as a function of the learning rate."""

    def __call__(self, rate: float) -> float:
        """Return the metric at a learning rate, up to a constant.

        Args:
            rate: Learning rate.
        """


@dataclass(frozen=True)
class Selection:
    """Distribution of the rate that a repeated search would select."""

    shares: Mapping[float, float]
    """By learning rate, the share of repeated searches that select it."""
    responses: Mapping[str, Response]
    """By metric, its response to the rate after a reported run's number of steps; no variance for other metrics."""

    def variance(self, weights: Mapping[str, float]) -> float:
        """Return the variance of a weighted sum of metrics over the rates.

        Args:
            weights: By metric, its weight.
        """
        values, chance = [], []
        for rate, share in self.shares.items():
            values.append(sum(w * self.responses[m](rate) for m, w in weights.items() if m in self.responses))
            chance.append(share)
        mean = float(np.average(values, weights=chance)) if values else 0.0
        return sum(share * (value - mean) ** 2 for value, share in zip(values, chance, strict=True))

    def component(self, weights: Mapping[str, float]) -> Component:
        """Return the variance of a weighted sum of metrics as a component of an estimate's variance.

        Args:
            weights: By metric, its weight.
        """
        return Component(self.variance(weights), SELECTION_DF)


NO_SELECTION = Selection({}, {})
"""Selection of a contestant whose rate was not searched for."""


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


@dataclass(frozen=True)
class Scaled:
    """Curve of a shorter run at the scale of a reported one."""

    curve: Curve
    factor: float
    """Ratio of the gains."""

    def __call__(self, rate: float) -> float:
        """Return the loss at a learning rate, up to a constant.

        Args:
            rate: Learning rate.
        """
        return self.factor * self.curve(rate)


def repeat_search(
    contest: Contest, loss: Response, scales: Mapping[int, float], noise: float, replays: int = REPLAYS
) -> dict[float, float]:
    """Repeat the search on a curve with new noise.

    Args:
        contest: The contest whose search is repeated.
        loss: Loss as a function of the rate, as a share of the gain.
        scales: By rung, the gain.
        noise: Standard deviation of one run's loss about the curve, without what its seed does to all rates together.
        replays: Number of repetitions.

    Returns:
        By rate, the share of the repetitions that select it; rounds in which every rate diverges are left out.
    """
    draws = np.random.default_rng(0).normal(0, math.sqrt(CURVE_NOISE) * noise, (replays if noise else 1, 64))
    start, known = contest.start, cache(loss)
    selected = [rate for row in draws if (rate := _selected(contest, start, known, scales, row.tolist())) is not None]
    return {rate: count / len(selected) for rate, count in sorted(Counter(selected).items())}


def _selected(
    contest: Contest, start: float, loss: Response, scales: Mapping[int, float], draws: list[float]
) -> float | None:
    study, losses = contest.study, None
    searching = search(study.tuning, study.training.steps, start, contest.extensions)
    while True:
        try:
            wanted = searching.send(losses) if losses is not None else next(searching)
        except StopIteration as end:
            selected: float | None = end.value.rate
            return selected
        shrink = scales[wanted.rung] / scales[2]
        losses = {lr: scales[wanted.rung] * loss(lr) + shrink * draws.pop() for lr in wanted.rates}


def select_again(results: Results, contest: Contest, noise: float, replays: int = REPLAYS) -> Selection:
    """Estimate which rates a repeated search of a contest would select, and how its metrics respond to the rate.

    The loss on the task responds as the validation losses of the search do, at the scale of the reported runs. Other metrics
    respond as they do over the search's runs of full length, which are scored on all parts.

    Args:
        results: Results that the contest is part of.
        contest: The contest.
        noise: Standard deviation of a run's validation loss about a smooth function of the rate.
        replays: Number of simulated searches.

    Returns:
        The rates with their shares, and the response of each metric.
    """
    frozen = results.frozen(contest.task).validation
    losses = {lr: o.validation for lr, (_, o) in contest.first.items() if math.isfinite(o.validation)}
    best = min(losses.values(), default=frozen)
    reported = [o.validation for _, o in contest.reported.values() if math.isfinite(o.validation)]
    if len(losses) < 2 or best >= frozen or not reported:
        return NO_SELECTION
    second = frozen - min((o.validation for _, o in contest.second.values()), default=frozen)
    curve = Curve({lr: (loss - frozen) / (frozen - best) for lr, loss in losses.items()})
    scales = {1: frozen - best, 2: second if second > 0 else frozen - best}
    shares = repeat_search(contest, curve, scales, noise, replays)
    on_task = Scaled(curve, max(frozen - fmean(reported), 0.0))
    responses: dict[str, Response] = dict.fromkeys(("in_domain", "in_domain_rewound", "tenth_of_data"), on_task)
    for name, metric in METRICS.items():
        if name not in responses and (line := fit_line(_at_full_length(results, contest, metric))) is not None:
            responses[name] = line
    return Selection(shares, responses)


def rate_noise(results: Results, task: str) -> float:
    """Return the standard deviation of a run's validation loss about a function of the rate, with one seed.

    Runs with one seed share their batches, so they vary less about their curve than runs with several seeds do. The two
    rungs of a search have different seeds: their differences between the same two rates would be equal, up to the scale of
    the gain, without noise.

    Args:
        results: Finished contests; all contestants' on the task are pooled.
        task: Name of the task.

    Returns:
        The standard deviation at the length of the second rung, without contestants that learn less than a quarter of what
        the best does; 0 if no search trained two rates in both rungs.
    """
    frozen, squares = results.frozen(task).validation, []
    contests = [c for (name, where), c in results.contests.items() if where == task and name != FROZEN]
    gains = [_gains(contest, frozen) for contest in contests]
    learned = max((max(second.values(), default=0.0) for _, second in gains), default=0.0)
    for first, second in gains:
        both = sorted(set(first) & set(second), key=lambda lr: -second[lr])[:2]
        if len(both) == 2 and max(first.values()) > 0 and max(second.values()) > learned / 4:
            scale = max(second.values()) / max(first.values())
            apart = (second[both[0]] - second[both[1]]) - scale * (first[both[0]] - first[both[1]])
            squares.append(apart**2 / (2 * (1 + scale**2)))
    return math.sqrt(fmean(squares)) if squares else 0.0


def _gains(contest: Contest, frozen: float) -> tuple[dict[float, float], dict[float, float]]:
    """Return by rate the gains of the runs of the first and of the second rung that did not diverge."""
    first, second = (
        {lr: frozen - outcome.validation for lr, (_, outcome) in rung.items() if math.isfinite(outcome.validation)}
        for rung in (contest.first, contest.second)
    )
    return first, second


def _at_full_length(results: Results, contest: Contest, metric: Metric) -> dict[float, float]:
    """Return by rate a metric of the search's runs of full length that were scored on all parts."""
    whole = [run for run in contest.second.values() if len(run[0].parts) > 1]
    found = metric.read(results, replace(contest, reported=dict(enumerate(whole)), tenth={}, first={}))
    return {whole[i][0].lr: value for i, value in found.items()}
