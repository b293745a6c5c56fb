"""The geometry of a change on a terminal of 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from adapterlab.report.geometry_terminal import show
from tests.report.geometries import change, projections, scored


def printed(result) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    show(result, console)
    return console.file.getvalue()


@pytest.mark.parametrize("result", [change(), scored(), scored(gain=-0.1), change(projections=(), budgets=())])
def test_it_fits_80_columns_and_starts_with_sentences(result):
    lines = printed(result).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\u2026" in line for line in lines)
    assert lines[1].startswith(("With at most", "The change from"))


def test_a_row_states_the_share_at_each_budget_and_of_the_gain():
    row = next(line for line in printed(scored()).splitlines() if line.startswith("Low rank  "))
    assert row.split("  ")[0] == "Low rank"
    assert [cell.strip() for cell in row.split("  ") if cell.strip()][1:] == ["27 %", "54 %", "81 %", "73 %"]


def test_a_searched_projection_and_a_small_one_are_marked():
    text = printed(change(projections=projections({"a": (0.2, 0.5, 0.6), "b": (0.3, 0.4)})))
    row = next(line for line in text.splitlines() if line.startswith("b "))
    assert row.split("  ")[-1].strip() == "\u226540 %*"
    assert "*: less than half of the parameters" in " ".join(text.split())


def test_many_budgets_show_those_around_the_main_one():
    result = change(budgets=tuple(range(1000, 10_000, 1000)))
    assert max(map(len, printed(result).splitlines())) <= 80


def test_markup_in_names_is_printed_as_it_is():
    assert "[red]tuned[/red]" in printed(change(tuned="[red]tuned[/red]"))
