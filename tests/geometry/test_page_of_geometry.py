"""The page docs/geometry.md states the hypotheses and measures that the code has, and its links and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.geometry.measures import all_measures

PAGE = (Path(__file__).parents[2] / "docs/geometry.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """Cells of the table below a heading, without the first, by the name in the first."""
    table = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line[:3] == "| `"
    ]
    return {first.strip("| `"): rest for first, *rest in cells}


def test_every_hypothesis_and_every_measure_has_a_row_in_order():
    assert list(rows("Hypotheses")) == list(all_hypotheses())
    assert list(rows("Measures")) == [measure.name for measure in all_measures()]


@pytest.mark.parametrize("name", all_hypotheses())
def test_the_row_of_a_hypothesis_states_what_the_code_has(name):
    known = all_hypotheses()[name]
    title, statement, formula, adapters, computed = rows("Hypotheses")[name]
    assert (title, statement) == (known.title, known.statement)
    assert tuple(re.findall(r"`(\w+)`", adapters)) == known.adapters
    assert computed.strip(" |") == ("exact" if known.exact else "search")
    assert " ".join((type(known).__doc__ or "").split()).startswith(formula)


@pytest.mark.parametrize("measure", all_measures(), ids=lambda measure: measure.name)
def test_the_row_of_a_measure_states_what_the_code_has(measure):
    title, compared, explanation = rows("Measures")[measure.name]
    assert (title, compared) == (measure.title, "yes" if measure.compared else "no")
    assert explanation.strip(" |") == measure.explanation
