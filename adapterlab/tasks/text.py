"""Tasks made of text: running text cut to windows, and prompts with the completions that are scored."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import documents
from adapterlab.tasks.base import Control, Examples, Part, Scores, Task

TOKENS_AT_ONCE = 8192
"""Tokens that are scored in one pass."""


class Tokenizer(Protocol):
    """The part of a tokenizer of transformers that tasks use."""

    eos_token_id: int | None

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Any:
        """Token ids under `input_ids`."""
        ...

    def batch_decode(self, sequences: Any) -> list[str]:
        """The texts of token ids."""
        ...


class Completion(NamedTuple):
    """A prompt, and what should come after it; only that is scored."""

    prompt: str
    completion: str


class TextTask(Task):
    """A causal language model's loss on text. Subclasses say what the text is."""

    @abstractmethod
    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        """The examples of a part other than the base's own domain."""

    def examples(self, part: Part, processor: Any, length: int, count: int) -> Examples:
        if part is Part.BASE:
            return self.base_domain(processor, length, count)
        return self.text_examples(part, processor, length, count)

    def base_domain(self, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        """What the embedded base was trained for and never saw: the library's held-out files."""
        return base_domain(tokenizer, length, count)

    def terms(self, batch: Mapping[str, Tensor]) -> int:
        return int(batch["scored"][:, 1:].sum())

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        logits, targets = predictions(model, batch)
        return cross_entropy(logits, targets, reduction="sum")

    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        return score_text(model, examples)


class WindowTask(TextTask):
    """Running text, cut to windows of one length; every token but a window's first is scored."""

    @abstractmethod
    def texts(self, part: Part) -> Sequence[str]:
        """The texts of a part, in an order that is always the same."""

    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        return cut(self.texts(part), tokenizer, length, count, f"{self.name}/{part}")


class CompletionTask(TextTask):
    """Prompts and completions; the completion and the end of the text are scored."""

    packed: ClassVar[bool] = False
    """Whether examples to train on are packed, several to a row; for short ones, which would leave batches all but empty."""

    @abstractmethod
    def completions(self, part: Part) -> Sequence[Completion]:
        """The prompts of a part with their completions, in an order that is always the same."""

    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        arrange = pack if self.packed and part is Part.TRAIN else pad
        return arrange(self.completions(part), tokenizer, length, count, f"{self.name}/{part}")


def predictions(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits `(terms, vocabulary)` for the scored tokens in float32, and these tokens `(terms,)`."""
    ids, scored = batch["input_ids"], batch["scored"][:, 1:]
    extra = {name: tensor for name, tensor in batch.items() if name not in ("input_ids", "scored")}
    logits = model(input_ids=ids, **extra).logits[:, :-1]
    return logits[scored].float(), ids[:, 1:][scored]


def to_score(examples: Examples, model: nn.Module, tokens: int = TOKENS_AT_ONCE) -> Iterator[dict[str, Tensor]]:
    """The examples in batches of about so many `tokens`, to be scored in one pass, on the model's device."""
    device = next(model.parameters()).device
    rows = max(1, tokens // max(t.shape[1] for t in examples.inputs.values() if t.ndim > 1))
    for start in range(0, len(examples), rows):
        yield {name: t.to(device) for name, t in examples.rows(slice(start, start + rows)).items()}


@torch.no_grad()
def score_text(model: nn.Module, examples: Examples, tokens: int = TOKENS_AT_ONCE) -> Scores:
    """Nats per byte of scored text, and the share of scored tokens that the model holds most likely."""
    total, hits, terms = 0.0, 0, 0
    for batch in to_score(examples, model, tokens):
        logits, targets = predictions(model, batch)
        total += float(cross_entropy(logits, targets, reduction="sum"))
        hits += int((logits.argmax(-1) == targets).sum())
        terms += len(targets)
    loss = total / examples.size
    return Scores(loss if math.isfinite(loss) else math.inf, hits / terms)


def base_domain(tokenizer: Tokenizer, length: int, count: int) -> Examples:
    """Windows of what the embedded base was trained for and never saw."""
    return cut([d.text for d in documents("heldout")], tokenizer, length, count, "base")


def cut(texts: Sequence[str], tokenizer: Tokenizer, length: int, count: int, name: str) -> Examples:
    """Cut `texts` to windows of `length` tokens and take `count` of them by a hash, so that more is a superset.

    The first token of a window is not scored, since nothing stands before it. Raises `AdapterlabError` if no text is
    long enough.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    windows = (
        (f"{i}/{start}", ids[start : start + length])
        for i, ids in enumerate(encoded)
        for start in range(0, len(ids) - length + 1, length)
    )
    chosen = _drawn(windows, count, name)
    if not chosen:
        raise AdapterlabError(f"{name}: no text has {length} tokens; give a smaller length")
    ids = torch.tensor(chosen)
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[:, 0] = False
    return Examples(
        {"input_ids": ids, "scored": scored}, sum(len(text.encode()) for text in tokenizer.batch_decode(ids[:, 1:]))
    )


def pad(
    pairs: Sequence[Completion], tokenizer: Tokenizer, length: int, count: int, name: str, *, ended: bool = True
) -> Examples:
    """Token ids of `count` prompts with their completions, padded on the right to the longest; chosen by a hash.

    Completions end with the tokenizer's end of text, if it has one and they are to be `ended`. What is longer than
    `length` loses the start of its prompt; raises `AdapterlabError` if a completion alone is too long.
    """
    rows, size = _encoded(pairs, tokenizer, length, count, name, ended)
    return Examples(_filled(rows, tokenizer, max(len(ids) for ids, _ in rows)), size)


def pack(pairs: Sequence[Completion], tokenizer: Tokenizer, length: int, count: int, name: str) -> Examples:
    """As `pad`, but `count` rows of `length` tokens, each with as many examples one after the other as it has room for."""
    examples, size = _encoded(pairs, tokenizer, length, len(pairs), name, True)
    rows: list[Row] = []
    for ids, scored in examples:
        if not rows or len(rows[-1][0]) + len(ids) > length:
            rows.append(([], []))
        rows[-1][0].extend(ids)
        rows[-1][1].extend(scored)
    return Examples(_filled(rows[:count], tokenizer, length), size)


Row: TypeAlias = tuple[list[int], list[bool]]
"""Token ids, and which of them are scored."""


def _encoded(
    pairs: Sequence[Completion], tokenizer: Tokenizer, length: int, count: int, name: str, ended: bool
) -> tuple[list[Row], int]:
    """`count` of the pairs as rows, and the bytes of their completions."""
    chosen = _drawn(((str(i), pair) for i, pair in enumerate(pairs)), count, name)
    if not chosen:
        raise AdapterlabError(f"{name}: there is no example")
    prompts = tokenizer([p.prompt for p in chosen], add_special_tokens=False)["input_ids"]
    answers = tokenizer([p.completion for p in chosen], add_special_tokens=False)["input_ids"]
    stop = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    end = stop if ended else []
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        room = length - len(answer) - len(end)
        if room < 1:
            raise AdapterlabError(f"{name}: a completion has {len(answer)} tokens; give a length above {length}")
        start = prompt[-room:] or stop or answer[:1]  # something must stand before the first scored token
        rows.append((start + answer + end, [False] * len(start) + [True] * (len(answer) + len(end))))
    return rows, sum(len(p.completion.encode()) for p in chosen)


def _filled(rows: Sequence[Row], tokenizer: Tokenizer, width: int) -> dict[str, Tensor]:
    """The rows as tensors `(rows, width)`, filled up on the right with what is not scored."""
    filler = 0 if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    return {
        "input_ids": torch.tensor([ids + [filler] * (width - len(ids)) for ids, _ in rows]),
        "scored": torch.tensor([scored + [False] * (width - len(scored)) for _, scored in rows]),
    }


def _drawn(items: Iterable[tuple[str, Any]], count: int, name: str) -> list[Any]:
    def order(item: tuple[str, Any]) -> bytes:
        return hashlib.blake2b(f"{name}/{item[0]}".encode(), digest_size=8).digest()

    return [value for _, value in sorted(items, key=order)[:count]]
