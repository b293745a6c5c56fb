"""Methods of PEFT as contestants of a study."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import adapterlab
from adapterlab import adapter
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Contestant
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.batched import unsupported
from adapterlab.lab.trial.code_version import code_version, registered
from adapterlab.lab.trial.import_closure import ImportClosure
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks import task
from tests.conftest import tiny_llama
from tests.lab.in_process import use
from tests.lab.tiny import save_study

HIRA = """
[[contestants]]
adapter = "hira"

[[contestants]]
peft = "HIRA"
init_weights = true

[[contestants]]
peft = "IA3"
label = "their ia3"
targets = ["k_proj", "v_proj"]
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    file = save_study(tmp_path_factory.mktemp("study"), steps=6, more=HIRA)
    text = file.read_text().replace("windows = 8", "windows = 8\npath = [0.5]")
    file.write_text(text.replace("regret_sample = 1", "regret_sample = 0\ngrowth = 0\nkeep = 1"))
    return file


@pytest.fixture(scope="module")
def results(study_file) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        adapterlab.run(study_file, out=study_file.parent / "results")
    return study_file.parent / "results"


def trials_of(results: Path, method: str) -> list[tuple[Trial, Outcome]]:
    return [(trial, outcome) for trial, outcome, _ in Ledger(results / "ledger.sqlite") if trial.method == method]


def test_an_entry_names_the_method_and_the_fields_of_its_config(study_file):
    entries = {entry.name: entry for entry in load_study(study_file).contestants}
    assert entries["peft:HIRA"].build() == adapter("peft:HIRA", init_weights=True)
    assert entries["their ia3"].build() == adapter("peft:IA3")
    assert Contestant(peft="HIRA", r=4) == Contestant(adapter="peft:HIRA", settings={"r": 4})


def test_it_is_sized_to_the_budget_by_counts_of_peft(study_file):
    study = load_study(study_file)
    sized = prepare(study).sized[Cell()]["peft:HIRA"]
    model = AutoModelForCausalLM.from_pretrained(study.model)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

    def count(rank: int) -> int:
        wrapped = peft.get_peft_model(model, peft.HiraConfig(r=rank, target_modules=names))
        found = wrapped.get_nb_trainable_parameters()[0]
        wrapped.unload()
        return found

    rank = sized.adapter.r
    assert sized.parameters == count(rank) <= study.budget < count(rank + 1)
    ours = prepare(study).sized[Cell()]["hira"]
    assert (ours.adapter.rank, ours.parameters) == (rank, sized.parameters)


def test_it_is_tuned_scored_and_reported_like_the_others(results):
    reported = [(t, o) for t, o in trials_of(results, "peft:HIRA") if t.rows]
    assert {trial.seed for trial, _ in reported} == {1, 2}
    assert all(outcome.status == "ok" and outcome.rows for _, outcome in reported)
    assert len({trial.lr for trial, _ in trials_of(results, "peft:HIRA")}) >= 3
    page = (results / "report.html").read_text()
    assert "peft:HIRA" in page
    assert "their ia3" in page


def test_scores_at_other_strengths_than_0_and_1_are_absent(results):
    strengths = {
        name: {s for trial, outcome in trials_of(results, name) if trial.path for s, _ in outcome.path}
        for name in ("lora", "peft:HIRA")
    }
    assert 0.5 in strengths["lora"]
    assert strengths["peft:HIRA"] <= {0.0, 1.0}


def test_a_trial_gives_the_same_outcome_again(results):
    trial, outcome = next((t, o) for t, o in trials_of(results, "peft:HIRA") if t.rows)
    again = Runner().run(trial)
    assert (again.scores, again.rows, again.path) == (outcome.scores, outcome.rows, outcome.path)


def test_a_trial_runs_in_bfloat16_and_with_activations_recomputed(results):
    trial, outcome = next((t, o) for t, o in trials_of(results, "peft:HIRA") if t.rows)
    assert Runner().run(replace(trial, precision="bf16")).status == "ok"
    again = Runner(WorkerConfig(checkpointing=True)).run(trial)
    assert again.validation == pytest.approx(outcome.validation, rel=1e-5)


def test_the_version_of_peft_is_part_of_the_trial_s_name(monkeypatch):
    def codes() -> dict[str, str]:
        closure = ImportClosure(registries=registered())  # a closure of its own, since hashes are cached by closure
        return {name: code_version(name, task("prose"), closure) for name in ("peft:LORA", "lora")}

    before, real = codes(), importlib.metadata.version
    monkeypatch.setattr(
        "adapterlab.lab.trial.code_version.version", lambda name: "99.0" if name == "peft" else real(name)
    )
    after = codes()
    assert after["peft:LORA"] != before["peft:LORA"]
    assert after["lora"] == before["lora"]


def test_lily_cannot_compete_since_it_reads_later_tokens(study_file):
    study = load_study(study_file)
    lily = study.model_copy(update={"contestants": (*study.contestants, Contestant(peft="LILY"))})
    with pytest.raises(AdapterlabError, match=r"'peft:LILY' cannot compete: .* depends on later tokens"):
        prepare(lily)


def test_explain_refers_to_peft():
    result = CliRunner().invoke(app, ["explain", "peft:HIRA"])
    assert (
        str(result.exception)
        == "peft:HIRA is a method of PEFT, whose page describes it: https://huggingface.co/docs/peft"
    )


def test_its_trials_are_not_batched():
    assert unsupported(adapter("peft:HIRA"), task("prose")) is not None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"HIRA"', '"HIRRA"', r"unknown PEFT method 'HIRRA' in .*tiny\.toml:\d+: did you mean HIRA"),
        ("init_weights = true", "rank = 4", r"tiny\.toml:\d+: unknown setting 'rank' in adapter 'peft:HIRA'"),
        ("init_weights = true", 'r = "4"', r"tiny\.toml:\d+: .*r = '4' does not fit PEFT's HiraConfig"),
        ('peft = "HIRA"', 'peft = "HIRA"\nadapter = "lora"', r"tiny\.toml:\d+: .*give either adapter"),
        ('peft = "HIRA"', 'peft = "P_TUNING"', r"peft:P_TUNING in .*tiny\.toml:\d+ needs more of PEFT"),
    ],
)
def test_an_error_names_the_line(study_file, tmp_path, old, new, message):
    file = tmp_path / "tiny.toml"
    file.write_text(study_file.read_text().replace(old, new))
    with pytest.raises(AdapterlabError, match=message) as error:
        load_study(file)
    assert "\n" not in str(error.value)


def test_a_model_in_bfloat16_is_trained_with_peft_s_parameters_in_float32():
    model = tiny_llama().to(torch.bfloat16)
    handle = adapterlab.attach(model, adapter("peft:HIRA", r=2))
    assert {p.dtype for p in handle.parameters()} == {torch.float32}
