"""The prompts and right answers that generated answers are compared with."""

from __future__ import annotations

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import load_causal
from adapterlab.tasks import task
from adapterlab.tasks.base import Part
from adapterlab.tasks.files import FileData, task_of
from tests.tasks.user_files import TEMPLATE, chats, completions, labelled, texts, write


@pytest.fixture
def tokenizer():
    return load_causal().tokenizer


def mine(tmp_path, rows, **settings):
    return task_of(FileData("mine", write(tmp_path / "a.jsonl", rows), metric="exact_match", **settings))


def test_a_completion_is_asked_for_by_its_prompt(tmp_path, tokenizer):
    rows = [row | {"more": i} for i, row in enumerate(completions(40))]
    found = mine(tmp_path, rows).questions(Part.TEST, tokenizer, 5)
    assert len(found) == 5
    for question in found:
        row = rows[question.row["more"]]
        assert question.row == row
        assert tokenizer.decode(question.ids) == row["prompt"]
        assert question.reference == row["completion"]
        assert question.place.endswith(f"a.jsonl:{question.row['more'] + 1}")


def test_the_rows_asked_are_the_first_that_are_scored(tmp_path, tokenizer):
    data = mine(tmp_path, completions(60))
    examples, asked = data.examples(Part.TEST, tokenizer, 32, 4), data.questions(Part.TEST, tokenizer, 4)
    for ids, scored, question in zip(examples.inputs["input_ids"], examples.inputs["scored"], asked, strict=True):
        assert ids[: int(scored.int().argmax())].tolist() == list(question.ids)
    assert data.questions(Part.TEST, tokenizer, 2) == asked[:2]


def test_a_chat_is_asked_for_its_last_answer_with_the_templates_generation_prompt(tmp_path, tokenizer):
    tokenizer.chat_template = TEMPLATE
    for question in mine(tmp_path, chats(20)).questions(Part.TEST, tokenizer, 3):
        messages = question.row["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(question.ids) == prompt
        assert question.reference == messages[-1]["content"]
        assert (question.stops, question.tail) == ((), "<|end|>")  # the embedded model has no such token
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    question, *_ = mine(tmp_path, chats(20)).questions(Part.TEST, tokenizer, 1)
    assert (question.stops, question.tail) == ((end,), "")


def test_a_chat_that_ends_with_the_user_is_asked_for_the_answer_before(tmp_path, tokenizer):
    tokenizer.chat_template = TEMPLATE
    rows = [{"messages": [*row["messages"], {"role": "user", "content": "thanks"}]} for row in chats(20)]
    for question in mine(tmp_path, rows).questions(Part.TEST, tokenizer, 3):
        assert question.reference == question.row["messages"][-2]["content"]
        assert "thanks" not in tokenizer.decode(question.ids)


def test_a_shipped_task_of_completions_has_questions(tokenizer):
    facts = task("facts")
    asked = facts.questions(Part.TEST, tokenizer, 3)
    known = {(pair.prompt, pair.completion) for pair in facts.completions(Part.TEST)}
    assert {(tokenizer.decode(question.ids), question.reference) for question in asked} <= known


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (texts(20), "running text has no answers that could be scored by exact match: give 'prompt' and 'completion'"),
        (
            labelled(20),
            "rows of text and label are classified, and the accuracy is reported anyway: leave the metric out",
        ),
    ],
)
def test_data_without_answers_are_one_line(tmp_path, rows, problem):
    with pytest.raises(AdapterlabError, match=problem) as error:
        mine(tmp_path, rows)
    assert "\n" not in str(error.value)


def test_a_task_without_answers_says_so(tokenizer):
    with pytest.raises(AdapterlabError, match="prose: the examples are not prompts with answers"):
        task("prose").questions(Part.TEST, tokenizer, 3)
