"""The geometry of a weight change on a terminal of 80 columns: sentences, then a table of hypotheses and one of roles.

>>> from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
>>> layers = (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1),)
>>> result = GeometryResult("base", "tuned", layers, projections=(Projection("low_rank", 1, 16, 0.25),))
>>> show(result, Console(width=80, color_system=None))  # doctest: +ELLIPSIS
<BLANKLINE>
With at most 16 parameters, low rank can reproduce 75 % of the change from base
to tuned.
...
"""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from adapterlab.geometry.result import GeometryResult
from adapterlab.report import geometry_tables as tables
from adapterlab.report.counts import thousands
from adapterlab.report.geometry_hypothesis_words import CAUTION, FORGETTING, RESIDUAL
from adapterlab.report.geometry_numbers import percent
from adapterlab.report.geometry_words import answer, paragraphs
from adapterlab.report.plain import add_plain_row, plain

COLUMNS = 4
"""Most budgets in the table; the main one and those beside it."""


def show(result: GeometryResult, console: Console) -> None:
    """Print what is said of a change, the hypotheses at each budget, and the roles.

    Args:
        result: The result.
        console: Where to print.
    """
    console.print(f"\n[bold]{plain(answer(result))}[/bold]", highlight=False)
    for paragraph in paragraphs(result):
        console.print(f"\n[bold]{plain(paragraph.title)}[/bold]\n{plain(paragraph.text)}", highlight=False)
        for point in paragraph.points:
            console.print(plain(f"- {point}"), highlight=False)
    if result.projections:
        console.print()
        _show_hypotheses(result, console)
    if result.layers:
        console.print()
        _show_roles(result, console)
    console.print(f"\n[dim]{plain(RESIDUAL)}[/dim]", highlight=False)
    if result.projections:
        console.print(f"[dim]{plain(CAUTION)}[/dim]", highlight=False)
    for note in result.notes:
        console.print(plain(note), style="yellow", highlight=False)


def _show_hypotheses(result: GeometryResult, console: Console) -> None:
    budgets, at = tables.budgets_of(result), tables.main_budget(result)
    shown = _columns(len(budgets), at)
    gained = next((part for part in result.scores if part not in FORGETTING), None)
    scored = at is not None and gained is not None and any(each.scores for each in result.projections)
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("hypothesis", overflow="fold")
    for column in shown:
        table.add_column(f"<= {_short(budgets[column])}", justify="right", no_wrap=True)
    if scored and at is not None:
        table.add_column(f"gain kept, <= {_short(budgets[at])}", justify="right")
    rows = sorted(tables.expressed(result), key=lambda row: -_share(row, at))
    console.print("Share of the change expressed, by number of parameters:", highlight=False)
    for row in rows:
        cells = [_cell(row.cells[column]) for column in shown]
        if scored and at is not None and gained is not None:
            cells.append(_kept(row.cells[at], gained))
        add_plain_row(table, row.title, *cells)
    console.print(table)
    marks = {
        "\u2265: found by a search, so that more may be possible": any(not each.exact for each in result.projections),
        "*: less than half of the parameters": any(
            cell is not None and not cell.comparable for row in rows for cell in (row.cells[column] for column in shown)
        ),
        "-: larger at its smallest size": any(row.cells[column] is None for row in rows for column in shown),
    }
    said = "; ".join(text for text, is_used in marks.items() if is_used)
    if said:
        console.print(f"[dim]{plain(said)}[/dim]", highlight=False)


def _columns(count: int, at: int | None) -> list[int]:
    """Return the budgets to show: all, or those nearest the main one."""
    nearest = sorted(range(count), key=lambda index: abs(index - (at or 0)))[:COLUMNS]
    return sorted(nearest)


def _share(row: tables.Expressed, at: int | None) -> float:
    cell = None if at is None else row.cells[at]
    return -1.0 if cell is None else cell.expressed


def _cell(cell: tables.Cell | None) -> str:
    if cell is None:
        return "-"
    least = "" if cell.projection.exact else "\u2265"
    return f"{least}{percent(cell.expressed)}{'' if cell.comparable else '*'}"


def _kept(cell: tables.Cell | None, part: str) -> str:
    if cell is None or part not in cell.projection.scores:
        return "-"
    share = cell.projection.scores[part].share
    return percent(share) if math.isfinite(share) else "no gain"


def _short(parameters: int) -> str:
    return thousands(parameters) if parameters >= 1000 else str(parameters)


def _show_roles(result: GeometryResult, console: Console) -> None:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("role")
    for heading in ("layers", "of the change", "of the entries", "relative to the weight"):
        table.add_column(heading, justify="right")
    for place in tables.by_role(result):
        shares = (percent(share) for share in (place.share, place.entries, place.relative))
        add_plain_row(table, place.name, place.layers, *shares)
    console.print(table)
