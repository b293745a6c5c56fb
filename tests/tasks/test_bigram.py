"""The bigram baseline."""

from __future__ import annotations

import math

import pytest
import torch

from adapterlab.lab.trial.score import NoAdapter
from adapterlab.models.loading import load_causal
from adapterlab.tasks import task
from adapterlab.tasks.base import Examples, Part
from adapterlab.tasks.bigram import PRIOR, Bigram, bigram_scores
from adapterlab.tasks.scoring import score_text

# Tokens 1 2 1 2 1 3, of which the first is not scored: 2 after 1 twice, 1 after 2 twice, 3 after 1 once.
SIX = Examples(
    {
        "input_ids": torch.tensor([[1, 2, 1, 2, 1, 3, 0]]),
        "scored": torch.tensor([[False, True, True, True, True, True, False]]),
    },
    size=5,
)


def test_it_holds_the_smoothed_frequencies_and_nothing_else():
    model = Bigram(SIX, vocabulary=4)
    single = {0: 1 / 9, 1: 3 / 9, 2: 3 / 9, 3: 2 / 9}
    after_1 = [(n + PRIOR * single[t]) / (3 + PRIOR) for t, n in enumerate((0, 0, 2, 1))]
    logits = model(torch.tensor([[0, 1]])).logits[0]
    torch.testing.assert_close(logits[1].exp(), torch.tensor(after_1, dtype=torch.float64))
    torch.testing.assert_close(logits[0].exp(), torch.tensor(list(single.values()), dtype=torch.float64))


def test_its_score_is_its_loss_on_the_scored_tokens():
    after = {
        (1, 2): (2 + PRIOR * 3 / 9) / (3 + PRIOR),
        (2, 1): (2 + PRIOR * 3 / 9) / (2 + PRIOR),
        (1, 3): (1 + PRIOR * 2 / 9) / (3 + PRIOR),
    }
    expected = -(2 * math.log(after[1, 2]) + 2 * math.log(after[2, 1]) + math.log(after[1, 3])) / 5
    assert score_text(Bigram(SIX, 4), SIX).loss == pytest.approx(expected, rel=1e-6)


def test_its_strength_turns_from_the_rejected_to_the_chosen():
    scored = torch.tensor([[False, True]])
    pair = {
        "chosen_input_ids": torch.tensor([[1, 2]]),
        "chosen_scored": scored,
        "rejected_input_ids": torch.tensor([[1, 3]]),
        "rejected_scored": scored,
    }
    model = Bigram(Examples(pair, 2), 4)
    found = []
    for model.strength in (1.0, 0.0, -1.0):
        log_p = model(torch.tensor([[1]])).logits[0, 0]
        found.append(float(log_p[2] - log_p[3]))
    assert found[1] == 0.0
    assert found[0] == pytest.approx(-found[2])
    assert found[0] == pytest.approx(math.log((1 + PRIOR * 2 / 5) / (PRIOR / 5)))


def test_it_beats_the_frozen_model_on_facts():
    loaded = load_causal()
    examples = task("facts").examples(Part.TEST, loaded.tokenizer, 64, 32)
    bigram = bigram_scores(task("facts"), loaded.tokenizer, 64, 32)[Part.TEST]
    assert 1.0 < bigram.loss < task("facts").score(loaded.model, examples, NoAdapter()).loss
