"""Losses of a task for a base model with a changed or a projected weight change.

>>> from adapterlab.models.loading import load
>>> from adapterlab.tasks import task
>>> scoring = Scoring(*load("embedded"), task("prose"), length=32, windows=2)
>>> sorted(scoring.losses({}))
['general', 'in_domain', 'ood']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import Change
from adapterlab.geometry.in_model import ChangeStrength, changed
from adapterlab.geometry.result import Projection, Share
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.tasks.base import Part, Scores, Task

IN_DOMAIN, OOD, GENERAL = "in_domain", "ood", "general"
PARTS = {Part.TEST: IN_DOMAIN, Part.OOD: OOD, Part.BASE: GENERAL}
"""Names in results of the parts of a task that are scored."""
LENGTH, WINDOWS = 128, 32
"""Tokens of an example, and examples of each part, at most."""
NOISE = 2.0
"""Standard errors over the rows that the full change's gain must exceed for a share of it to have a meaning."""
Losses = Mapping[str, Scores]
"""Scores by part."""
Score = Callable[[ChangeStrength, Part], Scores]
"""Scores the model, whose change has the given strength, on a part of the task."""


class Scoring:
    """A task's losses for a base model whose linear layers are given other weights. All other parameters stay the base's.

    Args:
        model: The base model.
        processor: Its tokenizer, or image processor.
        task: The task.
        length: Tokens in an example, at most.
        windows: Examples of each part, at most.
        parts: Parts of the task that may be read; all of them if None.
        score: Scores the model in evaluation mode, for a caller that has prepared its examples; if None, `windows` examples
            of each part are prepared here.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        task: Task,
        length: int = LENGTH,
        windows: int = WINDOWS,
        *,
        parts: Collection[Part] | None = None,
        score: Score | None = None,
    ) -> None:
        self.model, self.processor, self.task, self.length = model, processor, task, length
        self.parts = tuple(part for part in task.parts if parts is None or part in parts)
        """Parts of the task that are read."""
        self._score = score or self._of_examples(windows)

    @cached_property
    def base(self) -> Losses:
        """Scores of the base model."""
        return self.losses({})

    def of_change(self, change: Change) -> Losses:
        """Return the scores of the base model with the full change of its linear layers.

        Args:
            change: The change.

        Raises:
            AdapterlabError: The change has a layer that the model lacks, or its full change has no finite loss.
        """
        found = self.losses({path: change.read(path).tuned for path in change.shapes})
        if bad := [part for part, scores in found.items() if not math.isfinite(scores.loss)]:
            raise AdapterlabError(
                f"{change.base_name} with the change of {change.tuned_name} has no finite loss ({bad[0]}): leave --task "
                "out, or give a model that did not diverge"
            )
        return found

    def losses(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return the scores of the model with other weights, by part: `in_domain`, `ood`, and `general`.

        Args:
            weights: Weights `(out, in)` by path of the layer; the others stay as they are.

        Raises:
            AdapterlabError: The model lacks a layer.
        """
        if unknown := [path for path in weights if path not in self._layers]:
            raise AdapterlabError(
                f"the model that {self.task.name} is scored with has no linear layer {unknown[0]}: leave --task out"
            )
        before = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), changed(self.model, weights) as control:
                return {PARTS[part]: self._score(control, part) for part in self.parts if part in PARTS}
        finally:
            self.model.train(before)

    def _of_examples(self, windows: int) -> Score:
        prepared = {
            part: self.task.examples(part, self.processor, self.length, windows) for part in self.parts if part in PARTS
        }

        def score(control: ChangeStrength, part: Part) -> Scores:
            control.kept = prepared[part].kept
            return self.task.score(self.model, prepared[part], control)

        return score

    @cached_property
    def _layers(self) -> Mapping[str, nn.Module]:
        return linears(self.model)


def with_shares(projection: Projection, losses: Losses, base: Losses, full: Losses) -> Projection:
    """Return a projection with its losses, and its gains as shares of the full change's.

    Args:
        projection: The projection.
        losses: Its scores.
        base: Scores of the base model.
        full: Scores of the base model with the full change of its linear layers.
    """
    shares = {part: Share(each.loss, share_of(part, each, base[part], full[part])) for part, each in losses.items()}
    return replace(projection, scores=shares)


def share_of(part: str, scores: Scores, base: Scores, full: Scores) -> float:
    """Return `(base - loss) / (base - full)`: a projection's gain as a share of the full change's.

    On general text, where fine-tuning raises the loss, it is the share of that rise.

    Args:
        part: `in_domain`, `ood` or `general`.
        scores: Scores of the projection.
        base: Scores of the base model.
        full: Scores of the base model with the full change.

    Returns:
        The share; NaN if the full change gains nothing (or on general text, moves nothing) beyond two standard errors of the
        paired differences between rows, or the projection's loss is not finite.

    >>> share_of("ood", Scores(2.5, 0), Scores(3.0, 0), Scores(2.0, 0))
    0.5
    """
    gain = base.loss - full.loss
    error = 0.0
    if len(base.rows) == len(full.rows) > 1:
        differences = np.subtract(base.rows, full.rows)
        error = float(differences.std(ddof=1) / math.sqrt(len(differences)))
    size = abs(gain) if part == GENERAL else gain
    if not size > max(NOISE * error, 1e-6 * abs(base.loss)) or not math.isfinite(scores.loss):
        return math.nan
    return (base.loss - scores.loss) / gain
