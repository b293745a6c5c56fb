"""Sentences about the geometry of a weight change, computed from its result.

>>> from adapterlab.geometry.result import LayerGeometry
>>> paragraphs(GeometryResult("base", "tuned", (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1),)))[0].text
'One linear layer changed, by 10 % of the size of its weight.'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from adapterlab.geometry.result import GeometryResult
from adapterlab.report import geometry_tables as tables
from adapterlab.report.geometry_hypothesis_words import answer, on_expressed, on_worth
from adapterlab.report.geometry_numbers import joined, measured, percent
from adapterlab.report.geometry_tables import Against, Place

__all__ = ["Paragraph", "answer", "paragraphs"]

SHOWN = 5
"""Measures in sentences; the others are in a table."""


class Paragraph(NamedTuple):
    """A few sentences on one question."""

    title: str
    """The question."""
    text: str
    """The sentences."""
    points: tuple[str, ...] = ()
    """A sentence for each of several things."""


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
        Paragraph("What can each hypothesis express?", on_expressed(result)),
        Paragraph("What is that worth on the task?", on_worth(result)),
        Paragraph("What does it do to the activations?", _activations(result)),
    )
    return tuple(each for each in found if each.text)


def _size(result: GeometryResult) -> str:
    changed, relative = len(result.layers), sorted(layer.relative_norm for layer in result.layers)
    if not changed:
        return "No linear layer changed."
    of_all = f"{changed} of {changed + len(result.unchanged)}" if result.unchanged else f"All {changed}"
    if changed == 1:
        said = f"One linear layer changed{_of(result.unchanged)}, by {percent(relative[0])} of the size of its weight."
    else:
        middle = median(relative)
        said = (
            f"{of_all} linear layers changed, by {percent(relative[0])} to {percent(relative[-1])} of the size of "
            "their weights "
            f"({percent(middle)} in the median layer). Size is the Frobenius norm, the root of the sum of the "
            "squares of all "
            "entries."
        )
    if result.others:
        path, _, largest = max(result.others, key=lambda other: other[2])
        plural = "parameter" if len(result.others) == 1 else "parameters"
        said += (
            f" Besides, {len(result.others)} other {plural} changed (norms, biases, embeddings or output heads), "
            f"{path} the "
            f"most, by {percent(largest)}; they are not part of what follows."
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
            f"By role: the {_layers(densest)} hold {percent(densest.share)} of the change in "
            f"{percent(densest.entries)} of the "
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
            f"{len(blocks) - half}{middle}, {percent(late)}; spread evenly over the entries, the last would hold "
            f"{percent(expected)}."
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
        "Each measure was compared with random changes of the same size in the same layers; their values are called "
        "chance. "
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
        f"{row.title}: {measured(row.name, row.value)} in the median layer, {measured(row.name, row.null or 0.0)} by "
        "chance; "
        f"{side} chance in {layers} of {row.layers} layers."
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
        return f"Layers of one role and shape were compared with each other, in {groups}; see the table."
    above, below = (sum(sides) for sides in zip(*compared, strict=True))
    return (
        f"Layers of one role and shape were compared with each other, in {groups}. Of {len(compared)} comparisons, "
        f"{above} show "
        f"more in common than random changes have, and {below} less."
    )


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
        "Drift is the squared size of what a change adds to a layer's output, as a share of the output's own. In the "
        "median "
        f"layer it is {joined(said)}."
    )
