"""A chat model's own answers: generated once, greedily, and half of what its forgetting is measured on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.runner import Runner
from adapterlab.models.fingerprint import fingerprint
from adapterlab.models.loading import load
from adapterlab.tasks import own_answers as module
from adapterlab.tasks import task
from adapterlab.tasks.base import Part
from adapterlab.tasks.own_answers import QUESTIONS, answers_of, generate_answers, give_answers, name_of, own_answers
from adapterlab.tasks.text import base_domain
from tests.lab.tiny import save_study
from tests.tasks.user_files import completions, write

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of a tiny chat model, with a cache of its own."""
    monkeypatch.setenv("ADAPTERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "MOST_TOKENS", 12)
    path = save_study(tmp_path)
    set_template(tmp_path / "model", TEMPLATE)
    return path


def set_template(folder, template):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def answers(study):
    model = str(study.parent / "model")
    return own_answers(model, fingerprint(model))


def test_answers_of_a_batch_are_those_one_at_a_time(study):
    model, tokenizer = load(str(study.parent / "model"))
    found = answers(study)
    assert len(found) == len(QUESTIONS) == len(set(QUESTIONS))
    settings = GenerationConfig(do_sample=False, max_new_tokens=12, eos_token_id=0, pad_token_id=0)
    for answer, question in list(zip(found, QUESTIONS, strict=True))[::9]:
        assert answer.prompt == f"[user] {question}\n[a]"
        ids = torch.tensor([tokenizer(answer.prompt)["input_ids"]])
        new = model.generate(ids, generation_config=settings)[0, ids.shape[1] :].tolist()
        assert answer.text == tokenizer.decode(new, skip_special_tokens=True)
        assert answer.ended is (0 in new)


def test_they_are_generated_once_and_again_if_the_file_is_damaged(study, monkeypatch):
    found = answers(study)
    (stored,) = (study.parent / "cache/answers").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, "generate_answers", None)
        assert answers(study) == found
    stored.write_text(stored.read_text().replace("[a]", "[b]"))
    assert answers(study) == found


def test_a_model_without_a_template_and_the_embedded_one_have_none(study):
    set_template(study.parent / "model", None)
    assert answers(study) == own_answers("embedded", fingerprint("embedded")) == ()
    set_template(study.parent / "model", "{{ raise_exception('no') }}")
    assert answers(study) == ()
    set_template(
        study.parent / "model", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RENDERING", 0.2)
        with pytest.raises(AdapterlabError, match="template runs for more than"):
            answers(study)


def test_every_second_example_of_the_base_domain_is_an_answer(study):
    tokenizer = load(str(study.parent / "model")).tokenizer
    plain = base_domain(tokenizer, 128, 8)
    give_answers(tokenizer, answers(study))
    few, many = base_domain(tokenizer, 128, 8), base_domain(tokenizer, 128, 200)
    assert (len(few), len(many)) == (8, 200)
    for name, tensor in few.inputs.items():
        assert torch.equal(tensor, many.inputs[name][:8])
    by_prompt = {a.prompt: a for a in answers(study)}
    total = 0
    for i in range(8):
        ids, scored, mask = (few.inputs[key][i] for key in ("input_ids", "scored", "attention_mask"))
        if i % 2:
            assert torch.equal(ids, plain.inputs["input_ids"][i // 2])
            total += len(tokenizer.decode(ids[1:]).encode())
            continue
        start = int(scored.nonzero()[0])
        answer = by_prompt[tokenizer.decode(ids[:start])]
        assert tokenizer.decode(ids[scored], skip_special_tokens=True) == answer.text
        assert int(mask.sum()) == start + int(scored.sum())
        assert bool(ids[scored][-1] == 0) is answer.ended
        total += len(tokenizer.decode(ids[scored]).encode())
    assert few.size == total
    assert int(base_domain(tokenizer, 8, 8).inputs["attention_mask"].sum(1).max()) == 8


def test_their_texts_are_part_of_a_trial_and_its_base_is_scored_on_them(study):
    resolved = resolve(load_study(study))
    trial = resolved.trial("prose", None, "all-linear", 1.0, 0, 0, reported=True)
    assert trial.data == f"{task('prose').fingerprint()}, own answers {name_of(answers(study))}"
    runner, trial = Runner(), replace(trial, precision="float32")
    outcome = runner.run(trial)
    context = runner.context(trial)
    assert len(answers_of(context.processor)) == len(QUESTIONS)
    own = task("prose").examples(Part.BASE, context.processor, trial.length, trial.windows)
    expected = task("prose").score(context.model, own, type("Plain", (), {"strength": 1.0})()).loss
    assert outcome.scores["base"][0] == pytest.approx(expected, rel=1e-5)
    (stored,) = (study.parent / "cache/answers").iterdir()
    other = [["[user] Why?\n[a]", "Because.", True]]
    text = json.dumps(other)
    stored.write_text(f"{module._digest(text)}\n{text}")
    changed = resolve(load_study(study)).trial("prose", None, "all-linear", 1.0, 0, 0, reported=True)
    assert replace(changed, precision="float32").id != trial.id


def test_data_that_say_what_to_keep_do_not_depend_on_them(study, tmp_path):
    rows, kept = (write(tmp_path / f"{i}.jsonl", completions(40, start=100 * i)) for i in (1, 2))
    text = study.read_text().replace('["prose"]', '["mine"]')
    for keep, expected in (("", True), (f'keep = "{kept}"\n', False)):
        study.write_text(f'{text}\n[[data]]\nname = "mine"\ntrain = "{rows}"\n{keep}')
        trial = resolve(load_study(study)).trial("mine", None, "all-linear", 1.0, 0, 0, reported=True)
        assert ("own answers" in trial.data) is expected


def test_without_prompts_nothing_is_generated():
    model, tokenizer = load("embedded")
    assert generate_answers(model, tokenizer, []) == ()
