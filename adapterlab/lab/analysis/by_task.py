"""Results of each contestant on each task: its effects by themselves, and its validation loss during training.

>>> Curve("lora", "prose", (CurvePoint(10, 1.08, 1.07, 1.09),)).points[0].mean
1.08
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from adapterlab.lab.analysis.contrast import value
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.statistics import Paired


@dataclass(frozen=True)
class TaskResult:
    """One contestant on one task."""

    contestant: str
    task: str
    gain: Paired
    """In-domain improvement over the frozen model, in the unit of the loss."""
    gain_ood: Paired
    """Out-of-domain improvement over the frozen model."""
    forgetting: Paired
    """Increase of the loss on the base model's own domain."""
    versus: Paired | None
    """In-domain difference from the reference; positive is better. None for the reference itself."""
    tenth: Paired | None
    """In-domain improvement after training on a tenth of the data; None if the study does not ask for it."""


class CurvePoint(NamedTuple):
    """Validation loss after some steps, over the reported runs that did not diverge."""

    step: int
    mean: float
    low: float
    """Lowest of the runs."""
    high: float
    """Highest of the runs."""


@dataclass(frozen=True)
class Curve:
    """Validation loss of one contestant on one task during training."""

    contestant: str
    task: str
    points: tuple[CurvePoint, ...]
    """By rising step."""


def results_by_task(effects: Effects) -> tuple[TaskResult, ...]:
    """Estimate the effects of each contestant on each task by itself.

    Args:
        effects: Effects estimated from finished contests.

    Returns:
        The results, task by task.
    """
    study = effects.results.study
    return tuple(
        TaskResult(
            name,
            task,
            effects.gained(name, "in_domain", [task]),
            effects.gained(name, "out_of_domain", [task]),
            effects.estimate(value(name, "forgetting"), [task]),
            None if name == study.reference else effects.compare(name, study.reference, "in_domain", [task]),
            effects.gained(name, "tenth_of_data", [task]) if study.report.tenth_of_data else None,
        )
        for task in study.tasks
        for name in effects.results.contestants
    )


def training_curves(results: Results) -> tuple[Curve, ...]:
    """Return the validation losses of the reported runs during training, over the seeds.

    Args:
        results: Finished contests.
    """
    return tuple(
        Curve(name, task, tuple(_points(results, name, task)))
        for task in results.study.tasks
        for name in results.contestants
    )


def _points(results: Results, name: str, task: str) -> Iterator[CurvePoint]:
    by_step: dict[int, list[float]] = defaultdict(list)
    frozen = results.frozen(task)
    for trial, outcome in results.contests[name, task].reported.values():
        if outcome.status != "ok":
            continue
        for step, loss in {0: frozen.validation, **dict(outcome.curve), trial.steps: outcome.validation}.items():
            if math.isfinite(loss):
                by_step[step].append(loss)
    for step, losses in sorted(by_step.items()):
        yield CurvePoint(step, fmean(losses), min(losses), max(losses))
