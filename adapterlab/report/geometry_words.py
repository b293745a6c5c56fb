"""Sentences about the geometry of a weight change, computed from its result.

>>> from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
>>> layers = (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1), LayerGeometry("h.0.down", "down", 0, (4, 4), 1.0, 0.1))
>>> answer(GeometryResult("base", "tuned", layers, projections=(Projection("low_rank", 1, 16, 0.25),)))
'With at most 16 parameters, low rank can reproduce 75 % of the change from base to tuned.'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from adapterlab.geometry.result import GeometryResult, Projection
from adapterlab.report import geometry_tables as tables
from adapterlab.report.geometry_tables import Against, Expressed, Place

RESIDUAL = (
    "The share of a change is taken of its squared size: the sum of the squares of all its entries. The residual is the share "
    "that the nearest change of a hypothesis leaves out; expressed is the rest. A residual of 0 % means that an adapter of that "
    "kind could make exactly this change, 100 % that it could make none of it."
)
"""Explanation of a residual."""
CAUTION = (
    "To be able to express a change is not to learn it: whether training finds it is a question for a contest. And the nearest "
    "change in the weights need not be the best one for the task, so that the share of the gain can be above or below the "
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
SHOWN = 5
"""Measures in sentences; the others are in a table."""
FORGETTING = ("general", "base")
"""Parts where a rise of the loss is forgetting, so that there is no gain to keep."""


class Paragraph(NamedTuple):
    """A few sentences on one question."""

    title: str
    """The question."""
    text: str
    """The sentences."""
    points: tuple[str, ...] = ()
    """A sentence for each of several things."""


def percent(share: float) -> str:
    """Return a share in percent with two or three significant digits, and never 0 % or 100 % for a share that is neither.

    Args:
        share: The share, usually from 0 to 1.

    >>> [percent(share) for share in (0.4567, 0.0312, 0.99996, 0.00004, 0.0, 1.0, 0.9996, float("nan"))]
    ['46 %', '3.1 %', 'above 99.9 %', 'below 0.01 %', '0 %', '100 %', '99.9 %', 'unknown']
    """
    if not math.isfinite(share):
        return "unknown"
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if 0 < value < 0.01:
        return "below 0.01 %"
    if 99.99 < value < 100:
        return "above 99.9 %"
    if 99 < value < 100:
        return f"{math.floor(10 * value) / 10:.1f} %"
    if abs(value) < 0.1:
        return f"{value:.2f} %"
    return f"{value:.1f} %" if abs(value) < 9.95 else f"{value:.0f} %"


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent where it is readable.

    Args:
        value: The number.

    >>> [number(value) for value in (0.026282, 80.4648, 12345.6, 0.0, 0.00001234, float("nan"))]
    ['0.0263', '80.5', '12,346', '0', '1.23e-05', 'unknown']
    """
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "infinite"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def measured(name: str, value: float) -> str:
    """Return the value of a measure: in percent if it is a share of the change.

    Args:
        name: Name of the measure.
        value: The value.

    >>> measured("energy_in_top(0.1)", 0.0263), measured("stable_rank", 5.6399)
    ('2.6 %', '5.64')
    """
    is_share = name.startswith(("energy_", "entries_for_energy")) or "_concentration" in name
    return percent(value) if is_share else number(value)


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
        return f"{said}."
    following = others[0]
    last = others[-1]
    most = f"{said}: the most of the {len(ranked)} hypotheses of that size."
    if last is following:
        return f"{most} The other is {_name(last[0])} with {_least(last[0], at)}{percent(last[1])}."
    return (
        f"{most} Next is {_name(following[0])} with {_least(following[0], at)}{percent(following[1])}, last "
        f"{_name(last[0])} with {_least(last[0], at)}{percent(last[1])}."
    )


def paragraphs(result: GeometryResult) -> tuple[Paragraph, ...]:
    """Return all that is said of a result beside `answer`, in the order of a page.

    Args:
        result: The result.
    """
    found = (
        Paragraph("How large is the change?", _size(result)),
        Paragraph("Where is it?", _where(result)),
        Paragraph("Is it like a random change?", *_chance(result)),
        Paragraph("What do layers have in common?", _sharing(result)),
        Paragraph("What can each hypothesis express?", _expressed(result)),
        Paragraph("What is that worth on the task?", _worth(result)),
        Paragraph("What does it do to the activations?", _activations(result)),
    )
    return tuple(each for each in found if each.text)


def joined(words: Sequence[str]) -> str:
    """Return words as an enumeration.

    Args:
        words: The words, at least one.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _size(result: GeometryResult) -> str:
    changed, relative = len(result.layers), sorted(layer.relative_norm for layer in result.layers)
    if not changed:
        return "No linear layer changed."
    which = f"All {changed} linear layers" if not result.unchanged else f"{changed} of {changed + len(result.unchanged)} linear layers"
    if changed == 1:
        said = f"One linear layer changed{_of(result.unchanged)}, by {percent(relative[0])} of the size of its weight."
    else:
        middle = median(relative)
        said = (
            f"{which} changed, by {percent(relative[0])} to {percent(relative[-1])} of the size of their weights "
            f"({percent(middle)} in the median layer). Size is the Frobenius norm, the root of the sum of the squares of all entries."
        )
    if result.others:
        path, _, largest = max(result.others, key=lambda other: other[2])
        plural = "parameter" if len(result.others) == 1 else "parameters"
        said += (
            f" Besides, {len(result.others)} other {plural} changed (norms, biases, embeddings or output heads), {path} the most, by "
            f"{percent(largest)}; they are not part of what follows."
        )
    return said


def _of(unchanged: Sequence[str]) -> str:
    return f" of {1 + len(unchanged)}" if unchanged else ""


def _where(result: GeometryResult) -> str:
    roles, blocks = tables.by_role(result), [place for place in tables.by_depth(result) if place.name != "outside"]
    said = []
    if len(roles) > 1:
        densest, sparsest = (pick(roles, key=lambda place: place.share / place.entries) for pick in (max, min))
        said.append(
            f"By role: the {_layers(densest)} hold {percent(densest.share)} of the change in {percent(densest.entries)} of the "
            f"entries, the most for their number; the {_layers(sparsest)} hold {percent(sparsest.share)} in "
            f"{percent(sparsest.entries)}, the least."
        )
    if len(blocks) > 1:
        half = len(blocks) // 2
        early, late = sum(block.share for block in blocks[:half]), sum(block.share for block in blocks[half:])
        expected = sum(block.entries for block in blocks[half:])
        middle = "" if len(blocks) % 2 == 0 else ", the middle one included"
        said.append(
            f"By depth: the first {half} of {len(blocks)} blocks hold {percent(early)} of the change, the last "
            f"{len(blocks) - half}{middle}, {percent(late)}; spread evenly over the entries, the last would hold {percent(expected)}."
            if half > 1
            else f"By depth: {_blocks(blocks)}."
        )
    return " ".join(said)


def _layers(place: Place) -> str:
    return f"{place.name} layers"


def _blocks(blocks: Sequence[Place]) -> str:
    return joined([f"block {block.name} holds {percent(block.share)}" for block in blocks])


def _chance(result: GeometryResult) -> tuple[str, tuple[str, ...]]:
    rows = [row for row in tables.against_chance(result) if row.null is not None]
    if not rows:
        return "", ()
    apart = [row for row in rows if row.above + row.below > row.layers / 2]
    head = (
        "Each measure was compared with random changes of the same size in the same layers; their values are called chance. "
        f"{_counted(len(apart), len(rows))} away from chance in more than half of the layers"
    )
    if not apart:
        return f"{head}: by these measures the change cannot be told from noise.", ()
    shown = sorted(apart, key=lambda row: -(row.above + row.below) / row.layers)[:SHOWN]
    more = ", such as these; the others are in the table of measures" if len(apart) > len(shown) else ""
    return f"{head}{more}.", tuple(map(_against, shown))


def _counted(count: int, total: int) -> str:
    if count == total:
        return {1: "The measure is", 2: "Both are"}.get(total, f"All {total} are")
    return f"{count or 'None'} of {total} {'is' if count <= 1 else 'are'}"


def _against(row: Against) -> str:
    side, layers = ("above", row.above) if row.above >= row.below else ("below", row.below)
    return (
        f"{row.title}: {measured(row.name, row.value)} in the median layer, {measured(row.name, row.null or 0.0)} by chance; {side} chance in {layers} of "
        f"{row.layers} layers."
    )


def _sharing(result: GeometryResult) -> str:
    if not result.sharing:
        return ""
    compared = [
        (values[name] > null.high, values[name] < null.low)
        for group, values in result.sharing.items()
        for name, null in result.sharing_nulls.get(group, {}).items()
        if name in values
    ]
    groups = f"{len(result.sharing)} {'group' if len(result.sharing) == 1 else 'groups'}"
    if not compared:
        return f"Layers of one role and shape were compared with each other, in {groups}; see the table of shared directions."
    above, below = (sum(sides) for sides in zip(*compared, strict=True))
    return (
        f"Layers of one role and shape were compared with each other, in {groups}. Of {len(compared)} comparisons, {above} show more "
        f"in common than random changes have, and {below} less."
    )


def _expressed(result: GeometryResult) -> str:
    at = tables.main_budget(result)
    if at is None:
        return ""
    budget, entries = tables.budgets_of(result)[at], tables.entries_of(result)
    ranked = _ranked(result, at)
    fixed = budget / entries
    said = [
        "A hypothesis is a rule about which changes an adapter of one kind can make. For each, the nearest change that it allows was "
        "computed, at equal numbers of parameters."
    ]
    if fixed < 1:
        above = sum(share > fixed for _, share in ranked)
        said.append(
            f"{budget:,} parameters are {percent(fixed)} of the {entries:,} entries that changed. That is also the share that as many "
            f"directions express on average if they are chosen at random; {above} of {len(ranked)} hypotheses express more."
        )
    low = next((row for row, _ in ranked if row.name == "low_rank"), None)
    if low is not None and low.cells[at] is not None:
        cell = low.cells[at]
        assert cell is not None
        by_chance = tables.low_rank_by_chance(result, cell.projection.size)
        said.append(
            f"{low.title.capitalize()} chooses its directions to fit, so it expresses more of anything: {percent(by_chance)} of a random "
            f"change, and {percent(cell.expressed)} of this one."
        )
    smaller = [
        (row, cell) for row in tables.expressed(result) if (cell := row.cells[at]) is not None and not cell.comparable
    ]
    if smaller:
        listed = [
            f"{_name(row)} ({cell.projection.parameters:,} parameters, {percent(cell.expressed)})" for row, cell in smaller
        ]
        said.append(f"Not compared, since smaller than half of that: {joined(listed)}.")
    missing = [_name(row) for row in tables.expressed(result) if row.cells[at] is None]
    if missing:
        said.append(f"Not compared, since larger at the smallest size already: {joined(missing)}.")
    fits = [row for row, _ in ranked if not _projection(row, at).exact]
    if fits:
        stopped = [_name(row) for row in fits if not _projection(row, at).converged]
        said.append(
            f"{_fits(len(fits), len(ranked))} computed by a search that may miss the nearest change, so that the share is \u201cat least\u201d."
            + (f" The search for {joined(stopped)} was stopped before it settled." if stopped else "")
        )
    return " ".join(said)


def _fits(count: int, total: int) -> str:
    return f"{count} of {total} {'was' if count == 1 else 'were'}"


def _worth(result: GeometryResult) -> str:
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
                f"; the projections with at most {budget:,} parameters change it by {rises[0][0]:+.3f} ({_name(rises[0][1])}) to "
                f"{rises[-1][0]:+.3f} ({_name(rises[-1][1])})"
                if len(rises) > 1
                else ""
            )
            said.append(f"{moved}{span}. A rise here is forgetting.")
            continue
        kept = sorted(((score.share, row) for row, score in scored if math.isfinite(score.share)), key=lambda e: -e[0])
        if not kept:
            said.append(f"{moved}: there is no gain of which a projection could keep a share.")
            continue
        least = f", {_name(kept[-1][1])} the least ({percent(kept[-1][0])})" if len(kept) > 1 else ""
        said.append(f"{moved}. Within {budget:,} parameters, {_name(kept[0][1])} keeps the most of that gain ({percent(kept[0][0])}){least}.")
    task = f"The task is {result.task}. " if result.task else ""
    return task + " ".join(said)


def _moves(before: float, after: float, unit: str) -> str:
    if before == after:
        return f"leaves the loss at {before:.3f}{unit}"
    return f"{'lowers' if after < before else 'raises'} the loss from {before:.3f} to {after:.3f}{unit}"


def _activations(result: GeometryResult) -> str:
    drifts = {
        text: sorted(values["drift"] for values in paths.values() if math.isfinite(values.get("drift", math.nan)))
        for text, paths in result.activations.items()
    }
    said = [
        f"{percent(median(values))} on {'general text' if text == 'general' else f'the {text} text'}"
        for text, values in drifts.items()
        if values
    ]
    if not said:
        return ""
    return (
        "Drift is the squared size of what a change adds to a layer's output, as a share of the output's own. In the median layer it is "
        f"{joined(said)}."
    )


def _ranked(result: GeometryResult, at: int) -> list[tuple[Expressed, float]]:
    """Return the hypotheses that can be compared at a budget with the shares that they express, the largest first."""
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
