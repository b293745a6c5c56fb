"""Tasks on text: running text cut into windows, and prompts with completions that are scored."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import documents
from adapterlab.tasks.base import Control, Examples, Part, Question, Scores, Task
from adapterlab.tasks.scoring import predictions, score_text

T = TypeVar("T")
Message: TypeAlias = Mapping[str, str]
"""One turn of a chat: its `role` and its `content`."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that tasks use."""

    bos_token_id: int | None
    eos_token_id: int | None
    chat_template: str | None

    def __call__(
        self,
        text: list[str],
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
    ) -> Mapping[str, list[list[int]]]:
        """Return the token ids of some texts under `input_ids`.

        Args:
            text: The texts.
            add_special_tokens: Add the tokenizer's opening and closing tokens.
            truncation: Cut texts to `max_length`.
            max_length: Largest number of tokens per text.
        """
        ...

    def __len__(self) -> int: ...

    def batch_decode(
        self, sequences: Tensor | Sequence[Sequence[int]], *, skip_special_tokens: bool = False
    ) -> list[str]:
        """Return the texts of some token ids.

        Args:
            sequences: Token ids `(texts, tokens)`.
            skip_special_tokens: Leave out tokens such as the end of text.
        """
        ...

    def apply_chat_template(
        self, conversation: Sequence[Message], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str:
        """Return a chat as the model's template writes it.

        Args:
            conversation: The turns of the chat.
            tokenize: Here always False, which makes the result a string.
            add_generation_prompt: End with the opening of the assistant's next turn.
        """
        ...


class Completion(NamedTuple):
    """A prompt and its completion; only the completion is scored."""

    prompt: str
    completion: str


class Tokens(NamedTuple):
    """One example as token ids."""

    ids: list[int]
    scored: list[bool]
    """For each token, True if it is scored."""


class TextTask(Task):
    """A task with a causal language model's loss on text; subclasses supply the text."""

    @abstractmethod
    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        """Return examples of any part except `Part.BASE`, as `Task.examples` does.

        Args:
            part: Part of the data.
            tokenizer: The model's tokenizer.
            length: Largest number of tokens in an example.
            count: Largest number of examples.
        """

    def examples(self, part: Part, processor: Tokenizer, length: int, count: int) -> Examples:
        if part is Part.BASE:
            return self.base_domain(processor, length, count)
        return self.text_examples(part, processor, length, count)

    def base_domain(self, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        """Return examples of the base model's own domain, for `Part.BASE`: see `base_domain` of this module.

        Args:
            tokenizer: The model's tokenizer.
            length: Number of tokens in an example.
            count: Largest number of examples.
        """
        return base_domain(tokenizer, length, count)

    def terms(self, batch: Mapping[str, Tensor]) -> int:
        return int(batch["scored"][:, 1:].sum())

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        logits, targets = predictions(model, batch)
        return cross_entropy(logits, targets, reduction="sum")

    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        return score_text(model, examples)


class WindowTask(TextTask):
    """Running text, cut into windows of equal length; every token except the first of a window is scored."""

    prompted = False

    @abstractmethod
    def texts(self, part: Part) -> Sequence[str]:
        """Return the texts of a part, always in the same order.

        Args:
            part: Any part except `Part.BASE`.
        """

    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        return cut(self.texts(part), tokenizer, length, count, f"{self.name}/{part}")


class CompletionTask(TextTask):
    """Prompts and completions; the completion and the end-of-text token are scored."""

    prompted = True
    packed: ClassVar[bool] = False
    """True to pack several training examples into one row, for examples much shorter than a row."""

    @abstractmethod
    def completions(self, part: Part) -> Sequence[Completion]:
        """Return the prompts of a part with their completions, always in the same order.

        Args:
            part: Any part except `Part.BASE`.
        """

    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        arrange = pack if self.packed and part is Part.TRAIN else pad
        return arrange(self.completions(part), tokenizer, length, count, f"{self.name}/{part}")

    def questions(self, part: Part, processor: Tokenizer, count: int) -> Sequence[Question]:
        numbered = [(i, pair) for i, pair in enumerate(self.completions(part))]
        chosen = first_by_hash(((str(i), (i, pair)) for i, pair in numbered), count, f"{self.name}/{part}")
        if not chosen:
            return []
        prompts = processor([pair.prompt for _, pair in chosen], add_special_tokens=False)["input_ids"]
        return [
            Question(
                tuple(prompt) or (_filler(processor),),
                pair.completion,
                f"{self.name} {part} item {i}",
                {"prompt": pair.prompt, "completion": pair.completion},
            )
            for prompt, (i, pair) in zip(prompts, chosen, strict=True)
        ]


def base_domain(tokenizer: Tokenizer, length: int, count: int) -> Examples:
    """Return windows of text from the domain of the embedded base model that it was not trained on.

    Args:
        tokenizer: The model's tokenizer.
        length: Tokens per window.
        count: Largest number of windows.
    """
    return cut([d.text for d in documents("heldout")], tokenizer, length, count, "base")


def cut(texts: Sequence[str], tokenizer: Tokenizer, length: int, count: int, name: str) -> Examples:
    """Cut texts into windows and choose some of them by a hash.

    The first token of a window is not scored, since there is nothing to predict it from. The end of a text that fills no
    window is dropped.

    Args:
        texts: Running texts.
        tokenizer: The model's tokenizer.
        length: Tokens per window.
        count: Largest number of windows; those of a smaller count are the first ones of a larger count.
        name: Seed of the hash, and the name in errors.

    Returns:
        `input_ids` and `scored`, both `(windows, length)`; the size is the number of scored bytes.

    Raises:
        AdapterlabError: If no text is long enough for a window.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    windows = (
        (f"{i}/{start}", ids[start : start + length])
        for i, ids in enumerate(encoded)
        for start in range(0, len(ids) - length + 1, length)
    )
    chosen = first_by_hash(windows, count, name)
    if not chosen:
        raise AdapterlabError(f"{name}: no text has {length} tokens: give a smaller length")
    ids = torch.tensor(chosen)
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[:, 0] = False
    size = sum(len(text.encode()) for text in tokenizer.batch_decode(ids[:, 1:]))
    return Examples({"input_ids": ids, "scored": scored}, size)


def pad(
    pairs: Sequence[Completion], tokenizer: Tokenizer, length: int, count: int, name: str, *, ended: bool = True
) -> Examples:
    """Encode prompts with their completions, one per row, padded on the right.

    Args:
        pairs: Prompts and completions.
        tokenizer: The model's tokenizer.
        length: Largest number of tokens in a row; a longer example loses the start of its prompt.
        count: Largest number of rows, chosen by a hash; those of a smaller count are the first ones of a larger count.
        name: Seed of the hash, and the name in errors.
        ended: True to end each completion with the tokenizer's end-of-text token, which is then scored too.

    Returns:
        `input_ids`, `scored` and `attention_mask`, all `(rows, tokens)`; the size is the number of bytes of the completions.

    Raises:
        AdapterlabError: If there are no pairs, or a completion alone is too long.

    Example:
        >>> class Characters:
        ...     eos_token_id = 0
        ...     def __call__(self, text, *, add_special_tokens):
        ...         return {"input_ids": [[ord(character) for character in t] for t in text]}
        >>> examples = pad([Completion("2+2=", "4")], Characters(), length=16, count=8, name="sums")
        >>> examples.inputs["scored"].tolist(), examples.size
        ([[False, False, False, False, True, True]], 1)
    """
    rows, size = _encode(pairs, tokenizer, length, count, name, ended)
    return Examples(to_tensors(rows, max(len(row.ids) for row in rows), _filler(tokenizer)), size)


def pack(pairs: Sequence[Completion], tokenizer: Tokenizer, length: int, count: int, name: str) -> Examples:
    """Encode prompts with their completions as `pad` does, but several per row.

    Args:
        pairs: Prompts and completions.
        tokenizer: The model's tokenizer.
        length: Tokens per row; a row takes whole examples until the next one does not fit.
        count: Largest number of rows.
        name: Seed of the hash that orders the examples, and the name in errors.

    Returns:
        `input_ids`, `scored` and `attention_mask`, all `(rows, length)`; the size is the number of bytes of all completions.

    Raises:
        AdapterlabError: If there are no pairs, or a completion alone is too long.
    """
    examples, size = _encode(pairs, tokenizer, length, len(pairs), name, True)
    rows: list[Tokens] = []
    for ids, scored in examples:
        if not rows or len(rows[-1].ids) + len(ids) > length:
            rows.append(Tokens([], []))
        rows[-1].ids.extend(ids)
        rows[-1].scored.extend(scored)
    return Examples(to_tensors(rows[:count], length, _filler(tokenizer)), size)


def to_tensors(rows: Sequence[Tokens], width: int, filler: int) -> dict[str, Tensor]:
    """Return `input_ids`, `scored` and `attention_mask`, all `(rows, width)`, padded on the right with unscored tokens.

    Args:
        rows: Encoded examples of at most `width` tokens.
        width: Tokens per row.
        filler: Token id for the padding.
    """
    return {
        "input_ids": torch.tensor([row.ids + [filler] * (width - len(row.ids)) for row in rows]),
        "scored": torch.tensor([row.scored + [False] * (width - len(row.scored)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows]),
    }


def first_by_hash(items: Iterable[tuple[str, T]], count: int, seed: str) -> list[T]:
    """Choose items in the order of a hash of their keys.

    Args:
        items: Keys and items.
        count: Largest number of items to return; those of a smaller count are the first ones of a larger count.
        seed: Text that is hashed along with each key.

    Returns:
        The chosen items in the order of their hashes.
    """

    def order(item: tuple[str, T]) -> bytes:
        return hashlib.blake2b(f"{seed}/{item[0]}".encode(), digest_size=8).digest()

    return [value for _, value in sorted(items, key=order)[:count]]


def _encode(
    pairs: Sequence[Completion], tokenizer: Tokenizer, length: int, count: int, name: str, ended: bool
) -> tuple[list[Tokens], int]:
    """Return `count` of the pairs as rows, and the number of bytes of their completions."""
    chosen = first_by_hash(((str(i), pair) for i, pair in enumerate(pairs)), count, name)
    if not chosen:
        raise AdapterlabError(f"{name}: there are no examples: give at least one prompt with its completion")
    prompts = tokenizer([p.prompt for p in chosen], add_special_tokens=False)["input_ids"]
    answers = tokenizer([p.completion for p in chosen], add_special_tokens=False)["input_ids"]
    stop = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    end = stop if ended else []
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        room = length - len(answer) - len(end)
        if room < 1:
            raise AdapterlabError(
                f"{name}: a completion has {len(answer)} tokens, which do not fit: give a length above {length}"
            )
        start = prompt[-room:] or stop or answer[:1]  # the first scored token needs a token before it
        rows.append(Tokens(start + answer + end, [False] * len(start) + [True] * (len(answer) + len(end))))
    return rows, sum(len(p.completion.encode()) for p in chosen)


def _filler(tokenizer: Tokenizer) -> int:
    return 0 if tokenizer.eos_token_id is None else tokenizer.eos_token_id
