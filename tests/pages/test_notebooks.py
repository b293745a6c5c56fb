"""The notebooks of `examples/` run from end to end, and have what they print beside each cell."""

from __future__ import annotations

import re

import nbformat
import pytest

from tools.pages.notebooks import executed, notebooks
from tools.pages.site import notebook_page


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """In an interpreter of its own; a cell that raises an error ends it, and its own statements are asserted there."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = executed(path, tmp_path)
    kept = nbformat.read(path, as_version=4)
    assert [cell.source for cell in book.cells] == [cell.source for cell in kept.cells]
    shapes = [
        [[output.output_type for output in cell.get("outputs", [])] for cell in each.cells] for each in (book, kept)
    ]
    assert shapes[0] == shapes[1], "run: make notebooks"


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_is_small_and_names_no_path_of_a_machine(path):
    text = path.read_text()
    assert len(text) < 50_000
    assert not re.search(r"/(?:work|root|home|tmp)/", text)


def test_a_notebook_is_a_page_with_what_it_printed():
    page = notebook_page(nbformat.read(notebooks()[2], as_version=4))
    assert page.startswith("# An argument map")
    assert "```python\n" in page
    assert "0.39  DoRA Leads" in page
    assert "<svg" in page


def test_there_are_four():
    assert len(notebooks()) == 4
