"""Edits of the residual stream: which positions they fall on."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.conftest import tiny_llama


def edited_positions(model, handle, answer_mask=None, **call):
    """Where the last block's stream differs from the base's."""
    marked = {} if answer_mask is None else {"answer_mask": answer_mask}
    adapted = model(**call, **marked, output_hidden_states=False, use_cache=False)
    with handle.disabled():
        base = model(**call, use_cache=False)
    return ((adapted.logits - base.logits).abs() > 1e-5).any(-1)


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
    labels[1] = -100
    found = edited_positions(*edits, input_ids=tokens, labels=labels)
    assert torch.equal(found, rows("xx...x......", "xx.........x"))


@pytest.mark.parametrize("first", [0, 1])  # the first token of a window has nothing before it to predict it from
def test_all_positions_of_running_text_are_edited(edits, tokens, first):
    mask, labels = torch.ones_like(tokens), tokens.clone()
    mask[1, 9:], labels[:, :first] = 0, -100
    found = edited_positions(*edits, input_ids=tokens, attention_mask=mask, labels=labels.where(mask == 1, -100))
    assert torch.equal(found, rows("xxxxxxxxxxxx", "xxxxxxxxx..."))


def test_an_adapter_for_prompts_edits_the_ends_of_running_text(tokens):
    model = tiny_llama()
    handle = attach(model, adapter("reft", rank=2, start=2, end=1, layers=(1,)), prompted=True)
    noisy(handle.parameters())
    assert torch.equal(edited_positions(model, handle, input_ids=tokens[:1], labels=tokens[:1]), rows("xx.........x"))


def test_an_adapter_for_running_text_edits_every_position(tokens):
    model = tiny_llama()
    handle = attach(model, adapter("reft", rank=2, start=2, end=1, layers=(1,)), prompted=False)
    noisy(handle.parameters())
    assert torch.equal(edited_positions(model, handle, input_ids=tokens[:1]), rows("x" * 12))


def test_each_answer_of_a_row_has_its_own_prompt(edits, tokens):
    answers = rows("......xx....", "....xx...x..")
    answers[0, 10:] = True
    found = edited_positions(*edits, input_ids=tokens, answer_mask=answers)
    assert torch.equal(found, rows("xx...x..xx..", "xx.x..xxx..."))


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
def test_answers_are_marked_by_labels_or_by_a_mask(edits, tokens):
    model, handle = edits
    labels = tokens.clone()
    labels[:, :5] = -100
    both = handle, attach(model, adapter("reft", rank=2, start=1, end=1), name="another")
    noisy(both[1].parameters())
    by_labels = model(input_ids=tokens, labels=labels).logits
    for one in both:
        with one.disabled():  # each of them is told
            marked = model(input_ids=tokens, answer_mask=labels != -100).logits
            assert torch.equal(marked, model(input_ids=tokens, labels=labels).logits)
    assert torch.equal(model(input_ids=tokens, answer_mask=labels != -100).logits, by_labels)
    assert not torch.equal(model(input_ids=tokens).logits, by_labels)


def test_edits_of_their_own_fall_on_the_slots_of_the_prompt(tokens):
    model = tiny_llama()
    handle = attach(model, adapter("reft", rank=2, start=2, end=1, layers=(1,), tied=False))
    (site,) = handle.sites.values()
    with torch.no_grad():
        site.b[2] += 1.0  # the slot at the end
    labels = tokens.clone()
    labels[:, :5] = -100
    found = edited_positions(model, handle, input_ids=tokens, labels=labels)
    assert torch.equal(found, rows("....x.......", "....x......."))


def test_a_prompt_shorter_than_both_ends_is_halved(edits, tokens):
    assert torch.equal(edited_positions(*edits, input_ids=tokens[:1, :2]), rows("xx"))
    assert torch.equal(edited_positions(*edits, input_ids=tokens[:1, :1]), rows("x"))


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
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


def test_the_start_answers_as_the_base_at_every_rank(llama, tokens):
    answer = llama(tokens).logits
    for variant in ("loreft", "direft", "direft_orthonormal"):
        for rank in (1, 4, 32):
            handle = attach(llama, adapter("reft", variant=variant, rank=rank, where="everywhere"))
            torch.testing.assert_close(llama(tokens).logits, answer)
            handle.detach()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 33}, "rank 33 does not fit a residual stream 32 wide: give 1 to 32"),
        ({"variant": "noreft"}, "variant 'noreft' is not one of loreft"),
        ({"start": 0, "end": 0}, "select no position"),
        ({"layers": (0, 7)}, "layers .* are more than the model"),
        ({"where": "everywhere", "tied": False}, "tied=True"),
        ({"where": "somewhere"}, "where 'somewhere' is not one of auto, prompt, everywhere"),
    ],
)
def test_what_does_not_fit_is_named(settings, message, llama):
    with pytest.raises(AdapterlabError, match=message):
        attach(llama, adapter("reft", **settings))
