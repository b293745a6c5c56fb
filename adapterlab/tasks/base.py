"""A task: what is learned, and how it is scored in-domain, out-of-domain, and on what the base already knew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from adapterlab.models.loading import CAUSAL, Head


class Part(StrEnum):
    """The parts of a task's data; no text is in two of them."""

    TRAIN = "train"
    VALIDATION = "validation"
    """What choices are made on."""
    TEST = "test"
    """What is reported: the same domain as training."""
    OOD = "ood"
    """What is reported: the same skill, asked of another domain."""
    BASE = "base"
    """What the model knew before: forgetting is how much worse it has become here."""


@dataclass(frozen=True)
class Examples:
    """Examples of one part, ready for a model."""

    inputs: Mapping[str, Tensor]
    """By name, one tensor with a row for each example."""
    size: int
    """What a summed loss is divided by: the bytes of text that are scored, or the number of examples."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, which: Tensor | slice) -> dict[str, Tensor]:
        """The examples that `which` picks, as a batch."""
        return {name: tensor[which] for name, tensor in self.inputs.items()}


class Scores(NamedTuple):
    """What a model makes of some examples."""

    loss: float
    """In the task's unit; infinite if it is not a number."""
    accuracy: float
    """The share of what is scored that the model gets right."""


class Control(Protocol):
    """Whoever can turn the adapter up and down while a task is scored."""

    strength: float


class Task(ABC):
    """One thing to be learned. A subclass with a `name` is known to `adapterlab.tasks.task(name)`."""

    name: str = ""
    title: str
    explanation: str
    """What the task stands for."""
    unit: str = "nats per byte"
    """Of the loss in `Scores`."""
    registry: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__dict__.get("name"):
            Task.registry[cls.name] = cls

    @property
    def head(self) -> Head:
        """What the model must have at its end."""
        return CAUSAL

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are scored."""
        return Part.VALIDATION, Part.TEST, Part.OOD, Part.BASE

    @abstractmethod
    def examples(self, part: Part, processor: Any, length: int, count: int) -> Examples:
        """At most `count` examples of a part, drawn evenly by a hash, so that more is a superset, in that order.

        `processor` is the model's tokenizer (or image processor); no example is longer than `length` tokens.
        """

    @abstractmethod
    def terms(self, batch: Mapping[str, Tensor]) -> int:
        """How many terms the loss of a batch has, so that a batch can be taken in pieces."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """What training lowers, summed over the terms of the batch."""

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> Iterator[Tensor]:
        """What training lowers, in parts; each is differentiated before the next is asked for.

        One part, `loss`, unless a task trains at several strengths: it turns `control`, and turns it back.
        """
        yield self.loss(model, batch)

    def contrast(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Sequence[Callable[[], object]]:
        """Two runs of the model that differ, pair by pair, only in what the task is about; none where it has no pairs.

        Each calls the model once for every pair, without padding.
        """
        return ()

    @abstractmethod
    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        """Loss and accuracy of `model` on the model's device; a task about strength turns `control` and turns it back."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What the data was made from, in so many words that another source has another fingerprint."""
