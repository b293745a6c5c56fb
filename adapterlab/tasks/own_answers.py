"""A chat model's own answers to questions that no task asks: a rise of their loss is forgetting.

They are generated once, greedily, by the model as it is loaded, before anything is attached or cast, and kept in the cache
under the model's hash. Their texts are part of the identity of the trials that score them.

>>> len(QUESTIONS), QUESTIONS[0]
(32, 'Explain in two sentences how rain forms.')
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.files import cache_folder, write_text
from adapterlab.models.fingerprint import EMBEDDED
from adapterlab.models.loading import Loaded, load
from adapterlab.tasks.base import Question
from adapterlab.tasks.encoder_decoder import is_encoder_decoder
from adapterlab.tasks.generation import generate
from adapterlab.tasks.rendering_time import OutOfTimeError, time_limit

EDITION = 2
"""Version of the questions and of the way of answering; answers of other versions are not read."""
MOST_TOKENS = 32
"""Most tokens of an answer."""
RENDERING = 10.0
"""Seconds that rendering one question may take."""
_WORDS = {
    "Explain in two sentences how {}.": ("rain forms", "a bicycle stays upright", "bread rises", "a vaccine works"),
    "Write a short note to a friend about {}.": ("a walk in the snow", "a lost umbrella", "a new kitten", "a picnic"),
    "Name three things that belong in {}.": ("a toolbox", "a kitchen", "a school bag", "an orchestra"),
    "What is the difference between {}?": (
        "a lake and a sea",
        "a novel and a poem",
        "a frog and a toad",
        "steam and smoke",
    ),
    "Give me one piece of advice about {}.": (
        "sleeping well",
        "learning a language",
        "saving money",
        "growing tomatoes",
    ),
    "Answer yes or no, and say why: {}?": (
        "is a tomato a fruit",
        "do fish sleep",
        "does wood float",
        "is gold magnetic",
    ),
    "Put this into simpler words: {}.": (
        *("the meeting has been postponed indefinitely", "precipitation is anticipated"),
        *("the vehicle ceased to function", "she was reluctant to participate"),
    ),
    "Who would need {}, and what for?": ("a compass", "a stethoscope", "a sewing machine", "a dictionary"),
}
QUESTIONS = tuple(words.format(thing) for words, things in _WORDS.items() for thing in things)
"""The questions."""


class Answer(NamedTuple):
    """A question as the model's chat template writes it, and the model's answer."""

    prompt: str
    text: str
    ended: bool
    """True if the model ended the answer itself."""


def own_answers(source: str, model_hash: str, loaded: Loaded | None = None) -> tuple[Answer, ...]:
    """Return a language model's answers to `QUESTIONS`; none for a model without a chat template.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub.
        model_hash: The model's fingerprint.
        loaded: The model, if it is loaded, with nothing attached; otherwise it is loaded where the cache has no answers.

    Raises:
        AdapterlabError: If the model cannot be loaded.
    """
    if source == EMBEDDED:
        return ()
    key = hashlib.blake2b(model_hash.encode(), digest_size=10).hexdigest()
    stored = cache_folder() / "answers" / f"{EDITION}-{key}.json"
    found = _read(stored)
    if found is None:
        model, tokenizer = loaded or load(model_hash if "@" in model_hash else source)
        found = () if is_encoder_decoder(model) else generate_answers(model, tokenizer, _prompts(tokenizer))
        with suppress(OSError):  # a cache that cannot be written costs time alone
            stored.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps(found)
            write_text(stored, f"{_digest(text)}\n{text}")
            found = _read(stored) or found
    return found


def asks(tokenizer: Any) -> bool:
    """Return True if a model with this tokenizer is asked questions: if it has a chat template.

    Args:
        tokenizer: The model's tokenizer or image processor.
    """
    return bool(getattr(tokenizer, "chat_template", None))


def name_of(answers: Sequence[Answer]) -> str:
    """Return a hash of some answers; empty for none.

    Args:
        answers: The answers.
    """
    return _digest(json.dumps(answers)) if answers else ""


@torch.no_grad()
def generate_answers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> tuple[Answer, ...]:
    """Return a model's greedy answers.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        prompts: Texts to continue.
    """
    encoded = tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []
    questions = [Question(tuple(ids), "", text, {}) for ids, text in zip(encoded, prompts, strict=True)]
    found = generate(model, tokenizer, questions, MOST_TOKENS)
    return tuple(Answer(prompt, *answer) for prompt, answer in zip(prompts, found, strict=True))


def give_answers(tokenizer: Any, answers: Sequence[Answer]) -> None:
    """Put a model's answers on its tokenizer, which tasks are given in place of the model.

    Args:
        tokenizer: The model's tokenizer.
        answers: The model's answers.
    """
    tokenizer.adapterlab_answers = tuple(answers)


def answers_of(tokenizer: Any) -> tuple[Answer, ...]:
    """Return the answers that `give_answers` gave a tokenizer; none otherwise.

    Args:
        tokenizer: A tokenizer.
    """
    found: tuple[Answer, ...] = getattr(tokenizer, "adapterlab_answers", ())
    return found


def _prompts(tokenizer: Any) -> list[str]:
    """Return the questions in the tokenizer's chat template; none without one, or if it rejects a question."""
    if not asks(tokenizer):
        return []
    prompts = []
    for question in QUESTIONS:
        message = [{"role": "user", "content": question}]
        try:
            with time_limit(RENDERING):
                prompts.append(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        except OutOfTimeError as error:
            raise AdapterlabError(
                f"the tokenizer's chat template runs for more than {RENDERING:g} s on one question"
            ) from error
        except Exception:  # templates raise errors of many types; data with chats report them
            return []
    return prompts


def _read(stored: Path) -> tuple[Answer, ...] | None:
    """Return the answers in a file of the cache, or None if it is not there or damaged."""
    try:
        checksum, _, text = stored.read_text("utf-8").partition("\n")
        return tuple(Answer(*row) for row in json.loads(text)) if checksum == _digest(text) else None
    except (OSError, ValueError, TypeError):
        return None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
