"""Loss against the learning rate, from the searches of the published studies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from tools.pages.published import Board

NEIGHBOUR = 0.25
"""Distance of two neighbouring rates of a search, in decades."""


@dataclass(frozen=True)
class Tolerance:
    """Effect of a rate beside the best one, on one task."""

    task: str
    best: float
    kept: float
    """Share of the gain at the best rate that is left at the worse of its two neighbours; 0 if nothing is left."""


def tolerances(board: Board, name: str) -> Iterator[Tolerance]:
    """Yield the effect of a rate 1.8 times too high or too low, for each task whose search tried both neighbours.

    The runs are those of the search's first rung: half of the steps, one seed, the validation loss. A run that diverged
    leaves nothing of the gain.

    Args:
        board: A scoreboard.
        name: One of its contestants.
    """
    runs, frozen = board.study.of(board, name), board.study.of(board, "frozen")
    for task in board.data["tasks"]:
        first = runs[(runs["task"] == task) & (runs["round"] == "first")]
        losses = {float(rate): _loss(loss) for rate, loss in zip(first["lr"], first["validation_loss"], strict=True)}
        before = frozen[(frozen["task"] == task) & frozen["validation_loss"].notna()]["validation_loss"]
        if not losses or before.empty:
            continue
        best = min(losses, key=losses.__getitem__)
        beside = [loss for rate, loss in losses.items() if 0.1 < abs(math.log10(rate / best)) < 1.5 * NEIGHBOUR]
        gain = float(before.iloc[0]) - losses[best]
        if len(beside) == 2 and gain > 0:
            yield Tolerance(str(task), best, max(0.0, (float(before.iloc[0]) - max(beside)) / gain))


def _loss(loss: float) -> float:
    return math.inf if pd.isna(loss) else float(loss)
