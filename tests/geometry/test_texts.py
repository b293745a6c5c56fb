"""Inputs of a task, of general text, and of the user's own texts."""

from __future__ import annotations

import pytest
import torch

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.texts import batches_of, inputs_of, inputs_of_texts
from adapterlab.tasks.base import Examples, Part
from adapterlab.tasks.prose import Prose


class Characters:
    """A tokenizer with a token for each character."""

    eos_token_id, pad_token_id, chat_template = 0, None, None

    def __call__(self, texts, *, add_special_tokens):
        return {"input_ids": [[ord(character) % 64 for character in text] for text in texts]}

    def batch_decode(self, rows):
        return ["x" * len(row) for row in rows]


def test_inputs_of_a_task_are_its_examples_in_batches_without_labels():
    task = Prose()
    batches = inputs_of(task, Part.TEST, Characters(), length=16, count=5, batch=2)
    assert [set(batch) for batch in batches] == [{"input_ids"}] * 3
    expected = task.examples(Part.TEST, Characters(), 16, 5).inputs["input_ids"]
    assert torch.equal(torch.cat([batch["input_ids"] for batch in batches]), expected)


def test_general_text_is_the_domain_of_the_base_model():
    class WithGeneralText(Prose):
        name = ""

        def base_domain(self, tokenizer, length, count):
            return Examples({"input_ids": torch.full((count, length), 7)}, count)

    [batch] = inputs_of(WithGeneralText(), Part.BASE, Characters(), length=16, count=3)
    assert batch["input_ids"].tolist() == [[7] * 16] * 3


def test_own_texts_are_cut_and_padded():
    first, second = inputs_of_texts(["abcdef", "", "ab", "c"], Characters(), length=4, batch=2)
    assert first["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert second["input_ids"].tolist() == [[ord("c") % 64, 0, 0, 0]]


def test_the_chosen_texts_of_pairs_are_taken():
    pairs = {
        "chosen_input_ids": torch.ones(2, 3),
        "chosen_scored": torch.ones(2, 3),
        "rejected_input_ids": torch.zeros(2, 3),
    }
    [batch] = batches_of(Examples(pairs, 2), 8, "steer")
    assert list(batch) == ["input_ids"]
    assert batch["input_ids"].all()


def test_texts_and_examples_that_cannot_be_measured_are_refused():
    with pytest.raises(AdapterlabError, match="no text"):
        inputs_of_texts([""], Characters())
    with pytest.raises(AdapterlabError, match="neither tokens nor images, but audio"):
        batches_of(Examples({"audio": torch.ones(2, 3)}, 2), 8, "speech")


def test_a_part_that_the_task_lacks_is_refused():
    class WithoutOod(Prose):
        name = ""

        @property
        def parts(self):
            return (Part.TEST,)

    with pytest.raises(AdapterlabError, match="no part ood"):
        inputs_of(WithoutOod(), Part.OOD, Characters())
