"""The page of defaults has a row for every method, and states the defaults that the code has."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.adapters.methods import SHIPPED

PAGE = Path(__file__).parents[2] / "docs/defaults.md"


def rows() -> dict[str, list[str]]:
    """Cells of the table of settings, without the first, by method."""
    table = PAGE.read_text().split("## Settings")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:3] == "| `"]
    return {first.strip("`"): rest for first, *rest in cells}


def test_every_method_has_a_row():
    assert list(rows()) == sorted(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_row_states_the_methods_defaults(name):
    stated = dict(re.findall(r"`(\w+)=([^`]*)`", rows()[name][0]))
    assert stated == {field.name: repr(field.default) for field in dataclasses.fields(SHIPPED[name])}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_row_names_the_papers_setting_the_difference_and_the_evidence(name):
    assert len(rows()[name]) == 4
    assert all(rows()[name])
