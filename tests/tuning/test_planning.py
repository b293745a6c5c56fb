"""Planning a tuning: what is timed, what is refused, and how the clock decides the number of seeds."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.locate import planning_stage
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.models.loading import load_causal
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.roles import group_of
from adapterlab.tasks.base import Part
from adapterlab.tasks.files import FileData
from adapterlab.tuning import tuner, workers
from adapterlab.tuning.clock import WRITING
from adapterlab.tuning.row_lengths import RowLengths
from adapterlab.tuning.scale import MAX_SEEDS
from adapterlab.tuning.tuner import BY_CLOCK
from tests.lab.in_process import InProcess
from tests.lab.tiny import save_model
from tests.tasks.user_files import completions, texts, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planning")
    save_model(folder / "model")
    write(folder / "sums.jsonl", completions(200))
    write(folder / "known.jsonl", texts(12))
    return folder


class Slow(InProcess):
    """Trials that do not run, on a machine where a step and a scored row take a given time, on a clock that is made up."""

    def __init__(self, clock: list[float], step: float, row: float) -> None:
        super().__init__(self.outcome)
        self.clock, self.step, self.row = clock, step, row

    def outcome(self, trial: Trial) -> Outcome:
        scored = len(trial.parts) * trial.windows * self.row
        curve = ((trial.steps - 1) // trial.curve_every if trial.curve_every else 0) * trial.windows * self.row
        seconds = trial.steps * self.step
        self.wall_seconds = seconds + scored + curve
        self.clock[0] += self.wall_seconds / 2  # two workers
        gain = 0.0 if trial.method == FROZEN else 0.1 + 0.01 * (trial.seed % 7)
        rows = {part: tuple(1 - gain + 0.1 * (i % 5) for i in range(trial.windows)) for part in trial.parts}
        scores = {part: (sum(each) / len(each), 0.5) for part, each in rows.items()}
        return Outcome(
            "ok",
            scores,
            (),
            100,
            seconds,
            0.0,
            scoring_seconds=scored + curve,
            rows=rows if trial.rows else {},
            at_once=8,
        )


def tuned(folder: Path, monkeypatch, out: Path, clock: list[float], pool: Slow, minutes: float, **options):
    """A tuning on a made-up machine, with the time that it took by its clock."""
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(workers, "executor_for", lambda *_: pool)
    monkeypatch.setattr(tuner, "keep_winner", lambda *_: None)
    monkeypatch.setattr(tuner, "how_to_load", lambda *_: "")
    started = clock[0]
    advice = adapterlab.tune(
        folder / "model",
        folder / "sums.jsonl",
        keep=folder / "known.jsonl",
        time=f"{minutes}m",
        out=out,
        workers=2,
        **options,
    )
    return advice, clock[0] - started


@pytest.mark.parametrize("minutes", [3, 60])
@pytest.mark.parametrize(("step", "row"), [(0.05, 0.001), (1.0, 0.05), (4.0, 0.2)])
def test_the_time_is_kept_on_a_slow_machine_or_refused(folder, monkeypatch, tmp_path, minutes, step, row):
    clock = [1000.0]
    pool = Slow(clock, step, row)
    if (minutes, step) == (3, 4.0):
        with pytest.raises(AdapterlabError, match=r"--time 3 min is too short: .* give --time"):
            tuned(folder, monkeypatch, tmp_path / "out", clock, pool, minutes)
        assert len(pool.submitted) <= 12, "something ran before the time was refused"
        return
    advice, seconds = tuned(folder, monkeypatch, tmp_path / "out", clock, pool, minutes)
    study = advice.analysis.main.study
    assert seconds <= 1.15 * 60 * minutes
    complete = len(study.report.seeds) == MAX_SEEDS  # three passes over the rows, and the most seeds
    assert complete or seconds + WRITING >= 0.85 * 60 * minutes
    assert json.loads((tmp_path / "out/plan.json").read_text())["done"]


def test_a_machine_that_becomes_slower_gets_fewer_seeds(folder, monkeypatch, tmp_path):
    clock = [1000.0]
    pool = Slow(clock, 0.5, 0.01)

    def planned(plan) -> None:
        assert len(plan.study.report.seeds) >= 3
        pool.step, pool.row = 0.65, 0.013

    advice, seconds = tuned(folder, monkeypatch, tmp_path / "out", clock, pool, 20, planned=planned)
    assert seconds <= 1.15 * 60 * 20
    assert len(advice.analysis.main.study.report.seeds) >= 2


def test_seeds_added_by_the_clock_do_not_change_the_design(folder, monkeypatch, tmp_path):
    clock = [1000.0]
    advice, _ = tuned(folder, monkeypatch, tmp_path / "out", clock, Slow(clock, 0.02, 0.001), 30)
    (design,) = json.loads((tmp_path / "out/design.json").read_text())
    assert design["plan"]["stopping"] == design["plan"]["study"]["report"]["seeds"] == BY_CLOCK
    assert len(advice.analysis.main.study.report.seeds) == 10


def test_a_tuning_that_is_done_adds_no_seeds(folder, monkeypatch, tmp_path):
    clock = [1000.0]
    pool = Slow(clock, 0.3, 0.01)
    first, _ = tuned(folder, monkeypatch, tmp_path / "out", clock, pool, 10)
    ran = len(pool.submitted)
    again, _ = tuned(folder, monkeypatch, tmp_path / "out", clock, pool, 10)
    assert len(pool.submitted) == ran
    assert again.analysis.main.study == first.analysis.main.study


def test_ranks_and_targets_are_swept(folder, monkeypatch, tmp_path):
    clock = [1000.0]
    advice, _ = tuned(
        folder,
        monkeypatch,
        tmp_path / "out",
        clock,
        Slow(clock, 0.05, 0.001),
        30,
        ranks=(2, 4),
        targets="attention,all-linear",
    )
    study = json.loads((tmp_path / "out/study.json").read_text())
    assert study["sweep"]["rank"] == [2, 4]
    assert study["sweep"]["targets"] == ["attention", "all-linear"]
    assert advice.contestant == "lora"
    assert {trial.targets for trial, *_ in Ledger(tmp_path / "out/ledger.sqlite")} == {"attention", "all-linear"}


def test_what_is_being_planned_is_recorded_while_it_is(tmp_path):
    seen = []
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with ledger.sole_writer(), tuner.planning(tmp_path, lambda _: None) as watch:
        watch("timing a step of lora")
        thread = threading.Thread(target=lambda: seen.append(planning_stage(tmp_path)))
        thread.start()
        thread.join()
    assert seen[0] is not None
    assert seen[0][0] == "timing a step of lora"
    assert planning_stage(tmp_path) is None


def test_lengths_are_those_that_are_computed(folder):
    tokenizer = load_causal(str(folder / "model")).tokenizer
    lengths = RowLengths.of(
        FileData("sums", str(folder / "sums.jsonl"), keep=str(folder / "known.jsonl")), tokenizer, 64
    )
    assert set(lengths.parts) == {Part.TRAIN, Part.VALIDATION, Part.TEST, Part.BASE}
    assert lengths.scored(4) < lengths.scored(8)
    longest = int(lengths.parts[Part.TRAIN].max())
    assert 4 * float(lengths.parts[Part.TRAIN].float().mean()) <= lengths.trained(4) <= 4 * longest


def test_attention_and_mlp_divide_the_linear_layers(folder):
    model = load_causal(str(folder / "model")).model
    groups = {path.rpartition(".")[2]: group_of(path) for path in linears(model)}
    assert {name for name, group in groups.items() if group == "attention"} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert {name for name, group in groups.items() if group == "mlp"} == {"gate_proj", "up_proj", "down_proj"}
    handle = adapterlab.attach(model, adapterlab.adapter("lora", rank=2), "attention")
    assert {path.rpartition(".")[2] for path in handle.sites} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    handle.detach()
