"""Padding and the other rows of a batch change no method's predictions."""

from __future__ import annotations

import pytest
import torch

from adapterlab.surgery import attach
from adapterlab.tasks.base import Examples
from adapterlab.tasks.scoring import predictions, score_text
from tests.adapters.methods import ALL, noisy, small
from tests.conftest import tiny_llama

SHORT, LONG, PROMPT = 9, 14, 4
"""Tokens of the row that is compared, of the row beside it, and of the prompt of each."""
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
"""Rotary positions are computed in float32, whatever the model is in."""


def tokens_of(length: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 64, (length,), generator=torch.Generator().manual_seed(seed))


def batch_of(width: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rows padded on one side to `width` with tokens that are not looked at, and where they are not padded."""
    ids, mask = torch.full((2, width), 40), torch.zeros(2, width, dtype=torch.long)
    for i, row in enumerate((tokens_of(SHORT, 1), tokens_of(LONG, 2))):
        at = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, at], mask[i, at] = row, 1
    return ids, mask


def answers_of(mask: torch.Tensor, kind: str) -> torch.Tensor:
    """A mask of the tokens that are scored: those behind the prompt, or all of running text."""
    return (mask.cumsum(1) > (PROMPT if kind == "prompt" else 0)) & (mask == 1)


@pytest.fixture(params=ALL)
def model(request):
    model = tiny_llama().double()
    noisy(attach(model, small(request.param)).parameters())
    return model


@pytest.mark.parametrize("kind", ["prompt", "text", "no labels"])
def test_padding_and_the_other_rows_change_no_prediction(model, kind):
    def call(ids, mask):
        labels = {} if kind == "no labels" else {"labels": ids.where(answers_of(mask, kind), -100)}
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=mask, **labels).logits

    row = tokens_of(SHORT, 1)[None]
    alone = call(row, torch.ones_like(row))[0]
    for width, side in ((LONG, "right"), (LONG, "left"), (LONG + 3, "right"), (LONG + 3, "left")):
        ids, mask = batch_of(width, side)
        torch.testing.assert_close(call(ids, mask)[0][mask[0] == 1], alone, **CLOSE)


@pytest.mark.parametrize("kind", ["prompt", "text"])
def test_a_task_scores_a_row_as_training_with_labels_does(model, kind):
    ids, mask = batch_of(LONG + 3, "right")
    scored = answers_of(mask, kind)
    scored[:, 0] = False
    examples = Examples({"input_ids": ids, "scored": scored, "attention_mask": mask}, size=10)
    both = score_text(model, examples).rows
    labels = ids.where(scored, -100)
    for i in (0, 1):
        with torch.no_grad():
            loss = model(input_ids=ids[i : i + 1], attention_mask=mask[i : i + 1], labels=labels[i : i + 1]).loss
            alone, _ = predictions(model, examples.rows(slice(i, i + 1)))
        assert len(alone) == scored[i].sum()
        assert both[i] * 10 / 2 == pytest.approx(loss.item() * len(alone), rel=1e-6)
    assert score_text(model, examples, tokens=8).rows == pytest.approx(both, rel=1e-6)
