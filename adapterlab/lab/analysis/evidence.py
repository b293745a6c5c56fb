"""Evidence of a study on statements about one metric, such as "oft forgets less than lora", by a joint posterior.

The statement is about tasks like the study's, so an effect that differs between the tasks speaks less clearly
(`adapterlab.lab.statistics.joint`).

>>> import numpy as np
>>> values, variances = np.array([[0.050, 0.052], [0.030, 0.031]]), np.full((2, 2), 1e-6)
>>> evidence = Evidence(JointModel(0.01, 0.004), ("lora", "oft"), ("prose", "restyle"), values, variances)
>>> better = Region(difference("lora", "oft", "in_domain"), ("prose", "restyle"))
>>> evidence.bayes_factor(better) > 20
True
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adapterlab.lab.analysis.contrast import Contrast, difference
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import METRICS, smallest_difference
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics import Paired
from adapterlab.lab.statistics.joint import Draws, JointModel, Posterior
from adapterlab.lab.trial.spec import FROZEN

MEASURED, ZERO = "measured", "zero"
"""Contestants of the evidence on one number: the number, and one that is exactly 0."""
SAMPLES = 20_000
"""Draws from which probabilities are estimated."""
BETWEEN = 0.8
"""Scale of the prior of the standard deviation between tasks, in units of the smallest difference that matters."""


@dataclass(frozen=True)
class Region:
    """Values of the contestants for which a statement holds."""

    contrast: Contrast
    """Positive where the statement holds; its terms have one metric."""
    tasks: tuple[str, ...]
    within: float | None = None
    """For a statement of equivalence, the largest size of the contrast; None for others."""
    own: Evidence | None = None
    """Evidence on a number that is no combination of values of one metric, such as a slope; None for others."""


@dataclass(frozen=True)
class Evidence:
    """Values of one metric, and the model of them."""

    model: JointModel
    names: tuple[str, ...]
    tasks: tuple[str, ...]
    values: np.ndarray
    """Improvements over the frozen model, or the values where it has none, `(contestants, tasks)`; positive is better."""
    variances: np.ndarray
    """Their variances."""
    topic: str = ""
    """Name of what is measured. Evidence on different topics has independent draws."""

    @classmethod
    def of(cls, effects: Effects, metric: str, regions: Sequence[Region]) -> Evidence:
        """Collect what results say of the contestants of some regions.

        Args:
            effects: Effects estimated from finished contests.
            metric: Name of the metric.
            regions: Regions of this metric.

        Returns:
            The evidence on the metric.
        """
        names = tuple(dict.fromkeys(name for region in regions for name in region.contrast.trained))
        tasks = tuple(dict.fromkeys(task for region in regions for task in region.tasks))
        smallest = smallest_difference(METRICS[metric], effects.results)
        variances = _own_variances(effects, metric, names, tasks, smallest)
        sign, frozen = METRICS[metric].sign, effects.values(FROZEN, metric, tasks)
        values = np.full(variances.shape, np.nan)
        for i, name in enumerate(names):
            own = effects.values(name, metric, tasks)
            for j, task in enumerate(tasks):
                found = [value - frozen.get((task, 0), 0.0) for (where, _), value in own.items() if where == task]
                values[i, j] = sign * float(np.mean(found)) if found else np.nan
        return cls(JointModel(TYPICAL * smallest, BETWEEN * smallest), names, tasks, values, variances, metric)

    @classmethod
    def on_number(cls, topic: str, found: Mapping[str, Paired], smallest: float) -> Evidence:
        """Return the evidence on one number, as a difference from a contestant that is exactly 0.

        Args:
            topic: Name of the number.
            found: By task, its estimate.
            smallest: Smallest value that matters, in its unit.

        Returns:
            The evidence; `MEASURED` and `ZERO` are its contestants.
        """
        errors = [_error(effect, smallest) for effect in found.values()]
        values = np.array([[effect.mean for effect in found.values()], [0.0] * len(found)])
        variances = np.array([errors, [0.0] * len(found)])
        model = JointModel(TYPICAL * smallest, BETWEEN * smallest)
        return cls(model, (MEASURED, ZERO), tuple(found), values, variances, topic)

    def prior(self) -> Draws:
        """Draw values from the prior.

        Returns:
            The draws.
        """
        return self.posterior(0.0)

    @cached_property
    def _posterior(self) -> Posterior:
        return self.model.condition(self.values, self.variances)

    def posterior(self, relevance: float) -> Draws:
        """Draw values at a place whose differences have some correlation with those of the study.

        Args:
            relevance: The correlation, from 0 to 1.

        Returns:
            The draws.
        """
        (found,) = self.draws([relevance])
        return found

    def draws(self, relevances: Sequence[float], part: int = 0) -> Iterator[Draws]:
        """Draw values at several places, with the same random numbers for all.

        Args:
            relevances: Correlations of the differences at these places with those of the study, from 0 to 1; at 0 the draws
                are of the prior.
            part: Number of the sample; each has draws of its own.

        Yields:
            For each correlation, the draws.
        """
        yield from self._posterior.draws(SAMPLES, self._seed + part, relevances)

    @property
    def _seed(self) -> int:
        """Seed of its draws; one for all topics would make their claims as good as the same."""
        return 1000 * zlib.crc32(self.topic.encode())

    def bayes_factor(self, region: Region) -> float:
        """Return the posterior odds of a region over its prior odds.

        Args:
            region: The region.
        """
        after, before = (self.holds(draws, region).mean() for draws in (self.posterior(1.0), self.prior()))
        return float(odds(after) / odds(before))

    def holds(self, draws: Draws, region: Region) -> np.ndarray:
        """Return in which draws the values lie in a region.

        Args:
            draws: Draws of the values.
            region: The region.
        """
        metric = METRICS.get(region.contrast.metrics[0])
        sign = 1 if metric is None else metric.sign  # evidence of its own may be on no metric
        tasks = [self.tasks.index(task) for task in region.tasks]
        values = [
            np.float32(sign * term.weight) * draws.over(self.names.index(term.contestant), tasks)
            for term in region.contrast.terms
            if term.contestant != FROZEN
        ]
        total = sum(values[1:], values[0]) - np.float32(region.contrast.minus)
        found: np.ndarray = total > 0 if region.within is None else np.abs(total) <= region.within
        shuffled: np.ndarray = found[draws.order]
        return shuffled


def _own_variances(
    effects: Effects, metric: str, names: Sequence[str], tasks: Sequence[str], smallest: float
) -> np.ndarray:
    """Return variances of single contestants, `(contestants, tasks)`, that add up to those of their differences.

    A difference of unknown error, such as one of single numbers, is given an error of the smallest difference that matters.
    """
    found = np.full((len(names), len(tasks)), smallest**2 / 2)
    for j, task in enumerate(tasks):
        pairs = np.zeros((len(names), len(names)))
        for a in range(len(names)):
            for b in range(a):
                effect = effects.by_task(difference(names[a], names[b], metric), [task]).get(task)
                pairs[a, b] = pairs[b, a] = _error(effect, smallest)
        found[:, j] = _split(pairs)
    return found


def _error(effect: Paired | None, smallest: float) -> float:
    """Return the variance of an estimate: by its degrees of freedom that of Student's t, and at least a little."""
    if effect is None or effect.df <= 0:
        return smallest**2
    freedom = effect.df / (effect.df - 2) if effect.df > 2 else 3.0
    return max(effect.error**2 * freedom, (smallest / 50) ** 2)


def _split(pairs: np.ndarray) -> np.ndarray:
    """Return the variances of single contestants whose sums come nearest to the pairs' variances (least squares)."""
    count = len(pairs)
    if count == 1:
        return np.array([0.0])
    if count == 2:
        return np.full(2, pairs[0, 1] / 2)
    total = pairs.sum() / 2 / (count - 1)
    own: np.ndarray = (pairs.sum(axis=1) - total) / (count - 2)
    raised: np.ndarray = np.maximum(own, 0.1 * total / count)
    return raised


def odds(share: np.ndarray) -> np.ndarray:
    """Return odds from shares of draws; shares of 0 and 1 are taken as half a draw from them.

    Args:
        share: Shares of `SAMPLES` draws.
    """
    kept = np.clip(share, 0.5 / SAMPLES, 1 - 0.5 / SAMPLES)
    ratio: np.ndarray = kept / (1 - kept)
    return ratio
