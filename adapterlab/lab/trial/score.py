"""Score a model with its adapter on the parts of a task, at full strength and along the strength path.

>>> NoAdapter().strength
1.0
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.merged import merged
from adapterlab.lab.trial.spec import FROZEN_STRENGTH, FULL_STRENGTH, ROW_DIGITS, Outcome, PathScores
from adapterlab.surgery.handle import Handle
from adapterlab.tasks.base import Control, Part, Scores
from adapterlab.tasks.generation import answers
from adapterlab.tasks.scorer import answer_scorer

ANSWERED = (Part.TEST, Part.OOD)
"""Parts whose prompts the model answers."""


def score_parts(
    context: TrialContext, control: Control, parts: Sequence[str], count: int | None = None
) -> dict[str, Scores]:
    """Score the model in evaluation mode.

    Args:
        context: The resolved trial; the time is added to its `scoring`.
        control: The adapter's strength.
        parts: Parts of the task to score.
        count: Examples scored of each part, at most; by default the trial's `windows`.

    Returns:
        By part, the scores.
    """
    loaded = {part: context.load_examples(Part(part), count or context.trial.windows) for part in parts}
    with context.scoring, mode(context.model, training=False), context.autocast():
        return {
            part: context.task.score(context.model, examples, _Remembering(control, examples.kept))
            for part, examples in loaded.items()
        }


@dataclass
class Progress:
    """Scores of an adapter while it is trained."""

    curve: list[tuple[int, float]] = field(default_factory=list)
    """Validation losses, each with the steps done."""
    along: list[tuple[int, dict[str, tuple[float, float]]]] = field(default_factory=list)
    """Scores of the other parts, each with the steps done; see `Outcome.along`."""

    def measure(self, context: TrialContext, handle: Handle, step: int) -> None:
        """Score the adapter as it is.

        Args:
            context: The resolved trial.
            handle: The adapter at full strength.
            step: Steps done.
        """
        load_parts(context)
        with context.scoring, merged(handle, context.can_merge) as control:
            loss = score_parts(context, control, (Part.VALIDATION,))[Part.VALIDATION].loss
            others = [part for part in context.trial.parts if part != Part.VALIDATION and context.trial.path]
            scores = pairs(score_parts(context, control, others, context.path_windows))
        if math.isfinite(loss):
            self.curve.append((step, loss))
        if scores and all(math.isfinite(loss) for loss, _ in scores.values()):
            self.along.append((step, scores))


def with_scores(outcome: Outcome, context: TrialContext, handle: Handle) -> Outcome:
    """Add the final scores to the outcome of a training run that has ended.

    Args:
        outcome: The outcome so far; one that is not `ok` gets no scores.
        context: The resolved trial.
        handle: The trained adapter, still attached.

    Returns:
        The outcome with scores by part and along the strength path; `diverged` if a score is not finite.
    """
    trained = replace(outcome, parameters=handle.adapter.counted(handle.parameter_count))
    if trained.status == "ok":
        load_parts(context)
        with context.scoring, merged(handle, context.can_merge and bool(context.trial.parts)) as control:
            trained = with_parts(trained, context, control)
            if all(math.isfinite(loss) for loss, _ in trained.scores.values()):
                trained = replace(trained, answers=score_answers(context))
                trained = replace(trained, path=_score_path(context, control, handle))
            else:
                note = "the loss is not finite after training"
                trained = replace(trained, status="diverged", note=note, scores={}, rows={})
    return _timed(trained, context)


def load_parts(context: TrialContext) -> None:
    """Prepare all examples that the trial is scored on, outside of the time that scoring takes.

    Args:
        context: The resolved trial.
    """
    for part, count in itertools.product(context.trial.parts, (context.trial.windows, context.path_windows)):
        context.load_examples(Part(part), count)


def frozen_scores(context: TrialContext) -> Outcome:
    """Return the outcome of a trial that scores the model as it is, also on the examples of the strength path.

    Args:
        context: The resolved trial, without an adapter.
    """
    found = with_parts(Outcome("ok", {}, (), 0, 0.0, 0.0), context, NoAdapter())
    if context.scores_fewer_on_path:
        scores = score_parts(context, NoAdapter(), context.trial.parts, context.path_windows)
        found = replace(found, path=((FROZEN_STRENGTH, pairs(scores)),))
    with context.scoring:
        found = replace(found, answers=score_answers(context))
    return _timed(found, context)


def score_answers(context: TrialContext) -> dict[str, tuple[float, ...]]:
    """Return the metric of each answer that the model gives to the prompts of the reported parts, by part.

    Args:
        context: The resolved trial, with its adapter at full strength; the time is added to its `generating`.

    Returns:
        The values, rounded to `ROW_DIGITS` digits; nothing if the trial has no metric.

    Raises:
        ScorerError: If the user's scorer fails.
    """
    trial, found = context.trial, dict[str, tuple[float, ...]]()
    if not trial.metric:
        return found
    parts = [part for part in ANSWERED if part in trial.parts]
    if not parts:
        return found
    asked = {part: context.load_questions(part, trial.metric_rows) for part in parts}
    with context.generating, mode(context.model, training=False), context.autocast():
        said = {
            part: answers(context.model, context.processor, questions, trial.max_new_tokens)
            for part, questions in asked.items()
        }
    with context.generating, answer_scorer(trial.metric, context.scorer) as score:
        for part, texts in said.items():
            found[part.value] = rounded([score(q, text) for q, text in zip(asked[part], texts, strict=True)])
    return found


def _timed(outcome: Outcome, context: TrialContext) -> Outcome:
    generating = context.generating.seconds
    return replace(outcome, scoring_seconds=context.scoring.seconds - generating, generating_seconds=generating)


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


def _score_path(context: TrialContext, control: Control, handle: Handle) -> PathScores:
    """Score the strengths of the trial's path that the method supports.

    If the path is scored on fewer examples than full strength is, full strength is scored on these too.
    """
    wanted = (*context.trial.path, *((FULL_STRENGTH,) if context.scores_fewer_on_path else ()))
    found = []
    for strength in dict.fromkeys(wanted):
        if handle.adapter.strength_problem(strength) is None:
            control.strength = strength
            found.append((strength, pairs(score_parts(context, control, context.trial.parts, context.path_windows))))
    control.strength = FULL_STRENGTH
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


@dataclass
class _Remembering:
    """A control with the results of the base model on the examples that are scored, which all trials share."""

    control: Control
    kept: dict[str, Any]

    @property
    def strength(self) -> float:
        return self.control.strength

    @strength.setter
    def strength(self, value: float) -> None:
        self.control.strength = value
