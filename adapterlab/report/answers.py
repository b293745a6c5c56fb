"""Answers of a sweep on a terminal of 80 columns and as plain data.

>>> from adapterlab.lab.analysis.settling import Settling
>>> from adapterlab.lab.study.sweep import Cell
>>> answers = SweepAnswers((Cell(),), (), (), Settling("lora", (40,), (), 0.005), (), {})
>>> show_answers(answers, Console(width=80))  # doctest: +NORMALIZE_WHITESPACE
One length was measured, 40 steps: whether the order of the contestants settles is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from adapterlab.lab.analysis.across_cells import Prediction
from adapterlab.lab.analysis.rate_shift import RateShift
from adapterlab.lab.analysis.responses import LevelGain, Response
from adapterlab.lab.analysis.settling import Drift, Settling
from adapterlab.lab.analysis.sweep_answers import SweepAnswers
from adapterlab.lab.statistics import Paired
from adapterlab.lab.study.sweep import RISING, level_name
from adapterlab.report.counts import thousands
from adapterlab.report.plain import add_plain_row, plain

Json = dict[str, Any]
"""Plain data by key."""


def show_answers(answers: SweepAnswers, console: Console) -> None:
    """Print the gain at each level of each factor, the answers, and the differences on a fresh task.

    Args:
        answers: Answers of a study's sweep.
        console: Where to print.
    """
    if not answers.swept:
        console.print(f"[dim]{plain(answers.settling.sentence)}[/dim]", highlight=False)
        return
    for factor in answers.factors:
        responses = answers.of(factor)
        console.print(f"\n[bold]learned by {factor}[/bold], the other factors at their main levels", highlight=False)
        console.print(_table(responses))
        for response in responses:
            if response.sentence:
                console.print(plain(response.sentence), highlight=False)
        for shift in answers.shifts:
            if shift.factor == factor:
                console.print(plain(shift.sentence), highlight=False)
        if left_out := answers.left_out(factor):
            console.print(plain(left_out), highlight=False)
        if factor == "rank" and answers.published:
            console.print(f"[dim]{plain(answers.published)}[/dim]", highlight=False)
    console.print(f"\n[bold]{plain(answers.settling.sentence)}[/bold]", highlight=False)
    for prediction in answers.predictions:
        console.print(plain(in_words(prediction, answers.settling.reference)), highlight=False)


def in_words(prediction: Prediction, reference: str) -> str:
    """Return the difference to expect on a fresh task in a sentence.

    Args:
        prediction: The prediction of a contestant.
        reference: The contestant that it is compared with.
    """
    fresh = prediction.fresh
    return (
        f"{prediction.contestant} against {reference} on a fresh task, over all cells: {fresh.mean:+.3f} "
        f"({fresh.low:+.3f} to {fresh.high:+.3f})"
    )


def _table(responses: tuple[Response, ...]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("contestant", no_wrap=True)
    table.add_column("level", justify="right", overflow="fold")
    for heading in ("learned (95%)", "trained", "ms/step"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for response in responses:
        for i, level in enumerate(response.levels):
            marks = [text for text in (mark(response, level), level.note) if text]
            add_plain_row(
                table,
                response.contestant if i == 0 else "",
                level_name(level.level),
                _gain(level.gain),
                thousands(level.parameters),
                f"{level.step_seconds * 1000:.0f}" if math.isfinite(level.step_seconds) else "-",
                ", ".join(marks),
            )
    return table


def mark(response: Response, level: LevelGain) -> str:
    """Return `most` for the best level, `enough` or `as good` for one that no other is better than; else an empty string.

    Args:
        response: The response.
        level: One of its levels.
    """
    best = level is response.best
    if response.factor == "model" or not (best or level.enough):
        return ""
    if response.factor in RISING:
        enough = level.enough and level is not response.levels[-1]
        return ", ".join([*(["most"] if best else []), *(["enough"] if enough else [])])
    return "most" if best else "as good"


def _gain(gain: Paired) -> str:
    if not math.isfinite(gain.mean):
        return "diverged"
    return f"{gain.mean:+.3f}" + (f" [{gain.low:+.3f},{gain.high:+.3f}]" if math.isfinite(gain.low) else "")


def answers_to_json(answers: SweepAnswers, effect: Callable[[Paired | None], Json | None]) -> Json:
    """Return the answers as plain data.

    Args:
        answers: Answers of a study's sweep.
        effect: Returns an effect as plain data.

    Returns:
        `cells`, `responses`, `rates`, `settling`, `fresh_task` and `sentences`.
    """
    return {
        "cells": [cell.by_factor for cell in answers.cells] if answers.swept else [],
        "responses": [_response(response, effect) for response in answers.responses],
        "rates": [_shift(shift, effect) for shift in answers.shifts],
        "published_rates": answers.published or None,
        "settling": _settling(answers.settling, effect),
        "fresh_task": [_prediction(prediction, effect) for prediction in answers.predictions],
        "sentences": list(answers.sentences),
    }


def _response(response: Response, effect: Callable[[Paired | None], Json | None]) -> Json:
    return {
        "contestant": response.contestant,
        "factor": response.factor,
        "smallest": response.smallest,
        "best": None if response.best is None else response.best.level,
        "enough": None if response.enough is None else response.enough.level,
        "levels": [
            {
                "level": level.level,
                "gain": effect(level.gain),
                "behind_best": effect(level.behind),
                "p_not_enough_holm": level.lacking,
                "parameters": level.parameters,
                "step_seconds": level.step_seconds if math.isfinite(level.step_seconds) else None,
                "note": level.note or None,
            }
            for level in response.levels
        ],
    }


def _shift(shift: RateShift, effect: Callable[[Paired | None], Json | None]) -> Json:
    found = shift.effect
    return {
        "contestant": shift.contestant,
        "factor": shift.factor,
        "low": shift.low,
        "high": shift.high,
        "times": 10**found.mean if math.isfinite(found.mean) else None,
        "log10_times": effect(found),
        "p_holm": shift.p,
    }


def _settling(settling: Settling, effect: Callable[[Paired | None], Json | None]) -> Json:
    return {
        "reference": settling.reference,
        "lengths": list(settling.lengths),
        "orders": [list(order) for order in settling.orders],
        "differences": [_drift(drift, effect) for drift in settling.drifts],
    }


def _drift(drift: Drift, effect: Callable[[Paired | None], Json | None]) -> Json:
    return {
        "contestant": drift.contestant,
        "by_length": [effect(found) for found in drift.differences],
        "per_doubling": effect(drift.trend),
        "per_doubling_at_the_end": effect(drift.last),
        "p_holm": drift.p,
        "p_not_small": drift.small,
    }


def _prediction(prediction: Prediction, effect: Callable[[Paired | None], Json | None]) -> Json:
    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "contestant": prediction.contestant,
        "fresh_task": effect(prediction.fresh),
        "mean": effect(prediction.mean),
        "slopes": {name: effect(slope) for name, slope in prediction.slopes.items()},
        "between_tasks": known(prediction.between_tasks),
        "between_models": known(prediction.between_models),
        "values": prediction.values,
    }
