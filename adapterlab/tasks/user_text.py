"""A causal language model on a user's own text: running text, prompts with completions, chats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import padding
from adapterlab.tasks.base import Control, Examples, Part, Scores
from adapterlab.tasks.halving import halving
from adapterlab.tasks.parts import DECISIVE, FileData, parts_of
from adapterlab.tasks.rows import Form, Row
from adapterlab.tasks.text import TOKENS_AT_ONCE, TextTask, score_text

T = TypeVar("T")


class Span(NamedTuple):
    """A stretch of an example."""

    text: str
    scored: bool


class Tokens(NamedTuple):
    """Token ids, and which of them are scored."""

    ids: list[int]
    scored: list[bool]


class UserText(TextTask):
    """Text, completions or chats of a user's files; of the latter two only the answers are scored."""

    explanation = "Your own data."

    def __init__(self, data: FileData) -> None:
        self.data, self.name = data, data.name
        self.title = data.name

    @property
    def parts(self) -> tuple[Part, ...]:
        ood = (Part.OOD,) if self.data.ood else ()
        return Part.VALIDATION, Part.TEST, *ood, Part.BASE

    def examples(self, part: Part, processor: Any, length: int, count: int) -> Examples:
        if part is Part.BASE and self.data.keep is None:
            return self.base_domain(processor, length, count)
        return self.text_examples(part, processor, length, count)

    def text_examples(self, part: Part, tokenizer: Any, length: int, count: int) -> Examples:
        parts = parts_of(self.data)
        form, rows = parts.keep_form if part is Part.BASE else parts.form, parts.rows[part]
        if form not in (Form.TEXT, Form.COMPLETION, Form.CHAT):
            raise AdapterlabError(
                f"{rows[0].place}: {form} is no text to continue: give text, or prompt and completion"
            )
        seed = f"{self.name}/{part}"
        if form is Form.TEXT:
            return padded(drawn(windows(rows, tokenizer, length), count, seed), tokenizer)
        encoded = (tokens for row in drawn(rows, count, seed) for tokens in answers(row, form, tokenizer, length))
        return padded(list(encoded)[:count], tokenizer)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        # Rows are padded to the longest of the whole part; a batch needs only the longest of its own.
        used = int(batch["scored"].any(0).nonzero().max()) + 1
        return super().loss(model, {name: tensor[:, :used] for name, tensor in batch.items()})

    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        return halving(lambda tokens: score_text(model, examples, tokens), TOKENS_AT_ONCE)[0]

    @property
    def sources(self) -> tuple[str, ...]:
        return *super().sources, *DECISIVE

    def fingerprint(self) -> str:
        return parts_of(self.data).hash


def drawn(items: Iterable[T], count: int, seed: str) -> list[T]:
    """`count` of the items by a hash of their number, so that more is a superset."""

    def order(item: tuple[int, T]) -> bytes:
        return hashlib.blake2b(f"{seed}/{item[0]}".encode(), digest_size=8).digest()

    return [item for _, item in sorted(enumerate(items), key=order)[:count]]


def windows(rows: Sequence[Row], tokenizer: Any, length: int) -> Iterator[Tokens]:
    """Each text with the end of text, in windows of at most `length` tokens; all but a window's first are scored."""
    opening, end = _opening(tokenizer), _end(tokenizer)
    for ids in tokenizer([row.values["text"] for row in rows], add_special_tokens=False)["input_ids"]:
        whole = opening + ids + end
        for start in range(0, len(whole), length):
            window = whole[start : start + length]
            if len(window) > 1:
                yield Tokens(window, [False] + [True] * (len(window) - 1))


def answers(row: Row, form: Form, tokenizer: Any, length: int) -> Iterator[Tokens]:
    """A row's answers after what stands before them; what is longer than `length` loses its start.

    Raises `AdapterlabError` naming the row if its last answer alone is too long.
    """
    if form is Form.COMPLETION:
        spans = [Span(row.values["prompt"], False), Span(row.values["completion"], True)]
        examples, opening, end = [spans], _opening(tokenizer), _end(tokenizer)
    else:
        examples, opening, end = chat(row, tokenizer), [], []  # the template writes its own beginning and ends
    for spans in examples:
        ids, scored = list(opening), [False] * len(opening)
        for span in spans:
            found = tokenizer([span.text], add_special_tokens=False)["input_ids"][0] if span.text else []
            ids += found
            scored += [span.scored] * len(found)
        ids += end
        scored += [True] * len(end)
        last = len(found) + len(end)
        if last >= length:
            raise AdapterlabError(
                f"{row.place}: the answer has {last} tokens, more than the {length - 1} that fit: shorten it, or give a "
                f"--length above {last}"
            )
        if scored[0]:  # something must stand before the first scored token
            ids, scored = [*(end or ids[:1]), *ids], [False, *scored]
        ids, scored = ids[-length:], scored[-length:]
        yield Tokens(ids, [False, *scored[1:]])


def chat(row: Row, tokenizer: Any) -> list[list[Span]]:
    """A conversation as the tokenizer's template writes it; only what the assistant says is scored.

    Where the template writes earlier turns otherwise than the last (it may leave out their reasoning), every turn of the
    assistant is an example of its own.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise AdapterlabError(
            f"{row.place}: 'messages' need a chat template, and the model's tokenizer has none: give 'prompt' and "
            "'completion', or a model that was made for chats"
        )
    messages, done = row.values["messages"], ""
    examples: list[list[Span]] = [[]]
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or not message["content"].strip():
            continue
        try:
            before = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
            after = tokenizer.apply_chat_template(messages[: i + 1], tokenize=False)
        except Exception as error:  # whatever the template raises
            raise AdapterlabError(f"{row.place}: the tokenizer's chat template refuses it: {error}") from error
        if not after.startswith(before):
            raise AdapterlabError(
                f"{row.place}: the tokenizer's chat template does not write an answer after its own generation prompt, "
                "so the answer cannot be told from the rest: give 'prompt' and 'completion'"
            )
        if not before.startswith(done):
            examples.append([])
            done = ""
        examples[-1] += [Span(before[len(done) :], False), Span(after[len(before) :], True)]
        done = after
    return [spans for spans in examples if spans]


def padded(rows: Sequence[Tokens], tokenizer: Any) -> Examples:
    """Rows of one width, filled on the right; the size is the bytes of the scored text."""
    width = max(len(row.ids) for row in rows)
    filler = padding(tokenizer)
    ids = torch.tensor([row.ids + [filler] * (width - len(row.ids)) for row in rows])
    scored = torch.tensor([row.scored + [False] * (width - len(row.scored)) for row in rows])
    texts = tokenizer.batch_decode(
        [[i for i, s in zip(*row, strict=True) if s] for row in rows], skip_special_tokens=True
    )
    return Examples({"input_ids": ids, "scored": scored}, max(1, sum(len(text.encode()) for text in texts)))


def _opening(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text of its own accord: many models are lost without it."""
    alone = tokenizer(["a"], add_special_tokens=False)["input_ids"][0]
    whole = tokenizer(["a"], add_special_tokens=True)["input_ids"][0]
    start = getattr(tokenizer, "bos_token_id", None)
    return [start] if start is not None and whole[:1] == [start] and alone[:1] != [start] else []


def _end(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
