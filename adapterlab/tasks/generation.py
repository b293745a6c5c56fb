"""Greedy answers of a causal language model to prompts, in batches with a key-value cache.

Prompts are padded on the left. An answer ends at the end of text, at the end of the chat template's turn, or at the largest
number of tokens. Prompts that leave no room for an answer in the model's context lose their start.

>>> from adapterlab.models.loading import load_causal
>>> model, tokenizer = load_causal()
>>> question = Question(tuple(tokenizer("import o")["input_ids"]), "s", "rows.jsonl:1", {})
>>> len(answers(model, tokenizer, [question], max_new_tokens=4))
1
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import padding
from adapterlab.tasks.base import Question
from adapterlab.tasks.encoder_decoder import encoder_prompt, is_encoder_decoder
from adapterlab.tasks.halving import halving

TOKENS_AT_ONCE = 8192
"""Tokens of the prompts and answers that are generated together."""
KEPT = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
"""Settings of a model's own generation that say how its outputs start; all others, such as penalties, are left out."""


class Generated(NamedTuple):
    """An answer as the model generated it."""

    text: str
    """Without special tokens."""
    ended: bool
    """True if the model ended the answer itself, by a token that ends an answer."""


def answers(model: nn.Module, tokenizer: Any, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
    """Return the texts of `generate`.

    Args:
        model: A causal language model, in evaluation mode.
        tokenizer: Its tokenizer.
        questions: The prompts.
        max_new_tokens: Tokens of an answer, at most.

    Raises:
        AdapterlabError: If the model's context has no room for a prompt beside so long an answer.
    """
    return [answer.text for answer in generate(model, tokenizer, questions, max_new_tokens)]


def generate(model: nn.Module, tokenizer: Any, questions: Sequence[Question], max_new_tokens: int) -> list[Generated]:
    """Return the model's greedy answer to each question.

    Args:
        model: A causal language model, in evaluation mode.
        tokenizer: Its tokenizer.
        questions: The prompts.
        max_new_tokens: Tokens of an answer, at most.

    Raises:
        AdapterlabError: If the model's context has no room for a prompt beside so long an answer.
    """
    room = prompt_room(model, max_new_tokens)
    work = partial(_in_batches, model, tokenizer, questions, max_new_tokens, room)
    return halving(work, TOKENS_AT_ONCE)[0]


def prompt_room(model: nn.Module, max_new_tokens: int) -> int:
    """Return the tokens of a prompt that the model's context has room for beside an answer: see `room_in`.

    Args:
        model: A causal language model.
        max_new_tokens: Tokens of an answer, at most.
    """
    return room_in(model.config, max_new_tokens)


def room_in(config: Any, max_new_tokens: int) -> int:
    """Return the tokens of a prompt that a model's context has room for beside an answer.

    Args:
        config: The model's configuration.
        max_new_tokens: Tokens of an answer, at most.

    Raises:
        AdapterlabError: If there is no room for a prompt.
    """
    context: int = getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    if context <= max_new_tokens:
        raise AdapterlabError(
            f"max_new_tokens is {max_new_tokens}, but the model's context has {context} tokens, so no prompt fits before "
            f"the answer: give at most {context - 1}"
        )
    return context - max_new_tokens


def cut_prompts(questions: Iterable[Question], room: int) -> int:
    """Return the number of prompts that lose their start.

    Args:
        questions: The prompts.
        room: Tokens that a prompt may have.
    """
    return sum(len(question.ids) > room for question in questions)


def stop_tokens(model: nn.Module, tokenizer: Any, questions: Iterable[Question]) -> list[int]:
    """Return the ids that end an answer: the tokenizer's and the model's ends of text, and the ends of the chats' turns.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        questions: The prompts.
    """
    own: Any = getattr(model, "generation_config", None)
    known = getattr(own, "eos_token_id", None)
    ends = [tokenizer.eos_token_id, *(known if isinstance(known, list | tuple) else [known])]
    ends += [token for question in questions for token in question.stops]
    return sorted({int(token) for token in ends if token is not None})


def _in_batches(
    model: nn.Module, tokenizer: Any, questions: Sequence[Question], most: int, room: int, tokens: int
) -> list[Generated]:
    order = sorted(range(len(questions)), key=lambda i: -len(questions[i].ids))
    stops, found = stop_tokens(model, tokenizer, questions), [Generated("", False)] * len(questions)
    while order:
        longest = min(room, len(questions[order[0]].ids)) + most
        count = max(1, tokens // longest)
        batch, order = order[:count], order[count:]
        written = _batch(model, tokenizer, [questions[i] for i in batch], most, room, stops)
        for i, answer in zip(batch, written, strict=True):
            found[i] = answer
    return found


def _batch(
    model: nn.Module, tokenizer: Any, questions: Sequence[Question], most: int, room: int, stops: list[int]
) -> list[Generated]:
    device, filler = next(model.parameters()).device, padding(tokenizer)
    prompts = [list(question.ids[-room:]) for question in questions]
    if both := is_encoder_decoder(model):
        prompts = [encoder_prompt(model.config, row) for row in prompts]
    width = max(map(len, prompts))
    gaps = [width - len(row) for row in prompts]
    # A decoder goes on where the prompt ends; an encoder may count positions from the first token, padding or not.
    padded = [(0, gap) if both else (gap, 0) for gap in gaps]
    rows = [(before, row, after) for (before, after), row in zip(padded, prompts, strict=True)]
    ids = torch.tensor([[filler] * before + row + [filler] * after for before, row, after in rows], device=device)
    mask = torch.tensor([[0] * before + [1] * len(row) + [0] * after for before, row, after in rows], device=device)
    with _plain_generation(model, max_new_tokens=most, eos_token_id=stops or None, pad_token_id=filler):
        call: Any = model
        written = call.generate(input_ids=ids, attention_mask=mask).tolist()
    new = [row[1:] if both else row[width:] for row in written]  # a decoder of its own begins with its start token
    lengths = [next((i for i, token in enumerate(row) if token in stops), len(row)) for row in new]
    cut = [row[:length] for row, length in zip(new, lengths, strict=True)]
    texts = tokenizer.batch_decode(cut, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    texts = [text.partition(q.tail)[0] if q.tail else text for text, q in zip(texts, questions, strict=True)]
    return [Generated(text, length < len(row)) for text, length, row in zip(texts, lengths, new, strict=True)]


@contextmanager
def _plain_generation(model: nn.Module, **settings: object) -> Iterator[None]:
    """Make the model generate greedily within the block, without the settings of its own `generation_config`."""
    from transformers import GenerationConfig

    own: Any = model
    before = own.generation_config
    kept = {key: getattr(before, key, None) for key in KEPT}
    own.generation_config = GenerationConfig(do_sample=False, num_beams=1, use_cache=True, **kept, **settings)
    try:
        yield
    finally:
        own.generation_config = before
