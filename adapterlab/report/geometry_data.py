"""The data behind each picture of a weight change, as tables of text.

>>> from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
>>> layers = (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1),)
>>> result = GeometryResult("base", "tuned", layers, projections=(Projection("low_rank", 1, 8, 0.25),))
>>> of_projections(result).rows
(('Low rank', '1', '8', '75 %', '25 %', 'exact'),)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from adapterlab.geometry.result import GeometryResult, LayerGeometry, Null, Projection
from adapterlab.report import geometry_tables as tables
from adapterlab.report.geometry_hypothesis_words import FORGETTING, PARTS
from adapterlab.report.geometry_numbers import measured, number, percent


@dataclass(frozen=True)
class DataTable:
    """A table as text."""

    title: str
    """Contents of the table, in a few words."""
    headers: tuple[str, ...]
    """Headers of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells by row."""
    words: int = 1
    """Columns of words, at the left; the others are numbers."""


def of_hypotheses(result: GeometryResult) -> DataTable:
    """Return each hypothesis with its statement and the share that it expresses at each budget.

    Args:
        result: The result.
    """
    rows = tables.expressed(result)
    at = tables.main_budget(result)
    ordered = sorted(rows, key=lambda row: -_expressed(row, at))
    budgets = tables.budgets_of(result)
    return DataTable(
        "Share of the change that each hypothesis expresses",
        ("hypothesis", "assumption", "adapters", *(f"at most {budget:,}" for budget in budgets)),
        tuple(
            (row.title, row.statement or "-", ", ".join(row.adapters) or "-", *(_share(cell) for cell in row.cells))
            for row in ordered
        ),
        words=3,
    )


def of_projections(result: GeometryResult) -> DataTable:
    """Return every projection: size, parameters, share expressed, residual, and how it was computed.

    Args:
        result: The result.
    """
    found = sorted(result.projections, key=lambda each: (tables.title_of(each.hypothesis), each.parameters))
    return DataTable(
        "Every projection",
        ("hypothesis", "size", "parameters", "expressed", "residual", "computed"),
        tuple(
            (
                tables.title_of(each.hypothesis),
                f"{each.size:,}",
                f"{each.parameters:,}",
                percent(1 - each.residual),
                percent(each.residual),
                "exact" if each.exact else "by a search" if each.converged else "by a search that was stopped",
            )
            for each in found
        ),
    )


def of_scores(result: GeometryResult) -> DataTable:
    """Return the loss of each projection, and the share of the full change's gain that it keeps.

    Args:
        result: The result, with scores.
    """
    parts = tuple(result.scores)
    headers = ["hypothesis", "parameters", "residual"]
    for part in parts:
        headers += [f"loss {PARTS.get(part, part)}", "rise" if part in FORGETTING else "share of gain"]
    found = [each for each in result.projections if each.scores]
    rows = [
        ("no change", "0", "100 %", *(cell for part in parts for cell in _whole(result, part, 0))),
        (
            "full change",
            f"{tables.entries_of(result):,}",
            "0 %",
            *(c for part in parts for c in _whole(result, part, 1)),
        ),
        *(
            (
                tables.title_of(each.hypothesis),
                f"{each.parameters:,}",
                percent(each.residual),
                *(cell for part in parts for cell in _scored(result, each, part)),
            )
            for each in found
        ),
    ]
    return DataTable("Score of every projection", tuple(headers), tuple(rows))


def of_places(result: GeometryResult, by: str) -> DataTable:
    """Return the parts of the change by role or by block.

    Args:
        result: The result.
        by: `role` or `block`.
    """
    places = tables.by_role(result) if by == "role" else tables.by_depth(result)
    return DataTable(
        f"The change by {by}",
        (by, "layers", "share of the change", "share of the entries", "size relative to the weight"),
        tuple(
            (place.name, str(place.layers), percent(place.share), percent(place.entries), percent(place.relative))
            for place in places
        ),
    )


def of_measures(result: GeometryResult) -> DataTable:
    """Return every measure over the layers, beside random changes.

    Args:
        result: The result.
    """
    return DataTable(
        "Measures, over all layers",
        ("measure", "definition", "median layer", "from", "to", "by chance", "layers above chance", "below chance"),
        tuple(
            (
                row.title,
                row.explanation or "-",
                *(measured(row.name, value) for value in (row.value, row.low, row.high)),
                *(
                    ("-", "-", "-")
                    if row.null is None
                    else (measured(row.name, row.null), f"{row.above} of {row.layers}", f"{row.below} of {row.layers}")
                ),
            )
            for row in tables.against_chance(result)
        ),
        words=2,
    )


def of_layers(result: GeometryResult) -> DataTable:
    """Return every measure of every layer, in brackets the interval of random changes.

    Args:
        result: The result.
    """
    names = [(row.name, row.title) for row in tables.against_chance(result)]
    return DataTable(
        "Measures of every layer (in brackets: 95 % of random changes)",
        ("layer", "relative norm", *(title for _, title in names)),
        tuple(
            (layer.path, percent(layer.relative_norm), *(_measured(layer, name) for name, _ in names))
            for layer in result.layers
        ),
    )


def of_spectra(result: GeometryResult) -> DataTable:
    """Return some singular values of the change of every layer, as shares of its norm.

    Args:
        result: The result.
    """
    shown = [at for at in (1, 2, 4, 8, 16, 32, 64) if any(len(layer.spectrum) >= at for layer in result.layers)]
    return DataTable(
        "Singular values of the change, as shares of its norm (in brackets: a random change)",
        ("layer", *(f"no. {at}" for at in shown)),
        tuple(
            (
                layer.path,
                *(
                    f"{number(layer.spectrum[at - 1])} ({number(tables.random_value(layer.shape, at))})"
                    if len(layer.spectrum) >= at
                    else "-"
                    for at in shown
                ),
            )
            for layer in result.layers
        ),
    )


def of_sharing(result: GeometryResult) -> DataTable:
    """Return what layers of one role and shape have in common, beside random changes.

    Args:
        result: The result.
    """
    return DataTable(
        "Directions that layers share",
        ("layers", "measure", "value", "by chance (95 %)"),
        tuple(
            (group, name, number(value), _interval(result.sharing_nulls.get(group, {}).get(name)))
            for group, values in result.sharing.items()
            for name, value in values.items()
        ),
        words=2,
    )


def of_activations(result: GeometryResult) -> DataTable:
    """Return the measures of activations over the layers and blocks, by text.

    Args:
        result: The result.
    """
    rows = []
    for text, paths in result.activations.items():
        for name in dict.fromkeys(name for values in paths.values() for name in values):
            values = [v[name] for v in paths.values() if name in v and math.isfinite(v[name])]
            if values:
                rows.append(
                    (
                        text,
                        name,
                        *(number(value) for value in (median(values), min(values), max(values))),
                        str(len(values)),
                    )
                )
    return DataTable(
        "Change of the activations, over layers and blocks",
        ("text", "measure", "median", "from", "to", "places"),
        tuple(rows),
        words=2,
    )


def _expressed(row: tables.Expressed, at: int | None) -> float:
    cell = None if at is None else row.cells[at]
    return -1.0 if cell is None else cell.expressed


def _share(cell: tables.Cell | None) -> str:
    if cell is None:
        return "too large"
    least = "" if cell.projection.exact else "\u2265 "
    return f"{least}{percent(cell.expressed)}" + ("" if cell.comparable else f" ({cell.projection.parameters:,})")


def _whole(result: GeometryResult, part: str, which: int) -> tuple[str, str]:
    losses = result.scores[part]
    if part in FORGETTING:
        return f"{losses[which]:.4f}", f"{losses[which] - losses[0]:+.4f}"
    gains = losses[1] < losses[0]
    return f"{losses[which]:.4f}", ("0 %", "100 %")[which] if gains else "no gain"


def _scored(result: GeometryResult, projection: Projection, part: str) -> tuple[str, str]:
    if part not in projection.scores:
        return "-", "-"
    loss, share = projection.scores[part]
    if part in FORGETTING:
        return f"{loss:.4f}", f"{loss - result.scores[part][0]:+.4f}"
    return f"{loss:.4f}", percent(share) if math.isfinite(share) else "no gain"


def _measured(layer: LayerGeometry, name: str) -> str:
    if name not in layer.measures:
        return "-"
    value, null = measured(name, layer.measures[name]), layer.nulls.get(name)
    return value if null is None else f"{value} ({measured(name, null.low)} to {measured(name, null.high)})"


def _interval(null: Null | None) -> str:
    return "-" if null is None else f"{number(null.low)} to {number(null.high)}"
