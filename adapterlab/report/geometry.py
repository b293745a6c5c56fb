"""The page of the geometry of a weight change, its section for a report, and its pictures as a file.

>>> from adapterlab.geometry.result import LayerGeometry, Projection
>>> layers = (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1, spectrum=(0.9, 0.4)),)
>>> result = GeometryResult("base", "tuned", layers, projections=(Projection("low_rank", 1, 8, 0.25),))
>>> [figure.id for figure in figures(result)]
['where', 'spectra', 'residuals']
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import altair as alt
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text, writing
from adapterlab.geometry.result import GeometryResult
from adapterlab.names import printable
from adapterlab.report import geometry_charts as charts
from adapterlab.report import geometry_data as data
from adapterlab.report import geometry_layer_charts as layer_charts
from adapterlab.report import geometry_words as words
from adapterlab.report.charts import PALETTE, Chart, specification, svg
from adapterlab.report.geometry_hypothesis_words import CAUTION, RESIDUAL
from adapterlab.report.geometry_tables import against_chance

_DARK_PALETTE = [
    "#6ba3e6",
    "#ec8a57",
    "#55bf83",
    "#b58ad6",
    "#dab755",
    "#ec7089",
    "#5fc3cc",
    "#a0abb6",
    "#cd8560",
    "#8cc255",
]  # in the order of `PALETTE`
DARK_COLOURS = dict(zip(PALETTE, _DARK_PALETTE, strict=True)) | {
    "#174a7e": "#8cc4ff",
    "#4f8ac0": "#4d8fcd",
    "#a9cbe6": "#2c567f",
    "#e9ecef": "#38424d",
    "#f6c59b": "#7a4a20",
    "#dd7f33": "#d27a35",
    "#984807": "#ffb87a",
    "#5b3a8c": "#c7a6f5",
    "#b39ad1": "#77599f",
    "#eaecea": "#3a433e",
    "#96c79a": "#3f7a47",
    "#23733a": "#7fdc92",
    "#ffffff": "#14181d",
    "#b9c2cb": "#56626e",
    "#888": "#75818d",
}
"""Colours of charts in the dark theme, by those in the light one."""


@dataclass(frozen=True)
class Figure:
    """A picture with its explanation and its data."""

    id: str
    """Last part of its address in the page."""
    title: str
    """Title."""
    words: str
    """Explanation of what is drawn."""
    tables: tuple[data.DataTable, ...]
    """The data."""
    chart: Callable[[GeometryResult], Chart] | None = None
    """Draws it; None if there are only tables."""


def figures(result: GeometryResult) -> tuple[Figure, ...]:
    """Return the figures that a result has data for, in the order of the page.

    Args:
        result: The result.
    """
    measured = any(layer.measures for layer in result.layers)
    compared = any(row.null is not None for row in against_chance(result))
    heat = (
        "Every square is one layer. Panels are roles: query, key, value and output belong to attention, gate, up and "
        "down to the "
        "feed-forward part. Blocks run from left to right, from the model's input to its output. "
    )
    if compared:
        heat += (
            "In the first chart, a colour tells how far the layer's value is from random changes of the same size, "
            "in standard "
            "deviations of the random changes: grey within their range, orange above it, blue below it; the "
            "stronger, the "
            "further. "
        )
    heat += (
        f"In the {'second' if compared else ''} chart, a colour compares the layers with each other: green above "
        "their mean, "
        "purple below it, in standard deviations over the layers."
    ).replace("  ", " ")
    places = tuple(data.of_places(result, by) for by in ("role", "block"))
    found: list[Figure] = []
    if measured:
        tables = (data.of_measures(result), *places, data.of_layers(result))
        found.append(Figure("measures", "Measures, layer by layer", heat, tables, layer_charts.heat_map))
    elif result.layers:
        found.append(Figure("where", "Where the change is", "The change by role and by block of the model.", places))
    if layer_charts.has_energies(result):
        text = (
            "The weights of the base have strong and weak directions, their singular vectors. A red tick is one "
            "layer: the share of "
            "its change between the named directions. On the diagonal, a change scales what the base does already; "
            "off the "
            "diagonal, it connects directions in a new way. The grey bar spans 95 % of random changes of the same "
            "size in "
            "any of the layers."
        )
        found.append(
            Figure(
                "energies",
                "On and off the base's singular directions",
                text,
                (data.of_measures(result),),
                layer_charts.energies,
            )
        )
    if any(layer.spectrum for layer in result.layers):
        text = (
            "The singular values of the change, as shares of its norm. A curve that starts high and falls steeply is "
            "a change of few "
            "directions; the dashed curve is a random change of the same shape, which has all directions alike."
        )
        found.append(
            Figure(
                "spectra", "How many directions the change has", text, (data.of_spectra(result),), layer_charts.spectra
            )
        )
    if result.projections:
        text = (
            "A curve is one hypothesis, a point one size of it. Lower is better: less of the change is left out. "
            "Compare curves at "
            "one place of the horizontal axis, at equal parameters. The dashed curve is what as many directions, "
            "chosen at random, "
            "leave out on average. \u201cAt most\u201d marks hypotheses whose nearest change was searched for, so "
            "that the true residual "
            "may be lower."
        )
        tables = (data.of_hypotheses(result), data.of_projections(result))
        found.append(Figure("residuals", "Residual against parameters", text, tables, charts.residuals))
    if result.scores and any(each.scores for each in result.projections):
        text = (
            "Each point is the base model with the nearest change that one hypothesis allows at one size, scored on "
            "the task. On the "
            "dashed line, a projection has the same share of the effect as of the change; above it, the part that is "
            "expressed "
            "does more than the rest."
        )
        found.append(Figure("scores", "Score against residual", text, (data.of_scores(result),), charts.scores))
    if result.sharing:
        text = "Layers of one role and shape, compared with each other, beside random changes of the same size."
        found.append(Figure("sharing", "What layers have in common", text, (data.of_sharing(result),)))
    if result.activations:
        text = "What the change does to the outputs of layers and blocks, on the text of the task and on general text."
        found.append(Figure("activations", "Change of the activations", text, (data.of_activations(result),)))
    return tuple(found)


def section(result: GeometryResult, heading: str = "What the change looks like", level: int = 2) -> Markup:
    """Return a section of HTML with the sentences, the pictures and their data, for a page with the styles of a report.

    Args:
        result: The result.
        heading: Heading of the section; empty for none.
        level: Level of the heading; those of the parts are one lower.
    """
    drawn = [
        {
            "id": figure.id,
            "title": figure.title,
            "words": figure.words,
            "tables": figure.tables,
            "svg": None if figure.chart is None else Markup(svg(figure.chart(result))),
        }
        for figure in figures(result)
    ]
    page = (
        _environment()
        .get_template("geometry_section.html.jinja")
        .render(
            prefix="geometry",
            heading=heading,
            level=level,
            answer=words.answer(result),
            paragraphs=words.paragraphs(result),
            residual=RESIDUAL,
            caution=CAUTION,
            projected=bool(result.projections),
            notes=result.notes,
            figures=drawn,
        )
    )
    return Markup(printable(page).replace(" %", "\u00a0%"))  # a number and its sign stay on one line


def write_html(result: GeometryResult, path: Path) -> None:
    """Write a page that needs no network, in light or dark as the reader's system is, whole or not at all.

    Args:
        result: The result.
        path: The file.
    """
    page = (
        _environment()
        .get_template("geometry_page.html.jinja")
        .render(
            title=f"From {result.base} to {result.tuned}",
            section=section(result, heading="", level=1),
            dark_colours=DARK_COLOURS,
            version=version("adapterlab"),
        )
    )
    write_text(path, printable(page))


def save_plot(result: GeometryResult, path: Path) -> None:
    """Write all pictures of a result below each other as one PNG or SVG, whole or not at all.

    Args:
        result: The result.
        path: The file; its suffix is the format.

    Raises:
        AdapterlabError: The suffix is neither `.png` nor `.svg`, or the result has nothing to draw.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise AdapterlabError(f"cannot write a picture as {path.name!r}: give a file that ends in .png or .svg")
    drawn = [(figure, figure.chart(result)) for figure in figures(result) if figure.chart is not None]
    if not drawn:
        raise AdapterlabError(f"the change from {result.base} to {result.tuned} has nothing to draw: no layer changed")
    titled = [_titled(chart, figure.title) for figure, chart in drawn]
    whole = alt.vconcat(*titled, spacing=44).resolve_scale(color="independent", shape="independent", x="independent")
    plain = specification(whole, background="white") | {"padding": 16}
    with writing(path) as partial:
        if suffix == ".svg":
            partial.write_text(vl_convert.vegalite_to_svg(plain))
        else:
            partial.write_bytes(vl_convert.vegalite_to_png(plain, scale=1.5))


def _titled(chart: Chart, title: str) -> Chart:
    return alt.vconcat(chart, title=alt.Title(title, fontSize=17, anchor="start", offset=14))


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("adapterlab.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
