"""Charts of the layers of a weight change: measures, spectra, and energy in the base's singular basis, as SVG.

>>> from adapterlab.geometry.result import GeometryResult, LayerGeometry, Null
>>> null = {"stable_rank": Null(3.0, 2.5, 3.5)}
>>> layer = LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1, {"stable_rank": 1.2}, null, (0.9, 0.4))
>>> to_svg(spectra(GeometryResult("base", "tuned", (layer,))))[:4]
'<svg'
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, pstdev

import altair as alt

from adapterlab.geometry.random_spectrum import random_spectrum
from adapterlab.geometry.result import GeometryResult, LayerGeometry
from adapterlab.report.charts import WIDTH, Chart, data_chart
from adapterlab.report.charts import svg as to_svg
from adapterlab.report.geometry_tables import ROLES, Against, against_chance, standardized

__all__ = ["energies", "has_energies", "heat_map", "spectra", "to_svg"]

CHANCE_EDGES = (-50, -10, -2, 2, 10, 50)
"""Edges between the colours of a heat map against chance, in standard deviations of random changes."""
CHANCE_COLOURS = ("#174a7e", "#4f8ac0", "#a9cbe6", "#e9ecef", "#f6c59b", "#dd7f33", "#984807")
"""Colours from below chance to above it."""
LAYER_EDGES = (-1.5, -0.5, 0.5, 1.5)
"""Edges between the colours of a heat map of layers against each other, in standard deviations over the layers."""
LAYER_COLOURS = ("#5b3a8c", "#b39ad1", "#eaecea", "#96c79a", "#23733a")
"""Colours from the smallest values of a measure to its largest."""
_TITLES = 340
_GREY = "#6b7785"


def heat_map(result: GeometryResult) -> Chart:
    """Draw all measures of all layers: a row for each measure, a panel for each role, the blocks from left to right.

    Measures that are compared with chance are coloured by their distance from it. The others are coloured by their distance
    from the mean over the layers, in a second chart below with other colours.

    Args:
        result: The result.

    Returns:
        The chart.
    """
    compared = [row for row in against_chance(result) if row.null is not None]
    charts: list[Chart] = []
    if compared:
        cells = [
            _cell(layer, row.title, standardized(layer.measures[row.name], layer.nulls[row.name]))
            for row in compared
            for layer in result.layers
            if row.name in layer.nulls and math.isfinite(layer.measures[row.name])
        ]
        title = "against random changes, in their standard deviations"
        charts.append(_panels(cells, CHANCE_EDGES, CHANCE_COLOURS, title))
    cells = _against_each_other(result)
    if cells:
        title = "against the other layers, in standard deviations over the layers"
        charts.append(_panels(cells, LAYER_EDGES, LAYER_COLOURS, title))
    drawn: Chart = alt.vconcat(*charts, spacing=26).resolve_scale(color="independent")
    return drawn


def _against_each_other(result: GeometryResult) -> list[dict[str, object]]:
    """Return cells of the size of the change and of the measures without a null, where the layers differ."""
    values = {
        "Size of the change, relative to the weight": {layer.path: layer.relative_norm for layer in result.layers}
    }
    for row in against_chance(result):
        if row.null is None:
            values[row.title] = {e.path: e.measures[row.name] for e in result.layers if row.name in e.measures}
    cells = []
    for title, by_path in values.items():
        finite = {path: value for path, value in by_path.items() if math.isfinite(value)}
        deviation = pstdev(finite.values()) if finite else 0.0
        if deviation > 1e-9 * max(map(abs, finite.values()), default=0.0):
            mean = fmean(finite.values())
            cells += [_cell(e, title, (finite[e.path] - mean) / deviation) for e in result.layers if e.path in finite]
    return cells


def spectra(result: GeometryResult) -> Chart:
    """Draw the singular values of the change: a panel for each role, a line for each block, and random changes dashed.

    Args:
        result: The result.

    Returns:
        The chart.
    """
    rows, random = [], []
    for layer in result.layers:
        depth = -1 if layer.depth is None else layer.depth
        rows += [
            {"role": layer.role, "layer": layer.path, "block": depth, "at": i + 1, "value": value}
            for i, value in enumerate(layer.spectrum)
            if value > 1e-6
        ]
    for role, shape in dict.fromkeys((layer.role, layer.shape) for layer in result.layers):
        length = max(len(layer.spectrum) for layer in result.layers if (layer.role, layer.shape) == (role, shape))
        random += [
            {"role": role, "shape": str(shape), "at": i + 1, "value": value}
            for i, value in enumerate(random_spectrum(shape, length))
        ]
    x = alt.X(
        "at:Q",
        title="singular value, from the largest",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=[1, 2, 4, 8, 16, 32, 64], format="d"),
    )
    y = alt.Y(
        "value:Q",
        title="share of the norm",
        scale=alt.Scale(type="log", nice=True),
        axis=alt.Axis(format="~g", tickCount=4),
    )
    colour = alt.Color(
        "block:Q", scale=alt.Scale(range=["#d9a441", "#c4556b", "#7d5cc0"]), legend=_blocks(result.layers)
    )
    panels = []
    for role in _roles(result.layers):
        own = [row for row in rows if row["role"] == role]
        drawn = (
            data_chart(own).mark_line(strokeWidth=1.5, opacity=0.85).encode(x=x, y=y, color=colour, detail="layer:N")
        )
        dashed = data_chart([row for row in random if row["role"] == role])
        chance = dashed.mark_line(strokeWidth=1.8, strokeDash=[5, 4], color=_GREY).encode(x=x, y=y, detail="shape:N")
        panels.append((drawn + chance).properties(title=role, width=(WIDTH - 330) / 4, height=170))
    whole: Chart = alt.concat(*panels, columns=4, spacing=18).resolve_scale(x="shared", y="shared", color="shared")
    return whole


def has_energies(result: GeometryResult) -> bool:
    """Return True if the result has a measure of energy that is compared with chance.

    Args:
        result: The result.
    """
    return bool(_energies(result))


def energies(result: GeometryResult) -> Chart:
    """Draw the energy of the change in the base's singular basis: a tick for each layer, a grey bar for random changes.

    Args:
        result: The result, with measures of energy (`has_energies`).

    Returns:
        The chart.
    """
    names = _energies(result)
    layers = [
        {"measure": row.title, "layer": layer.path, "value": layer.measures[row.name]}
        for row in names
        for layer in result.layers
        if layer.measures.get(row.name, 0.0) > 0
    ]
    bars = [
        {"measure": row.title, "low": min(null.low for null in nulls), "high": max(null.high for null in nulls)}
        for row in names
        if (nulls := [null for layer in result.layers if (null := layer.nulls.get(row.name)) and null.low > 0])
    ]
    order = [row.title for row in names]
    y = alt.Y("measure:N", sort=order, title=None, axis=alt.Axis(labelLimit=_TITLES, labelFontSize=12, ticks=False))
    title = "share of the change's squared size (log scale)"
    scale = alt.Scale(type="log", nice=True)
    chance = data_chart(bars).mark_bar(color="#b9c2cb", height=16)
    ticks = data_chart(layers).mark_tick(color="#c4556b", thickness=2, height=18, opacity=0.75)
    x = alt.X("low:Q", title=title, scale=scale, axis=alt.Axis(format="~%", values=[10.0**k for k in range(-6, 1)]))
    layered = chance.encode(x=x, x2="high:Q", y=y) + ticks.encode(x=alt.X("value:Q", title=title, scale=scale), y=y)
    drawn: Chart = layered.properties(width=WIDTH - _TITLES - 30, height=30 * len(names))
    return drawn


def _energies(result: GeometryResult) -> list[Against]:
    return [row for row in against_chance(result) if row.name.startswith("energy") and row.null is not None]


def _cell(layer: LayerGeometry, title: str, distance: float) -> dict[str, object]:
    """Return a cell of a heat map; infinite distances, of nulls whose draws agree, are the outermost colour."""
    block = "-" if layer.depth is None else str(layer.depth)
    bounded = max(-1e6, min(1e6, distance))
    return {"role": layer.role, "block": block, "layer": layer.path, "measure": title, "distance": bounded}


def _panels(
    cells: Sequence[Mapping[str, object]],
    edges: Sequence[float],
    colours: Sequence[str],
    title: str,
) -> Chart:
    roles = sorted({str(cell["role"]) for cell in cells}, key=lambda role: ROLES.index(role) if role in ROLES else 99)
    order = list(dict.fromkeys(str(cell["measure"]) for cell in cells))
    ranges = _ranges(edges)
    colour = alt.Color(
        "range:N",
        scale=alt.Scale(domain=ranges, range=list(colours)),
        legend=alt.Legend(title=title, orient="bottom", symbolType="square", symbolOpacity=1, titleLimit=700),
    )
    panels = []
    for role in roles:
        own = [
            {**cell, "range": ranges[bisect(edges, float(str(cell["distance"])))]}
            for cell in cells
            if cell["role"] == role
        ]
        blocks = sorted(
            {str(cell["block"]) for cell in own}, key=lambda block: math.inf if block == "-" else int(block)
        )
        shown = blocks[:: max(1, math.ceil(len(blocks) / 6))]
        x = alt.X(
            "block:N", sort=blocks, title=None, axis=alt.Axis(values=shown, labelAngle=0, ticks=False, labelFontSize=11)
        )
        axis = alt.Axis(labelLimit=_TITLES, ticks=False, labelFontSize=12) if role == roles[0] else None
        y = alt.Y("measure:N", sort=order, title=None, axis=axis)
        width = (WIDTH - _TITLES - 30) / len(roles) - 12
        panels.append(
            data_chart(own)
            .mark_rect(stroke="#ffffff", strokeWidth=0.5 if len(blocks) > 16 else 1.5)
            .encode(x=x, y=y, color=colour)
            .properties(title=alt.Title(role, fontSize=13), width=width, height=22 * len(order))
        )
    drawn: Chart = alt.hconcat(*panels, spacing=12).resolve_scale(color="shared")
    return drawn


def _ranges(edges: Sequence[float]) -> list[str]:
    """Return the ranges between edges in words."""
    between = [f"{low:g} to {high:g}".replace("-", "\u2212") for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}".replace("-", "\u2212"), *between, f"above {edges[-1]:g}"]


def _roles(layers: Sequence[LayerGeometry]) -> list[str]:
    found = dict.fromkeys(layer.role for layer in layers)
    return sorted(found, key=lambda role: ROLES.index(role) if role in ROLES else len(ROLES))


def _blocks(layers: Sequence[LayerGeometry]) -> alt.Legend | None:
    depths = sorted({layer.depth for layer in layers if layer.depth is not None})
    if len(depths) < 2:
        return None
    return alt.Legend(title="block", format="d", values=[depths[0], depths[-1]], gradientLength=120)
