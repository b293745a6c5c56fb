"""The reference and each other contestant at equal learning: what is forgotten, kept out-of-domain, and what it costs.

>>> from adapterlab.lab.statistics import paired
>>> Kept(paired([0.01, 0.02]), {}).measured
False
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.matched import METRIC_OF, Along, Matched
from adapterlab.lab.analysis.metrics import reached_reference
from adapterlab.lab.statistics import Paired
from adapterlab.tasks.base import Part


@dataclass(frozen=True)
class Kept:
    """Difference from the reference in the loss on a part other than the task's own; positive is less loss."""

    as_trained: Paired
    """Between the runs as they ended."""
    matched: Mapping[Along, Paired]
    """At equal in-domain gain, by the way back to it; without ways that were not scored."""

    @property
    def measured(self) -> bool:
        """True if the contestants were compared at equal learning."""
        return bool(self.matched)


@dataclass(frozen=True)
class Reached:
    """The steps until the validation loss is that of the reference's end."""

    steps: float
    """Mean over the runs that reached it; nan if none did."""
    runs: int
    """Number of runs that reached it."""
    of: int
    """Number of runs."""
    seconds: float
    """Training time of these steps."""


@dataclass(frozen=True)
class EqualLearning:
    """One contestant against the reference."""

    contestant: str
    forgetting: Kept
    out_of_domain: Kept
    reached: Reached


def compare_at_equal_learning(effects: Effects) -> tuple[EqualLearning, ...]:
    """Compare every other contestant with the reference.

    Args:
        effects: Effects estimated from finished contests.

    Returns:
        The comparisons in the study's order; none if no strength path was scored.
    """
    results = effects.results
    reference = results.study.reference
    matched = {part: {along: Matched.of(effects, part, along) for along in Along} for part in METRIC_OF}

    def kept(name: str, part: Part) -> Kept:
        found = {along: table.compare(name, reference) for along, table in matched[part].items()}
        as_trained = effects.compare(name, reference, METRIC_OF[part])
        return Kept(as_trained, {along: effect for along, effect in found.items() if effect.n})

    compared = [
        EqualLearning(name, kept(name, Part.BASE), kept(name, Part.OOD), _reached(effects, name))
        for name in results.contestants
        if name != reference
    ]
    return tuple(row for row in compared if row.forgetting.measured or row.out_of_domain.measured)


def _reached(effects: Effects, name: str) -> Reached:
    steps = effects.values(name, "steps_to_reference")
    reached: list[bool] = []
    counted: list[float] = []
    for task in effects.results.study.tasks:
        for seed, yes in reached_reference(effects.results, effects.results.contests[name, task]).items():
            reached.append(yes)
            if yes:
                counted.append(steps[task, seed])
    mean, milliseconds = _mean(counted), _mean(list(effects.values(name, "step_time").values()))
    return Reached(mean, sum(reached), len(reached), mean * milliseconds / 1000)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
