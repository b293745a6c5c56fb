"""Greedy answers in batches are those of transformers, one prompt at a time, with every method attached."""

from __future__ import annotations

import pytest
import torch

from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.merged import merged
from adapterlab.surgery import attach
from adapterlab.tasks.base import Question
from adapterlab.tasks.generation import answers, cut_prompts, prompt_room, stop_tokens
from tests.adapters.methods import SHIPPED, noisy, small
from tests.conftest import tiny_gpt2, tiny_llama

PROMPTS = [(5, 9, 11, 30, 2, 17, 44), (8,), (21, 3, 60, 7), (12, 13), (3, 17, 40, 9, 9)]


class Numbers:
    """A tokenizer whose texts are the ids of their tokens."""

    eos_token_id, pad_token_id = 0, 0

    def batch_decode(self, rows, skip_special_tokens, clean_up_tokenization_spaces):
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return [" ".join(str(token) for token in row) for row in rows]


def asked(prompts, **more):
    return [Question(tuple(prompt), "", f"row {i}", {}, **more) for i, prompt in enumerate(prompts)]


@torch.no_grad()
def one_at_a_time(model, prompt, most, stops=(0,)):
    """Greedy decoding without a cache, by the whole text for each token."""
    out = model.generate(
        torch.tensor([prompt]), max_new_tokens=most, do_sample=False, use_cache=False, eos_token_id=None, pad_token_id=0
    )[0, len(prompt) :].tolist()
    end = next((i for i, token in enumerate(out) if token in stops), len(out))
    return " ".join(map(str, out[:end]))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_batch_is_answered_as_its_prompts_alone_with_every_method(name):
    model = tiny_llama(seed=1).double()
    handle = attach(model, small(name))
    noisy(handle.parameters(), 0.2)
    expected = [one_at_a_time(model, prompt, 4) for prompt in PROMPTS[:3]]
    with merged(handle):
        assert answers(model, Numbers(), asked(PROMPTS[:3]), 4) == expected


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_answers_end_at_the_end_of_text_of_a_turn_and_of_the_model(make):
    model = make(seed=2)
    plain = [one_at_a_time(model, prompt, 8, stops=()) for prompt in PROMPTS]
    assert answers(model, Numbers(), asked(PROMPTS), 8) == [one_at_a_time(model, prompt, 8) for prompt in PROMPTS]
    third = int(plain[0].split()[2])
    cut = [one_at_a_time(model, prompt, 8, stops=(0, third)) for prompt in PROMPTS]
    assert answers(model, Numbers(), asked(PROMPTS, stops=(third,)), 8) == cut
    model.generation_config.eos_token_id = [third, 1]
    assert stop_tokens(model, Numbers(), asked(PROMPTS)) == [0, 1, third]
    tail = f" {third} "
    ended = answers(make(seed=2), Numbers(), asked(PROMPTS, tail=tail), 8)
    assert ended[0] == plain[0].partition(tail)[0]


def test_the_settings_of_the_model_for_generation_do_not_count_and_stay():
    model = tiny_llama(seed=3)
    expected = answers(model, Numbers(), asked(PROMPTS), 6)
    model.generation_config.update(repetition_penalty=5.0, do_sample=True, temperature=3.0, min_new_tokens=6)
    model.config.use_cache = False
    own = model.generation_config
    assert answers(model, Numbers(), asked(PROMPTS), 6) == expected
    assert model.generation_config is own
    assert own.repetition_penalty == 5.0


def test_batches_do_not_change_the_order(monkeypatch):
    model = tiny_llama(seed=4)
    expected = answers(model, Numbers(), asked(PROMPTS), 5)
    monkeypatch.setattr("adapterlab.tasks.generation.TOKENS_AT_ONCE", 14)
    assert answers(model, Numbers(), asked(PROMPTS), 5) == expected


def test_prompts_longer_than_the_context_lose_their_start():
    model = tiny_gpt2(seed=5)
    long = tuple(range(1, 61)) * 2
    room = prompt_room(model, 6)
    assert (room, cut_prompts(asked([long, (1, 2)]), room)) == (58, 1)
    assert answers(model, Numbers(), asked([long, (1, 2)]), 6) == answers(
        model, Numbers(), asked([long[-58:], (1, 2)]), 6
    )
    with pytest.raises(
        AdapterlabError, match=r"max_new_tokens is 64, but the model's context has 64 tokens.*at most 63"
    ):
        answers(model, Numbers(), asked([(1, 2)]), 64)


def test_no_questions_have_no_answers():
    assert answers(tiny_llama(), Numbers(), [], 4) == []
