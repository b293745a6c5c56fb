"""Published geometry: what its page says is what its files hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.geometry.result_file import read_result

PLACE = Path(__file__).parent.parent / "results" / "geometry-1"
TEXT = (PLACE / "README.md").read_text()
FLAT = " ".join(TEXT.split())
BUDGET = 630_784
LARGE = 9_768_960
VERDICT = json.loads((PLACE / "study" / "verdict.json").read_text())
EMBEDDED = read_result(PLACE / "embedded-prose.json")
SMOLLM2 = read_result(PLACE / "smollm2-docstrings.json")


def best(hypothesis: str, result=EMBEDDED, budget: int = BUDGET):
    within = [p for p in result.projections if p.hypothesis == hypothesis and p.parameters <= budget]
    return min(within, key=lambda p: p.residual)


def rows_of(section: str) -> list[list[str]]:
    (text,) = [part for part in TEXT.split("## ") if section in part.splitlines()[0]]
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("name", all_hypotheses())
def test_the_row_of_a_hypothesis_has_its_numbers(name):
    rows = rows_of("embedded model")
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


@pytest.mark.parametrize("name", all_hypotheses())
def test_the_row_of_a_hypothesis_on_smollm2_has_its_numbers(name):
    title = all_hypotheses()[name].title.lower()
    (cells,) = [cells for cells in rows_of("SmolLM2") if cells[0].split(" (")[0] == title]
    found = best(name, SMOLLM2, LARGE)
    shares = 1 - found.residual, found.scores["in_domain"].share, found.scores["ood"].share
    assert [int(cell.removesuffix(" %")) for cell in cells[1:4]] == [round(100 * share) for share in shares]
    assert float(cells[4]) == pytest.approx(found.scores["general"].loss - SMOLLM2.scores["general"][0], abs=5.1e-4)
    assert (found.parameters < LARGE / 2) == (f"({found.parameters:,} parameters)" in cells[0])


def test_the_sentences_on_smollm2_have_the_numbers_of_the_file():
    for part, said in (
        ("in_domain", "in-domain from {:.3f} to {:.3f}"),
        ("ood", "out of domain from {:.3f} to {:.3f}"),
        ("general", "general text from {:.3f} to {:.3f}"),
    ):
        assert said.format(*SMOLLM2.scores[part]) in FLAT
    one = next(p for p in SMOLLM2.projections if (p.hypothesis, p.size) == ("low_rank", 1))
    assert f"At rank 1 it expresses {100 * (1 - one.residual):.0f} %" in FLAT
    stable = [layer.measures["stable_rank"] for layer in SMOLLM2.layers]
    assert f"stable rank is {np.median(stable):.1f}" in FLAT


def test_its_links_lead_to_files_without_paths_of_a_machine():
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT):
        assert (PLACE / target).exists(), target
    files = [file for file in PLACE.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 8 * 2**20
    for file in files:
        if file.suffix in (".json", ".html", ".md"):
            assert not re.search(r"/(?:work|root|home|tmp)/", file.read_text()), file


def test_the_claims_moved_as_it_says():
    claims = {claim["claim"]: claim for claim in VERDICT["claims"]}
    for title in ("Full Tuning Decouples", "SVFT Needs No New Directions", "BOFT Beats OFT", "FourierFT Matches"):
        assert "({:.2f} to {:.2f})".format(claims[title]["before"], claims[title]["after"]) in FLAT, title
    both = {
        title for title, claim in claims.items() if claim.get("instruments", {}).get("contest_says") != "not tested"
    }
    agree = {title for title in both if "Both agree" in claims[title].get("instruments", {}).get("sentence", "")}
    assert agree == {"DoRA Beats LoRA", "SHiRA Beats LoRA", "MiSS Beats LoRA"}
    thesis = VERDICT["theses"]["Natural Manifold"]["bayes"]
    assert f"from {thesis['before']:.3f} to {thesis['after']:.3f}, at a relevance of {VERDICT['relevance']:.2f}" in FLAT


def test_the_correlation_is_that_of_the_exported_trials():
    """Recomputed from the table of trials with scipy."""
    table = pd.read_parquet(PLACE / "study" / "trials.parquet")
    assert f"{len(table)} trials" in FLAT
    frozen = table[table["contestant"] == "frozen"].set_index("task")["base_loss"]
    measured = table[table["geometry drift(base)"].notna()]
    measured = measured.assign(
        drift=measured["geometry drift(base)"],
        rise=measured["geometry loss(change, base)"] - measured["task"].map(frozen),
    )
    means = measured.groupby(["contestant", "task"])[["drift", "rise"]].mean()
    runs, rho = (stats.spearmanr(each["drift"], each["rise"]).statistic for each in (measured, means))
    assert (len(measured), len(means)) == (18, 6)
    # Bonett and Wright 2000
    low, high = np.tanh(np.arctanh(rho) + np.array([-1, 1]) * 1.959964 * np.sqrt((1 + rho**2 / 2) / (6 - 3)))
    assert f"rank correlation {rho:.2f} ({low:.2f} to {high:.2f}) over the six means" in FLAT
    assert f"rank correlation {runs:.2f}" in FLAT
