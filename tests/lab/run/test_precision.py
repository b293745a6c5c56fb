"""A study's precision is chosen once, by measurements, and every command and machine uses that choice."""

from __future__ import annotations

import dataclasses
import json
import math
from statistics import stdev

import pytest
import torch
from typer.testing import CliRunner

from adapterlab import api
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.design import plan_of
from adapterlab.lab.run.precision_check import (
    FAST,
    choose_precision,
    compare_losses,
    compared_trials,
    measure_speedup,
    product_of,
)
from adapterlab.lab.run.precision_choice import FILE, PrecisionChoice, read_choice, record_choice
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Limits, Reporting, Study, Training, Tuning
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.models.loading import load_causal
from tests.lab.tiny import save_study
from tests.lab.unplayed import study_of

CPU, SHAPE = torch.device("cpu"), (64, 32, 32)
NOISE = {301: 1.00, 302: 1.01, 303: 1.03}
"""Made-up losses by seed; their standard deviation is 0.0153, a tenth of it 0.00153."""
TENTH = 0.1 * stdev(NOISE.values())


@pytest.fixture(scope="module", autouse=True)
def bfloat16_is_as_fast_as_it_is(bfloat16_is_slow):
    """Here, the speed is measured unless a test gives one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapterlab.lab.run.precision_check.measure_speedup", measure_speedup)
        yield


def fast(device, shape):
    return 2.5


def slow(device, shape):
    return 0.1


def made_up(shift: float = 0.0, rows: tuple[float, ...] = (0.0, 0.0), status: str = "ok"):
    """Runs trials without a model: bf16 adds `shift` to the trained losses and `rows` to those of the frozen model."""

    def run(trial: Trial) -> Outcome:
        other = trial.precision == "bf16"
        if trial.method == FROZEN:
            losses = tuple(1.2 + (change if other else 0.0) for change in rows)
            return Outcome("ok", {"validation": (1.2, 0.5)}, (), 0, 0.0, 0.0, rows={"validation": losses})
        loss = NOISE[trial.seed] + (shift if other else 0.0)
        return Outcome(status if other else "ok", {"validation": (loss, 0.5)}, (), 900, 1.0, 0.1, note="made up")

    return run


def contests_of(study: Study):
    return make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})


def chosen(run, measure=fast, study: Study | None = None) -> PrecisionChoice:
    return choose_precision(SHAPE, CPU, contests_of(study or study_of()), run, measure)


def refuse(trial: Trial) -> Outcome:
    raise AssertionError("nothing may be trained")


@pytest.mark.parametrize(("speedup", "words"), [(0.1, "at 0.1 times the speed of float32"), (1.29, "at 1.3 times")])
def test_where_bfloat16_is_not_faster_float32_is_chosen_and_nothing_is_trained(speedup, words):
    choice = chosen(refuse, lambda device, shape: speedup)
    assert (choice.precision, choice.speedup, choice.change) == ("float32", speedup, None)
    assert words in str(choice)


def test_a_device_without_bfloat16_gets_float32():
    choice = chosen(refuse, lambda device, shape: None)
    assert choice.precision == "float32"
    assert "no products in bfloat16" in str(choice)


def test_losses_that_move_by_less_than_a_tenth_of_the_noise_allow_bf16():
    choice = chosen(made_up(shift=-0.9 * TENTH))
    assert choice.precision == "bf16"
    assert choice.change == pytest.approx(0.9 * TENTH)
    assert choice.noise == pytest.approx(0.0152753, rel=1e-5)
    assert "2.5 times the speed of float32; losses move by 0.0014, a tenth of the seed noise is 0.0015" in str(choice)


@pytest.mark.parametrize("run", [made_up(shift=1.1 * TENTH), made_up(rows=(1.1 * TENTH, 1.1 * TENTH))])
def test_losses_that_move_by_more_forbid_it(run):
    choice = chosen(run)
    assert choice.precision == "float32"
    assert choice.change == pytest.approx(1.1 * TENTH)
    assert "but losses move by 0.0017" in str(choice)


def test_changes_of_single_rows_count_by_their_standard_error():
    change, _ = compare_losses(compared_trials(contests_of(study_of())), made_up(rows=(0.004, -0.004, 0.004, -0.004)))
    assert change == pytest.approx(2 * stdev((0.004, -0.004, 0.004, -0.004)) / 2)
    assert change > TENTH


def test_a_reference_that_diverges_forbids_it():
    choice = chosen(made_up(status="diverged"))
    assert (choice.precision, choice.change) == ("float32", math.inf)


def test_a_model_that_does_not_fit_in_float32_runs_in_bf16():
    def run(trial: Trial) -> Outcome:
        raise torch.OutOfMemoryError("CUDA out of memory")

    choice = chosen(run)
    assert (choice.precision, choice.change) == ("bf16", None)
    assert "does not fit in memory" in str(choice)


def test_the_losses_of_a_sharded_model_are_not_compared():
    choice = chosen(refuse, study=study_of(limits=Limits(shard=2)))
    assert choice.precision == "float32"
    assert "give training.precision" in str(choice)


def test_other_errors_of_the_check_are_not_swallowed():
    def run(trial: Trial) -> Outcome:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        chosen(run)


def test_the_reference_is_compared_at_its_prior_rate_on_the_first_task_in_both_precisions():
    seen: list[Trial] = []

    def run(trial: Trial) -> Outcome:
        seen.append(trial)
        return made_up()(trial)

    study = study_of(tasks=("restyle", "prose"), training=Training(steps=200))
    chosen(run, study=study)
    start = next(c for c in contests_of(study) if c.contestant == "lora").start
    trained = [trial for trial in seen if trial.method != FROZEN]
    assert {trial.task for trial in seen} == {"restyle"}
    assert {(t.method, t.lr, t.steps, t.parts) for t in trained} == {("lora", start, 20, ("validation",))}
    assert [(t.seed, t.precision) for t in trained] == [(s, p) for s in NOISE for p in ("float32", "bf16")]
    assert set(NOISE).isdisjoint({*study.report.seeds, *study.tuning.seeds, *study.tuning.regret_seeds})


def test_the_timed_product_is_of_the_models_own_size():
    study = study_of(training=Training(batch=4, length=128))
    config = load_causal().model.config
    assert product_of(load_causal().model, study) == (512, config.hidden_size, config.intermediate_size)


def test_a_product_in_both_dtypes_is_timed():
    assert 0 < measure_speedup(CPU, (64, 64, 64)) < 100


# ------------------------------------------------------------------------------ the record in the folder of the results


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    return save_study(tmp_path_factory.mktemp("study"), steps=6)


def test_a_choice_that_is_forced_by_the_study_is_not_measured(study_file, tmp_path):
    for precision in ("float32", "bf16"):
        study = load_study(study_file).model_copy(update={"training": Training(precision=precision)})
        prepared = prepare(study, tmp_path, measure=lambda *_: 1 / 0)
        assert str(prepared.resolved.precision) == f"{precision}: as the study asks"
        assert prepared.contests()[0].frozen_trial().precision == precision
    assert not (tmp_path / FILE).exists()


def test_the_check_runs_on_a_real_model_and_its_choice_is_kept_on_another_machine(study_file, tmp_path):
    study = load_study(study_file)
    first = prepare(study, tmp_path, measure=fast).resolved.precision
    assert first.change is not None
    assert 0 < first.change < 0.1
    assert 0 < first.noise < 0.1
    assert (first.precision == "bf16") == (first.change < 0.1 * first.noise)
    assert (first.speedup, first.here) == (2.5, "")
    again = prepare(study, tmp_path, measure=slow).resolved.precision
    assert dataclasses.replace(again, here="") == first


def recorded(folder, study: Study, precision: str) -> None:
    record_choice(folder, resolve(study).model_hash, PrecisionChoice(precision, "made up", 2.5, 1e-5, 1e-3))


def test_a_machine_that_is_slow_at_the_recorded_precision_keeps_it_and_says_so(study_file, tmp_path):
    study = load_study(study_file)
    recorded(tmp_path, study, "bf16")
    here = prepare(study, tmp_path, measure=slow)
    assert here.contests()[0].frozen_trial().precision == "bf16"
    assert "keeps bf16, in which it was prepared, although this processor" in here.resolved.precision.here
    assert "at 0.1 times the speed of float32." in here.resolved.precision.here
    assert prepare(study, tmp_path, measure=lambda *_: FAST).resolved.precision.here == ""


def test_a_recorded_float32_is_used_without_a_measurement(study_file, tmp_path):
    study = load_study(study_file)
    prepare(study, tmp_path, measure=slow)
    assert prepare(study, tmp_path, measure=lambda *_: 1 / 0).resolved.precision.precision == "float32"


def test_the_first_of_two_processes_that_choose_at_once_decides(tmp_path):
    first, second = PrecisionChoice("bf16", "a"), PrecisionChoice("float32", "b")
    assert record_choice(tmp_path, "1f", first) == first
    assert record_choice(tmp_path, "1f", second) == first
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_another_model_is_checked_again(tmp_path):
    record_choice(tmp_path, "1f", PrecisionChoice("bf16", "a"))
    assert read_choice(tmp_path, "2a") is None
    assert record_choice(tmp_path, "2a", PrecisionChoice("float32", "b")).precision == "float32"
    assert read_choice(tmp_path, "2a").precision == "float32"


@pytest.mark.parametrize("content", ["", "[]", '{"model_hash": "1f"}', '{"model_hash": "1f", "precision": "fp8"}'])
def test_a_damaged_record_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(AdapterlabError, match=FILE):
        read_choice(tmp_path, "1f")


def test_the_choice_is_part_of_the_design(study_file, tmp_path):
    study = load_study(study_file)
    recorded(tmp_path, study, "bf16")
    plans = [plan_of(prepare(study, folder, measure=slow).resolved, None) for folder in (tmp_path, None)]
    assert [plan["study"]["precision"] for plan in plans] == ["bf16", "float32"]


# ---------------------------------------------------------------------------------------------- the commands that use it


def output(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_plan_run_and_status_agree_on_the_recorded_choice(study_file, tmp_path):
    study = load_study(study_file)
    study = study.model_copy(
        update={
            "contestants": study.contestants[:1],
            "tuning": Tuning(regret_sample=0, growth=0, keep=1),
            "report": Reporting(seeds=(1, 2), windows=4),
            "limits": Limits(workers=1),
        }
    )
    recorded(tmp_path, study, "bf16")
    assert str(api.estimate(study, out=tmp_path, measure=False).precision) == "bf16: made up"
    said: list[str] = []
    analysis = api.run(study, out=tmp_path, note=said.append)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert {trial.precision for trial, _, _ in ledger} == {"bf16"}
    assert {outcome.status for _, outcome, _ in ledger} == {"ok"}
    status = output("status", tmp_path)
    assert "The study is complete" in status
    slow_here = "The study keeps bf16, in which it was prepared, although"  # as most processors are
    assert [text.startswith(slow_here) for text in said] == [True] * (slow_here in status)
    assert set(api.trials(study, out=tmp_path)["precision"]) == {"bf16"}
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["precision"] == {
        "precision": "bf16",
        "reason": "made up",
        "speedup": 2.5,
        "change": 1e-5,
        "noise": 1e-3,
    }
    assert verdict["boards"][0]["provenance"]["precision"] == str(analysis.precision) == "bf16: made up"
    assert "bf16: made up" in (tmp_path / "report.html").read_text()


def test_a_plan_records_its_choice_for_the_run(study_file, tmp_path):
    folder = tmp_path / "out"
    said = output("run", study_file, "--plan", "--out", folder)
    known = json.loads((folder / FILE).read_text())
    assert f"precision {known['precision']}: {' '.join(known['reason'].split())}" in said
    assert [path.name for path in folder.iterdir()] == [FILE]
