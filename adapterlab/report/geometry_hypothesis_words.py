"""Sentences about projections of a weight change on hypotheses: what each can express, and what that is worth on a task.

>>> from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
>>> layers = (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1), LayerGeometry("h.0.down", "down", 0, (4, 4), 1.0, 0.1))
>>> answer(GeometryResult("base", "tuned", layers, projections=(Projection("low_rank", 1, 16, 0.25),)))
'With at most 16 parameters, low rank can reproduce 75 % of the change from base to tuned.'
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adapterlab.geometry.result import GeometryResult, Projection
from adapterlab.report import geometry_tables as tables
from adapterlab.report.geometry_numbers import joined, percent
from adapterlab.report.geometry_tables import Expressed

RESIDUAL = (
    "The share of a change is taken of its squared size: the sum of the squares of all its entries. The residual is "
    "the share "
    "that the nearest change of a hypothesis leaves out; expressed is the rest. A residual of 0 % means that an "
    "adapter of that "
    "kind could make exactly this change, 100 % that it could make none of it."
)
"""Explanation of a residual."""
CAUTION = (
    "To be able to express a change is not to learn it: whether training finds it is a question for a contest. And "
    "the nearest "
    "change in the weights need not be the best one for the task, so that the share of the gain can be above or "
    "below the "
    "share expressed."
)
"""Limits of the conclusion from a residual."""
PARTS = {
    "in_domain": "on the task's own test data",
    "test": "on the task's own test data",
    "ood": "out of domain",
    "general": "on general text",
    "base": "on general text",
}
"""Parts of a task in words, by their names in results."""
FORGETTING = ("general", "base")
"""Parts where a rise of the loss is forgetting, so that there is no gain to keep."""
HINDSIGHT = ("fourier", "sparse")
"""Hypotheses whose positions are chosen by looking at the change, while the methods draw or select them before training."""


def answer(result: GeometryResult) -> str:
    """Return the most important sentence: which hypothesis expresses most of the change at equal parameters.

    Args:
        result: The result.
    """
    at, change = tables.main_budget(result), f"the change from {result.base} to {result.tuned}"
    if at is None:
        return f"T{change[1:]} was measured, but not projected on any hypothesis: no budget was given that fits one."
    budget, ranked = tables.budgets_of(result)[at], _ranked(result, at)
    (best, share), others = ranked[0], ranked[1:]
    said = f"With at most {budget:,} parameters, {_name(best)} can reproduce {_least(best, at)}{percent(share)} of {change}"
    if not others:
        return f"{said}.{_in_hindsight([best])}"
    following = others[0]
    last = others[-1]
    most = f"{said}: the most of the {len(ranked)} hypotheses of that size."
    if last is following:
        return (
            f"{most} The other is {_name(last[0])} with {_least(last[0], at)}{percent(last[1])}.{_in_hindsight([best])}"
        )
    return (
        f"{most} Next is {_name(following[0])} with {_least(following[0], at)}{percent(following[1])}, last "
        f"{_name(last[0])} with {_least(last[0], at)}{percent(last[1])}.{_in_hindsight([best])}"
    )


def on_expressed(result: GeometryResult) -> str:
    """Return what each hypothesis can express at equal parameters; empty without a projection.

    Args:
        result: The result.
    """
    at = tables.main_budget(result)
    if at is None:
        return ""
    budget, entries = tables.budgets_of(result)[at], tables.entries_of(result)
    ranked = _ranked(result, at)
    fixed = budget / entries
    said = [
        "A hypothesis is a rule about which changes an adapter of one kind can make. For each, the nearest change "
        "that it allows was computed, at equal numbers of parameters."
    ]
    if fixed < 1:
        above = sum(share > fixed for _, share in ranked)
        more = f"; {above} of {len(ranked)} hypotheses express more" if len(ranked) > 1 else ""
        said.append(
            f"{budget:,} parameters are {percent(fixed)} of the {entries:,} entries that changed. That is also the share "
            f"that as many directions express on average if they are chosen at random{more}."
        )
    low = next((row for row, _ in ranked if row.name == "low_rank"), None)
    if low is not None and low.cells[at] is not None:
        cell = low.cells[at]
        assert cell is not None
        by_chance = tables.low_rank_by_chance(result, cell.projection.size)
        said.append(
            f"{low.title.capitalize()} chooses its directions to fit, so it expresses more of anything: "
            f"{percent(by_chance)} "
            f"of a random change, and {percent(cell.expressed)} of this one."
        )
    smaller = [
        (row, cell) for row in tables.expressed(result) if (cell := row.cells[at]) is not None and not cell.comparable
    ]
    if smaller:
        listed = [
            f"{_name(row)} ({cell.projection.parameters:,} parameters, {percent(cell.expressed)})"
            for row, cell in smaller
        ]
        said.append(f"Not compared, since smaller than half of that: {joined(listed)}.")
    missing = [_name(row) for row in tables.expressed(result) if row.cells[at] is None]
    if missing:
        said.append(f"Not compared, since larger at the smallest size already: {joined(missing)}.")
    fits = [row for row, _ in ranked if not _projection(row, at).exact]
    if fits:
        stopped = [_name(row) for row in fits if not _projection(row, at).converged]
        said.append(
            f"{_fits(len(fits), len(ranked))} computed by a search that may miss the nearest change, so that the "
            "share is "
            "\u201cat least\u201d."
            + (f" The search for {joined(stopped)} was stopped before it settled." if stopped else "")
        )
    return " ".join(said) + _in_hindsight([row for row, _ in ranked])


def _in_hindsight(rows: Sequence[Expressed]) -> str:
    """Return the warning about hypotheses whose positions are chosen in hindsight, after a space; empty without one."""
    names = [_name(row) for row in rows if row.name in HINDSIGHT]
    if not names:
        return ""
    one = len(names) == 1
    return (
        f" {joined(names).capitalize()} {'chooses its' if one else 'choose their'} positions by looking at the change; the "
        f"{'method' if one else 'methods'} cannot, and {'reaches' if one else 'reach'} less."
    )


def _fits(count: int, total: int) -> str:
    return f"{count} of {total} {'was' if count == 1 else 'were'}"


def on_worth(result: GeometryResult) -> str:
    """Return what the projected changes are worth on the task; empty without a projection.

    Args:
        result: The result.
    """
    at = tables.main_budget(result)
    if at is None:
        return ""
    if not result.scores:
        return "No task was given, so the worth of the projected changes is unknown."
    budget, ranked = tables.budgets_of(result)[at], _ranked(result, at)
    said = []
    for part, (before, after) in result.scores.items():
        where, unit = PARTS.get(part, f"on {part}"), f" {result.unit}" if result.unit else ""
        moved = f"{where[0].upper()}{where[1:]}, the full change {_moves(before, after, unit)}"
        scored = [(row, _projection(row, at).scores[part]) for row, _ in ranked if part in _projection(row, at).scores]
        if part in FORGETTING:
            rises = sorted(((score.loss - before, row) for row, score in scored), key=lambda each: each[0])
            span = (
                f"; the projections with at most {budget:,} parameters change it by {rises[0][0]:+.3f} "
                f"({_name(rises[0][1])}) to "
                f"{rises[-1][0]:+.3f} ({_name(rises[-1][1])})"
                if len(rises) > 1
                else ""
            )
            said.append(f"{moved}{span}. A rise here is forgetting.")
            continue
        if not scored:
            said.append(f"{moved}. No projection within {budget:,} parameters was scored.")
            continue
        kept = sorted(((score.share, row) for row, score in scored if math.isfinite(score.share)), key=lambda e: -e[0])
        if not kept:
            said.append(f"{moved}: there is no gain of which a projection could keep a share.")
            continue
        least = f", {_name(kept[-1][1])} the least ({percent(kept[-1][0])})" if len(kept) > 1 else ""
        said.append(
            f"{moved}. Within {budget:,} parameters, {_name(kept[0][1])} keeps the most of that gain "
            f"({percent(kept[0][0])}){least}."
        )
    task = f"The task is {result.task}. " if result.task else ""
    return task + " ".join(said)


def _moves(before: float, after: float, unit: str) -> str:
    if before == after:
        return f"leaves the loss at {before:.3f}{unit}"
    return f"{'lowers' if after < before else 'raises'} the loss from {before:.3f} to {after:.3f}{unit}"


def _ranked(result: GeometryResult, at: int) -> list[tuple[Expressed, float]]:
    """Return the hypotheses that can be compared at a budget, with their shares, the largest first."""
    cells = [(row, row.cells[at]) for row in tables.expressed(result)]
    found = [(row, cell.expressed) for row, cell in cells if cell is not None and cell.comparable]
    return sorted(found, key=lambda each: -each[1])


def _projection(row: Expressed, at: int) -> Projection:
    cell = row.cells[at]
    assert cell is not None, "only hypotheses that can be compared are asked for"
    return cell.projection


def _least(row: Expressed, at: int) -> str:
    return "" if _projection(row, at).exact else "at least "


def _name(row: Expressed) -> str:
    """Return the title inside a sentence: in lower case, unless it is an abbreviation or a name."""
    first = row.title.split()[0] if row.title.split() else row.title
    return row.title if any(letter.isupper() for letter in first[1:]) else row.title[:1].lower() + row.title[1:]
