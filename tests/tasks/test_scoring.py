"""Scored tokens: the output head runs where they are predicted, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from adapterlab.tasks.base import Examples
from adapterlab.tasks.scoring import predictions, rows_at_once, score_text, scoring_batches
from tests.adapters.methods import noisy
from tests.conftest import tiny_gpt2, tiny_llama

LENGTHS = (9, 4, 14, 6, 14, 5)
"""Tokens of each row."""


@pytest.fixture
def examples() -> Examples:
    """Rows of several lengths, the last third of each scored."""
    rows = torch.randint(0, 64, (len(LENGTHS), 20), generator=torch.Generator().manual_seed(0))
    at, length = torch.arange(20), torch.tensor(LENGTHS)[:, None]
    scored = (at >= length - length // 3) & (at < length)
    return Examples({"input_ids": rows, "scored": scored, "attention_mask": (at < length).long()}, size=50)


def by_hand(model, examples: Examples) -> torch.Tensor:
    """The summed loss of each row, from the logits of all its tokens alone."""
    losses = []
    for ids, scored, length in zip(examples.inputs["input_ids"], examples.inputs["scored"], LENGTHS, strict=True):
        with torch.no_grad():
            logits = model(input_ids=ids[None, :length]).logits[0]
        each = cross_entropy(logits[:-1].double(), ids[1:length], reduction="none")
        losses.append(each[scored[1:length]].sum())
    return torch.stack(losses)


class Functional(torch.nn.Module):
    """A model whose logits are computed without calling its output head."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def get_output_embeddings(self):
        return self.model.lm_head

    def forward(self, input_ids, attention_mask=None):
        hidden = self.model.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits = torch.nn.functional.linear(hidden, self.model.lm_head.weight)
        return type("Output", (), {"logits": logits})()


@pytest.mark.parametrize("tokens", [8, 40, 8192])
@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, lambda: Functional(tiny_llama())])
def test_the_losses_are_those_of_all_logits_row_by_row(make, tokens, examples):
    model = make()
    scores = score_text(model, examples, tokens)
    wanted = by_hand(model, examples)
    assert scores.loss == pytest.approx(float(wanted.sum()) / 50, rel=1e-6)
    assert scores.rows == pytest.approx((wanted * len(LENGTHS) / 50).tolist(), rel=1e-5)


def test_the_head_sees_only_what_predicts_a_scored_token(examples):
    model, seen = tiny_llama(), []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output.shape[:-1].numel()))
    logits, targets = predictions(model, examples.inputs)
    assert seen == [len(logits)] == [len(targets)] == [int(examples.inputs["scored"].sum())]
    assert model(examples.inputs["input_ids"]).logits.shape[:2] == (6, 20)  # and afterwards everything again


def test_an_adapter_on_the_head_is_scored_too(examples):
    model = tiny_llama()  # its head is tied to the token embedding
    noisy(attach(model, adapter("trainable_tokens", ids=(3, 17, 40))).parameters())
    wanted = by_hand(model, examples)
    assert score_text(model, examples).rows == pytest.approx((wanted * len(LENGTHS) / 50).tolist(), rel=1e-4)


def test_batches_hold_rows_of_about_equal_length_and_their_padding_is_cut_off(examples):
    model, widths = tiny_llama(), []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    batches = [rows.tolist() for rows, _ in scoring_batches(examples, model, tokens=28)]
    assert batches == [[2, 4], [0, 3, 5], [1]]
    score_text(model, examples, tokens=28)
    assert widths == [(2, 14), (3, 9), (1, 4)]


def test_a_mask_without_padding_is_left_out(examples):
    model, given = tiny_llama(), []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: given.append("attention_mask" in kwargs), with_kwargs=True
    )
    predictions(model, examples.rows(torch.tensor([2, 4])))
    predictions(model, examples.rows(torch.tensor([0, 2])))
    assert given == [False, True]


@pytest.mark.parametrize("logits", [1, 4 * 64, 12 * 64, 2**25])
def test_a_large_vocabulary_is_scored_in_more_passes_with_the_same_losses(logits, examples, monkeypatch):
    model, most = tiny_llama(), []
    monkeypatch.setattr("adapterlab.tasks.scoring.LOGITS_AT_ONCE", logits)
    model.lm_head.register_forward_hook(lambda module, args, output: most.append(output.numel()))
    scores = score_text(model, examples)
    assert torch.allclose(
        torch.tensor(scores.rows).double() * 50 / len(LENGTHS), by_hand(tiny_llama(), examples), atol=1e-5
    )
    assert max(most) <= max(logits, 4 * 64)  # one row has up to four terms
    assert (len(most) == 1) is (logits == 2**25)


def test_the_rows_of_a_pass_are_those_whose_logits_fit(examples, monkeypatch):
    model, batch = tiny_llama(), dict(examples.inputs)
    assert rows_at_once(model, batch) == len(LENGTHS)
    monkeypatch.setattr("adapterlab.tasks.scoring.LOGITS_AT_ONCE", 4 * 64 * 3)
    assert rows_at_once(model, batch) == 3
    assert rows_at_once(model, batch, copies=2) == 1
    assert rows_at_once(model, {"input_ids": batch["input_ids"]}) == len(LENGTHS)
    assert rows_at_once(torch.nn.Linear(2, 2), batch) == len(LENGTHS)
