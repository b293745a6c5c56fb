"""Score a model with its adapter on the parts of a task, at full strength and along the strength path.

>>> NoAdapter().strength
1.0
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import nn

from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.spec import ROW_DIGITS, Outcome, PathScores
from adapterlab.surgery.handle import Handle
from adapterlab.tasks.base import Control, Part, Scores


def score_parts(context: TrialContext, control: Control, parts: Sequence[str]) -> dict[str, Scores]:
    """Score the model in evaluation mode.

    Args:
        context: The resolved trial.
        control: The adapter's strength.
        parts: Parts of the task to score.

    Returns:
        By part, the scores.
    """
    with mode(context.model, training=False):
        return {part: context.task.score(context.model, context.scored(Part(part)), control) for part in parts}


def with_scores(outcome: Outcome, context: TrialContext, handle: Handle) -> Outcome:
    """Add the final scores to the outcome of a training run that has ended.

    Args:
        outcome: The outcome so far; one that is not `ok` gets no scores.
        context: The resolved trial.
        handle: The trained adapter, still attached.

    Returns:
        The outcome with scores by part and along the strength path; `diverged` if a score is not finite.
    """
    trained = replace(
        outcome,
        curve=tuple((step, loss) for step, loss in outcome.curve if math.isfinite(loss)),
        parameters=handle.parameter_count,
    )
    if trained.status != "ok":
        return trained
    scored = with_parts(trained, context, handle)
    if not all(math.isfinite(loss) for loss, _ in scored.scores.values()):
        return replace(trained, status="diverged", note="the loss is not finite after training")
    return replace(scored, path=_score_path(context, handle))


def with_parts(outcome: Outcome, context: TrialContext, control: Control) -> Outcome:
    """Add the scores of all parts of the trial, and the loss of each row if the trial asks for them.

    Args:
        outcome: The outcome so far.
        context: The resolved trial.
        control: The adapter, at full strength.

    Returns:
        The outcome with its scores.
    """
    scores = score_parts(context, control, context.trial.parts)
    rows = {part: rounded(each.rows) for part, each in scores.items() if context.trial.rows and each.rows}
    return replace(outcome, scores=pairs(scores), rows=rows)


def pairs(scores: Mapping[str, Scores]) -> dict[str, tuple[float, float]]:
    """Return the loss and the accuracy of each part, without the rows.

    Args:
        scores: Scores by part.
    """
    return {part: (each.loss, each.accuracy) for part, each in scores.items()}


def rounded(losses: Sequence[float]) -> tuple[float, ...]:
    """Return losses rounded to `ROW_DIGITS` significant digits.

    Args:
        losses: The losses of rows.

    >>> rounded([1.23456789, 0.000123456789])
    (1.234568, 0.0001234568)
    """
    return tuple(float(f"{loss:.{ROW_DIGITS}g}") for loss in losses)


def _score_path(context: TrialContext, handle: Handle) -> PathScores:
    """Score the strengths of the trial's path that the method supports, on every part but out-of-domain."""
    found, parts = [], [part for part in context.trial.parts if part != Part.OOD]
    for strength in context.trial.path:
        if handle.adapter.strength_problem(strength) is None:
            handle.strength = strength
            found.append((strength, pairs(score_parts(context, handle, parts))))
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
