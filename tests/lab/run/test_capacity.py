"""What fits in memory is found by trying, and memory that is not enough is halved and noted."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.capacity import RunProbes, find_device, measure_capacity, probe
from adapterlab.lab.trial import train
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Trial
from adapterlab.tasks.files import FileData
from adapterlab.tasks.halving import halving, out_of_memory
from adapterlab.tasks.user_text import UserText
from tests.lab.tiny import save_model
from tests.lab.trial.test_classifiers import runner_of, trial_of
from tests.tasks.user_files import completions, write

CPU = (
    "[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)


@pytest.fixture(scope="module")
def sums(tmp_path_factory) -> FileData:
    return FileData("sums", write(tmp_path_factory.mktemp("fit") / "sums.jsonl", completions(80)))


@pytest.fixture(scope="module")
def trial(sums, tmp_path_factory) -> Trial:
    return dataclasses.replace(trial_of(save_model(tmp_path_factory.mktemp("model")), sums), steps=6, windows=8)


@pytest.fixture(scope="module")
def runner(sums) -> Runner:
    return runner_of(sums)


def probes(runner: Runner) -> RunProbes:
    """Runs the trials in this process."""

    def run(trials, checkpointing):
        trying = runner.with_settings(checkpointing=checkpointing)
        return {name: trying.run(trial) for name, trial in trials.items()}

    return run


def _checkpointed(model) -> bool:
    """True inside `checkpointed`, which replaces the `forward` of the model's blocks."""
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return any("forward" in vars(block) for block in blocks)


@pytest.fixture
def small_memory(monkeypatch):
    """A machine on which a pass of more than `most` examples does not fit; without recomputing, of more than `bare`."""

    def shrink(most: int, bare: int | None = None, error: Exception | None = None) -> list[int]:
        seen: list[int] = []
        whole = UserText.loss

        def loss(self, model, batch):
            seen.append(len(batch["input_ids"]))
            if seen[-1] > (most if _checkpointed(model) or bare is None else bare):
                raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
            return whole(self, model, batch)

        monkeypatch.setattr(UserText, "loss", loss)
        return seen

    return shrink


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError(CPU)])
def test_the_ways_to_run_out_of_memory(error):
    assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_other_errors_are_not_halved():
    def work(size):
        raise ValueError(size)

    with pytest.raises(ValueError, match="8"):
        halving(work, 8)


def test_a_batch_in_halves_trains_as_the_whole_one(trial, runner, small_memory):
    whole = runner.run(trial)
    assert (whole.at_once, whole.note) == (8, "")
    seen = small_memory(3, error=RuntimeError(CPU))
    halves = runner.run(trial)
    assert seen[:3] == [8, 4, 2]
    assert set(seen[3:]) == {2}
    assert halves.at_once == 2
    assert halves.note == "out of memory with 8 examples at a time: continued with 2"
    assert halves.status == "ok"
    for part, scores in whole.scores.items():
        assert halves.scores[part] == pytest.approx(scores, rel=1e-5)


def test_a_trial_that_never_fits_is_a_recorded_failure(trial, runner, small_memory):
    small_memory(0)
    outcome = runner.run(trial)
    assert outcome.status == "failed"
    assert outcome.note == "out of memory, even with one example at a time"
    assert outcome.scores == {}


def test_scoring_in_halves_gives_the_same(trial, runner, monkeypatch):
    from adapterlab.tasks import scoring

    whole, seen = runner.run(trial).scores, []
    predictions = scoring.predictions

    def small(model, batch):
        if not torch.is_grad_enabled():
            seen.append(len(batch["input_ids"]))
            if seen[-1] > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return predictions(model, batch)

    monkeypatch.setattr(scoring, "predictions", small)
    halves = runner.run(trial).scores
    assert min(seen) <= 3 < max(seen)
    for part, scores in whole.items():
        assert halves[part] == pytest.approx(scores, rel=1e-5)


def test_an_attach_that_does_not_fit_is_a_recorded_failure(trial, runner, monkeypatch):
    def attach(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train, "attach", attach)
    outcome = runner.run(trial)
    assert (outcome.status, outcome.note) == ("failed", "out of memory while the adapter was attached")


def test_the_largest_pieces_that_fit_are_found(trial, runner, small_memory):
    small_memory(5)
    found = measure_capacity({"lora": probe(trial)}, probes(runner))
    assert (found.micro_batch, found.checkpointing) == (4, False)
    assert found.notes == [
        "a batch of 8 does not fit in memory: it is split into passes of 4, and gradients are summed"
    ]
    assert found.costs["lora"].step > 0


def test_what_fits_whole_is_left_whole(trial, runner):
    found = measure_capacity({"lora": probe(trial)}, probes(runner))
    assert (found.micro_batch, found.checkpointing, found.notes) == (None, False, [])


def test_recomputing_comes_in_where_one_example_does_not_fit(trial, runner, small_memory):
    small_memory(2, bare=0)
    found = measure_capacity({"lora": probe(trial)}, probes(runner))
    assert (found.micro_batch, found.checkpointing) == (2, True)
    assert "activations are recomputed in the backward pass" in found.notes[0]


def test_a_machine_too_small_is_named(trial, runner, small_memory):
    small_memory(0)
    with pytest.raises(AdapterlabError, match="give a smaller --length, or a smaller model"):
        measure_capacity({"lora": probe(trial)}, probes(runner))


def test_one_that_never_fits_is_left_out(trial, runner, monkeypatch):
    run = Runner.run

    def fails_for_dora(self, this):
        outcome = run(self, this)
        return dataclasses.replace(outcome, status="failed") if "dora" in this.adapter else outcome

    monkeypatch.setattr(Runner, "run", fails_for_dora)
    other = dataclasses.replace(trial, adapter='{"name": "dora"}')
    found = measure_capacity({"lora": probe(trial), "dora": probe(other)}, probes(runner))
    assert list(found.costs) == ["lora"]
    assert any("dora is left out" in note for note in found.notes)


@pytest.mark.parametrize(("cuda", "mps", "device"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_device_is_the_best_there_is(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert find_device() == device
