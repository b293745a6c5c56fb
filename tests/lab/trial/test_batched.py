"""Trials in one pass come out as they do alone."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapterlab.adapters import adapter
from adapterlab.lab.run.executors import LocalPool
from adapterlab.lab.run.executors.base import jobs
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial import batched
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.fingerprint import fingerprint
from adapterlab.tasks import task
from tests.adapters.methods import ALL, small
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study

# One of each kind of site, and those with state that is drawn, shared between sites, or changed after a step.
SOME = [
    "lora",
    "dora",
    "hra",
    "vera",
    "vblora",
    "shira",
    "adalora",
    "clover",
    "reft",
    "xlora",
    "prefix",
    "prompt",
    "full_ft",
]
TASKS = {"prose": task("prose")}
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:There is a performance drop because we have not yet implemented the batching rule"
    )
]


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    contest = prepare(load_study(save_study(tmp_path_factory.mktemp("study")))).contests()[-1]
    trial = contest.trial(1e-2, 1, 4, reported=True)
    # In float64, so that a method whose training is ill-conditioned agrees with itself too.
    return dataclasses.replace(
        trial, targets="all-linear", parts=("validation", "base"), curve_every=2, path=(0.5,), precision="float64"
    )


def of(trial: Trial, name: str) -> list[Trial]:
    """Two of the method that differ by learning rate and seed, and one that they share neither with."""
    fixed = {"relaxed": False} if name == "poly" else {}  # what is drawn in training keeps a trial alone
    settings = json.dumps({"name": name} if name == FROZEN else dataclasses.replace(small(name), **fixed).settings())
    return [
        dataclasses.replace(trial, adapter=settings, lr=lr, seed=seed) for lr, seed in ((1e-2, 1), (3e-2, 2), (1e-3, 3))
    ]


def check(trials: list[Trial], found: list) -> None:
    for one, together in zip([RUNNER.run(trial) for trial in trials], found, strict=True):
        assert together.status == one.status
        assert together.parameters == one.parameters
        for pairs, others in [(together.scores, one.scores), *zip_paths(together, one)]:
            assert pairs.keys() == others.keys()
            for part in pairs:
                assert pairs[part] == pytest.approx(others[part], abs=1e-9)
        assert together.rows.keys() == one.rows.keys() == one.scores.keys()
        for part, losses in one.rows.items():
            assert together.rows[part] == pytest.approx(losses, abs=1e-6)
        assert [step for step, _ in together.curve] == [step for step, _ in one.curve]
        assert [loss for _, loss in together.curve] == pytest.approx([loss for _, loss in one.curve], abs=1e-9)


def zip_paths(a, b):
    assert [strength for strength, _ in a.path] == [strength for strength, _ in b.path]
    return [(x, y) for (_, x), (_, y) in zip(a.path, b.path, strict=True)]


@pytest.mark.parametrize("name", SOME)
def test_lanes_come_out_as_trials_alone(name, trial):
    trials = of(trial, name)
    found = RUNNER.run_batched(trials)
    check(trials, found)
    assert len({outcome.validation for outcome in found}) == len(trials), "lanes that cannot be told apart show nothing"


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(set(ALL) - set(SOME)))
def test_lanes_of_every_method_come_out_as_trials_alone(name, trial):
    check(of(trial, name), RUNNER.run_batched(of(trial, name)))


def test_lanes_in_single_precision_agree_to_rounding(trial):
    trials = [dataclasses.replace(t, precision="float32") for t in of(trial, "lora")]
    for one, together in zip([RUNNER.run(t) for t in trials], RUNNER.run_batched(trials), strict=True):
        assert together.validation == pytest.approx(one.validation, abs=1e-5)


def test_a_batch_in_pieces_is_the_same(trial):
    found = RUNNER.with_settings(micro_batch=1).run_batched(of(trial, "lora"))
    check(of(trial, "lora"), found)


def test_a_lane_that_diverges_leaves_the_others_alone(trial):
    good, bad, _ = of(trial, "lora")
    bad = dataclasses.replace(bad, lr=1e200)
    found = RUNNER.run_batched([good, bad])
    assert [outcome.status for outcome in found] == ["ok", "diverged"]
    assert found[1].note == RUNNER.run(bad).note
    check([good], found[:1])


def test_the_model_is_left_as_it_was(trial):
    model = RUNNER.context(trial).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    RUNNER.run_batched(of(trial, "dora"))
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_only_what_differs_by_rate_and_seed_shares_a_pass(trial):
    lora, dora, frozen = of(trial, "lora"), of(trial, "dora"), of(trial, FROZEN)[:1]
    shorter = dataclasses.replace(lora[0], steps=2)
    together = jobs([*lora, *dora, *frozen, shorter], TASKS, 2)
    assert together == [tuple(lora[:2]), (lora[2],), tuple(dora[:2]), (dora[2],), tuple(frozen), (shorter,)]
    assert jobs(lora, TASKS, 1) == [(t,) for t in lora]


def test_what_draws_at_random_runs_alone(trial):
    for method in (adapter("lora"), adapter("poly", relaxed=False), adapter("psoft")):
        assert batched.unsupported(method, task("prose")) is None
    for method in (adapter("lora", dropout=0.1), adapter("poly")):
        assert "random numbers" in batched.unsupported(method, task("prose"))
    dropping = dataclasses.replace(trial, adapter=json.dumps(adapter("lora", dropout=0.1).settings()))
    assert len(jobs([dropping, dataclasses.replace(dropping, seed=9)], TASKS, 4)) == 2


def test_a_worker_runs_lanes(trial):
    trials = of(trial, "lora")
    pool = LocalPool([(WorkerConfig(),)], TASKS, lanes=4)
    try:
        pool.submit(trials)
        finished = {f.trial: f for f in pool}
    finally:
        pool.close()
    check(trials, [finished[t].outcome for t in trials])
    assert len({finished[t].wall_seconds for t in trials}) == 1, "they ran apart"


def test_frozen_tensors_are_shared_only_if_all_lanes_have_the_same(trial):
    """The matrices of VeRA come from the seed: the first and the third lane have the same, the second has others."""
    trials = [dataclasses.replace(t, seed=seed) for t, seed in zip(of(trial, "vera"), (1, 2, 1), strict=True)]
    check(trials, RUNNER.run_batched(trials))
    pair = [dataclasses.replace(trials[0], lr=1e-3), trials[1]]
    check(pair, RUNNER.run_batched(pair))


def test_a_pass_ends_when_every_lane_has_diverged(trial):
    trials = [dataclasses.replace(t, lr=lr) for t, lr in zip(of(trial, "lora"), (1e200, 1e250), strict=False)]
    found = RUNNER.run_batched(trials)
    assert [outcome.status for outcome in found] == ["diverged", "diverged"]
    assert all(outcome.scores == {} for outcome in found)


def test_a_model_with_dropout_of_its_own_is_not_batched(trial, tmp_path):
    """Lanes run in training mode, and `vmap` refuses random numbers there; the worker then runs the trials alone."""
    model = AutoModelForCausalLM.from_pretrained(trial.model, attention_dropout=0.5)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(trial.model).save_pretrained(tmp_path)
    dropping = dataclasses.replace(trial, model=str(tmp_path), model_hash=fingerprint(str(tmp_path)))
    with pytest.raises(RuntimeError, match="random"):
        RUNNER.run_batched(of(dropping, "lora")[:2])
