"""Geometry of a study's trained changes: measures beside their values by chance, and what each hypothesis expresses.

>>> row = Projected("low_rank", 4096, 0.25, {"test": 0.5}, forgetting=0.01, runs=3, converged=True)
>>> row.shares["test"]
0.5
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.trial.spec import Outcome
from adapterlab.tasks.base import Part

RANDOM = " random"
"""End of the names of measures of a random change."""
WHOLE = "change"
"""Name of the whole change among those of projected ones."""
_NUMBER = re.compile(r"residual\((.+)\)")
_PROJECTED = re.compile(r"(residual|parameters|converged|loss)\(")


@dataclass(frozen=True)
class Measured:
    """A measure of a contestant's changes, as a mean over its reported runs."""

    name: str
    value: float
    random: float
    """The same of random changes of the same norm; NaN if it is not compared."""


@dataclass(frozen=True)
class Projected:
    """Projection of a contestant's changes on a hypothesis, as a mean over its reported runs."""

    hypothesis: str
    parameters: float
    """Parameters of the projected change."""
    residual: float
    """Squared distance from the change, as a share of its squared norm."""
    shares: dict[str, float]
    """By part, the gain over the base as a share of the whole change's gain; NaN if that gains nothing."""
    forgetting: float
    """Rise of the loss on the base domain; NaN if it was not scored."""
    runs: int
    converged: bool
    """False if any fit was stopped before its tolerance was met."""


@dataclass(frozen=True)
class ChangeTable:
    """Geometry of one contestant's trained changes."""

    contestant: str
    runs: int
    measures: tuple[Measured, ...]
    projections: tuple[Projected, ...]
    """Projections on each hypothesis, the smallest residual first."""
    forgetting: float
    """Rise of the loss on the base domain by the whole change of linear layers; NaN if it was not scored."""


def change_tables(results: Results) -> tuple[ChangeTable, ...]:
    """Return the geometry of every contestant that a study measured.

    Args:
        results: The contests.
    """
    found: dict[str, list[tuple[Outcome, Outcome]]] = {}
    for contest in results.contests.values():
        runs = [o for _, o in contest.reported.values() if o.status == "ok" and o.geometry]
        if runs:
            frozen = results.frozen(contest.task)
            found.setdefault(contest.contestant, []).extend((outcome, frozen) for outcome in runs)
    return tuple(_table(name, runs) for name, runs in found.items())


def _table(contestant: str, runs: Sequence[tuple[Outcome, Outcome]]) -> ChangeTable:
    names = dict.fromkeys(name for outcome, _ in runs for name in outcome.geometry)
    measures = [name for name in names if not name.endswith(RANDOM) and not _PROJECTED.match(name)]
    hypotheses = [match[1] for name in names if (match := _NUMBER.fullmatch(name))]
    projections = [
        _projected(name, [run for run in runs if f"residual({name})" in run[0].geometry]) for name in hypotheses
    ]
    return ChangeTable(
        contestant,
        len(runs),
        tuple(Measured(name, _mean(runs, name), _mean(runs, name + RANDOM)) for name in measures),
        tuple(sorted(projections, key=lambda each: each.residual)),
        _mean_of(runs, lambda run: _rise(run, WHOLE)),
    )


def _projected(name: str, runs: Sequence[tuple[Outcome, Outcome]]) -> Projected:
    return Projected(
        name,
        _mean(runs, f"parameters({name})"),
        _mean(runs, f"residual({name})"),
        {part.value: _share(runs, name, part) for part in (Part.TEST, Part.OOD)},
        _mean_of(runs, lambda run: _rise(run, name)),
        len(runs),
        all(outcome.geometry.get(f"converged({name})", 1.0) == 1.0 for outcome, _ in runs),
    )


def _share(runs: Sequence[tuple[Outcome, Outcome]], name: str, part: Part) -> float:
    """Return the mean gain of a projection over the mean gain of the whole change."""
    own = _mean_of(runs, lambda run: -_rise(run, name, part))
    whole = _mean_of(runs, lambda run: -_rise(run, WHOLE, part))
    return own / whole if whole > 0 else math.nan


def _rise(run: tuple[Outcome, Outcome], name: str, part: Part = Part.BASE) -> float:
    outcome, frozen = run
    key = f"loss({name}, {part.value})"
    if key not in outcome.geometry or part not in frozen.scores:
        return math.nan
    return outcome.geometry[key] - frozen.scores[part][0]


def _mean(runs: Iterable[tuple[Outcome, Outcome]], name: str) -> float:
    return _mean_of(runs, lambda run: run[0].geometry.get(name, math.nan))


def _mean_of(runs: Iterable[tuple[Outcome, Outcome]], number: Callable[[tuple[Outcome, Outcome]], float]) -> float:
    values = [value for run in runs if math.isfinite(value := number(run))]
    return fmean(values) if values else math.nan
