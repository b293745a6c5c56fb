"""All tasks: their texts, and that no text is in two parts."""

from __future__ import annotations

import ast
import itertools
import math
import platform

import pytest
import torch

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import documents, split_of
from adapterlab.models.loading import load_causal
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks.base import Examples, Part
from adapterlab.tasks.mixture import Mixture
from adapterlab.tasks.restyle import restyle
from adapterlab.tasks.scoring import predictions, score_text
from adapterlab.tasks.text import Completion, CompletionTask, WindowTask, base_domain, cut, pack, pad

TEXTS = (Part.TRAIN, Part.VALIDATION, Part.TEST, Part.OOD)
WHOLE = tuple(name for name in all_tasks() if not isinstance(task(name), Mixture))
"""Tasks with texts of their own."""


@pytest.fixture(scope="module")
def tokenizer():
    return load_causal().tokenizer


def passages(name: str, part: Part) -> set:
    """Return the pieces of text that no other part may have."""
    if isinstance(task(name), WindowTask):
        return {p.strip() for text in task(name).texts(part) for p in text.split("\n\n") if len(p.strip()) > 200}
    if isinstance(task(name), CompletionTask):
        return {"".join(completion) for completion in task(name).completions(part)}
    return set(task(name).pairs(part))


@pytest.mark.parametrize("name", WHOLE)
def test_no_text_is_in_two_parts(name):
    parts = [passages(name, part) for part in TEXTS]
    assert all(parts)
    for a, b in itertools.combinations(parts, 2):
        assert not a & b


@pytest.mark.parametrize("name", WHOLE)
def test_there_is_something_to_learn_and_to_score(name, tokenizer):
    for part, enough in ((Part.VALIDATION, 32), (Part.TEST, 48), (Part.OOD, 64)):
        assert len(task(name).examples(part, tokenizer, 128, 64)) >= enough, part
    assert len(task(name).examples(Part.TRAIN, tokenizer, 128, 64)) == 64
    assert len(task(name).explanation) > 60


@pytest.mark.parametrize("name", all_tasks())
def test_examples_are_the_same_every_time_and_more_is_a_superset(name, tokenizer):
    few, again, many = (task(name).examples(Part.TEST, tokenizer, 128, count) for count in (8, 8, 16))
    for key, tensor in few.inputs.items():
        assert torch.equal(tensor, again.inputs[key])
        width = min(tensor.shape[-1], many.inputs[key].shape[-1])
        assert torch.equal(tensor[..., :width], many.inputs[key][:8][..., :width])


@pytest.mark.parametrize("name", all_tasks())
def test_another_library_is_another_fingerprint(name, monkeypatch):
    before = task(name).fingerprint()
    assert task(name).fingerprint() == before
    monkeypatch.setattr(platform, "python_version", lambda: "9.9.9")
    assert task(name).fingerprint() != before


def test_files_are_held_out_by_their_path_in_the_library():
    assert {split_of(d.path) for d in documents("heldout")} == {"heldout"}
    assert {split_of(d.path) for d in documents("train")} == {"train"}
    assert split_of("test/test_ast.py") == "train"
    assert 10 < len(documents("train")) / len(documents("heldout")) < 50


def test_restyled_source_is_the_same_program_in_another_style():
    source = (
        "def read_line(self, max_size=1):\n    if max_size:\n        # why\n        return self._read_all(max_size)\n"
    )
    assert restyle(source) == "def readLine(self, maxSize=1):\n  if maxSize:\n    return self._readAll(maxSize)\n"
    for document in documents("heldout")[:10]:
        again = restyle(document.text)
        assert again is not None
        assert len(list(ast.walk(ast.parse(again)))) == len(list(ast.walk(ast.parse(document.text))))


def test_source_that_does_not_parse_is_left_out():
    assert restyle("def (") is None


def test_more_windows_are_a_superset(tokenizer):
    few, many = (base_domain(tokenizer, 64, count).inputs["input_ids"].tolist() for count in (8, 16))
    assert all(window in many for window in few)


def test_text_too_short_for_a_window_is_named(tokenizer):
    with pytest.raises(AdapterlabError, match="no text has 64 tokens"):
        cut(["short"], tokenizer, 64, 8, "mine")


class Uniform(torch.nn.Module):
    """A model that predicts every token with equal probability."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.vocabulary = vocabulary

    def forward(self, input_ids, attention_mask=None):
        class Output:
            logits = torch.zeros(*input_ids.shape, self.vocabulary)

        return Output()


def test_loss_is_in_nats_per_byte_of_scored_text():
    scored = torch.tensor([[False, True, True, False]])
    examples = Examples({"input_ids": torch.tensor([[1, 2, 3, 4]]), "scored": scored}, size=10)
    assert score_text(Uniform(50), examples).loss == pytest.approx(2 * math.log(50) / 10)


def test_the_loss_of_a_row_is_its_own_and_the_mean_over_the_rows_is_the_loss():
    scored = torch.tensor([[False, True, True, False], [False, True, False, False], [False, False, False, True]])
    examples = Examples({"input_ids": torch.ones(3, 4, dtype=torch.long), "scored": scored}, size=10)
    scores = score_text(Uniform(50), examples, tokens=8)
    assert scores.rows == pytest.approx([n * math.log(50) * 3 / 10 for n in (2, 1, 1)])
    assert sum(scores.rows) / 3 == pytest.approx(scores.loss)


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


def test_packed_rows_hold_whole_examples_and_score_the_same_tokens(tokenizer):
    pairs = [Completion(f"number {i} is", f" {i * 7}") for i in range(40)]
    one_by_one, packed = pad(pairs, tokenizer, 32, 40, "mine"), pack(pairs, tokenizer, 32, 40, "mine")
    assert len(packed) < 20
    assert packed.inputs["input_ids"].shape[1] == 32
    alone, together = (e.inputs["input_ids"][e.inputs["scored"]].tolist() for e in (one_by_one, packed))
    assert alone == together
    assert torch.equal(pack(pairs, tokenizer, 32, 3, "mine").inputs["input_ids"], packed.inputs["input_ids"][:3])


def test_a_completion_that_does_not_fit_is_named(tokenizer):
    with pytest.raises(AdapterlabError, match=r"mine: a completion has .* give a length above 8"):
        pad([Completion("a", "words " * 20)], tokenizer, 8, 1, "mine")
