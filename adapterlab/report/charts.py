"""Charts of the report, as self-contained SVG.

>>> from adapterlab.lab.analysis.pareto import ParetoEntry
>>> from adapterlab.lab.statistics import bootstrap
>>> path = ((0.0, 0.0, 0.0), (0.5, 0.03, 0.01), (1.0, 0.05, 0.04))
>>> entry = ParetoEntry("lora", (0.05, 0.04), True, 1.0, bootstrap([0.001, 0.002]), path)
>>> strengths(ParetoFront((0.0, 0.05), (entry,), "nats per byte"), {"lora": "#2f6fb5"})[:4]
'<svg'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import altair as alt
import vl_convert

from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.pareto import ParetoFront
from adapterlab.lab.analysis.scoreboard import Row, Scoreboard
from adapterlab.lab.statistics import Paired
from adapterlab.names import printable

Chart = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.HConcatChart | alt.VConcatChart | alt.FacetChart
PALETTE = [
    "#2f6fb5",
    "#d1642f",
    "#2e8b57",
    "#8454a8",
    "#b8922a",
    "#c43d5b",
    "#3a9aa3",
    "#6b7785",
    "#a0522d",
    "#5b8c2a",
]
"""Colours of contestants and hypotheses."""
_FONT = "Helvetica, Arial, sans-serif"
WIDTH = 1000
"""Width of a chart in pixels."""
WIDEST = 2.0
"""Half-widths of an interval, in median half-widths, that a chart has room for."""


def svg(chart: Chart) -> str:
    """Draw a chart, without tooltips.

    Args:
        chart: The chart.

    Returns:
        The SVG as text.
    """
    return str(vl_convert.vegalite_to_svg(specification(chart)))


def specification(chart: Chart, background: str = "transparent") -> dict[str, Any]:
    """Return a chart in the style of the reports, as plain data of Vega-Lite.

    Args:
        chart: The chart.
        background: Colour of the background.
    """
    styled = (
        chart.configure(font=_FONT, background=background)
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridColor="#e6e9ed", domain=False)
        .configure_view(stroke=None)
        .configure_legend(labelFontSize=12, titleFontSize=12, symbolSize=90)
        .configure_header(labelFontSize=13, titleFontSize=13, labelFontWeight="bold")
    )
    plain: dict[str, Any] = _printable(styled.to_dict())
    return plain


def _printable(data: Any) -> Any:
    """Return plain data without control characters, for which the renderer would end the process."""
    match data:
        case str():
            return printable(data)
        case dict():
            return {_printable(key): _printable(value) for key, value in data.items()}
        case list():
            return [_printable(value) for value in data]
    return data


def colours(board: Board) -> dict[str, str]:
    """Return a colour for each contestant, the same in every chart.

    Args:
        board: The board.
    """
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(entry.name for entry in board.study.entrants)}


def plane(scoreboard: Scoreboard, front: ParetoFront, palette: Mapping[str, str]) -> str:
    """Draw learning against forgetting: a point for each contestant with its 95 % intervals.

    Intervals much wider than the others, as of two runs, are cut off so that the points stay apart.

    Grey steps are the Pareto front. A thin line is the path of a contestant as its strength grows, from the frozen model to
    the largest strength that was scored.

    Args:
        scoreboard: The scoreboard.
        front: The Pareto front.
        palette: By contestant, its colour.

    Returns:
        The chart as SVG.
    """
    shown = [row for row in scoreboard.rows if math.isfinite(row.gain.mean) and math.isfinite(row.gain.low)]
    gain_limits, forgetting_limits = limits([row.gain for row in shown]), limits([row.forgetting for row in shown])
    rows = [
        {
            "contestant": row.contestant,
            "gain": row.gain.mean,
            "gain_low": max(row.gain.low, gain_limits[0]),
            "gain_high": min(row.gain.high, gain_limits[1]),
            "forgetting": row.forgetting.mean,
            "forgetting_low": max(row.forgetting.low, forgetting_limits[0]),
            "forgetting_high": min(row.forgetting.high, forgetting_limits[1]),
            "under": any(_hides(other, row) for other in shown),
        }
        for row in shown
    ]
    base = data_chart(rows)
    x_title, y_title = (
        f"learned: {scoreboard.unit} better than the frozen model",
        f"forgotten: {scoreboard.unit} on the base model's domain",
    )
    axis = alt.Axis(format=".2f", tickCount=8)
    x = alt.X("gain:Q", title=x_title, scale=alt.Scale(zero=False, nice=True, padding=24), axis=axis)
    y = alt.Y("forgetting:Q", title=y_title, scale=alt.Scale(zero=True, nice=True, padding=12), axis=axis)
    colour = colour_of(palette, legend=False)
    sideways = base.mark_rule(opacity=0.45, strokeWidth=1.5).encode(
        x=alt.X("gain_low:Q", title=x_title), x2="gain_high:Q", y=y, color=colour
    )
    upright = base.mark_rule(opacity=0.45, strokeWidth=1.5).encode(
        x=x, y=alt.Y("forgetting_low:Q", title=y_title), y2="forgetting_high:Q", color=colour
    )
    points = base.mark_circle(size=130, opacity=1).encode(x=x, y=y, color=colour)
    over, under = (
        base.transform_filter(f"{'' if below else '!'}datum.under")
        .mark_text(align="left", dx=10, dy=14 if below else -9, fontSize=13, fontWeight="bold")
        .encode(x=x, y=y, text="contestant:N", color=colour)
        for below in (False, True)
    )
    layers = [*_front(front), *_paths(front, colour), sideways, upright, points, over, under]
    return svg(alt.layer(*layers).properties(width=WIDTH - 90, height=380))


def limits(effects: Sequence[Paired]) -> tuple[float, float]:
    """Return the ends of the axis beyond which intervals are cut off.

    They are beyond the outermost means by the means' own range, or by `WIDEST` times the median half-width if that is more.

    Args:
        effects: Means with their intervals; those without a number are left out.

    Returns:
        Both ends; infinite without an interval.
    """
    means = [effect.mean for effect in effects if math.isfinite(effect.mean)]
    halves = [(effect.high - effect.low) / 2 for effect in effects if math.isfinite(effect.high - effect.low)]
    if not means or not halves:
        return -math.inf, math.inf
    reach = max(max(means) - min(means), WIDEST * median(halves))
    return min(means) - reach, max(means) + reach


def _front(front: ParetoFront) -> list[Chart]:
    """Draw the Pareto front as steps; nothing if fewer than two points are on it."""
    corners = front.front
    if len(corners) < 2:
        return []
    steps = [{"order": i, "gain": gain, "forgetting": forgot} for i, (gain, forgot) in enumerate(corners)]
    line = data_chart(steps).mark_line(interpolate="step-before", color="#9aa5b1", strokeWidth=2, strokeDash=[6, 3])
    return [line.encode(x="gain:Q", y="forgetting:Q", order="order:Q")]


def _paths(front: ParetoFront, colour: alt.Color) -> list[Chart]:
    rows = [
        {"contestant": c.contestant, "strength": strength, "gain": learned, "forgetting": forgot}
        for c in front.entries
        for strength, learned, forgot in c.path
    ]
    if not rows:
        return []
    line = data_chart(rows).mark_line(strokeWidth=1.2, opacity=0.6)
    return [line.encode(x="gain:Q", y="forgetting:Q", order="strength:Q", color=colour)]


def strengths(front: ParetoFront, palette: Mapping[str, str]) -> str:
    """Draw what each contestant learned and forgot against the strength of its adapter.

    Args:
        front: The Pareto front, with the paths of the contestants.
        palette: By contestant, its colour.

    Returns:
        The chart as SVG; empty if no path was scored.
    """
    rows = [
        {"contestant": c.contestant, "strength": strength, "learned": learned, "forgotten": forgot}
        for c in front.entries
        for strength, learned, forgot in c.path
    ]
    if not rows:
        return ""
    base = data_chart(rows).encode(
        x=alt.X("strength:Q", title="strength: 0 is the frozen model, 1 the trained adapter"),
        color=colour_of(palette, legend=True),
    )
    panels = []
    for field, title in (
        ("learned", f"learned in-domain, {front.unit}"),
        ("forgotten", "forgotten on the base model's domain, nats per byte"),
    ):
        line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=40)).encode(
            y=alt.Y(f"{field}:Q", title=title)
        )
        panels.append(line.properties(width=(WIDTH - 220) / 2, height=260))
    return svg(alt.concat(*panels, columns=2).resolve_scale(y="independent"))


def _hides(other: Row, row: Row) -> bool:
    """Return True if the name of `other`, above its point, would cover the name of `row`."""
    above = other.forgetting.mean - row.forgetting.mean
    return other is not row and abs(other.gain.mean - row.gain.mean) < 0.006 and 0 <= above < 0.004


def rates(board: Board, palette: Mapping[str, str]) -> str:
    """Draw validation loss against learning rate in the first rung, a panel for each task; the selected rate is ringed.

    The dashed line is the frozen model. Losses far above it are cut off, so that the differences below stay legible.

    Args:
        board: The board.
        palette: By contestant, its colour.

    Returns:
        The chart as SVG.
    """
    panels = []
    for task, frozen in board.frozen.items():
        curves = [curve for curve in board.rate_curves if curve.task == task]
        rows = [
            {"contestant": curve.contestant, "rate": lr, "loss": loss, "chosen": lr == curve.chosen}
            for curve in curves
            for lr, loss in curve.losses.items()
        ]
        best = min((loss for curve in curves for loss in curve.losses.values()), default=frozen)
        room = max(frozen - best, 1e-3)
        scale = alt.Scale(domain=[best - 0.1 * room, frozen + 0.5 * room], nice=False, zero=False)
        axis = alt.Axis(format=".0e", values=[10.0**k for k in range(-6, 2)])
        base = data_chart(rows).encode(
            x=alt.X("rate:Q", title="learning rate", scale=alt.Scale(type="log", nice=False, padding=14), axis=axis),
            y=alt.Y("loss:Q", title=f"validation loss, {board.unit}", scale=scale),
            color=colour_of(palette, legend=True),
        )
        lines = base.mark_line(strokeWidth=2, clip=True)
        dots = base.mark_circle(size=45, clip=True)
        chosen = base.transform_filter("datum.chosen").mark_point(size=190, strokeWidth=2.2, filled=False, clip=True)
        level = data_chart([{"y": frozen}]).mark_rule(strokeDash=[4, 3], color="#6b7785").encode(y="y:Q")
        panels.append((level + lines + dots + chosen).properties(title=task, width=(WIDTH - 220) / 2, height=280))
    return svg(alt.concat(*panels, columns=2).resolve_scale(y="independent"))


def forest(scoreboard: Scoreboard, palette: Mapping[str, str]) -> str:
    """Draw the paired difference of each contestant from the reference, with its 95 % interval, cut off as in `plane`.

    Args:
        scoreboard: The scoreboard.
        palette: By contestant, its colour.

    Returns:
        The chart as SVG.
    """
    compared = {
        row.contestant: row.versus
        for row in scoreboard.rows
        if row.versus is not None and math.isfinite(row.versus.low)
    }
    low, high = limits(list(compared.values()))
    rows = [
        {"contestant": name, "mean": effect.mean, "low": max(effect.low, low), "high": min(effect.high, high)}
        for name, effect in compared.items()
    ]
    order = [str(row["contestant"]) for row in rows]
    base = data_chart(rows).encode(
        y=alt.Y("contestant:N", sort=order, title=None, axis=alt.Axis(labelFontSize=13)),
        color=colour_of(palette, legend=False),
    )
    title = f"better than {scoreboard.reference} in-domain, {scoreboard.unit} (paired, 95 % interval)"
    bars = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("low:Q", title=title, axis=alt.Axis(format=".3f", tickCount=8)), x2="high:Q"
    )
    points = base.mark_circle(size=110, opacity=1).encode(x="mean:Q")
    zero = data_chart([{"x": 0}]).mark_rule(strokeDash=[4, 3], color="#6b7785").encode(x="x:Q")
    return svg((zero + bars + points).properties(width=WIDTH - 110, height=34 * max(1, len(rows))))


def data_chart(rows: Sequence[Mapping[str, object]]) -> alt.Chart:
    """Return a chart of rows of data, without marks.

    Args:
        rows: By field, the value.
    """
    data: Callable[..., alt.Data] = alt.Data  # its constructor is not typed
    return alt.Chart(data(values=list(rows)))


def colour_of(palette: Mapping[str, str], *, legend: bool) -> alt.Color:
    """Return the colours of the contestants.

    Args:
        palette: By contestant, its colour.
        legend: True to draw a legend.
    """
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    return alt.Color("contestant:N", scale=scale, legend=alt.Legend(title=None) if legend else None)
