"""Published geometry: what its page says is what its files hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.geometry.result_file import read_result

PLACE = Path(__file__).parent.parent / "results" / "geometry-1"
TEXT = (PLACE / "README.md").read_text()
FLAT = " ".join(TEXT.split())
BUDGET = 630_784
EMBEDDED = read_result(PLACE / "embedded-prose.json")


def best(hypothesis: str):
    within = [p for p in EMBEDDED.projections if p.hypothesis == hypothesis and p.parameters <= BUDGET]
    return min(within, key=lambda p: p.residual)


@pytest.mark.parametrize("name", all_hypotheses())
def test_the_row_of_a_hypothesis_has_its_numbers(name):
    rows = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
    (cells,) = [cells for cells in rows if cells[0].split(" (")[0] == all_hypotheses()[name].title.lower()]
    found = best(name)
    shares = 1 - found.residual, found.scores["in_domain"].share, found.scores["general"].share
    assert [int(cell.removesuffix(" %")) for cell in cells[1:]] == [round(100 * share) for share in shares]
    if found.parameters < BUDGET / 2:
        assert f"({found.parameters:,} parameters)" in cells[0]


def test_the_sentences_have_the_numbers_of_the_file():
    (before, after), general = EMBEDDED.scores["in_domain"], EMBEDDED.scores["general"]
    assert f"in-domain from {before:.3f} to {after:.3f}" in FLAT
    assert "own domain from {:.3f} to {:.3f}".format(*general) in FLAT
    one = next(p for p in EMBEDDED.projections if (p.hypothesis, p.size) == ("low_rank", 1))
    assert (
        f"holds {100 * (1 - one.residual):.0f} % of the change, {100 * one.scores['in_domain'].share:.0f} % of its gain and "
        f"{100 * one.scores['general'].share:.0f} % of its forgetting" in FLAT
    )
    entries = sum(rows * columns for rows, columns in (layer.shape for layer in EMBEDDED.layers))
    assert (
        f"chosen at random would express {100 * BUDGET / entries:.0f} % and {100 * one.parameters / entries:.1f} %"
        in FLAT
    )


def test_its_links_lead_to_files_without_paths_of_a_machine():
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT):
        assert (PLACE / target).exists(), target
    assert sum(file.stat().st_size for file in PLACE.iterdir()) < 5 * 2**20
    for file in PLACE.iterdir():
        if file.suffix in (".json", ".html", ".md"):
            assert not re.search(r"/(?:work|root|home|tmp)/", file.read_text()), file
