"""Charts of projections on hypotheses: residual against parameters, and score against residual, as self-contained SVG.

>>> from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
>>> layers = (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1),)
>>> projections = (Projection("low_rank", 1, 8, 0.25), Projection("low_rank", 2, 16, 0.1))
>>> to_svg(residuals(GeometryResult("base", "tuned", layers, projections=projections)))[:4]
'<svg'
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import count

import altair as alt
import numpy as np
from scipy.optimize import isotonic_regression

from adapterlab.geometry.result import GeometryResult, Projection
from adapterlab.report.charts import PALETTE, WIDTH, Chart, data_chart
from adapterlab.report.charts import svg as to_svg
from adapterlab.report.geometry_hypothesis_words import FORGETTING, PARTS
from adapterlab.report.geometry_tables import entries_of, title_of

__all__ = ["labels_apart", "looks", "residuals", "scores", "to_svg"]

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left")
"""Shapes of points; as their number and that of the colours have no common divisor, the pairs repeat after 70."""
LABEL = 17
"""Least distance of two labels in pixels."""
_LABELS = 190
_PLOT = WIDTH - 80 - _LABELS
_GREY = "#6b7785"


def looks(result: GeometryResult) -> dict[str, tuple[str, str]]:
    """Return a colour and a shape for each hypothesis, the same in every chart.

    Args:
        result: The result.
    """
    names = dict.fromkeys(each.hypothesis for each in result.projections)
    return {name: (PALETTE[i % len(PALETTE)], SHAPES[i % len(SHAPES)]) for name, i in zip(names, count(), strict=False)}


def labels_apart(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Return places for labels that keep a distance, as near as possible to where they are wanted.

    The sum of squared shifts is least, by isotonic regression.

    Args:
        wanted: Wanted places.
        apart: Least distance.
        low: Smallest place.
        high: Largest place, at least `low + apart * (len(wanted) - 1)`.

    Returns:
        The places, in the order of `wanted`.

    >>> labels_apart([10.0, 10.0, 50.0], 20, 0, 100)
    [0.0, 20.0, 50.0]
    """
    if not wanted:
        return []
    order = np.argsort(wanted, kind="stable")
    steps = apart * np.arange(len(wanted))
    fitted = isotonic_regression(np.asarray(wanted, dtype=float)[order] - steps).x
    placed = np.empty(len(wanted))
    placed[order] = np.clip(fitted, low, max(low, high - steps[-1])) + steps
    return [float(place) for place in placed]


def residuals(result: GeometryResult) -> Chart:
    """Draw the residual of each hypothesis against its number of parameters, with direct labels.

    The dashed line is the residual of as many directions that are chosen at random, on average.

    Args:
        result: The result, with projections.

    Returns:
        The chart.
    """
    look = looks(result)
    height = max(380, LABEL * (len(look) + 1))
    rows = [
        {
            "hypothesis": each.hypothesis,
            "title": _label(result, each.hypothesis),
            "parameters": each.parameters,
            "residual": each.residual,
        }
        for each in result.projections
        if each.parameters > 0
    ]
    sizes = [each.parameters for each in result.projections if each.parameters > 0]
    low, high = min(sizes) / 1.15, max(sizes) * 1.15
    x = alt.X(
        "parameters:Q",
        title="parameters of the change, over all layers (log scale)",
        scale=alt.Scale(type="log", nice=False, domain=[low, high]),
        axis=alt.Axis(format="~s", tickCount=6),
    )
    y = alt.Y(
        "residual:Q",
        title="residual: share of the change that is left out",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(format="%", tickCount=6),
    )
    base = data_chart(rows).encode(x=x, y=y, color=_colour(look), shape=_shape(look))
    lines = data_chart(rows).mark_line(strokeWidth=1.8).encode(x=x, y=y, color=_colour(look), detail="hypothesis:N")
    points = base.mark_point(filled=True, size=64, opacity=1)
    ends = [
        max((row for row in rows if row["hypothesis"] == name), key=lambda row: int(str(row["parameters"])))
        for name in look
        if any(row["hypothesis"] == name for row in rows)
    ]
    wanted = [height * (1 - float(str(end["residual"]))) for end in ends]
    placed = labels_apart(wanted, LABEL, 8, height - 8)
    labelled = [{**end, "place": 1 - place / height} for end, place in zip(ends, placed, strict=True)]
    at = alt.Y("place:Q", scale=alt.Scale(domain=[0, 1], nice=False))
    leaders = (
        data_chart(labelled)
        .mark_rule(strokeWidth=1, opacity=0.5)
        .encode(x=x, x2=alt.value(_PLOT + 12), y=y, y2="place:Q", color=_colour(look))
    )
    marks = (
        data_chart(labelled)
        .mark_point(filled=True, size=64, opacity=1)
        .encode(x=alt.value(_PLOT + 20), y=at, color=_colour(look), shape=_shape(look))
    )
    names = (
        data_chart(labelled)
        .mark_text(align="left", baseline="middle", fontSize=13)
        .encode(x=alt.value(_PLOT + 30), y=at, text="title:N")
    )
    return alt.layer(_by_chance(result, low, high, x), leaders, lines, points, marks, names).properties(
        width=_PLOT, height=height
    )


def scores(result: GeometryResult) -> Chart:
    """Draw the score of each projection against its residual, a panel for each part of the task.

    Where there is a gain, the score is the share of the full change's gain; on general text it is the rise of the loss.
    On the dashed line, a projection has the same share of the effect as of the change.

    Args:
        result: The result, with scores.

    Returns:
        The chart.
    """
    look = looks(result)
    panels = []
    parts = [part for part in result.scores if any(part in each.scores for each in result.projections)]
    width = (WIDTH - 70 * len(parts)) / max(1, len(parts))
    for part in parts:
        before, after = result.scores[part]
        forgetting = part in FORGETTING
        rows = [
            {
                "hypothesis": each.hypothesis,
                "title": title_of(each.hypothesis),
                "residual": each.residual,
                "score": _score(each, part, before),
                "parameters": each.parameters,
            }
            for each in result.projections
            if part in each.scores and math.isfinite(_score(each, part, before))
        ]
        if not rows:
            continue
        unit = f", {result.unit}" if result.unit else ""
        title = f"rise of the loss{unit}" if forgetting else "share of the full change's gain"
        x = alt.X(
            "residual:Q",
            title="residual",
            scale=alt.Scale(domain=[0, 1], nice=False),
            axis=alt.Axis(format="%", tickCount=5),
        )
        y = alt.Y(
            "score:Q",
            title=title,
            scale=alt.Scale(zero=True, nice=True),
            axis=alt.Axis(format="+.3f" if forgetting else "%", tickCount=6),
        )
        shown = {name: look[name] for name in look if any(name == each["hypothesis"] for each in rows)}
        colour, shape = _colour(shown, legend=True), _shape(shown, legend=True)
        base = data_chart(rows)
        lines = base.mark_line(strokeWidth=1.2, opacity=0.6).encode(
            x=x, y=y, color=colour, detail="hypothesis:N", order="parameters:Q"
        )
        points = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=colour, shape=shape)
        whole = after - before if forgetting else 1.0
        ends = data_chart([{"residual": 0.0, "score": whole}, {"residual": 1.0, "score": 0.0}])
        even = ends.mark_line(strokeDash=[4, 3], strokeWidth=1.5, color=_GREY).encode(x=x, y=y)
        panels.append((even + lines + points).properties(title=PARTS.get(part, part), width=width, height=330))
    return alt.hconcat(*panels, spacing=24)


def _score(projection: Projection, part: str, before: float) -> float:
    score = projection.scores[part]
    return score.loss - before if part in FORGETTING else score.share


def _label(result: GeometryResult, name: str) -> str:
    fit = any(not each.exact for each in result.projections if each.hypothesis == name)
    return f"{title_of(name)} (at most)" if fit else title_of(name)


def _by_chance(result: GeometryResult, low: float, high: float, x: alt.X) -> alt.Chart:
    entries = max(1, entries_of(result))
    rows = [
        {"parameters": float(size), "residual": max(0.0, 1 - float(size) / entries)}
        for size in np.geomspace(low, high, 60)
    ]
    line = data_chart(rows).mark_line(strokeDash=[5, 4], strokeWidth=1.5, color=_GREY)
    drawn: alt.Chart = line.encode(x=x, y="residual:Q")
    return drawn


def _colour(look: dict[str, tuple[str, str]], *, legend: bool = False) -> alt.Color:
    scale = alt.Scale(domain=list(look), range=[colour for colour, _ in look.values()])
    return alt.Color("hypothesis:N", scale=scale, legend=_legend(look, legend))


def _shape(look: dict[str, tuple[str, str]], *, legend: bool = False) -> alt.Shape:
    scale = alt.Scale(domain=list(look), range=[shape for _, shape in look.values()])
    return alt.Shape("hypothesis:N", scale=scale, legend=_legend(look, legend))


def _legend(look: dict[str, tuple[str, str]], shown: bool) -> alt.Legend | None:
    if not shown:
        return None
    titles = {name: title_of(name) for name in look}
    chosen = " : ".join(f"datum.value === {json.dumps(name)} ? {json.dumps(title)}" for name, title in titles.items())
    return alt.Legend(
        title=None, orient="bottom", columns=6, symbolOpacity=1, labelExpr=f"{chosen} : datum.value", labelLimit=200
    )
