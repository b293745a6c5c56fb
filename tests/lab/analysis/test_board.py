"""Rate curves, trials, incidents and provenance of a study."""

from __future__ import annotations

import dataclasses
import math
from datetime import date

import pytest

from adapterlab.lab.analysis.board import make_board
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.ledger.origins import Origin
from adapterlab.lab.trial.spec import FROZEN, Outcome
from adapterlab.lab.trial.train import GRADIENT_CLIP, WARMUP_SHARE
from tests.lab.made_up import played

NAMES = ("lora", "oft")


@pytest.fixture
def results() -> Results:
    """A rate of OFT on `prose` has diverged, and one run of LoRA was short of memory."""
    results = played(
        NAMES, gains={"lora": 0.2, "oft": 0.1}, forgetting={"lora": 0.1}, parameters={"lora": 90, "oft": 80}
    )
    contest = results.contests["oft", "prose"]
    trial, _ = contest.first[1e-2]
    contest.first[1e-2] = trial, Outcome("diverged", {}, (), 80, 3.0, 0.5, "the loss was nan at step 7")
    trial, outcome = results.contests["lora", "restyle"].reported[2]
    note = "out of memory with 4 examples at once: went on with 2"
    results.contests["lora", "restyle"].reported[2] = trial, dataclasses.replace(outcome, note=note)
    return results


@pytest.fixture
def board(results):
    return make_board(Effects.of(results), 4_300_000, ())


def test_rate_curves_are_sorted_and_leave_out_rates_that_diverged(board, results):
    assert [(curve.task, curve.contestant) for curve in board.rate_curves] == [
        ("prose", "lora"),
        ("prose", "oft"),
        ("restyle", "lora"),
        ("restyle", "oft"),
    ]
    lora, oft, *_ = board.rate_curves
    assert list(lora.losses) == [1e-3, 1.8e-3, 3.2e-3, 5.6e-3, 1e-2]
    assert list(lora.losses.values()) == pytest.approx([0.9, 0.9, 0.8, 0.9, 0.9])
    assert list(oft.losses) == [1e-3, 1.8e-3, 3.2e-3, 5.6e-3]
    assert (lora.chosen, oft.chosen) == (3.2e-3, 3.2e-3)


def test_every_trial_is_listed_with_its_losses(board, results):
    runs = [run for contest in results.contests.values() for run in contest.runs]
    assert [row.id for row in board.trials] == [trial.id for trial, _ in runs]
    assert board.steps == sum(trial.steps for trial, _ in runs)
    assert board.seconds == sum(outcome.seconds for _, outcome in runs)
    row = next(row for row in board.trials if (row.contestant, row.task, row.seed) == ("lora", "prose", 2))
    assert (row.lr, row.steps, row.status, row.seconds) == (3.2e-3, 40, "ok", 4.0)
    assert row.losses == pytest.approx({"validation": 0.8, "test": 0.8, "ood": 0.8, "base": 1.1})
    (lost,) = [row for row in board.trials if row.status == "diverged"]
    assert all(math.isnan(loss) for loss in lost.losses.values())


def test_incidents_are_counted_by_contestant_and_kind(board, results):
    assert board.incidents == (
        "lora: out of memory with 4 examples at once: went on with 2 (1 trial)",
        "oft: the loss diverged (1 trial)",
    )
    contest = results.contests["oft", "prose"]
    trial, _ = contest.first[1e-3]
    contest.first[1e-3] = trial, Outcome("diverged", {}, (), 80, 3.0, 0.5, "the loss was inf at step 2")
    again = make_board(Effects.of(results), 4_300_000, ())
    assert again.incidents[1] == "oft: the loss diverged (2 trials)"


def test_the_frozen_model_is_the_start(board):
    assert board.frozen == {"prose": 1.0, "restyle": 1.0}
    assert board.parts == {"validation", "test", "ood", "base"}
    assert board.unit == "nats per byte"


def test_the_provenance_states_the_constants_of_training(board, results):
    facts = board.provenance.facts
    trial = results.contests[FROZEN, "prose"].reported[0][0]
    assert facts["model"] == f"embedded, weights {trial.model_hash}"
    assert facts["tasks"] == ", ".join(
        f"{task} ({results.contests[FROZEN, task].reported[0][0].data})" for task in ("prose", "restyle")
    )
    assert facts["training"] == (
        "40 steps of 4 x 128 tokens; AdamW, no weight decay, gradients clipped at 1, a tenth warm-up, then linear to zero"
    )
    assert (GRADIENT_CLIP, WARMUP_SHARE) == (1.0, 0.1)
    assert facts["seeds"] == "tuned with 101, 102, reported with 1, 2, 3"


def test_the_provenance_names_every_environment(results):
    one = Origin("3.11", "2.9", "5.0", "0.1", "Linux", "x86_64", "cpu", 5, date(2026, 1, 2), date(2026, 1, 3))
    other = dataclasses.replace(one, torch="2.10", device="NVIDIA H100")
    facts = make_board(Effects.of(results), 4_300_000, (one, other)).provenance.facts
    assert facts["torch"] == "2.10, 2.9"
    assert facts["device"] == "NVIDIA H100, cpu"
    assert facts["python"] == "3.11"
    assert "torch" not in make_board(Effects.of(results), 4_300_000, ()).provenance.facts
