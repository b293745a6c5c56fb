"""Encoder-decoders: the prompt goes to the encoder, and losses and answers are those of transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.runner import Runner
from adapterlab.models.corpus import documents
from adapterlab.models.loading import load
from adapterlab.models.pretrain import train_tokenizer
from adapterlab.tasks import task
from adapterlab.tasks.base import Examples, Part, Question
from adapterlab.tasks.encoder_decoder import with_one_answer
from adapterlab.tasks.files import FileData, task_of
from adapterlab.tasks.generation import answers
from adapterlab.tasks.scoring import predictions, score_text
from tests.lab.in_process import use
from tests.lab.trial.test_classifiers import runner_of, trial_of
from tests.tasks.user_files import TEMPLATE, chats, completions, texts, write

KINDS = ("T5", "Bart")


def save(folder: Path, kind: str) -> Path:
    tokenizer = train_tokenizer(documents("heldout")[:5], 300)
    end = tokenizer.eos_token_id
    common = {"vocab_size": len(tokenizer), "eos_token_id": end, "pad_token_id": end}
    if kind == "T5":
        config = transformers.T5Config(
            d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=end, **common
        )
    else:
        config = transformers.BartConfig(
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=128,
            bos_token_id=5,
            decoder_start_token_id=end,
            forced_bos_token_id=None,
            forced_eos_token_id=None,
            **common,
        )
    torch.manual_seed(3)
    getattr(transformers, f"{kind}ForConditionalGeneration")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def model_folder(request, tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp(request.param) / "model", request.param)


@pytest.fixture(scope="module")
def sums(tmp_path_factory) -> FileData:
    folder = tmp_path_factory.mktemp("rows")
    return FileData("sums", write(folder / "sums.jsonl", completions(60)), keep=write(folder / "k.jsonl", texts(12)))


def whole(examples: Examples, model, tokenizer) -> list[tuple[list[int], list[int]]]:
    """Prompts and answers of some rows, read off the examples."""
    rows = []
    for ids, scored in zip(examples.inputs["input_ids"].tolist(), examples.inputs["scored"].tolist(), strict=True):
        first = scored.index(True)
        rows.append((ids[:first], [i for i, s in zip(ids, scored, strict=True) if s]))
    return rows


@torch.no_grad()
def test_losses_are_those_of_transformers(model_folder, sums):
    model, tokenizer = load(str(model_folder))
    found = with_one_answer(task_of(sums).examples(Part.TEST, tokenizer, 64, 6), tokenizer, "sums")
    nats = 0.0
    for prompt, answer in whole(found, model, tokenizer):
        out = model(
            input_ids=torch.tensor([[*prompt, tokenizer.eos_token_id]]),
            labels=torch.tensor([answer]),
        )
        nats += float(out.loss) * len(answer)
    scores = score_text(model, found)
    assert scores.loss == pytest.approx(nats / found.size, rel=1e-5)
    assert sum(scores.rows) / len(scores.rows) == pytest.approx(scores.loss, rel=1e-6)


def test_a_batch_is_answered_as_its_prompts_alone(model_folder):
    model, tokenizer = load(str(model_folder))
    model = model.double()
    prompts = [(5, 9, 11, 30, 2, 17, 44), (8, 20), (21, 3, 60, 7)]
    expected = []
    for prompt in prompts:
        ids = torch.tensor([[*prompt, tokenizer.eos_token_id]])
        out = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False, num_beams=1, use_cache=False)[0, 1:]
        row = out.tolist()
        row = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
        expected.append(tokenizer.decode(row))
    questions = [Question(prompt, "", f"row {i}", {}) for i, prompt in enumerate(prompts)]
    assert answers(model, tokenizer, questions, 6) == expected


def test_gradients_are_those_of_transformers(model_folder, sums):
    model, tokenizer = load(str(model_folder))
    found = with_one_answer(task_of(sums).examples(Part.TRAIN, tokenizer, 64, 4), tokenizer, "sums")
    parameter = next(iter(model.parameters()))
    rows = whole(found, model, tokenizer)
    for prompt, answer in rows:
        loss = model(input_ids=torch.tensor([[*prompt, tokenizer.eos_token_id]]), labels=torch.tensor([answer])).loss
        (loss * len(answer)).backward()
    expected = parameter.grad.clone()
    model.zero_grad()
    task_of(sums).loss(model, found.inputs).backward()
    torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5)
    logits, targets = predictions(model, found.inputs)
    assert len(logits) == len(targets) == sum(len(answer) for _, answer in rows) == task_of(sums).terms(found.inputs)


def test_of_several_answers_the_last_is_scored_and_of_running_text_the_second_half(model_folder, tmp_path):
    _, tokenizer = load(str(model_folder))
    tokenizer.chat_template = TEMPLATE
    data = FileData("talk", write(tmp_path / "chats.jsonl", chats(40)), keep=write(tmp_path / "known.jsonl", texts(12)))
    examples = task_of(data).examples(Part.TRAIN, tokenizer, 128, 8)
    found = with_one_answer(examples, tokenizer, "talk")
    for ids, before, after in zip(
        examples.inputs["input_ids"], examples.inputs["scored"], found.inputs["scored"], strict=True
    ):
        assert "once more" in tokenizer.decode(ids[before])
        assert "it is" not in tokenizer.decode(ids[after])
        assert "once more" in tokenizer.decode(ids[after])
    windows = task_of(data).examples(Part.BASE, tokenizer, 32, 4)
    halves = with_one_answer(windows, tokenizer, "talk").inputs["scored"]
    assert (halves.sum(1) <= windows.inputs["scored"].sum(1) // 2 + 1).all()
    assert (halves[:, :2] == 0).all()


def test_a_task_of_pairs_is_refused_in_one_line(model_folder):
    _, tokenizer = load(str(model_folder))
    examples = task("steer").examples(Part.TEST, tokenizer, 64, 4)
    with pytest.raises(AdapterlabError, match="the task steer is not one of prompts and answers"):
        with_one_answer(examples, tokenizer, "steer")


@pytest.mark.parametrize("name", ["lora", "dora", "oft", "ia3", "vera", "hra", "full_ft"])
def test_adapters_learn_on_an_encoder_decoder(model_folder, sums, name):
    runner: Runner = runner_of(sums)
    settings = {"name": name} | ({"block_size": 4} if name == "oft" else {})
    trial = trial_of(model_folder, sums, name, adapter=json.dumps(settings), steps=12, windows=8)
    frozen = runner.run(replace(trial, adapter='{"name": "frozen"}', steps=0))
    outcome = runner.run(trial)
    assert outcome.status == "ok", outcome.note
    assert outcome.validation < frozen.validation


def test_tune_answers_for_an_encoder_decoder(tmp_path, sums, monkeypatch):
    use(monkeypatch)
    monkeypatch.setattr("adapterlab.tuning.planning.MIN_STEPS", 6)  # fewer steps than are useful
    model_folder = save(tmp_path / "model", "T5")
    advice = adapterlab.tune(
        model_folder, sums.train, keep=sums.keep, contestants="lora,ia3", time="5m", seeds=2, out=tmp_path / "out"
    )
    assert advice.contestant in ("lora", "ia3")
    assert "AutoModelForSeq2SeqLM" in advice.how_to_load
    names: dict = {}
    exec(advice.how_to_load, names)
    assert names["model"].config.is_encoder_decoder
