"""`run --plan`, `status`, `compare` and `export`, over ledgers that the tests fill."""

from __future__ import annotations

import json
import math
import re
import shutil
import sqlite3
from contextlib import closing

import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.pairwise import compare
from adapterlab.lab.analysis.trial_table import read_csv
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.progress import replay
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.sweep import Sweep
from adapterlab.lab.trial.spec import Trial
from adapterlab.models.loading import load_causal
from tests.lab.filled import fill
from tests.lab.tiny import save_study

BEST = {"lora": 0.01, "ia3": 0.1, "full_ft": 0.001}
EACH = 5 * 20 + (2 + 3) * 40
"""Steps of a contest: five rates at half the length, two at the whole, three reported runs."""
TRIALS, STEPS = 2 * (4 * 10 + 1), 2 * 4 * EACH


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    """Two tasks, two budgets, three seeds, full fine-tuning; each search starts at the best rate, so that none grows."""
    path = save_study(tmp_path_factory.mktemp("study"), more='\n[[contestants]]\nadapter = "full_ft"\n')
    text = (
        path.read_text()
        .replace("budget = 3000\n", "")
        .replace("[training]", "[sweep]\nbudgets = [1000, 3000]\n\n[training]")
        .replace("seeds = [1, 2]", "seeds = [1, 2, 3]")
    )
    text = (
        re.sub(r"\nfull_ft.*", "", text)
        .replace('["prose"]', '["prose", "restyle"]')
        .replace("sample = 1", "sample = 0")
    )
    text = re.sub(r'adapter = "(\w+)"', lambda found: f"{found[0]}\nstart = {BEST[found[1]]}", text)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def study(study_file):
    return load_study(study_file)


@pytest.fixture(scope="module")
def model(study):
    return load_causal(study.model).model


def loss(contest, trial) -> float:
    """LoRA ends 0.1 below IA3, give or take what a seed does; rates of 0.5 and more diverge."""
    if trial.lr >= 0.5:
        return math.inf
    if contest.adapter is None:
        return 4.0
    away = abs(math.log10(trial.lr / BEST[contest.contestant]))
    return {"lora": 3.0, "ia3": 3.1, "full_ft": 2.0}[contest.contestant] + 0.2 * away + 0.01 * (trial.seed * 7 % 5)


def noisy(contest, trial) -> float:
    return loss(contest, trial) + (0.05 * (trial.seed * 3 % 4) if contest.contestant == "lora" else 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, study, model):
    folder = tmp_path_factory.mktemp("whole")
    fill(folder, study, model, noisy)
    return folder


@pytest.fixture
def half(tmp_path, study, model):
    """Tuning is done on prose, nothing on restyle."""
    fill(tmp_path, study, model, loss, until=lambda contest, trial: trial.task == "prose" and trial.seed not in (2, 3))
    return tmp_path


def call(*arguments: object):
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments])


def output(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert (
        max(map(len, result.output.splitlines())) <= 80 or arguments[0] == "export"
    )  # whose line may hold a long path
    return result.output


def mistake(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, AdapterlabError), result.output
    return str(result.exception)


def test_a_plan_says_what_would_run_and_runs_nothing(study_file, study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = output("run", study_file, "--plan", "--workers", 3)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["precision.json"]
    assert re.search(r"sized to 1,000 .*\n.*\nlora +0\.9k +\d+ +rank = 1\nia3\* +0\.5k", said)
    assert re.search(r"sized to 3,000 .*\n.*\nlora +2\.8k +\d+ +rank = 3\n", said)
    assert re.search(r"full_ft\* +25\.3k", said)
    assert "3 worker processes, cpu" in said
    assert re.search(r"time +about \d+", said)
    # On each task LoRA at two budgets, IA3 and full_ft have trials of their own, and the frozen model has one.
    assert f"trials     {TRIALS};" in said
    assert f"steps      {STEPS:,}" in said
    assert "differences of" in said
    assert "in 80% of cases" in " ".join(said.split())


def test_the_trials_of_a_plan_are_those_that_a_run_makes(study, whole):
    assert len(Ledger(whole / "ledger.sqlite")) == TRIALS
    assert f"done       {TRIALS} trials, {STEPS:,} steps" in output("run", whole, "--plan")
    assert "none: all trials are done" in output("run", whole, "--plan")


def test_a_status_says_how_far_and_what_comes_next(half, study):
    said = output("status", half)
    # On prose, the search and the first of three reported runs; on restyle nothing.
    assert f"tiny: {4 * (EACH - 80) / STEPS:.0%} of {STEPS:,} training steps" in said
    assert re.search(r"lora +report 1/3 +waiting", said)
    # A long path is folded between any two of its characters.
    sentence = f"No run is writing the ledger; `adapterlab run {half}` continues it."
    assert "".join(sentence.split()) in "".join(said.split())
    assert re.search(r"next \(\d+\)\n  .*\n", said)
    # 0.1 s a step and half a second to attach, on one worker: what is left at these costs.
    assert "about 3 min left on 1 worker" in " ".join(output("status", half, "--workers", 1).split())


def test_a_status_sees_that_a_run_has_the_ledger(half):
    with Ledger(half / "ledger.sqlite").sole_writer():
        said = output("status", half)
        assert "A run is writing the ledger" in said
        assert re.search(r"under way or next \(\d+\)", said)
    assert "A run is writing" not in output("status", half)


def test_a_status_tells_what_is_under_way_from_what_waits(half, study):
    ledger = Ledger(half / "ledger.sqlite")
    first, second, *rest = dict.fromkeys(
        t for state in replay(prepare(study).contests(), ledger) for t in state.missing
    )
    with ledger.sole_writer():
        ledger.note_running([first, second])
        said = output("status", half)
        assert re.search(r"under way \(2\)\n  .*: 1 s so far\n  .*: 1 s so far\nnext", said)
        assert f"next ({len(rest)})" in said
    assert ledger.running() == {}
    assert f"next ({len(rest) + 2})" in output("status", half)


def test_a_status_names_what_diverged(tmp_path, study, model):
    fill(tmp_path, study, model, lambda contest, trial: math.inf if trial.lr > 0.05 else loss(contest, trial))
    said = output("status", tmp_path)
    assert "The study is complete" in said
    assert re.search(r"diverged \(\d+\)\n  \w+ on \w+, rate 0.1, seed 101, 20 steps", said)


def test_a_status_of_where_every_rate_diverged_says_so(tmp_path, study, model):
    fill(tmp_path, study, model, lambda contest, trial: 4.0 if contest.adapter is None else math.inf)
    assert "all diverged" in output("status", tmp_path)


def test_looking_at_a_ledger_counts_each_step_once(half, study):
    ledger = Ledger(half / "ledger.sqlite")
    states = replay(prepare(study).contests(), ledger)
    seen = {trial for state in states for trial in state.done}
    assert len(seen) == len(ledger)
    assert all(state.steps + state.steps_left == EACH for state in states if state.contest.adapter is not None)


def test_a_comparison_gives_the_paired_t_test_of_the_two(whole, study):
    said = output("compare", "lora", "ia3", "--study", whole, "--task", "prose")
    lora, ia3 = (
        [3.0 + 0.01 * (s * 7 % 5) + 0.05 * (s * 3 % 4) for s in (1, 2, 3)],
        [3.1 + 0.01 * (s * 7 % 5) for s in (1, 2, 3)],
    )
    expected = stats.ttest_rel(ia3, lora)
    interval = expected.confidence_interval()
    assert f"{interval.low:+.4f} to {interval.high:+.4f}" in said
    assert f"{expected.pvalue:.3f}" in said
    assert "no difference can be told from chance on prose" in " ".join(said.split())
    assert "Bayes factor: " in said


def test_a_comparison_flags_what_is_not_near_the_budget(whole):
    said = " ".join(output("compare", "lora", "full_ft", "--study", whole).split())
    assert "full_ft is better than lora on prose and restyle" in said
    assert "full_ft: 25.3k trained parameters (above the budget of 3,000)" in said
    assert "lora: 2.8k trained parameters; learning rate: prose 0.01, restyle 0.01" in said


def test_a_comparison_at_a_smaller_budget_is_of_what_ran_there(whole):
    assert "lora: 0.9k" in output("compare", "lora", "ia3", "--study", whole, "--at", "budget=1000")


def test_of_one_pair_a_comparison_says_that_it_says_little(tmp_path, study, model):
    one = study.model_copy(update={"report": study.report.model_copy(update={"seeds": (1,)}), "tasks": ("prose",)})
    fill(tmp_path, one, model, loss)
    said = " ".join(output("compare", "lora", "ia3", "--study", tmp_path).split())
    assert "In the one pair of runs lora is ahead by 0.1 nats per byte; one pair cannot tell that from chance" in said
    assert "Bayes factor" not in said


def test_where_tasks_disagree_a_comparison_says_what_each_says(tmp_path, study, model):
    def apart(contest, trial) -> float:
        worse = 0.2 if (contest.contestant, trial.task) == ("lora", "restyle") else 0.0
        return loss(contest, trial) + worse + 1e-3 * (trial.seed - 2) * len(contest.contestant)

    fill(tmp_path, study, model, apart)
    said = " ".join(output("compare", "lora", "ia3", "--study", tmp_path).split())
    assert "lora and ia3 are as good as each other on prose and restyle" in said
    assert "Task by task, lora is better on prose and ia3 is better on restyle." in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lora", "ai3"), "unknown contestant 'ai3' in study tiny: did you mean ia3"),
        (("lora", "dora"), r"dora did not run in study tiny.*adapter = \"dora\" under \[\[contestants\]\]"),
        (("lora", "lora"), "lora cannot be compared with itself"),
        (("lora", "ia3", "--task", "pros"), "unknown task 'pros' in study tiny: did you mean prose"),
        (("lora", "ia3", "--metric", "in_domian"), "unknown metric 'in_domian': did you mean in_domain"),
        (("lora", "ia3", "--at", "budget=7"), "has no budget of 7: its levels are 1,000, 3,000"),
    ],
)
def test_a_comparison_that_cannot_be_made_says_why(whole, arguments, message):
    assert re.search(message, mistake("compare", *arguments, "--study", whole))


def test_a_comparison_over_an_unfinished_contest_says_what_to_run(half):
    said = mistake("compare", "lora", "ia3", "--study", half, "--task", "restyle")
    assert "lora on restyle is not finished (waiting)" in said
    said = mistake("compare", "lora", "ia3", "--study", half)
    assert f"lora on prose is not finished (report 1/3): `adapterlab run {half}` continues it" in said


def test_where_one_of_two_never_trained_there_is_nothing_to_compare(tmp_path, study, model):
    fill(tmp_path, study, model, lambda c, t: math.inf if c.contestant == "ia3" else loss(c, t))
    assert "every rate diverged for ia3 on prose and ia3 on restyle" in mistake(
        "compare", "lora", "ia3", "--study", tmp_path
    )


@pytest.mark.parametrize("command", [("status",), ("export",), ("compare", "lora", "ia3", "--study")])
def test_without_a_ledger_the_command_that_begins_one_is_named(command, study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"runs/tiny has no results yet: run `adapterlab run {study_file}` first" in mistake(*command, study_file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("status",), ("export",), ("run",)])
def test_an_unknown_study_gives_the_nearest(command):
    assert "unknown study 'qick': did you mean quick" in mistake(*command, "qick")


def test_a_folder_without_results_is_named(tmp_path):
    assert "is a folder without results" in mistake("status", tmp_path)


def test_a_folder_that_does_not_say_its_study_is_named(whole, tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes((whole / "ledger.sqlite").read_bytes())
    assert "does not record which study its results belong to: give the study, and --out" in mistake("status", tmp_path)


def test_a_shipped_study_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "adapterlab run quick" in mistake("status", "quick")


@pytest.fixture(scope="module")
def exported(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for name in ("trials.parquet", "trials.csv"):
        said = output("export", whole, "--out", folder / name)
        assert f"{TRIALS} trials in {2 * 2 * (3 * 10 + 1)} rows" in " ".join(said.split())
    return folder


def test_an_export_has_each_trial_with_its_scores(exported, whole):
    frame = pd.read_parquet(exported / "trials.parquet")
    ledger = {trial.id: (trial, outcome) for trial, outcome, _ in Ledger(whole / "ledger.sqlite")}
    assert set(frame["trial"]) == set(ledger)
    for row in frame.to_dict("records"):
        trial, outcome = ledger[row["trial"]]
        assert (row["task"], row["lr"], row["seed"], row["steps"]) == (trial.task, trial.lr, trial.seed, trial.steps)
        assert (row["status"], row["wall_seconds"]) == (outcome.status, 2.5)
        assert json.loads(row["curve"]) == [list(point) for point in outcome.curve]
        for part in ("validation", "test", "ood", "base"):
            if part in outcome.scores:
                assert (row[f"{part}_loss"], row[f"{part}_accuracy"]) == outcome.scores[part]
            else:
                assert pd.isna(row[f"{part}_loss"])


def test_an_export_says_what_each_trial_was_for(exported):
    frame = pd.read_parquet(exported / "trials.parquet")
    lora = frame[(frame["contestant"] == "lora") & (frame["task"] == "prose") & (frame["budget"] == 3000)]
    assert lora["round"].value_counts().to_dict() == {"first": 5, "second": 2, "report": 3}
    assert set(lora[lora["chosen"]]["lr"]) == {0.01}
    assert set(frame[frame["contestant"] == "full_ft"]["budget_flag"]) == {"above"}
    assert not frame[frame["contestant"] == "full_ft"]["ranked"].any()
    assert frame["environment_python"].unique().tolist() == ["3.11"]


def test_an_export_reads_back_with_its_types(exported):
    parquet, csv = pd.read_parquet(exported / "trials.parquet"), read_csv(exported / "trials.csv")
    assert parquet["record"].notna().sum() == TRIALS  # for `import-trials`, once for each trial
    pd.testing.assert_frame_equal(parquet.drop(columns=["record", "checksum"]), csv)
    kinds = {name: str(kind) for name, kind in parquet.dtypes.items()}
    assert (kinds["lr"], kinds["seed"], kinds["chosen"], kinds["task"]) == ("Float64", "Int64", "boolean", "string")
    plain = pd.read_csv(exported / "trials.csv")
    assert plain["lr"].dtype.kind == "f"
    assert plain["seed"].dtype.kind == "i"


def test_an_unfinished_study_is_exported_as_far_as_it_is(half):
    output("export", half, "--format", "csv")
    frame = read_csv(half / "trials.csv")
    assert set(frame["task"]) == {"prose"}
    assert frame["contestant"].notna().all()


def test_an_export_that_cannot_be_written_says_so(whole, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in mistake("export", whole, "--out", tmp_path / "file" / "t.csv")


def test_tasks_of_different_units_are_not_averaged(tmp_path, study, model):
    both = study.model_copy(update={"tasks": ("prose", "steer"), "sweep": Sweep(), "budget": 1000})
    ledger = fill(tmp_path, both, model, loss)
    with pytest.raises(AdapterlabError, match=r"prose and steer are scored in .*: compare on one, with --task"):
        compare(prepare(both), ledger, ("lora", "ia3"))
    assert compare(prepare(both), ledger, ("lora", "ia3"), tasks=["steer"]).metric.unit == "nats of log-odds per byte"


@pytest.fixture
def mixed(whole, tmp_path):
    """The finished study, 20 of whose trials ran with another torch, with a trial that it does not use."""
    shutil.copytree(whole, tmp_path / "mixed")
    folder = tmp_path / "mixed"
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        rows = db.execute("SELECT id, trial, environment FROM trials ORDER BY id").fetchall()
        for name, _, environment in rows[:20]:
            changed = json.dumps(json.loads(environment) | {"torch": "2.12.0"})
            db.execute("UPDATE trials SET environment = ? WHERE id = ?", (changed, name))
        name, trial, environment = rows[-1]
        other = Trial.from_json(json.loads(trial) | {"steps": 7})
        db.execute(
            "INSERT INTO trials (id, trial, outcome, environment)"
            " SELECT ?, ?, outcome, environment FROM trials WHERE id = ?",
            (other.id, json.dumps(other.to_json()), name),
        )
        db.commit()
    return folder


def test_trials_of_mixed_origins_are_reused_and_reported_everywhere(mixed):
    sentence = (
        f"{TRIALS} trials come from 2 environments: {TRIALS - 20} with torch of unknown version, 20 with torch 2.12.0"
    )
    unused = "1 trial in the ledger is not used by this study: 1 has settings that the study does not ask for"
    for text in (output("run", mixed), output("status", mixed)):
        assert sentence in " ".join(text.split())
        assert unused in " ".join(text.split())
    page = " ".join((mixed / "report.html").read_text().split())
    assert sentence in page
    assert unused in page
    verdict = json.loads((mixed / "verdict.json").read_text())
    assert [origin["trials"] for origin in verdict["origins"]] == [TRIALS - 20, 20]
    assert any(sentence in remark for remark in verdict["remarks"])
    assert verdict["unused_trials"] == {"other_code": 0, "other_settings": 1}


def test_trials_of_one_origin_need_no_remark(whole):
    assert "environments" not in output("status", whole)


def test_the_analysis_has_a_board_for_each_budget_the_largest_first(whole):
    analysis = adapterlab.run(whole)
    assert [board.study.budget for board in analysis.boards] == [3000, 1000]
    frame = analysis.scoreboard
    assert frame.groupby("budget")["contestant"].count().to_dict() == {1000: 3, 3000: 3}
    assert set(frame["tasks"]) == {"prose+restyle"}
    assert set(frame["unit"]) == {"nats per byte"}
    row = frame[(frame["budget"] == 3000) & (frame["contestant"] == "lora")].iloc[0]
    assert row["gain"] == pytest.approx(analysis.main.scoreboard.row("lora").gain.mean)
    unranked = frame[frame["contestant"] == "full_ft"]
    assert not unranked["ranked"].any()
    assert unranked["p"].isna().all()
    assert math.isnan(row["versus"]), "the reference is compared with nobody"
