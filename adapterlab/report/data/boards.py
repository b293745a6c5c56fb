"""Data of the boards: scoreboard, effects by task, curves over training, learning rates, and the plane.

>>> columns([{"a": 1, "b": 2}, {"a": 3, "b": 4}])
{'a': [1, 3], 'b': [2, 4]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapterlab.lab.analysis.board import PARTS, Board, TrialRow
from adapterlab.lab.analysis.scoreboard import Row
from adapterlab.report.data.numbers import effect, rounded
from adapterlab.verdict.study_analysis import Analysis

Json = dict[str, Any]
"""Plain data by key."""


def board_data(board: Board, name: str) -> Json:
    """Return what one board shows.

    Args:
        board: The board.
        name: Its name, which its sections in the page have.
    """
    study = board.study
    return {
        "name": name,
        "cell": board.cell.words if board.cell.levels else "",
        "tasks": list(study.tasks),
        "unit": board.unit,
        "budget": study.budget,
        "reference": board.scoreboard.reference,
        "correction": board.scoreboard.lead.correction,
        "answer": board.scoreboard.answer,
        "steps": study.training.steps,
        "batch": study.training.batch,
        "rows": [_row(board, row) for row in board.scoreboard.rows],
        "by_task": [
            {
                "name": each.contestant,
                "task": each.task,
                "gain": effect(each.gain),
                "gain_ood": effect(each.gain_ood),
                "forgetting": effect(each.forgetting),
                "versus": effect(each.versus),
                "tenth": effect(each.tenth),
            }
            for each in board.by_task
        ],
        "curves": [
            {
                "name": curve.contestant,
                "task": curve.task,
                "points": [[p.step, *map(rounded, (p.mean, p.low, p.high))] for p in curve.points],
            }
            for curve in board.curves
            if curve.points
        ],
        "rates": [
            {
                "name": curve.contestant,
                "task": curve.task,
                "points": [[rounded(lr), rounded(loss)] for lr, loss in curve.losses.items()],
                "chosen": None if curve.chosen is None else rounded(curve.chosen),
                "flag": curve.flag.text if curve.flag else "",
            }
            for curve in board.rate_curves
        ],
        "frozen": {task: rounded(loss) for task, loss in board.frozen.items()},
        "paths": [
            {
                "name": entry.contestant,
                "on_front": entry.on_front,
                "share": rounded(entry.share),
                "points": [[rounded(number) for number in point] for point in entry.path],
            }
            for entry in board.pareto.entries
        ],
    }


def _row(board: Board, row: Row) -> Json:
    flags = []
    if row.over_budget or row.under_budget:
        flags.append("above budget" if row.over_budget else "below budget")
    if row.undertuned:
        flags.append("possibly undertuned")
    if not row.ranked:
        flags.append("not ranked")
    if row.diverged:
        flags.append(f"{row.diverged} diverged")
    if row.contestant in board.scoreboard.uneven:
        flags.append("differs between tasks")
    rate_flags = {task: flag.text for task, flag in row.search_flags.items()}
    memory = [peak for peak in row.peak_bytes.values() if peak > 0]
    return {
        "name": row.contestant,
        "adapter": row.adapter,
        "parameters": row.parameters,
        "gain": effect(row.gain),
        "gain_ood": effect(row.gain_ood),
        "forgetting": effect(row.forgetting),
        "kept": effect(row.kept),
        "kept_p": None if row.kept is None or not row.ranked else rounded(row.kept_p),
        "versus": effect(row.versus),
        "tenth": effect(row.tenth),
        "p": None if row.versus is None or not row.ranked else rounded(row.p),
        "same": row.same < 0.05,
        "rates": {task: None if rate is None else rounded(rate) for task, rate in row.rates.items()},
        "rate_flags": rate_flags,
        "tuning_steps": row.tuning_steps,
        "step_ms": rounded(1000 * row.step_seconds),
        "memory_mib": rounded(max(memory) / 2**20) if memory else None,
        "ranked": row.ranked,
        "comparable": row.comparable,
        "flags": flags,
        "remark": row.undertuned,
    }


def columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Return rows as columns, which repeat no names.

    Args:
        rows: Rows with the same keys.
    """
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def trials_data(analysis: Analysis, names: Sequence[str]) -> dict[str, list[object]]:
    """Return the trials of all boards, each once, as columns.

    Args:
        analysis: The analysis.
        names: Names of its boards, in order.
    """
    found: dict[str, tuple[str, TrialRow]] = {}
    for board, name in zip(analysis.boards, names, strict=True):
        for trial in board.trials:
            found.setdefault(trial.id, (name, trial))
    parts = [part for part in PARTS if any(math.isfinite(trial.losses[part.value]) for _, trial in found.values())]
    return columns(
        [
            {
                "id": trial.id,
                "board": board,
                "contestant": trial.contestant,
                "task": trial.task,
                "rate": rounded(trial.lr),
                "seed": trial.seed,
                "steps": trial.steps,
                "status": trial.status,
                "seconds": rounded(trial.seconds, 4),
                **{part.value: rounded(trial.losses[part.value]) for part in parts},
            }
            for board, trial in found.values()
        ]
    )
