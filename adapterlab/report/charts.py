"""Charts of the report, as self-contained SVG.

>>> from adapterlab.lab.analysis.pareto import ParetoEntry
>>> from adapterlab.lab.statistics import bootstrap
>>> path = ((0.0, 0.0, 0.0), (0.5, 0.03, 0.01), (1.0, 0.05, 0.04))
>>> entry = ParetoEntry("lora", (0.05, 0.04), True, 1.0, bootstrap([0.001, 0.002]), path)
>>> strengths(ParetoFront((0.0, 0.05), (entry,), "nats per byte"), {"lora": "#2f6fb5"})[:4]
'<svg'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.pareto import ParetoFront
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


def strengths(front: ParetoFront, palette: Mapping[str, str]) -> str:
    """Draw what contestants learned and forgot against the strength of their adapters, at most one for each colour.

    Args:
        front: The Pareto front, with the paths of the contestants.
        palette: By contestant, its colour.

    Returns:
        The chart as SVG; empty if no path was scored.
    """
    rows = [
        {"contestant": c.contestant, "strength": strength, "learned": learned, "forgotten": forgot}
        for c in front.entries[: len(PALETTE)]
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
