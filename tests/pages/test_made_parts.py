"""The pages' tables: they are those that the published results make, and a new study is picked up by itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from adapterlab.adapters import adapter, all_adapters
from adapterlab.cli import app
from adapterlab.lab.study.load import load_study
from adapterlab.models.loading import load_causal
from tests.lab.filled import fill
from tests.report.page_data import trials_of
from tools.pages.__main__ import PAGES, made_pages
from tools.pages.decisions import decisions, short_answer
from tools.pages.published import ROOT, published_studies
from tools.pages.rates import rates
from tools.pages.scoreboards import scoreboards
from tools.pages.study_list import study_list

MADE = made_pages()


@pytest.mark.parametrize("page", MADE)
def test_a_page_is_what_the_results_make_it(page):
    assert (PAGES / page).read_text() == MADE[page], "run: make docs-tables"


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """Cells of the first table below a heading, by the first of them."""
    section = MADE[page].split(f"### {heading}", 1)[1].split("\n### ")[0].replace("\N{NO-BREAK SPACE}", " ")
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0].strip("*"): cells for cells in lines}


def test_a_row_has_the_numbers_of_the_verdict_and_leads_to_the_runs_of_the_table_of_trials():
    place = ROOT / "results" / "real-1"
    verdict = json.loads((place / "verdict.json").read_text())
    trials = pd.read_parquet(place / "trials.parquet")
    report = (place / "report.html").read_text()
    rows = rows_of("which-adapter.md", "Study real: SmolLM2")
    for contestant in verdict["boards"][0]["contestants"]:
        cells = rows[contestant["name"]]
        assert f"{contestant['parameters']:,}" in cells[1]
        if contestant["versus_reference"]:
            versus = contestant["versus_reference"]
            assert cells[3] == "{mean:.3f}<br>({low:.3f} to {high:.3f})".format(**versus)
        assert cells[4].startswith(f"{contestant['forgetting']['mean']:.3f}<br>(")
        linked = re.findall(r"report\.html#t-(\w+)", cells[-1])
        own = trials[(trials["contestant"] == contestant["name"]) & (trials["round"] == "report")]
        assert sorted(linked) == sorted(own["trial"])
        assert set(linked) <= set(trials_of(report))


def test_the_table_of_ranks_is_recomputed_from_the_published_table():
    """By pandas, from the file."""
    text = (ROOT / "adapterlab/evidence/data/tinker-lora-sweep.csv").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    frame = pd.DataFrame([line.split(",") for line in lines[1:]], columns=lines[0].split(","))
    frame["rank"] = frame["method"].str.extract(r"rank=(\d+)").astype(float)
    best = frame.assign(value=frame["value"].astype(float)).groupby(["model", "rank"])["value"].min().unstack()
    best = best[best.notna().sum(axis=1) >= 3]
    highest = best.apply(lambda row: row.dropna().index.max(), axis=1)
    behind = [best.loc[model, 16] - best.loc[model, highest[model]] for model in best.index if highest[model] > 16]
    behind = pd.Series(behind).dropna()
    half = stats.t.ppf(0.975, len(behind) - 1) * behind.sem()
    row = next(line for line in MADE["rates-and-ranks.md"].splitlines() if line.startswith("| 16 |"))
    found = f"| {len(behind)} | {behind.mean():.3f} ({behind.mean() - half:.3f} to {behind.mean() + half:.3f}) |"
    assert found in row


@pytest.fixture(scope="module")
def new_results(tmp_path_factory) -> Path:
    """A folder of results with the quick study, in which two adapters are told apart from LoRA, one for the worse."""
    place = tmp_path_factory.mktemp("place")
    study = load_study(ROOT / "studies/quick.toml")
    (place / "runs/quick").mkdir(parents=True)
    level = {"frozen": 1.5, "pissa": 0.8, "vera": 1.2}
    noise = {1: 0.0, 2: 0.01, 3: -0.01}
    fill(
        place / "runs/quick",
        study,
        load_causal().model,
        lambda c, t: level.get(c.contestant, 1.0) + noise.get(t.seed, 0.0) * (1 + len(c.contestant) / 50),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in (["run", "quick"], ["export", "quick"]):
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 0, result.output
    (place / "results").mkdir()
    (place / "runs/quick").rename(place / "results/quick-1")
    (place / "results/quick-1/README.md").write_text("# The quick study\n")
    return place / "results"


def test_a_new_folder_of_results_is_picked_up_with_its_answer(new_results):
    studies = published_studies(new_results)
    assert [study.settings["name"] for study in studies] == ["quick"]
    assert "2 contestants" not in study_list(studies)
    assert "Six adapters, two shifts, one small model" in study_list(studies)
    assert "It depends on the case" in short_answer(studies)
    assert re.search(r"told apart: pissa by 0\.200 \(0\.\d+ to 0\.\d+\)", short_answer(studies))
    answers = decisions(studies).split("### ")
    assert "**pissa** learns more than lora" in answers[1]
    assert "Told apart for the worse: vera" in answers[1]
    # Of the small ones IA3 learns as much as VeRA with fewer parameters, so that VeRA is not named.
    assert "ia3 with 0.08 of the parameters" in answers[3]
    assert "vera" not in answers[3]


@pytest.mark.parametrize(("p", "words"), [(0.001, "told apart from lora: **oft**"), (0.4, "nothing is told apart")])
def test_forgetting_is_shown_at_equal_learning_where_a_study_has_it(p, words, new_results):
    assert "did not measure forgetting" in scoreboards(published_studies(new_results))
    studies = published_studies(new_results)
    (row,) = [row for row in studies[0].boards[0].rows if row["name"] == "oft"]
    row["less_forgetting_at_equal_learning"] = {"mean": 0.02, "low": 0.01, "high": 0.03, "p_holm": p}
    table = scoreboards(studies)
    assert "forgets less than lora at equal learning" in table
    assert "did not measure forgetting" not in table
    assert "0.020<br>(0.010 to 0.030)" in table.replace("\N{NO-BREAK SPACE}", " ")
    answer = decisions(studies).split("### ")[2]
    assert "at equal learning, oft forgets 0.020 (0.010 to 0.030)" in answer
    assert words in answer


def test_a_contestant_without_a_result_is_shown_and_not_compared(new_results):
    studies = published_studies(new_results)
    nothing = {"mean": None, "low": None, "high": None}
    for row in studies[0].boards[0].rows:
        if row["name"] == "ia3":
            row.update(versus_reference=None, gain=nothing, forgetting=nothing, p_holm=None, rates={})
    assert "\n| ia3 | " in scoreboards(studies)
    assert "\n| ia3 | - | - | - |" in rates(studies)
    assert "ia3" not in decisions(studies).split("### ")[1]
    assert short_answer(studies)


def test_the_table_of_rates_has_every_contestant_of_a_study(new_results):
    table = rates(published_studies(new_results))
    for name in ("lora", "pissa", "oft", "dora", "ia3", "vera", "full_ft"):
        assert f"\n| {name} | " in table


def test_the_front_page_has_the_number_of_adapters_about_right():
    own = [name for name, kind in all_adapters().items() if kind.__module__.startswith("adapterlab.")]
    assert "some forty other adapters" in MADE["index.md"]
    assert 38 <= len(own) - 4 <= 46


def test_no_method_is_named_that_the_package_lacks():
    (line,) = [line for line in MADE["which-adapter.md"].splitlines() if line.startswith("- These cannot be merged: ")]
    names = re.findall(r"\w+", line.partition(": ")[2].partition(".")[0].replace(" and ", ", "))
    assert all(not adapter(name).mergeable for name in names)
