"""The lab finds nothing where nothing is, and something where something is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from adapterlab.cli import app, main
from adapterlab.lab.analysis.calibration import TWIN, DetectionRates, detection_rates, twins
from adapterlab.lab.analysis.contrast import difference
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.noise_model import QUICK
from adapterlab.lab.analysis.scoreboard import make_scoreboard
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Study
from adapterlab.resources import shipped
from tests.lab.tiny import save_study


@pytest.fixture(scope="module")
def quick() -> Study:
    return load_study(shipped("studies", "quick.toml"))


def test_an_adapter_compared_with_itself_is_found_different_in_at_most_one_study_of_twenty(quick):
    few = quick.model_copy(update={"contestants": quick.contestants[:4]})
    found = detection_rates(few, QUICK, 0.0, correlated=True, studies=100)
    assert found.interval <= 0.05
    assert found.holm <= 0.05
    assert found.lead <= 0.05
    assert found.across <= 0.05


def test_an_effect_as_large_as_a_real_one_is_found(quick):
    """0.02 nats per byte is what separates LoRA from the middle of the quick study's own ranking."""
    found = detection_rates(quick, QUICK, 0.02, correlated=True, studies=20)
    assert found.interval >= 0.8
    assert found.same == 0


@pytest.mark.soak
@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("correlated", [True, False])
def test_over_two_thousand_studies_false_alarms_are_at_most_as_many_as_stated(quick, correlated, seeds, tasks):
    report = quick.report.model_copy(update={"seeds": tuple(range(1, seeds + 1))})
    noise = dict(list(QUICK.items())[:tasks])
    found = detection_rates(
        quick.model_copy(update={"report": report}), noise, 0.0, correlated=correlated, studies=2000
    )
    for share in (found.interval, found.holm, found.lead, found.across):
        assert share <= 0.05


@pytest.mark.soak
@pytest.mark.parametrize("task", QUICK)
@pytest.mark.parametrize("louder", [0.3, 3.0])
def test_it_holds_with_less_and_more_noise(quick, task, louder):
    noise = {task: dataclasses.replace(QUICK[task], own=louder * QUICK[task].own)}
    assert detection_rates(quick, noise, 0.0, correlated=True, studies=2000).interval <= 0.05


def test_bounds_are_clopper_and_pearsons():
    """R's `binom.test(10, 200)`: 0.0242 to 0.0900."""
    rates = DetectionRates(0.0, True, 200, 0.05, 0, 0, 0, 0)
    assert rates.bounds(0.05) == pytest.approx((0.0242, 0.0900), abs=1e-4)


def test_the_twins_are_the_references_adapter(quick):
    plan = twins(quick)
    assert len(plan.contestants) == len(quick.contestants)
    assert all(plan.competes(c.name) for c in plan.contestants)
    assert {c.adapter for c in plan.contestants} == {"lora"}
    assert TWIN in [c.name for c in plan.contestants]


def test_a_real_adapter_trained_twice_is_the_same_to_the_bit(tmp_path):
    """Two ledgers, so that each of the twins is trained; then one study that has both."""
    study = load_study(save_study(tmp_path))
    lora = study.contestants[0]
    short = {"training": study.training.model_copy(update={"steps": 20})}

    def run(*labels: str, out: Path) -> Results:
        entries = tuple(lora.model_copy(update={"label": label}) for label in labels)
        plan = study.model_copy(update=short | {"contestants": entries, "reference": labels[0], "full_ft": False})
        return Results.of(run_study(prepare(plan.limited(workers=1)), Ledger(out / "ledger.sqlite")))

    alone, again = run("lora", out=tmp_path / "one"), run(TWIN, out=tmp_path / "two")
    assert Effects.of(alone).values("lora", "in_domain") == Effects.of(again).values(TWIN, "in_domain")
    both = run("lora", TWIN, out=tmp_path / "one")
    assert set(Effects.of(both).numbers(difference(TWIN, "lora", "in_domain")).values()) == {0.0}
    row = next(row for row in make_scoreboard(Effects.of(both)).rows if row.contestant == TWIN)
    assert (row.versus.mean, row.p, row.versus.real) == (0.0, 1.0, False)
    assert not make_scoreboard(Effects.of(both)).leads


def test_the_command_reports_false_alarms_and_power_within_80_columns(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["honest", str(save_study(tmp_path)), "--studies", "20"])
    assert result.exit_code == 0, result.output
    assert "reports a difference in at most" in " ".join(result.stdout.split())
    rows = [line.split() for line in result.stdout.splitlines() if line.strip().startswith("0")]
    assert [float(row[0]) for row in rows] == [0, 0.0025, 0.005, 0.01, 0.02] * 2
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_no_ledger_is_a_users_mistake(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["adapterlab", "honest", "--ledger", "none.sqlite"])
    with pytest.raises(SystemExit):
        main()
    assert "no ledger at none.sqlite" in capsys.readouterr().err


@pytest.mark.soak
def test_power_grows_with_the_effect_and_with_seeds(quick):
    more = quick.model_copy(update={"report": quick.report.model_copy(update={"seeds": tuple(range(1, 9))})})
    few = [
        detection_rates(quick, QUICK, effect, correlated=False, studies=200).interval
        for effect in (0.0025, 0.005, 0.01)
    ]
    many = [
        detection_rates(more, QUICK, effect, correlated=False, studies=200).interval for effect in (0.0025, 0.005, 0.01)
    ]
    assert few == sorted(few)
    assert np.mean(many) > np.mean(few)
