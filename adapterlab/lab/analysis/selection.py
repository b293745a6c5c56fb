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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import numpy as np

from adapterlab.lab.analysis.metrics import ANSWERS_IN_DOMAIN, ANSWERS_OUT_OF_DOMAIN, METRICS, Results
from adapterlab.lab.analysis.rate_response import ON_TASK, Line, Response, responses_of, typical
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import search
from adapterlab.lab.run.rate_priors import Start
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
    start, known = Start(contest.start, contest.trusted), cache(loss)
    selected = [rate for row in draws if (rate := _selected(contest, start, known, scales, row.tolist())) is not None]
    return {rate: count / len(selected) for rate, count in sorted(Counter(selected).items())}


def _selected(
    contest: Contest, start: Start, loss: Response, scales: Mapping[int, float], draws: list[float]
) -> float | None:
    study, losses = contest.study, None
    searching = search(study.tuning, study.training.steps, start.rate, contest.extensions, trusted=start.trusted)
    while True:
        try:
            wanted = searching.send(losses) if losses is not None else next(searching)
        except StopIteration as end:
            selected: float | None = end.value.rate
            return selected
        shrink = scales[wanted.rung] / scales[2]
        losses = {lr: scales[wanted.rung] * loss(lr) + shrink * draws.pop() for lr in wanted.rates}


def select_again(
    results: Results,
    contest: Contest,
    noise: float,
    replays: int = REPLAYS,
    others: Mapping[str, Sequence[Line]] | None = None,
) -> Selection:
    """Estimate which rates a repeated search of a contest would select, and how its metrics respond to the rate.

    The loss on the task responds as the validation losses of the search do, at the scale of the reported runs; so does the
    metric of answers. Other metrics respond as they do over the contest's runs of full length at several rates, which are
    scored on all parts.

    Args:
        results: Results that the contest is part of.
        contest: The contest.
        noise: Standard deviation of a run's validation loss about a smooth function of the rate.
        replays: Number of simulated searches.
        others: By metric, the responses of other contests, which stand in where the contest's own is not known.

    Returns:
        The rates with their shares, and the response of each metric.
    """
    frozen = results.frozen(contest.task).validation
    losses = {lr: o.validation for lr, (_, o) in contest.first.items() if math.isfinite(o.validation)}
    best = min(losses.values(), default=frozen)
    reported = [o.validation for _, o in contest.reported.values() if math.isfinite(o.validation)]
    if len(losses) < 2 or best >= frozen or not reported:
        return NO_SELECTION
    gained = max(frozen - fmean(reported), 0.0)
    second = frozen - min((o.validation for _, o in contest.second.values()), default=frozen - gained)
    curve = Curve({lr: (loss - frozen) / (frozen - best) for lr, loss in losses.items()})
    scales = {1: frozen - best, 2: second if second > 0 else frozen - best}
    shares = repeat_search(contest, curve, scales, noise, replays)
    on_task = dict.fromkeys(ON_TASK, Scaled(curve, gained))
    lent = {metric: typical(lines, contest.rate or contest.start) for metric, lines in (others or {}).items()}
    return Selection(shares, {**lent, **responses_of(results, contest), **on_task, **_answers(results, contest, curve)})


def _answers(results: Results, contest: Contest, curve: Curve) -> dict[str, Scaled]:
    """Return the responses of the metrics of answers, which only reported runs have.

    They are taken to rise as the loss falls: the share of the gain at a rate is that of the loss.
    """
    frozen = results.contests[FROZEN, contest.task]
    found = {}
    for name in (ANSWERS_IN_DOMAIN, ANSWERS_OUT_OF_DOMAIN):
        before, after = (METRICS[name].read(results, each).values() for each in (frozen, contest))
        if before and after:
            found[name] = Scaled(curve, fmean(before) - fmean(after))
    return found
