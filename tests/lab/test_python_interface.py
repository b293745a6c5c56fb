"""The Python interface: studies and tuning as functions, with models and data from files or from memory."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import datasets
import pandas as pd
import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.inputs import save_model as saved_model
from adapterlab.inputs import save_rows
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.tasks.files import parts_of
from tests.lab.in_process import InProcess, use
from tests.lab.tiny import save_model, save_study, what_counts
from tests.tasks.user_files import completions, labelled

SHORT = {
    "training": {"steps": 6, "batch": 2, "length": 32},
    "tuning": {"regret_sample": 0, "growth": 0},
    "report": {"seeds": (1, 2), "windows": 8, "curve_every": 3},
    "full_ft": False,
    "full_ft_reason": "seconds count in a test",
}


@pytest.fixture(scope="module")
def executors():
    """Trains in this process; lists the executors that studies of this module have started."""
    with pytest.MonkeyPatch.context() as patch:
        yield use(patch)


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    return save_study(tmp_path_factory.mktemp("study"), steps=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def analysis(study_file, folder, executors) -> adapterlab.Analysis:
    return adapterlab.run(load_study(study_file), out=folder)


@pytest.fixture(scope="module")
def recorded(folder, analysis) -> dict[tuple[str, int], tuple[Trial, Outcome]]:
    """The reported runs in the ledger, by method and seed."""
    return {(t.method, t.seed): (t, o) for t, o, _ in Ledger(folder / "ledger.sqlite") if "test" in t.parts}


def gain(recorded, name: str) -> float:
    """The mean improvement of a method's test loss over the frozen model, from the ledger."""
    before = recorded[FROZEN, 0][1].scores["test"][0]
    return fmean(before - recorded[name, seed][1].scores["test"][0] for seed in (1, 2))


def test_a_run_returns_the_analysis_of_the_ledger(analysis, recorded):
    board = analysis.scoreboard.set_index("contestant")
    assert isinstance(analysis, adapterlab.Analysis)
    assert set(board.index) == {"lora", "ia3"}
    assert set(board["tasks"]) == {"prose"}
    assert set(board["budget"]) == {3000}
    assert set(board["unit"]) == {"nats per byte"}
    for name in ("lora", "ia3"):
        assert board.loc[name, "gain"] == pytest.approx(gain(recorded, name))
        assert board.loc[name, "parameters"] == recorded[name, 1][1].parameters
        assert board.loc[name, "rate_prose"] == recorded[name, 1][0].lr
    assert board.loc["ia3", "versus"] == pytest.approx(gain(recorded, "ia3") - gain(recorded, "lora"))
    assert pd.isna(board.loc["lora", "versus"])
    assert analysis.model_parameters == sum(
        p.numel() for p in AutoModelForCausalLM.from_pretrained(analysis.study.model).parameters()
    )


def test_the_report_has_the_numbers_of_the_scoreboard(analysis, folder):
    page = (folder / "report.html").read_text()
    for row in analysis.scoreboard.to_dict("records"):
        assert f'<td class="n">{row["gain"]:+.3f}</td>' in page
        assert f"{row['parameters']:,}" in page
    assert analysis.answer in page


def test_the_verdict_file_has_the_numbers_of_the_analysis(analysis, folder):
    verdict = json.loads((folder / "verdict.json").read_text())
    (board,) = verdict["boards"]
    assert verdict["answer"] == board["answer"] == analysis.answer
    assert [entry["name"] for entry in board["contestants"]] == list(analysis.scoreboard["contestant"])
    for entry, row in zip(board["contestants"], analysis.scoreboard.to_dict("records"), strict=True):
        for ours, theirs in (("gain", "gain"), ("gain_ood", "gain_ood"), ("forgetting", "forgetting")):
            assert entry[ours]["mean"] == row[theirs]
            assert entry[ours]["low"] == row[f"{theirs}_low"]
            assert entry[ours]["high"] == row[f"{theirs}_high"]
        assert entry["rates"] == {"prose": row["rate_prose"]}
        assert entry["tuning_steps"] == row["tuning_steps"]
    assert {claim["claim"] for claim in verdict["claims"]} == {v.claim for v in analysis.judgement.verdicts}


def test_a_notebook_shows_the_answer_and_the_scoreboard(analysis):
    shown = analysis._repr_html_()
    assert f"<b>{analysis.answer}</b>" in shown
    for row in analysis.scoreboard.to_dict("records"):
        assert f"<td>{row['contestant']}</td>" in shown
        assert f"<td>{row['gain']:+.4f}</td>" in shown
        assert pd.isna(row["p"]) or f"<td>{row['p']:.4f}</td>" in shown


def test_a_second_run_trains_nothing_and_finds_the_same(analysis, study_file, folder, executors):
    ledger = Ledger(folder / "ledger.sqlite")
    before, started = what_counts(ledger), len(executors)
    for source in (load_study(study_file), study_file, str(study_file)):
        pd.testing.assert_frame_equal(adapterlab.run(source, out=folder).scoreboard, analysis.scoreboard)
    pd.testing.assert_frame_equal(adapterlab.run(folder).scoreboard, analysis.scoreboard)
    assert len(executors) == started
    assert what_counts(ledger) == before


def test_without_a_folder_results_go_to_runs(study_file, executors, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    executor = InProcess(lambda trial: Outcome("ok", dict.fromkeys(trial.parts, (1.0, 0.5)), (), 1, 1.0, 0.5))
    use(monkeypatch, executor)
    seen = []
    adapterlab.run(study_file, watch=seen.append)
    assert {path.name for path in Path("runs/tiny").iterdir()} >= {"ledger.sqlite", "report.html", "verdict.json"}
    assert seen[-1].trials == len(executor.submitted) == len(adapterlab.trials(study_file)["trial"].unique())
    assert adapterlab.status(study_file).finished


def test_an_estimate_counts_what_a_run_makes(analysis, study_file, folder):
    before = adapterlab.estimate(study_file, out=folder / "elsewhere", measure=False)
    done = len(Ledger(folder / "ledger.sqlite"))
    assert (before.trials_done, before.seconds) == (0, None)
    assert before.least <= before.likely <= done <= before.most
    # The two rungs and the reported runs of two contestants, and the regret of the reference.
    assert before.steps == 2 * (5 * 3 + 2 * 6 + 2 * 6) + 3 * 2 * 6
    assert [path.name for path in (folder / "elsewhere").iterdir()] == ["precision.json"]
    after = adapterlab.estimate(study_file, out=folder)
    trained = sum(trial.steps for trial, _, _ in Ledger(folder / "ledger.sqlite"))
    assert (after.trials_done, after.steps_done, after.seconds) == (done, trained, 0)
    assert {entry.contestant for entry in after.entries} == {"lora", "ia3"}
    assert adapterlab.estimate(study_file, out=folder, measure=False, workers=3).workers == 3


def test_an_estimate_times_the_contestants_that_have_not_run(study_file, tmp_path):
    watched = []
    found = adapterlab.estimate(study_file, out=tmp_path, watch=watched.append)
    assert watched == [FROZEN, "lora", "ia3"]
    assert found.seconds > 0
    assert all(entry.cost.step > 0 for entry in found.entries)
    assert [path.name for path in tmp_path.iterdir()] == ["precision.json"]


def test_the_status_of_a_finished_study(analysis, folder):
    found = adapterlab.status(folder, workers=2)
    assert found.finished
    assert (found.share, found.steps_left, found.seconds_left, found.workers) == (1.0, 0, 0.0, 2)
    assert found.phases == {Cell(): {"frozen": {"prose": "done"}, "lora": {"prose": "done"}, "ia3": {"prose": "done"}}}


def test_a_comparison_is_that_of_the_reported_runs(recorded, folder):
    found = adapterlab.compare("ia3", "lora", study=folder)
    lost = {seed: [recorded[name, seed][1].scores["test"][0] for name in ("ia3", "lora")] for seed in (1, 2)}
    assert found.effect.mean == pytest.approx(fmean(lora - ia3 for ia3, lora in lost.values()))
    assert found.effect.n == 2
    assert [side.contestant for side in found.sides] == ["ia3", "lora"]
    assert adapterlab.compare("lora", "ia3", study=folder).effect.mean == pytest.approx(-found.effect.mean)
    assert adapterlab.compare("ia3", "lora", study=folder, metric="forgetting").metric.name == "forgetting"


def test_the_table_of_trials_is_the_ledgers(analysis, folder):
    frame = adapterlab.trials(folder)
    ledger = {trial.id: outcome for trial, outcome, _ in Ledger(folder / "ledger.sqlite")}
    assert dict(zip(frame["trial"], frame["status"], strict=True)) == {id_: o.status for id_, o in ledger.items()}


@pytest.mark.parametrize("name", ["status", "trials"])
def test_a_study_without_results_is_an_error_that_names_the_folder(name, study_file, tmp_path):
    with pytest.raises(AdapterlabError, match=f"{tmp_path} has no results yet"):
        getattr(adapterlab, name)(study_file, out=tmp_path)


# A model and data in memory.


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("memory") / "model")


@pytest.fixture(scope="module")
def tokenizer(on_disk):
    return AutoTokenizer.from_pretrained(on_disk)


@pytest.fixture
def model(on_disk) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(on_disk)


def films(tasks=("films",), **changes) -> adapterlab.Study:
    return adapterlab.Study(
        name="mine", tasks=tasks, contestants=[{"adapter": "lora"}, {"adapter": "ia3"}], **(SHORT | changes)
    )


ROWS = labelled(40)
FORMS = {
    "rows": ROWS,
    "frame": pd.DataFrame(ROWS)[["label", "text"]],
    "dataset": datasets.Dataset.from_list(ROWS).class_encode_column("label"),
}


@pytest.fixture(scope="module")
def trained(on_disk, tokenizer, executors, tmp_path_factory):
    """The folder and the ledger of a study on a model and rows in memory."""
    out = tmp_path_factory.mktemp("films")
    model = AutoModelForCausalLM.from_pretrained(on_disk)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    analysis = adapterlab.run(films(), out=out, model=model, tokenizer=tokenizer, data={"films": ROWS})
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    return out, what_counts(Ledger(out / "ledger.sqlite")), analysis


def test_a_model_and_rows_in_memory_are_trained_on(trained):
    _, counted, analysis = trained
    assert set(analysis.scoreboard["tasks"]) == {"films"}
    assert set(analysis.scoreboard["unit"]) == {"nats per example"}
    assert all(status == "ok" for status, *_ in counted.values())
    assert len(counted) == 1 + 2 * (5 + 2 + 2)


@pytest.mark.parametrize("form", FORMS)
def test_inputs_with_equal_content_reuse_all_trials(form, trained, model, tokenizer, executors):
    out, counted, analysis = trained
    started = len(executors)
    tokenizer(["used", "in the meantime"], padding=True)
    again = adapterlab.run(films(), out=out, model=model, tokenizer=tokenizer, data={"films": {"train": FORMS[form]}})
    assert what_counts(Ledger(out / "ledger.sqlite")) == counted
    assert len(executors) == started
    pd.testing.assert_frame_equal(again.scoreboard, analysis.scoreboard)


def test_a_study_on_inputs_in_memory_is_found_again_by_its_folder(trained):
    out, counted, analysis = trained
    assert adapterlab.status(out).trials == len(counted)
    pd.testing.assert_frame_equal(adapterlab.run(out).scoreboard, analysis.scoreboard)


@pytest.mark.parametrize("part", ["model", "tokenizer", "rows"])
def test_inputs_with_different_content_are_saved_apart(part, model, tokenizer, tmp_path):
    before = saved_model(model, tokenizer, tmp_path), save_rows(ROWS, tmp_path)
    if part == "model":
        with torch.no_grad():
            model.model.norm.weight[0] += 1
    if part == "tokenizer":
        tokenizer = AutoTokenizer.from_pretrained(before[0])
        tokenizer.add_tokens(["zebra"])
    rows = [*ROWS[:-1], ROWS[-1] | {"label": "sideways"}] if part == "rows" else ROWS
    after = saved_model(model, tokenizer, tmp_path), save_rows(rows, tmp_path)
    assert [a == b for a, b in zip(after, before, strict=True)] == [part == "rows", part != "rows"]
    assert len(AutoTokenizer.from_pretrained(after[0])) == len(tokenizer)


def test_a_saved_model_answers_as_the_one_in_memory(model, tokenizer, tmp_path):
    loaded = AutoModelForCausalLM.from_pretrained(saved_model(model.eval(), tokenizer, tmp_path)).eval()
    ids = torch.arange(3, 15)[None]
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert [path.name for path in tmp_path.iterdir()] == [Path(saved_model(model, tokenizer, tmp_path)).name]


def test_a_model_or_rows_on_disk_are_used_in_place(tmp_path):
    assert saved_model("some/model", None, tmp_path / "no") == "some/model"
    assert saved_model(tmp_path, None, tmp_path / "no") == str(tmp_path)
    assert save_rows("rows.jsonl", tmp_path / "no") == "rows.jsonl"
    assert not (tmp_path / "no").exists()


def test_saved_rows_have_the_values_that_were_given(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 2, "source": "here"}]
    for form in (rows, datasets.Dataset.from_list(rows)):
        assert pd.read_parquet(save_rows(form, tmp_path))["label"].tolist() == [1, 2]
    names = pd.read_parquet(save_rows(FORMS["dataset"], tmp_path))["label"].tolist()
    assert names == [row["label"] for row in ROWS]
    chat = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}]
    paths = {save_rows(form, tmp_path) for form in (chat, datasets.Dataset.from_list(chat), pd.DataFrame(chat))}
    assert len(paths) == 1


# Tuning.


@pytest.fixture(scope="module")
def tuned(on_disk, tokenizer, executors, tmp_path_factory):
    """Advice for a model and rows in memory, the folder, and the number of executors at its end."""
    out = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapterlab.tuning.planning.MIN_STEPS", 4)  # fewer steps than are useful
        advice = tune(AutoModelForCausalLM.from_pretrained(on_disk), completions(40), tokenizer, out)
    return advice, out, what_counts(Ledger(out / "ledger.sqlite"))


def tune(model, rows, tokenizer, out: Path | None, **options) -> adapterlab.Advice:
    settings = {"contestants": ["lora", "ia3"], "budget": "3%", "time": "10m", "seeds": 2, "workers": 1, "batch": 8}
    return adapterlab.tune(model, rows, tokenizer=tokenizer, out=out, **(settings | options))


def test_tuning_a_model_in_memory_gives_advice(tuned):
    advice, out, counted = tuned
    assert isinstance(advice, adapterlab.Advice)
    assert advice.contestant in ("lora", "ia3")
    assert f"Take {advice.contestant} at a learning rate of {advice.rate:.2g}" in str(advice)
    assert advice.folder == out
    best = next(row for row in advice.analysis.main.scoreboard.rows if row.contestant == advice.contestant)
    assert list(best.rates.values()) == [advice.rate]
    assert {status for status, *_ in counted.values()} == {"ok"}


def test_a_notebook_shows_the_advice_as_escaped_html(tuned):
    advice = dataclasses.replace(tuned[0], text="Its lead is real (p < 0.05).")
    assert "<p>Its lead is real (p &lt; 0.05).</p>" in advice._repr_html_()
    assert f"<td>{advice.contestant}</td>" in advice._repr_html_()


def test_the_saved_winner_loads_onto_the_model_in_memory(tuned, model):
    advice, out, _ = tuned
    ids = torch.arange(3, 15)[None]
    before = model.eval()(ids).logits
    handle = adapterlab.load(model, out / "winner/adapterlab")
    assert handle.adapter.name == advice.contestant
    assert not torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("form", ["rows", "frame", "dataset"])
def test_tuning_again_on_equal_content_resumes(form, tuned, model, tokenizer, executors):
    advice, out, counted = tuned
    rows = completions(40)
    given = {"rows": rows, "frame": pd.DataFrame(rows), "dataset": datasets.Dataset.from_list(rows)}[form]
    started = len(executors)
    again = tune(model, given, tokenizer, out)
    assert what_counts(Ledger(out / "ledger.sqlite")) == counted
    assert len(executors) == started
    assert (again.text, again.winner, again.notes) == (advice.text, advice.winner, advice.notes)


def test_rows_in_memory_of_every_part_are_saved_under_runs_by_default(
    model, tokenizer, tmp_path, executors, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    planned = []

    def stop(prepared, ledger, start):
        planned.append(prepared)
        raise AdapterlabError("planned")

    with pytest.raises(AdapterlabError, match="planned"):
        tune(
            model,
            completions(20),
            tokenizer,
            None,
            eval=pd.DataFrame(completions(12, 100)),
            ood=datasets.Dataset.from_list(completions(13, 500)),
            keep=[{"text": f"what is to be kept, number {i}"} for i in range(14)],
            contestants="ia3",
            run=stop,
        )
    (task,) = planned[0].resolved.tasks.values()
    counts = {str(part): len(rows) for part, rows in parts_of(task.data).rows.items()}
    assert counts == {"train": 20, "validation": 4, "test": 8, "ood": 13, "base": 14}
    (saved,) = Path("runs/inputs").glob("model-*")
    assert (Path("runs") / f"{saved.name}-{Path(task.data.train).stem}" / "plan.json").is_file()


# Mistakes.


class NoModel(nn.Module):
    """A module that transformers did not make."""


def attached(model: nn.Module) -> nn.Module:
    adapterlab.attach(model, adapterlab.adapter("lora"))
    return model


def with_peft(model: nn.Module) -> nn.Module:
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))


def that_cannot_be_saved(model: nn.Module) -> nn.Module:
    model.save_pretrained = None
    return model


MODELS = {
    "no tokenizer": (lambda model: model, False, "a model in memory needs its tokenizer"),
    "an adapter": (attached, True, "the model has an adapter attached: detach it first"),
    "an adapter of PEFT": (with_peft, True, "the model has an adapter of PEFT attached"),
    "no model of transformers": (lambda _: NoModel(), True, "NoModel cannot be saved"),
    "a model that cannot be saved": (that_cannot_be_saved, True, "the model cannot be saved to"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_used_is_refused(name, model, tokenizer, tmp_path):
    make, with_tokenizer, message = MODELS[name]
    given = {"model": make(model), "tokenizer": tokenizer if with_tokenizer else None}
    with pytest.raises(AdapterlabError, match=message):
        adapterlab.run(films(), out=tmp_path, data={"films": ROWS}, **given)
    with pytest.raises(AdapterlabError, match=message):
        tune(given["model"], ROWS, given["tokenizer"], tmp_path)
    assert not list(tmp_path.glob("inputs/model-*"))
    assert not list(tmp_path.glob("inputs/.*"))


DATA = {
    "no rows": ([], "there are no rows"),
    "rows of nothing": ([{}], "there are no rows"),
    "an empty frame": (pd.DataFrame({"text": []}), "there are no rows"),
    "a number": (7, "int is not data: give a file, a list of rows as dictionaries, a DataFrame or a Dataset"),
    "texts": (["a", "b"], "list is not data"),
    "nothing": (None, "NoneType is not data"),
    "values of two types": ([{"text": "a"}, {"text": 1}], "the rows cannot be written as Parquet"),
    "no file": ("nowhere.jsonl", "nowhere.jsonl does not exist"),
    "unknown keys": ([{"words": "a"}] * 12, r"a row needs 'text', or"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_used_are_refused(name, on_disk, tmp_path):
    rows, message = DATA[name]
    with pytest.raises(AdapterlabError, match=message):
        adapterlab.run(films(), out=tmp_path, model=on_disk, data={"films": {"train": rows}})
    with pytest.raises(AdapterlabError, match=message):
        adapterlab.tune(on_disk, rows, out=tmp_path)


ENTRIES = {
    "a task that the study lacks": ({"flims": ROWS}, "unknown task 'flims'.*did you mean films"),
    "an unknown part": (
        {"films": {"train": ROWS, "test": ROWS}},
        "has unknown keys test: give train, eval, ood or keep",
    ),
    "no training rows": ({"films": {"eval": ROWS}}, "has no training rows: give train"),
    "a name with a space": ({"my films": ROWS}, "a task's name has letters, digits, - and _ alone"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_of_data_that_cannot_be_used_are_refused(name, on_disk, tmp_path):
    data, message = ENTRIES[name]
    with pytest.raises(AdapterlabError, match=message):
        adapterlab.run(films(("films", "my films")), out=tmp_path, model=on_disk, data=data)


def test_a_folder_that_cannot_be_written_is_named(model, tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    for save in (lambda where: saved_model(model, tokenizer, where), lambda where: save_rows(ROWS, where)):
        with pytest.raises(AdapterlabError, match="cannot be written"):
            save(tmp_path / "file" / "inputs")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["proze"]}, "unknown task 'proze'.*did you mean prose"),
        ({"contestants": [{"adapter": "lorra"}]}, "did you mean lorra"),
        ({"contestants": [{"adapter": "lora", "settings": {"rnak": 2}}]}, "unknown.*'rnak'.*did you mean rank"),
        ({"reference": "dora"}, "unknown contestant 'dora'"),
    ],
)
def test_a_study_made_in_python_is_checked_as_a_file_is(changes, message, on_disk, tmp_path):
    study = adapterlab.Study(
        **({"name": "mine", "tasks": ["prose"], "contestants": [{"adapter": "lora"}]} | SHORT | changes)
    )
    for call in (adapterlab.run, adapterlab.estimate):
        with pytest.raises(AdapterlabError, match=message):
            call(study.model_copy(update={"model": str(on_disk)}), out=tmp_path)


# Importing.

LIGHT = """
import sys
import adapterlab
assert not {"torch", "transformers", "pandas", "numpy"} & set(sys.modules), "import adapterlab is slow"
import adapterlab.tuning.tuner, adapterlab.lab.run.scheduler, adapterlab.surgery.attach, adapterlab.report.page
import adapterlab.verdict, adapterlab.models.loading, adapterlab.argmap, adapterlab.cli.tune, adapterlab.api
from adapterlab import attach, calibrate, compare, estimate, load, run, sized, status, trials, tune
functions = attach, calibrate, compare, estimate, load, run, sized, status, trials, tune
assert all(type(f).__name__ == "function" for f in functions), functions
assert [f.__name__ for f in functions] == "attach calibrate compare estimate load run sized status trials tune".split()
"""


def test_importing_loads_no_torch_and_submodules_do_not_hide_functions():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_can_be_imported():
    for name in adapterlab.__all__:
        assert getattr(adapterlab, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'tuen'"):
        adapterlab.tuen  # noqa: B018
