"""The geometry of a trial is measured at its end, and of no trial that does not ask for it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.in_model import change_of
from adapterlab.lab.run.executors.base import jobs
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.code_version import decisive_files, geometry_version, registered
from adapterlab.lab.trial.geometry import with_geometry
from adapterlab.lab.trial.import_closure import ImportClosure
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.surgery import attach
from adapterlab.tasks import all_tasks, task
from tests.conftest import tiny_llama
from tests.lab.tiny import save_model

LORA = adapter("lora", rank=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def resolved(model) -> ResolvedStudy:
    return resolve(
        Study(
            name="mine",
            model=model,
            tasks=("prose",),
            budget=100_000,
            contestants=({"adapter": "lora"}, {"adapter": "oft"}),
            training={"batch": 2, "length": 32, "precision": "float32"},
            report={"windows": 4},
            geometry={"of": ("full_ft", "lora"), "hypotheses": ("low_rank",), "measures": ("stable_rank",), "draws": 3},
        )
    )


@pytest.fixture(scope="module")
def trial(resolved) -> Trial:
    return resolved.trial("prose", LORA, "all-linear", 1e-2, 1, 2, reported=True, contestant="lora")


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner()


@pytest.fixture(scope="module")
def outcome(runner, trial) -> Outcome:
    return runner.run(trial)


def test_only_reported_runs_of_the_named_contestants_measure_it(resolved):
    def geometry(contestant: str, **more) -> str:
        return resolved.trial("prose", LORA, "all-linear", 1e-2, 1, 2, contestant=contestant, **more).geometry

    assert json.loads(geometry("lora", reported=True))["measures"] == ["stable_rank"]
    assert geometry("oft", reported=True) == ""
    assert geometry("lora", reported=False) == ""
    assert geometry("lora", reported=True, share=0.1) == ""


def test_a_trial_without_geometry_keeps_its_id():
    """The id of this trial was computed before there was such a field."""
    old = Trial(
        "embedded", "1f", "prose", "2a", '{"name": "lora", "rank": 8}', "all-linear", lr=1e-3, seed=1, steps=40, batch=4,
        length=128, parts=("test",), windows=8, curve_every=0, code="3c",
    )  # fmt: skip
    assert old.id == "223fb3176256a73c"
    measured = [replace(old, geometry=json.dumps({"budget": budget})).id for budget in (1, 2)]
    assert len({old.id, *measured}) == 3


def test_a_change_of_rank_two_is_wholly_of_low_rank(outcome, trial):
    """The budget allows a higher rank, so the projected model is the trained one."""
    assert outcome.status == "ok", outcome.note
    numbers = outcome.geometry
    assert numbers["residual(low_rank)"] == pytest.approx(0.0, abs=1e-8)
    assert numbers["parameters(low_rank)"] <= 100_000
    assert 1 <= numbers["stable_rank"] <= 2 < numbers["stable_rank random"]
    for part in ("test", "ood", "base"):
        assert numbers[f"loss(low_rank, {part})"] == pytest.approx(outcome.scores[part][0], rel=1e-4)
        assert numbers[f"loss(change, {part})"] == pytest.approx(outcome.scores[part][0], rel=1e-4)
    assert numbers["drift(test)"] > 0
    assert numbers["drift(base)"] > 0
    assert outcome.geometry_seconds > 0


def test_what_is_measured_does_not_change_what_is_scored(runner, trial, outcome):
    plain = runner.run(replace(trial, geometry=""))
    assert plain.scores == outcome.scores
    assert (plain.geometry, plain.geometry_seconds) == ({}, 0.0)


def test_a_change_without_a_geometry_leaves_the_outcome_and_a_note(runner, trial, outcome):
    base = torch.ones(2, 2)
    plain = replace(outcome, geometry={})
    found = with_geometry(plain, runner.context(trial), InMemory({"up": (base, base)}))
    assert found.scores == outcome.scores
    assert found.geometry == {}
    assert found.note == "no geometry: tuned and base are equal: there is no change to measure"


def test_adapters_are_saved_too(runner, trial, tmp_path):
    saved = runner.with_settings(save_to=str(tmp_path), save_seed=1).run(trial)
    assert saved.geometry
    assert (tmp_path / trial.id).is_dir()


def test_the_change_of_a_base_of_16_bits_is_not_rounded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        llama = tiny_llama().to(torch.bfloat16)
    weight = {name: p.detach().clone() for name, p in llama.named_parameters()}
    handle = attach(llama, adapter("lora", rank=1), seed=0)
    site = next(iter(handle.sites))
    with torch.no_grad():
        handle.sites[site].trained["b"].fill_(1e-4)
    found, wanted = change_of(handle).read(site).delta, handle.deltas()[site].float()
    assert torch.linalg.vector_norm(found - wanted) < 1e-3 * torch.linalg.vector_norm(wanted)
    handle.detach()
    assert all(torch.equal(p, weight[name]) for name, p in llama.named_parameters())


def test_the_outcome_survives_the_ledger(outcome):
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    old = {key: value for key, value in outcome.to_json().items() if not key.startswith("geometry")}
    assert Outcome.from_json(old).geometry == {}


def test_such_trials_run_alone(trial):
    """A lane of a batched pass has no weights of its own that could be measured."""
    seeds = [replace(trial, seed=seed) for seed in (1, 2)]
    assert [len(job) for job in jobs(seeds, all_tasks_of(trial), lanes=2)] == [1, 1]
    assert [len(job) for job in jobs([replace(t, geometry="") for t in seeds], all_tasks_of(trial), lanes=2)] == [2]


def all_tasks_of(trial: Trial):
    assert trial.task in all_tasks()
    return {trial.task: task(trial.task)}


def test_a_divided_model_is_refused(model, trial):
    with pytest.raises(AdapterlabError, match="divided over devices"):
        Runner(WorkerConfig(ranks=2)).run(trial)


def test_code_that_measures_counts_for_the_trials_that_measure():
    files = {label for label, _ in decisive_files("lora", task("prose"))}
    assert not any("geometry" in label for label in files)
    closure = ImportClosure(registries=registered())
    counted = closure.digests([closure.module("adapterlab.lab.trial.geometry")])
    labels = {label for label, _ in counted}
    assert {"adapterlab/geometry/measure.py", "adapterlab/geometry/hypotheses/low_rank.py"} <= labels
    assert len(geometry_version()) == 12
