"""Language modelling on a user's files: running text, prompts with completions, and chats.

Example:
    >>> task = UserText(FileData("mine", train="train.jsonl", ood="other.jsonl"))
    >>> ", ".join(task.parts)
    'validation, test, ood, base'
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import nn

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import padding
from adapterlab.tasks.base import Control, Examples, Part, Question, Scores
from adapterlab.tasks.halving import halving
from adapterlab.tasks.parts import FileData, parts_of
from adapterlab.tasks.rendering_time import OutOfTimeError, time_limit
from adapterlab.tasks.rows import Form, Row
from adapterlab.tasks.scoring import TOKENS_AT_ONCE, score_text
from adapterlab.tasks.text import TextTask, Tokenizer, Tokens, first_by_hash, to_tensors

RENDERING = 10.0
"""Seconds that rendering a chat up to one answer may take."""
T = TypeVar("T")


class Span(NamedTuple):
    """A piece of the text of an example."""

    text: str
    scored: bool
    """True if the tokens of the piece are scored."""


class UserText(TextTask):
    """Text, completions or chats from a user's files; of completions and chats only the answers are scored.

    Args:
        data: The name of the task and the paths of its files.
    """

    explanation = "Your own data."

    def __init__(self, data: FileData) -> None:
        self.data, self.name = data, data.name
        self.title = data.name
        self.metric, self.max_new_tokens = data.metric, data.max_new_tokens

    @property
    def parts(self) -> tuple[Part, ...]:
        ood = (Part.OOD,) if self.data.ood else ()
        return Part.VALIDATION, Part.TEST, *ood, Part.BASE

    @property
    def prompted(self) -> bool:  # type: ignore[override]
        """False for rows of running text."""
        return parts_of(self.data).form is not Form.TEXT

    def examples(self, part: Part, processor: Tokenizer, length: int, count: int) -> Examples:
        if part is Part.BASE and self.data.keep is None:
            return self.base_domain(processor, length, count)
        return self.text_examples(part, processor, length, count)

    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        parts = parts_of(self.data)
        form, rows = parts.keep_form if part is Part.BASE else parts.form, parts.rows[part]
        if form not in (Form.TEXT, Form.COMPLETION, Form.CHAT):
            raise AdapterlabError(
                f"{rows[0].place}: rows of {form} cannot train a language model: give 'text', or 'prompt' and "
                "'completion', or 'messages'"
            )
        seed = f"{self.name}/{part}"
        if form is Form.TEXT:
            return padded(choose(windows(rows, tokenizer, length), count, seed), tokenizer)
        encoded = (tokens for row in choose(rows, count, seed) for tokens in answers(row, form, tokenizer, length))
        return padded(list(encoded)[:count], tokenizer)

    def questions(self, part: Part, processor: Tokenizer, count: int) -> Sequence[Question]:
        parts = parts_of(self.data)
        if parts.form not in (Form.COMPLETION, Form.CHAT):
            return super().questions(part, processor, count)
        return [question(row, parts.form, processor) for row in choose(parts.rows[part], count, f"{self.name}/{part}")]

    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        return halving(lambda tokens: score_text(model, examples, tokens), TOKENS_AT_ONCE)[0]

    def fingerprint(self) -> str:
        rows = parts_of(self.data).hash
        if self.data.keep is not None:
            return rows
        return f"{rows}, and the standard library of Python {platform.python_version()}"  # the base's own domain


def choose(items: Iterable[T], count: int, seed: str) -> list[T]:
    """Choose items in the order of a hash of their positions.

    Args:
        items: Items in a fixed order.
        count: Largest number of items to return; those of a smaller count are the first ones of a larger count.
        seed: Text that is hashed along with each position.

    Returns:
        The chosen items in the order of their hashes.
    """
    return first_by_hash(((str(i), item) for i, item in enumerate(items)), count, seed)


def windows(rows: Sequence[Row], tokenizer: Tokenizer, length: int) -> Iterator[Tokens]:
    """Yield each text with the end-of-text token, cut into windows; all tokens but the first of a window are scored.

    Args:
        rows: Rows with a `text`.
        tokenizer: The model's tokenizer.
        length: Largest number of tokens in a window. A last window of a single token is dropped.
    """
    opening, end = _opening(tokenizer), _end(tokenizer)
    for ids in tokenizer([row.values["text"] for row in rows], add_special_tokens=False)["input_ids"]:
        whole = opening + ids + end
        for start in range(0, len(whole), length):
            window = whole[start : start + length]
            if len(window) > 1:
                yield Tokens(window, [False] + [True] * (len(window) - 1))


def answers(row: Row, form: Form, tokenizer: Tokenizer, length: int) -> Iterator[Tokens]:
    """Yield the examples of a row with answers: one for a completion, one or more for a chat.

    Args:
        row: A row with a completion or a chat.
        form: `Form.COMPLETION` or `Form.CHAT`.
        tokenizer: The model's tokenizer.
        length: Largest number of tokens in an example; a longer one loses its start.

    Raises:
        AdapterlabError: If the last answer of an example alone is too long, or the chat template cannot be used.
    """
    examples, opening, end = _pieces(row, form, tokenizer)
    for spans in examples:
        ids, scored = list(opening), [False] * len(opening)
        for span in spans:
            encoded = _encoded(span.text, tokenizer)
            ids += encoded
            scored += [span.scored] * len(encoded)
        ids += end
        scored += [True] * len(end)
        last = len(encoded) + len(end)
        if last >= length:
            raise AdapterlabError(
                f"{row.place}: the answer has {last} tokens, more than the {length - 1} that fit: shorten it, or give a "
                f"--length above {last}"
            )
        if scored[0]:  # the first scored token needs a token before it
            ids, scored = [*(end or ids[:1]), *ids], [False, *scored]
        ids, scored = ids[-length:], scored[-length:]
        yield Tokens(ids, [False, *scored[1:]])


def question(row: Row, form: Form, tokenizer: Tokenizer) -> Question:
    """Return the last answer of a row and the prompt before it, which ends with the template's generation prompt in a chat.

    Args:
        row: A row with a completion or a chat.
        form: `Form.COMPLETION` or `Form.CHAT`.
        tokenizer: The model's tokenizer.

    Raises:
        AdapterlabError: If the chat template cannot be used.
    """
    examples, opening, end = _pieces(row, form, tokenizer)
    *before, last = examples[-1]
    ids = [*opening, *(token for span in before for token in _encoded(span.text, tokenizer))]
    ids = ids or end or [padding(tokenizer)]
    whole = {**row.values, **row.others}
    if form is Form.COMPLETION:
        return Question(tuple(ids), row.values["completion"], row.place, whole)
    reference: str = [
        m["content"] for m in row.values["messages"] if m["role"] == "assistant" and m["content"].strip()
    ][-1]
    tail = last.text.rpartition(reference.strip())[2]
    special = [token for token in _encoded(tail, tokenizer) if token in _special(tokenizer)]
    return Question(tuple(ids), reference, row.place, whole, tuple(special[:1]), "" if special else tail.strip())


def _pieces(row: Row, form: Form, tokenizer: Tokenizer) -> tuple[list[list[Span]], list[int], list[int]]:
    """Return the pieces of each example of a row, and the tokens that open and end each example."""
    if form is Form.COMPLETION:
        spans = [Span(row.values["prompt"], False), Span(row.values["completion"], True)]
        return [spans], _opening(tokenizer), _end(tokenizer)
    return chat(row, tokenizer), [], []  # the chat template adds its own special tokens


def chat(row: Row, tokenizer: Tokenizer) -> list[list[Span]]:
    """Render a chat with the tokenizer's template and mark the assistant's turns as scored.

    Some templates write an earlier turn differently from the last one, for example without its reasoning. Then each turn
    of the assistant becomes an example of its own.

    Args:
        row: A row with `messages`.
        tokenizer: The model's tokenizer.

    Returns:
        The pieces of each example.

    Raises:
        AdapterlabError: If there is no chat template, it rejects the messages, or it does not start an answer with its own
            generation prompt.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise AdapterlabError(
            f"{row.place}: 'messages' need a chat template, and the model's tokenizer has none: give 'prompt' and "
            "'completion', or use a model that was trained on chats"
        )
    messages, done = row.values["messages"], ""
    examples: list[list[Span]] = [[]]
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or not message["content"].strip():
            continue
        try:
            with time_limit(RENDERING):
                before = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
                after = tokenizer.apply_chat_template(messages[: i + 1], tokenize=False)
        except OutOfTimeError as error:
            raise AdapterlabError(
                f"{row.place}: the tokenizer's chat template runs for more than {RENDERING} s on one chat: change the "
                "template, or give 'prompt' and 'completion'"
            ) from error
        except Exception as error:  # templates raise errors of many types
            raise AdapterlabError(
                f"{row.place}: the tokenizer's chat template rejects the messages: {error}: change the messages, or give "
                "'prompt' and 'completion'"
            ) from error
        if not after.startswith(before):
            raise AdapterlabError(
                f"{row.place}: the tokenizer's chat template does not start an answer with its own generation prompt, so "
                "the answer cannot be told from the rest: give 'prompt' and 'completion'"
            )
        if not before.startswith(done):
            examples.append([])
            done = ""
        examples[-1] += [Span(before[len(done) :], False), Span(after[len(before) :], True)]
        done = after
    return [spans for spans in examples if spans]


def padded(rows: Sequence[Tokens], tokenizer: Tokenizer) -> Examples:
    """Return rows padded on the right to the longest; the size is the number of bytes of the scored text.

    Args:
        rows: Encoded examples.
        tokenizer: The model's tokenizer.
    """
    inputs = to_tensors(rows, max(len(row.ids) for row in rows), padding(tokenizer))
    texts = tokenizer.batch_decode(
        [[i for i, s in zip(*row, strict=True) if s] for row in rows], skip_special_tokens=True
    )
    return Examples(inputs, max(1, sum(len(text.encode()) for text in texts)))


def _opening(tokenizer: Tokenizer) -> list[int]:
    """Return the beginning-of-text token if the tokenizer adds one by default, since models trained so need it."""
    alone = tokenizer(["a"], add_special_tokens=False)["input_ids"][0]
    whole = tokenizer(["a"], add_special_tokens=True)["input_ids"][0]
    start = getattr(tokenizer, "bos_token_id", None)
    return [start] if start is not None and whole[:1] == [start] and alone[:1] != [start] else []


def _end(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def _encoded(text: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer([text], add_special_tokens=False)["input_ids"][0] if text else []


def _special(tokenizer: Tokenizer) -> set[int]:
    """Return the ids of the tokens that the tokenizer calls special, those of the ends of turns among them."""
    known: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return {number for number, token in known.items() if token.special}
