"""A task: what is learned, and how it is scored in-domain, out-of-domain, and on what the base already knew."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapterlab.errors import AdapterlabError


class Part(StrEnum):
    """The parts of a task's data; no text is in two of them."""

    TRAIN = "train"
    VALIDATION = "validation"
    """What choices are made on."""
    TEST = "test"
    """What is reported: the same domain as training."""
    OOD = "ood"
    """What is reported: the same skill, asked of another domain."""


class Tokenizer(Protocol):
    """The part of a tokenizer of transformers that tasks use."""

    eos_token_id: int | None

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Any:
        """Token ids under `input_ids`."""
        ...

    def batch_decode(self, sequences: Any) -> list[str]:
        """The texts of token ids."""
        ...


@dataclass(frozen=True)
class Windows:
    """Texts cut to one length: `ids (n, length)`, and which tokens are scored."""

    ids: Int[Tensor, "n length"]
    scored: Bool[Tensor, "n length"]
    size: int
    """Bytes of text that the scored tokens stand for."""


class Scores(NamedTuple):
    """What a model makes of some windows."""

    loss: float
    """Nats per byte, so that tokenizers do not matter."""
    accuracy: float
    """The share of scored tokens that the model holds most likely."""


class Task(ABC):
    """One thing to be learned. A subclass with a `name` is known to `adapterlab.tasks.task(name)`."""

    name: ClassVar[str] = ""
    title: ClassVar[str]
    explanation: ClassVar[str]
    """What the task stands for."""
    registry: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.name:
            Task.registry[cls.name] = cls

    @abstractmethod
    def texts(self, part: Part) -> Sequence[str]:
        """The texts of a part, in an order that is always the same."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What the data was made from, in so many words that another source has another fingerprint."""

    def windows(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Windows:
        """At most `count` windows of `length` tokens, drawn evenly from the texts of `part`."""
        return cut(self.texts(part), tokenizer, length, count, f"{self.name}/{part}")


def cut(texts: Sequence[str], tokenizer: Tokenizer, length: int, count: int, name: str) -> Windows:
    """Cut `texts` to windows of `length` tokens and take `count` of them by a hash, so that more is a superset.

    The first token of a window is not scored, since nothing stands before it. Raises `AdapterlabError` if no text is
    long enough.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    found: list[tuple[bytes, list[int]]] = []
    for i, ids in enumerate(encoded):
        for start in range(0, len(ids) - length + 1, length):
            order = hashlib.blake2b(f"{name}/{i}/{start}".encode(), digest_size=8).digest()
            found.append((order, ids[start : start + length]))
    if not found:
        raise AdapterlabError(f"{name}: no text has {length} tokens; give a smaller length")
    chosen = [ids for _, ids in sorted(found)[:count]]
    ids = torch.tensor(chosen)
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[:, 0] = False
    return Windows(ids, scored, sum(len(text.encode()) for text in tokenizer.batch_decode(ids[:, 1:])))


@torch.no_grad()
def score(model: nn.Module, windows: Windows, batch: int = 32) -> Scores:
    """Loss and accuracy of `model` on `windows`, in batches of `batch`, on the model's device."""
    device = next(model.parameters()).device
    total, hits = 0.0, 0
    for start in range(0, len(windows.ids), batch):
        ids = windows.ids[start : start + batch].to(device)
        scored = windows.scored[start : start + batch, 1:].to(device)
        logits = model(input_ids=ids).logits[:, :-1][scored].float()
        targets = ids[:, 1:][scored]
        total += float(cross_entropy(logits, targets, reduction="sum"))
        hits += int((logits.argmax(-1) == targets).sum())
    loss = total / windows.size
    return Scores(loss if math.isfinite(loss) else math.inf, hits / int(windows.scored.sum()))
