"""Edits of the residual stream: which positions they fall on."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.conftest import tiny_llama


def edited_positions(model, handle, **call):
    """Where the last block's stream differs from the base's."""
    adapted = model(**call, output_hidden_states=False, use_cache=False)
    with handle.disabled():
        base = model(**call, use_cache=False)
    return (adapted.logits != base.logits).any(-1)


@pytest.fixture
def edits():
    model = tiny_llama()
    handle = attach(
        model, adapter("reft", rank=2, start=2, end=1, layers=(1,))
    )  # the last block: nothing mixes after it
    noisy(handle.parameters())
    return model, handle


def rows(*lines):
    return torch.tensor([[c == "x" for c in line] for line in lines])


def test_the_first_and_the_last_positions_are_edited(edits, tokens):
    assert torch.equal(edited_positions(*edits, input_ids=tokens[:1]), rows("xx.........x"))


def test_padding_on_either_side_is_no_part_of_the_prompt(edits, tokens):
    mask = torch.ones_like(tokens)
    mask[0, :3], mask[1, 8:] = 0, 0
    found = edited_positions(*edits, input_ids=tokens, attention_mask=mask)
    assert torch.equal(found[0, 3:], rows("xx......x")[0])
    assert torch.equal(found[1, :8], rows("xx.....x")[0])
    assert not found[0, :3].any()
    assert not found[1, 8:].any()


def test_the_prompt_ends_where_the_labels_begin(edits, tokens):
    labels = tokens.clone()
    labels[0, :6] = -100
    found = edited_positions(*edits, input_ids=tokens, labels=labels)
    assert torch.equal(found, rows("xx...x......", "xx.........x"))


def test_a_prompt_shorter_than_both_ends_is_halved(edits, tokens):
    assert torch.equal(edited_positions(*edits, input_ids=tokens[:1, :2]), rows("xx"))
    assert torch.equal(edited_positions(*edits, input_ids=tokens[:1, :1]), rows("x"))


def test_positions_are_the_users_whatever_prompt_stands_before_them(edits, tokens):
    model, handle = edits
    attach(model, adapter("prompt", length=3), name="prompt")
    assert torch.equal(edited_positions(model, handle, input_ids=tokens[:1]), rows("xx.........x"))


def test_generated_tokens_are_left_alone(edits, tokens):
    model, handle = edits
    cache = model(tokens[:, :8], use_cache=True).past_key_values
    after = model(tokens[:, 8:9], past_key_values=cache).logits
    with handle.disabled():
        cache = model(tokens[:, :8], use_cache=True).past_key_values
        base = model(tokens[:, 8:9], past_key_values=cache).logits
    assert torch.equal(after, base)  # the last block's own edits reach no later position


def test_identity_start_answers_as_the_base(llama, tokens):
    answer = llama(tokens).logits
    for variant in ("loreft", "direft", "direft_orthonormal"):
        handle = attach(llama, adapter("reft", variant=variant, identity_start=True))
        torch.testing.assert_close(llama(tokens).logits, answer)
        handle.detach()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 33}, "rank 33 does not fit a residual stream 32 wide: give 1 to 32"),
        ({"variant": "noreft"}, "variant 'noreft' is not one of loreft"),
        ({"start": 0, "end": 0}, "select no position"),
        ({"layers": (0, 7)}, "layers .* are more than the model"),
        ({"everywhere": True, "tied": False}, "tied=True"),
    ],
)
def test_what_does_not_fit_is_named(settings, message, llama):
    with pytest.raises(AdapterlabError, match=message):
        attach(llama, adapter("reft", **settings))
