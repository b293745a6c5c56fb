"""The tasks: what is cut from the library, and that no part sees another's text."""

from __future__ import annotations

import ast
import itertools
import math

import pytest
import torch

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import documents, split_of
from adapterlab.models.loading import load_causal
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks.base import Examples, Part
from adapterlab.tasks.restyle import restyle
from adapterlab.tasks.text import Completion, base_domain, cut, pad, predictions, score_text

TEXTS = (Part.TRAIN, Part.VALIDATION, Part.TEST, Part.OOD)


@pytest.fixture(scope="module")
def tokenizer():
    return load_causal().tokenizer


@pytest.mark.parametrize("name", all_tasks())
def test_no_text_is_in_two_parts(name):
    def passages(part):
        return {p.strip() for text in task(name).texts(part) for p in text.split("\n\n") if len(p.strip()) > 200}

    parts = [passages(part) for part in TEXTS]
    assert all(parts)
    for a, b in itertools.combinations(parts, 2):
        assert not a & b


@pytest.mark.parametrize("name", all_tasks())
def test_there_is_something_to_learn_and_to_score(name, tokenizer):
    for part, enough in ((Part.VALIDATION, 32), (Part.TEST, 64), (Part.OOD, 64)):
        assert len(task(name).examples(part, tokenizer, 128, 64)) >= enough, part


def test_a_held_out_file_is_held_out_wherever_the_library_lies():
    assert {split_of(d.path) for d in documents("heldout")} == {"heldout"}
    assert {split_of(d.path) for d in documents("train")} == {"train"}
    assert split_of("test/test_ast.py") == "train"
    assert 10 < len(documents("train")) / len(documents("heldout")) < 50


def test_restyled_source_is_the_same_program_in_another_hand():
    source = (
        "def read_line(self, max_size=1):\n    if max_size:\n        # why\n        return self._read_all(max_size)\n"
    )
    assert restyle(source) == "def readLine(self, maxSize=1):\n  if maxSize:\n    return self._readAll(maxSize)\n"
    for document in documents("heldout")[:10]:
        again = restyle(document.text)
        assert again is not None
        assert len(list(ast.walk(ast.parse(again)))) == len(list(ast.walk(ast.parse(document.text))))


def test_what_does_not_parse_is_left_out():
    assert restyle("def (") is None


def test_more_windows_are_a_superset(tokenizer):
    few, many = (base_domain(tokenizer, 64, count).inputs["input_ids"].tolist() for count in (8, 16))
    assert all(window in many for window in few)


def test_text_too_short_for_a_window_is_named(tokenizer):
    with pytest.raises(AdapterlabError, match="no text has 64 tokens"):
        cut(["short"], tokenizer, 64, 8, "mine")


class Uniform(torch.nn.Module):
    """A model that holds every token equally likely."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.vocabulary = vocabulary

    def forward(self, input_ids):
        class Output:
            logits = torch.zeros(*input_ids.shape, self.vocabulary)

        return Output()


def test_loss_is_in_nats_per_byte_of_scored_text():
    scored = torch.tensor([[False, True, True, False]])
    examples = Examples({"input_ids": torch.tensor([[1, 2, 3, 4]]), "scored": scored}, size=10)
    assert score_text(Uniform(50), examples).loss == pytest.approx(2 * math.log(50) / 10)


def test_bytes_are_those_of_the_scored_tokens(tokenizer):
    text = "def f(x):\n    return 'é€' + x\n" * 40
    examples = cut([text], tokenizer, 16, 1, "one")
    assert examples.size == len(tokenizer.decode(examples.inputs["input_ids"][0, 1:]).encode())


def test_only_completions_and_the_end_are_scored(tokenizer):
    pairs = [Completion("what is it? ", "a long answer"), Completion("x" * 400, "b")]
    examples = pad(pairs, tokenizer, 48, 2, "mine")
    ids, scored = examples.inputs["input_ids"], examples.inputs["scored"]
    assert ids.shape[1] <= 48
    assert examples.size == len("a long answer") + len("b")
    for row, marks in zip(ids, scored, strict=True):
        text = tokenizer.decode(row[marks][:-1])
        assert text in ("a long answer", "b")
        assert row[marks][-1] == tokenizer.eos_token_id
    batch = examples.rows(slice(0, 2))
    assert len(predictions(Uniform(4096), batch)[1]) == task("prose").terms(batch) == int(scored.sum())


def test_a_completion_that_does_not_fit_is_named(tokenizer):
    with pytest.raises(AdapterlabError, match=r"mine: a completion has .* give a length above 8"):
        pad([Completion("a", "words " * 20)], tokenizer, 8, 1, "mine")
