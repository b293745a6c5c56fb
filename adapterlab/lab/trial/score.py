"""Score a model with its adapter on the parts of a task, at full strength and along the strength path.

>>> NoAdapter().strength
1.0
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import nn

from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.spec import Outcome, PathScores
from adapterlab.surgery.handle import Handle
from adapterlab.tasks.base import Control, Part


def score_parts(context: TrialContext, control: Control, parts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Score the model in evaluation mode.

    Args:
        context: The resolved trial.
        control: The adapter's strength.
        parts: Parts of the task to score.

    Returns:
        By part, the loss in the task's unit and the accuracy.
    """
    scores: dict[str, tuple[float, float]] = {}
    with mode(context.model, training=False):
        for part in parts:
            loss, accuracy = context.task.score(context.model, context.scored(Part(part)), control)
            scores[part] = (loss, accuracy)
    return scores


def with_scores(outcome: Outcome, context: TrialContext, handle: Handle) -> Outcome:
    """Add the final scores to the outcome of a training run that has ended.

    Args:
        outcome: The outcome so far; one that is not `ok` gets no scores.
        context: The resolved trial.
        handle: The trained adapter, still attached.

    Returns:
        The outcome with scores by part and along the strength path; `diverged` if a score is not finite.
    """
    trial, status, note, scores = context.trial, outcome.status, outcome.note, outcome.scores
    path: PathScores = ()
    if status == "ok":
        scores = score_parts(context, handle, trial.parts)
        if not all(math.isfinite(loss) for loss, _ in scores.values()):
            status, note, scores = "diverged", "the loss is not finite after training", {}
        else:
            path = _score_path(context, handle)
    return replace(
        outcome,
        status=status,
        note=note,
        scores=scores,
        path=path,
        curve=tuple((step, loss) for step, loss in outcome.curve if math.isfinite(loss)),
        parameters=handle.parameter_count,
    )


def _score_path(context: TrialContext, handle: Handle) -> PathScores:
    """Score the strengths of the trial's path that the method supports, on every part but out-of-domain."""
    found, parts = [], [part for part in context.trial.parts if part != Part.OOD]
    for strength in context.trial.path:
        if handle.adapter.strength_problem(strength) is None:
            handle.strength = strength
            found.append((strength, score_parts(context, handle, parts)))
            handle.strength = 1.0
    return tuple(found)


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the whole model in training or evaluation mode for the duration of a `with` block.

    Args:
        model: The model.
        training: True for training mode, in which dropout and router noise are active.
    """
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


@dataclass
class NoAdapter:
    """Strength control of a model without an adapter; setting it has no effect."""

    strength: float = 1.0
    """Ignored."""
