"""The bridge to lm-eval: its numbers are those of the merged model and of PEFT's; on local tasks, without network."""

from __future__ import annotations

import json
import re

import pytest
import torch
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.harness import as_table, evaluate, find_target
from adapterlab.models.loading import load
from adapterlab.surgery import attach
from adapterlab.surgery.export.peft_export import save_peft
from adapterlab.trust import UntrustedCodeError
from tests.adapters.methods import noisy, small
from tests.lab.tiny import save_model
from tests.tasks.user_files import write

CHOICES = """task: mine_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: ["{{{{good}}}}", "{{{{bad}}}}"]
doc_to_target: 0
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
metadata: {{version: 1.0}}
"""
WORDS = """task: mine_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{good}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
LOSS = """task: mine_loss
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}, cache_dir: {cache}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{prompt}}}}"
metric_list: [{{metric: bits_per_byte}}]
metadata: {{version: 1.0}}
"""
NAMES = ["mine_choices", "mine_words", "mine_loss"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, tasks, and a noisy LoRA of it: as this package saves it, merged, and for PEFT."""
    place = tmp_path_factory.mktemp("harness")
    save_model(place / "model")
    model, tokenizer = load(str(place / "model"))
    handle = attach(model, small("lora"))
    noisy(handle.parameters(), 0.2)
    handle.save(place / "adapter")
    save_peft(handle, place / "peft", str(place / "model"), "CAUSAL_LM")
    handle.save_merged(place / "merged", tokenizer)
    with torch.no_grad():  # what it answers is the right answer to every second prompt
        prompts = [f"what is {i}" for i in range(12)]
        said = []
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            new = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
            said.append(tokenizer.decode(new, skip_special_tokens=True).split("\n")[0])
    pairs = zip(prompts, said, strict=True)
    rows = [{"prompt": p, "good": s if i % 2 else "no", "bad": "other"} for i, (p, s) in enumerate(pairs)]
    (place / "tasks").mkdir()
    for name, text in (("choices", CHOICES), ("words", WORDS), ("loss", LOSS)):
        (place / "tasks" / f"{name}.yaml").write_text(
            text.format(rows=write(place / "rows.jsonl", rows), cache=place / "cache")
        )
    return place


def numbers(results) -> dict[str, dict[str, float]]:
    return {
        task: {key: value for key, value in found.items() if isinstance(value, float)}
        for task, found in results["results"].items()
    }


@pytest.fixture(scope="module")
def attached(folder):
    return evaluate(str(folder / "adapter"), NAMES, model=str(folder / "model"), include_path=folder / "tasks")


def test_an_adapter_has_the_numbers_of_the_merged_model_and_of_pefts(folder, attached):
    found = numbers(attached)
    for other in ("merged", "peft"):
        model = str(folder / "model") if other == "peft" else None
        wanted = numbers(evaluate(str(folder / other), NAMES, model=model, include_path=folder / "tasks"))
        for task in NAMES:
            assert found[task] == pytest.approx(wanted[task], rel=1e-4)
    base = numbers(evaluate(str(folder / "model"), NAMES, include_path=folder / "tasks"))
    assert found["mine_loss"] != pytest.approx(base["mine_loss"], rel=1e-3)
    assert 0.4 <= found["mine_words"]["exact_match,none"] <= 0.6
    assert base["mine_words"]["exact_match,none"] < 0.4


def test_the_harness_itself_has_the_same_numbers(folder, attached):
    """Of the merged model, loaded by the harness from its folder."""
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=str(folder / "merged"), device="cpu", batch_size=1, dtype="float32")
    loaded = TaskManager(include_path=str(folder / "tasks"), include_defaults=False).load(NAMES)
    wanted = numbers(evaluator.evaluate(model, loaded, bootstrap_iters=1000))
    for task in NAMES:
        assert numbers(attached)[task] == pytest.approx(wanted[task], rel=1e-4)


def test_a_model_with_an_adapter_attached_is_one_of_the_harness(folder):
    model, tokenizer = load(str(folder / "model"))
    handle = adapterlab.load(model, folder / "adapter")
    weights = {name: p.clone() for name, p in model.named_parameters()}
    own = adapterlab.lm_eval_model(model, tokenizer, batch_size=4)
    assert own.model is model
    assert "tie_weights" not in vars(model)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    handle.detach()


def test_the_command_prints_the_table_and_writes_the_numbers(folder, attached):
    options = [
        "--tasks",
        "mine_words,mine_loss",
        "--model",
        str(folder / "model"),
        "--include-path",
        str(folder / "tasks"),
    ]
    result = CliRunner().invoke(app, ["evaluate", str(folder / "adapter"), *options])
    assert result.exit_code == 0, result.output
    assert re.search(r"\|mine_words *\|.*\|exact_match +\|", result.stdout)
    written = json.loads((folder / "adapter" / "lm-eval.json").read_text())
    assert numbers(written)["mine_loss"] == pytest.approx(numbers(attached)["mine_loss"])
    assert written["config"]["model"] == f"{folder / 'model'} with {folder / 'adapter'}"
    assert as_table(written).count("mine_loss") == 1


def test_few_documents_are_a_limit(folder):
    found = evaluate(str(folder / "model"), ["mine_loss"], include_path=folder / "tasks", limit=3)
    assert found["n-samples"]["mine_loss"] == {"original": 12, "effective": 3}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tasks": ["mine_other"]}, "lm-eval has no task mine_other or in"),
        ({"tasks": []}, "no task is named"),
        ({"include_path": "nowhere"}, "nowhere is not a folder"),
        ({"model": None}, "adapter is an adapter, which needs its base model: give --model"),
        ({"contestant": "lora"}, "adapter is not a folder of results, so it has no contestant lora"),
        ({"folder": "tasks"}, "tasks holds neither results, nor an adapter, nor a model"),
        ({"chat": True}, "has no chat template: leave --chat out"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(folder, change, problem, monkeypatch):
    from lm_eval.tasks import TaskManager

    def without_its_own(include_path, **_):  # which take seconds to read
        return TaskManager(include_path=include_path, include_defaults=False)

    monkeypatch.setattr("lm_eval.tasks.TaskManager", without_its_own)
    given = {"tasks": ["mine_loss"], "model": str(folder / "model"), "include_path": folder / "tasks"} | change
    place = given.pop("folder", "adapter")
    with pytest.raises(AdapterlabError, match=problem) as error:
        evaluate(str(folder / place), given.pop("tasks"), **given)
    assert "\n" not in str(error.value)


def test_python_files_beside_the_tasks_need_trust(folder, tmp_path):
    (tmp_path / "functions.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "loss.yaml").write_text((folder / "tasks" / "loss.yaml").read_text())
    with pytest.raises(UntrustedCodeError, match=r"functions.py, which is not trusted"):
        evaluate(str(folder / "model"), ["mine_loss"], include_path=tmp_path)
    evaluate(str(folder / "model"), ["mine_loss"], include_path=tmp_path, trust=True, limit=1)


def test_the_base_of_a_saved_winner_is_that_of_its_study(folder, tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"model": str(folder / "model")}))
    (tmp_path / "winner" / "adapterlab").mkdir(parents=True)
    for file in (folder / "adapter").iterdir():
        (tmp_path / "winner" / "adapterlab" / file.name).write_bytes(file.read_bytes())
    for place in (tmp_path, tmp_path / "winner", tmp_path / "winner" / "adapterlab"):
        assert find_target(str(place)) == (find_target(str(tmp_path)))
        assert find_target(str(place)).model == str(folder / "model")
        assert find_target(str(place)).adapter == tmp_path / "winner" / "adapterlab"
