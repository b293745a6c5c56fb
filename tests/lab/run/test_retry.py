"""Trials that failed: they are listed first, end in status 1, and are run again when the limits change or on `retry`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.failures import failures_of
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.locate import LEDGER
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from tests.lab.in_process import InProcess, use
from tests.lab.unplayed import outcome_of, prepared_of, study_of

NOTE = "3 times it ran past its time limit and was stopped"


def failing(method: str, note: str = NOTE):
    """Returns the outcome of a trial; those of one method fail."""

    def run(trial: Trial) -> Outcome:
        if trial.method == method:
            return Outcome("failed", {}, (), 0, 0.0, 0.0, note)
        return outcome_of(trial, 2.0 if trial.method == FROZEN else 1.0 + 0.01 * trial.seed)

    return run


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / LEDGER)


def statuses(ledger: Ledger) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for trial, outcome, _ in ledger:
        found.setdefault(trial.method, []).append(outcome.status)
    return found


def play(monkeypatch, ledger: Ledger, run, **limits: object) -> list[Trial]:
    """Run the study with some limits; return the trials that were submitted."""
    executor = InProcess(run)
    use(monkeypatch, executor)
    run_study(prepared_of(study_of(limits=Limits(**limits))), ledger)
    return executor.submitted


def test_failures_are_open_again_when_a_limit_changed_and_not_before(monkeypatch, ledger):
    play(monkeypatch, ledger, failing("ia3"), trial_seconds=10)
    assert set(statuses(ledger)["ia3"]) == {"failed"}
    assert set(statuses(ledger)["lora"]) == {"ok"}
    assert play(monkeypatch, ledger, failing(""), trial_seconds=10) == []
    again = play(monkeypatch, ledger, failing(""), trial_seconds=60)
    assert {trial.method for trial in again} == {"ia3"}
    assert set(statuses(ledger)["ia3"]) == {"ok"}


def test_a_failure_of_an_old_ledger_stays(monkeypatch, ledger):
    """It does not tell under which limits it failed."""
    play(monkeypatch, ledger, failing("ia3"), trial_seconds=10)
    ledger._db.execute("UPDATE trials SET environment = json_remove(environment, '$.limits')")
    assert play(monkeypatch, ledger, failing(""), trial_seconds=60) == []


def cli(*arguments: object):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(each) for each in arguments])


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        """name = "mine"\ntasks = ["prose"]\nfull_ft = false\nfull_ft_reason = "none"\n
[training]\nsteps = 8\nprecision = "float32"\n[tuning]\nregret_sample = 0\n[report]\nseeds = [1, 2]\nwindows = 8
[[contestants]]\nadapter = "lora"\n[[contestants]]\nadapter = "ia3"\n"""
    )
    return path


def run_with(monkeypatch, study_file, run):
    use(monkeypatch, InProcess(run))
    return cli("run", study_file, "--out", study_file.parent / "out")


@pytest.mark.parametrize(("method", "status"), [("ia3", 0), ("lora", 1), (FROZEN, 1)])
def test_failures_are_listed_first_and_those_of_the_reference_end_in_status_1(monkeypatch, study_file, method, status):
    out = study_file.parent / "out"
    result = run_with(
        monkeypatch, study_file, failing(method, "ValueError: no <b>such</b> start (mine.py, line 3, in init)")
    )
    assert result.exit_code == status, result.output
    first = next(line for line in result.output.splitlines() if " failed: " in line)
    assert first.startswith(f"{method} on prose: ")
    assert first.endswith("failed: ValueError: no <b>such</b> start (mine.py, line 3, in init)")
    assert result.output.index(first) < result.output.index("against the frozen model")
    assert (f"adapterlab retry {out}" in result.output) == bool(status)
    page = (out / "report.html").read_text()
    assert "no &lt;b&gt;such&lt;/b&gt; start" in page
    assert page.index('id="failures"') < page.index('class="answer"')
    (failure, *_) = json.loads((out / "verdict.json").read_text())["failures"]
    assert (failure["contestant"], failure["decisive"]) == (method, bool(status))
    found = cli("status", study_file, "--out", out)
    assert found.exit_code == status
    assert found.output.index("failed") < found.output.index("mine: 100%")
    compared = cli("compare", "lora", "ia3", "--study", study_file, "--out", out)
    assert compared.exit_code, compared.output


def test_a_study_without_failures_lists_none(monkeypatch, study_file):
    result = run_with(monkeypatch, study_file, failing(""))
    assert result.exit_code == 0
    assert "failed" not in result.output
    out = study_file.parent / "out"
    assert 'id="failures"' not in (out / "report.html").read_text()
    assert cli("compare", "lora", "ia3", "--study", study_file, "--out", out).exit_code == 0


def some(trial: Trial) -> Outcome:
    """Of IA3 one seed fails and the others diverge at high rates."""
    if trial.method == "ia3" and trial.seed == 2:
        return Outcome("failed", {}, (), 0, 0.0, 0.0, NOTE)
    if trial.method == "ia3" and trial.lr > 0.012:
        return Outcome("diverged", {}, (), 0, 0.0, 0.0, "the loss was nan at step 1")
    return failing("")(trial)


def test_retry_opens_what_is_asked_for_and_nothing_else(monkeypatch, study_file):
    out = study_file.parent / "out"
    run_with(monkeypatch, study_file, some)
    before = {trial.id: outcome.status for trial, outcome, _ in Ledger(out / LEDGER)}
    failed = [name for name, status in before.items() if status == "failed"]
    diverged = [name for name, status in before.items() if status == "diverged"]
    assert failed
    assert diverged

    def left() -> set[str]:
        return {trial.id for trial, _, _ in Ledger(out / LEDGER)}

    result = cli("retry", study_file, "--out", out)
    count = "1 trial is" if len(failed) == 1 else f"{len(failed)} trials are"
    assert result.output == f"{count} open again: `adapterlab run {study_file} --out {out}` runs them.\n"
    assert left() == set(before) - set(failed)
    assert adapterlab.retry(study_file, diverged=True, out=out) == len(diverged)
    assert left() == set(before) - set(failed) - set(diverged)
    one = next(iter(left()))
    assert adapterlab.retry(study_file, trials=[one[:12].upper()], out=out) == 1
    assert one not in left()
    with pytest.raises(AdapterlabError, match="no trial has an id that starts with 'zz'"):
        adapterlab.retry(study_file, trials=["zz"], out=out)
    run_with(monkeypatch, study_file, failing(""))
    again = {trial.id: outcome.status for trial, outcome, _ in Ledger(out / LEDGER)}
    assert set(again.values()) == {"ok"}


def test_retry_refuses_while_a_run_writes(monkeypatch, study_file):
    out = study_file.parent / "out"
    run_with(monkeypatch, study_file, failing("ia3"))
    with Ledger(out / LEDGER).sole_writer(), pytest.raises(AdapterlabError, match="another run is writing"):
        adapterlab.retry(study_file, out=out)


def test_the_trials_of_a_race_and_of_a_tenth_of_the_data_are_counted(monkeypatch, ledger):
    study = study_of()
    report = study.report.model_copy(update={"tenth_of_data": True})
    use(monkeypatch, InProcess(lambda t: failing("" if t.share == 1 else t.method)(t)))
    contests = run_study(prepared_of(study.model_copy(update={"report": report})), ledger)
    assert {(f.contestant, f.trials) for f in failures_of(contests)} == {("lora", 2), ("ia3", 2)}
    assert [f.decisive for f in failures_of(contests)] == [True, False]
