"""Geometry of a study's trained changes: measures beside their values by chance, and what each hypothesis expresses.

>>> Mean.over([0.2, 0.4])
Mean(value=0.30000000000000004, low=-0.970..., high=1.570..., seeds=2)
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.statistics import paired
from adapterlab.lab.statistics.rank_correlation import RankCorrelation, rank_correlation
from adapterlab.lab.trial.spec import Outcome
from adapterlab.tasks.base import Part

RANDOM = " random"
"""End of the names of measures of a random change."""
WHOLE = "change"
"""Name of the whole change among those of projected ones."""
LEAST_MEANS = 4
"""Means that a correlation takes to have an interval."""
_NUMBER = re.compile(r"residual\((.+)\)")
_PROJECTED = re.compile(r"(residual|parameters|converged|loss)\(")


@dataclass(frozen=True)
class Mean:
    """A mean over the seeds of a contestant on a task, with its 95 % interval."""

    value: float
    """The mean; NaN if unknown."""
    low: float
    """Lower limit; infinite for fewer than two seeds."""
    high: float
    """Upper limit; infinite for fewer than two seeds."""
    seeds: int
    """Number of seeds."""

    @classmethod
    def over(cls, values: Iterable[float]) -> Mean:
        """Return the mean of the finite values, with Student's interval.

        Args:
            values: One for each seed.
        """
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < 2:
            return cls(finite[0] if finite else math.nan, -math.inf, math.inf, len(finite))
        found = paired(finite)
        return cls(found.mean, found.low, found.high, len(finite))


@dataclass(frozen=True)
class Measured:
    """A measure of the changes of a contestant on a task, over the layers and seeds."""

    contestant: str
    """Label of the contestant whose trials were measured."""
    task: str
    """Name of the task."""
    measure: str
    """Name of the measure, such as `energy_in_top(0.1)`."""
    mean: Mean
    """Its value."""
    null: float | None = None
    """Its mean value for random changes of the same size; None if it is not compared with them."""


@dataclass(frozen=True)
class Projected:
    """A hypothesis, and what it can express of the changes of a contestant on a task."""

    contestant: str
    """Label of the contestant whose changes were projected."""
    task: str
    """Name of the task."""
    hypothesis: str
    """Name of the hypothesis, such as `low_rank`."""
    parameters: int
    """Parameters of the projected change."""
    expressed: Mean
    """Share of the change that it expresses: 1 minus the residual."""
    gain: Mean | None = None
    """Share of the change's gain on the task's test data that the projected model keeps; None if it was not scored."""
    ood: Mean | None = None
    """The same on the out-of-domain data."""
    forgetting: Mean | None = None
    """Rise of the loss on the base domain; None if it was not scored."""
    converged: bool = True
    """False if any fit was stopped before its tolerance was met."""


class Changes(NamedTuple):
    """Geometry of all trained changes that a study measured."""

    measured: tuple[Measured, ...] = ()
    """Measures, by contestant and task."""
    projected: tuple[Projected, ...] = ()
    """Hypotheses, by contestant and task; those that express most first."""
    drift: RankCorrelation | None = None
    """Rank correlation, over the means of each contestant on each task, of the drift of activations on the base domain with
    the rise of the loss there; None for fewer than four means with both numbers."""


class OverSeeds(NamedTuple):
    """Means over the runs of a contestant on a task, which differ by their seed alone."""

    contestant: str
    task: str
    number: float
    """A number of the learned changes."""
    rise: float
    """Loss on a part of the task with the whole change of the linear layers, less that of the base."""
    trials: tuple[str, ...]
    """Ids of the runs' trials."""


class _Run(NamedTuple):
    outcome: Outcome
    frozen: Outcome

    def number(self, name: str) -> float:
        return self.outcome.geometry.get(name, math.nan)

    def rise(self, name: str, part: Part) -> float:
        """Return the loss with a projected change less that of the base."""
        if part not in self.frozen.scores:
            return math.nan
        return self.number(f"loss({name}, {part.value})") - self.frozen.scores[part][0]

    def share(self, name: str, part: Part) -> float:
        """Return the gain of a projected change over that of the whole change; NaN if that gains nothing."""
        whole = -self.rise(WHOLE, part)
        return -self.rise(name, part) / whole if whole > 0 else math.nan


def changes_of(results: Results) -> Changes:
    """Return the geometry of every contestant and task that a study measured.

    Args:
        results: The contests.
    """
    measured, projected = list[Measured](), list[Projected]()
    for (contestant, task), contest in results.contests.items():
        runs = [_Run(o, results.frozen(task)) for _, o in contest.reported.values() if o.status == "ok" and o.geometry]
        if not runs:
            continue
        names = dict.fromkeys(name for run in runs for name in run.outcome.geometry)
        for name in names:
            if not name.endswith(RANDOM) and not _PROJECTED.match(name):
                null = [run.number(name + RANDOM) for run in runs if name + RANDOM in run.outcome.geometry]
                mean = Mean.over(run.number(name) for run in runs)
                measured.append(Measured(contestant, task, name, mean, fmean(null) if null else None))
        hypotheses = [match[1] for name in names if (match := _NUMBER.fullmatch(name))]
        found = [_projected(contestant, task, name, runs) for name in hypotheses]
        projected += sorted(found, key=lambda each: -each.expressed.value)
    return Changes(tuple(measured), tuple(projected), _drift(results))


def over_seeds(
    results: Results, number: str, part: Part, contestants: Collection[str] | None = None
) -> list[OverSeeds]:
    """Return a number of the learned changes beside what the changes do to the loss, for each contestant and task.

    Args:
        results: The contests.
        number: Name of the number, as `Outcome.geometry` has it.
        part: Part of the tasks that the loss is of.
        contestants: Labels of contestants; all of them if None.

    Returns:
        The means; contestants and tasks without both numbers are left out.
    """
    found = []
    for (contestant, task), contest in results.contests.items():
        if contestants is not None and contestant not in contestants:
            continue
        known = []
        for trial, outcome in contest.reported.values():
            if outcome.status == "ok" and outcome.geometry:
                run = _Run(outcome, results.frozen(task))
                pair = run.number(number), run.rise(WHOLE, part)
                known += [(*pair, trial.id)] if all(map(math.isfinite, pair)) else []
        if known:
            numbers, rises, ids = zip(*known, strict=True)
            found.append(OverSeeds(contestant, task, fmean(numbers), fmean(rises), ids))
    return found


def _drift(results: Results) -> RankCorrelation | None:
    means = over_seeds(results, f"drift({Part.BASE.value})", Part.BASE)
    if len(means) < LEAST_MEANS:
        return None
    found = rank_correlation([mean.number for mean in means], [mean.rise for mean in means])
    return found if math.isfinite(found.rho) else None


def _projected(contestant: str, task: str, name: str, runs: Sequence[_Run]) -> Projected:
    known = [run for run in runs if f"residual({name})" in run.outcome.geometry]

    def mean(part: Part, share: bool = True) -> Mean | None:
        if not any(f"loss({name}, {part.value})" in run.outcome.geometry for run in known):
            return None
        return Mean.over(run.share(name, part) if share else run.rise(name, part) for run in known)

    return Projected(
        contestant,
        task,
        name,
        round(fmean(run.number(f"parameters({name})") for run in known)),
        Mean.over(1 - run.number(f"residual({name})") for run in known),
        mean(Part.TEST),
        mean(Part.OOD),
        mean(Part.BASE, share=False),
        all(run.outcome.geometry.get(f"converged({name})", 1.0) == 1.0 for run in known),
    )
