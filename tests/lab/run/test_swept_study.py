"""Swept studies on a tiny model: sizes, shared trials, mistakes, and a real run from its file to its report."""

from __future__ import annotations

import html
import json
import re

import pytest
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import distinct
from adapterlab.lab.run.estimate import estimate_study
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Study
from tests.lab.in_process import use
from tests.lab.tiny import save_model, save_study
from tests.report.page_data import data_of

SWEEP = """
[sweep]
rank = [1, 2]
steps = [4, 8]
targets = ["all-linear", ["q_proj", "v_proj"]]
models = ["{model}", "{other}"]
"""


def swept(folder, sweep: str) -> Study:
    """The tiny study with a sweep in place of its model, budget and steps."""
    path = save_study(folder, steps=8)
    text = re.sub(r"\n(budget|steps) = .*", "", path.read_text())
    if "models" in sweep:
        text = re.sub(r"\nmodel = .*", "", text)
    path.write_text(text.replace("regret_sample = 1", "regret_sample = 0") + sweep)
    return load_study(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("swept")


@pytest.fixture(scope="module")
def study(folder):
    other = save_model(folder / "other")
    (other / "config.json").write_text((other / "config.json").read_text().replace("}", ' , "note": "another"}', 1))
    return swept(folder, SWEEP.format(model=folder / "model", other=other))


@pytest.fixture(scope="module")
def analysis(study, folder):
    with pytest.MonkeyPatch.context() as patch:
        use(patch)  # trains in this process
        return adapterlab.run(study, out=folder / "run")


def test_equal_trials_of_several_cells_run_once(study):
    contests = prepare(study).contests()
    assert len(contests) == 5 * 3
    # LoRA runs at five cells; the rank changes nothing of IA3; each of two models is scored once.
    assert len(distinct(contests)) == 5 + 4 + 2


def test_a_run_gives_a_board_for_each_cell_and_answers_on_the_main_page(analysis, folder):
    assert analysis.boards[0].cell.words.startswith("8 steps, rank 2, targets all-linear")
    assert len(analysis.boards) == 5
    frame = analysis.scoreboard
    assert list(frame.columns[:7]) == ["budget", "steps", "rank", "targets", "model", "tasks", "unit"]
    page = html.unescape((folder / "run" / "report.html").read_text())
    for sentence in analysis.answers.sentences:
        assert sentence in page
    for question in ("How long to train?", "Which rank is enough?", "Where to adapt?", "On each model"):
        assert question in page
    assert len(data_of(page)["boards"]) == 5
    assert page.count("compares all cells of the study") == 4


def test_the_verdict_file_has_the_cells_and_the_answers(analysis, folder):
    found = json.loads((folder / "run" / "verdict.json").read_text())
    assert found["boards"][0]["cell"] == found["sweep"]["cells"][-1]
    assert found["sweep"]["sentences"] == list(analysis.answers.sentences)
    ranks = [r for r in found["sweep"]["responses"] if r["factor"] == "rank"]
    assert [(r["contestant"], [level["level"] for level in r["levels"]]) for r in ranks] == [("lora", [1, 2])]
    assert found["sweep"]["settling"]["lengths"] == [4, 8]


def test_the_commands_show_the_cells(analysis, folder, study):
    ledger = len(Ledger(folder / "run" / "ledger.sqlite"))

    def output(*arguments: object) -> str:
        result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output + str(result.exception)
        assert max(map(len, result.output.splitlines())) <= 80
        return " ".join(result.output.split())

    run = folder / "run"
    again = output("run", run)
    assert f"All {ledger} trials are done" in again
    assert "learned by rank" in again
    assert analysis.answers.settling.sentence in again
    assert "4 steps, rank 2, targets all-linear" in output("status", run)
    plan = output("run", run, "--plan")
    assert "5 cells, one-at-a-time" in plan
    assert "2 runs of 4, 8 steps" in plan
    assert "at 8 steps, rank 1" in output("compare", "lora", "ia3", "--study", run, "--at", "rank=1")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"rank": 7}, "study tiny has no rank of 7: its levels are 1, 2"),
        ({"budget": 7}, "study tiny does not sweep budget: its factors are steps, rank, targets and model"),
        ({"rank": 1, "steps": 4}, "does not combine these levels: its cells are 4 steps"),
    ],
)
def test_a_comparison_at_a_cell_that_is_not_there_says_which_are(analysis, folder, at, message):
    with pytest.raises(AdapterlabError, match=message):
        adapterlab.compare("lora", "ia3", study=folder / "run", at=at)


def test_a_rank_above_what_the_weights_allow_is_flagged(tmp_path):
    prepared = prepare(swept(tmp_path, "\n[sweep]\nrank = [2, 4096]\n"))
    small, large = (prepared.sized[cell]["lora"] for cell in prepared.study.sweep.cells)
    assert (small.adapter.rank, small.note) == (2, "")
    assert 2 < large.adapter.rank < 4096
    assert (
        large.note == f"its rank is {large.adapter.rank}: the weights that it adapts, or the method, do not allow 4096"
    )
    estimate = estimate_study(prepared, None, measure=False)
    assert {entry.note for entry in estimate.entries if entry.contestant == "lora"} == {"", large.note}


def test_unknown_targets_are_named_before_anything_runs(tmp_path):
    study = swept(tmp_path, '\n[sweep]\ntargets = ["all-linear", "querry"]\n')
    with pytest.raises(
        AdapterlabError, match=r"contestant .lora. cannot run on this model: unknown target .querry.*query"
    ):
        prepare(study)


def test_another_model_cannot_take_the_place_of_swept_ones(study, folder):
    with pytest.raises(AdapterlabError, match="study tiny sweeps models: give no other model"):
        adapterlab.run(study, out=folder / "none", model=folder / "model")
