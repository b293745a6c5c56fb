"""Base class of a task: the data in parts, the training loss, and the scores."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import CAUSAL, Head
from adapterlab.tasks.answer_metrics import MAX_NEW_TOKENS, Scorer, scorer_of


class Part(StrEnum):
    """The parts of a task's data; no text is in two of them."""

    TRAIN = "train"
    """Examples to train on."""
    VALIDATION = "validation"
    """Examples for choices, such as the learning rate."""
    TEST = "test"
    """Reported: examples from the domain of training."""
    OOD = "ood"
    """Reported: the same skill in another domain (out of domain)."""
    BASE = "base"
    """Reported: the domain of the base model; a rise of the loss here is forgetting."""


@dataclass(frozen=True)
class Examples:
    """Examples of one part, ready for a model.

    Example:
        >>> import torch
        >>> examples = Examples({"input_ids": torch.tensor([[1, 2], [3, 4], [5, 6]])}, size=9)
        >>> len(examples)
        3
        >>> examples.rows(slice(1, 3))
        {'input_ids': tensor([[3, 4],
                [5, 6]])}
    """

    inputs: Mapping[str, Tensor]
    """Tensors by name, each with one row per example."""
    size: int
    """Divisor of a summed loss: the bytes of scored text, or the number of examples."""
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Results of the base model on these examples, kept by the lab for all trials that score them: see `kept_of`."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, which: Tensor | slice) -> dict[str, Tensor]:
        """Return some of the examples as a batch.

        Args:
            which: Row numbers, a boolean mask over the rows, or a slice.
        """
        return {name: tensor[which] for name, tensor in self.inputs.items()}


class Question(NamedTuple):
    """A prompt that a model is asked to answer, with the right answer."""

    ids: tuple[int, ...]
    """Tokens of the prompt, at least one."""
    reference: str
    """The right answer."""
    place: str
    """File and line, or part and number, for error messages."""
    row: Mapping[str, Any]
    """The whole row, for a scorer of the user."""
    stops: tuple[int, ...] = ()
    """Tokens that end an answer, besides the model's end of text."""
    tail: str = ""
    """Text that ends an answer, for a chat template whose turns end without a special token; empty for none."""


class Scores(NamedTuple):
    """Loss and accuracy of a model on some examples."""

    loss: float
    """Loss in the task's unit; infinite if it is not a number."""
    accuracy: float
    """Share of the scored items that the model predicts correctly, from 0 to 1."""
    rows: tuple[float, ...] = ()
    """Loss of each row, scaled so that their plain mean is `loss`; empty if it is not a mean over rows, or not finite."""


class Control(Protocol):
    """An object that sets the strength of the adapter while a task trains or scores, such as a `Handle`."""

    strength: float
    """Factor on the adapter's change: 1 as trained, 0 for the base model."""


def kept_of(control: Control) -> dict[str, Any]:
    """Return the results of the base model that a caller keeps between calls of `Task.score`; empty if it keeps none.

    They belong to the examples being scored. A task whose score compares the adapted model with the base computes what it
    needs of the base once and puts it here.

    Args:
        control: The control that `Task.score` was given.

    >>> class Plain:
    ...     strength = 1.0
    >>> kept_of(Plain())
    {}
    """
    kept: dict[str, Any] = getattr(control, "kept", {})
    return kept


class Task(ABC):
    """One thing to learn. A subclass with a `name` is registered and found by `adapterlab.tasks.task(name)`."""

    name: str = ""
    """Name in studies and ledgers; a class without a name is not registered."""
    title: str
    """Short title for reports."""
    explanation: str
    """Kind of learning that the task represents, and its out-of-domain part, in one to three sentences."""
    unit: str = "nats per byte"
    """Unit of the loss in `Scores`."""
    prompted: bool | None = None
    """True if the examples are prompts with answers, False if they are running text, None if they are both. Adapters that
    act on prompts are attached accordingly."""
    metric: str = ""
    """Metric of the answers that the model generates, as `adapterlab.tasks.answer_metrics.scorer_of` reads it; empty to
    generate none. The file of a scorer is named relative to the file of the task."""
    max_new_tokens: int = MAX_NEW_TOKENS
    """Tokens of a generated answer, at most."""
    registry: ClassVar[dict[str, type[Task]]] = {}
    """All named subclasses."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__dict__.get("name"):
            Task.registry[cls.name] = cls

    @property
    def head(self) -> Head:
        """Output head that the model needs; by default that of a causal language model."""
        return CAUSAL

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts that are scored."""
        return Part.VALIDATION, Part.TEST, Part.OOD, Part.BASE

    @abstractmethod
    def examples(self, part: Part, processor: Any, length: int, count: int) -> Examples:
        """Return examples of a part, chosen by a hash and in a fixed order.

        The examples of a smaller `count` are the first ones of a larger `count`.

        Args:
            part: Part of the data.
            processor: The model's tokenizer, or its image processor.
            length: Largest number of tokens in an example.
            count: Largest number of examples.
        """

    @abstractmethod
    def terms(self, batch: Mapping[str, Tensor]) -> int:
        """Return the number of terms in the loss of a batch.

        Dividing by it turns the summed `loss` into a mean, also if the batch is processed in pieces.

        Args:
            batch: Rows of `Examples.inputs`.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the training loss of a batch, summed over its terms, as a scalar tensor.

        Args:
            model: The model with its adapter.
            batch: Rows of `Examples.inputs`, on the model's device.
        """

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> Iterator[Tensor]:
        """Yield the training loss in parts; the caller differentiates each part before it asks for the next.

        By default there is one part, `loss`. A task that trains at several strengths overrides this, sets the strength
        through `control` and restores it at the end.

        Args:
            model: The model with its adapter.
            batch: Rows of `Examples.inputs`, on the model's device.
            control: Sets the strength of the adapter.
        """
        yield self.loss(model, batch)

    def contrast(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Sequence[Callable[[], object]]:
        """Return two functions that run the model on paired texts, one function for each side of the pairs.

        The two texts of a pair differ only in the trait that the task is about. Each function calls the model once per
        pair, without padding. A task without pairs returns no functions.

        Args:
            model: The model to run.
            batch: Rows of `Examples.inputs`, on the model's device.
        """
        return ()

    @abstractmethod
    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        """Return the loss and accuracy of a model, computed on the model's device.

        Args:
            model: The model with its adapter.
            examples: Examples to score.
            control: Sets the strength of the adapter. A task that scores at several strengths restores it at the end.

        Returns:
            The scores, with the loss of each row in the order of the examples. A task whose loss is not a mean over its
            rows gives no rows; its reports then lack the variance that comes from the choice of the rows.
        """

    @property
    def scorer(self) -> Scorer | None:
        """The user's function that `metric` names, with an absolute path; None for a metric of the package."""
        found = scorer_of(self.metric)
        if found is None:
            return None
        folder = Path(inspect.getfile(type(self))).parent
        return found._replace(file=str((folder / found.file).resolve()))

    def questions(self, part: Part, processor: Any, count: int) -> Sequence[Question]:
        """Return prompts of a part with their answers, those of the first examples.

        Args:
            part: Part of the data.
            processor: The model's tokenizer.
            count: Largest number of prompts.

        Raises:
            AdapterlabError: If the examples are no prompts with answers.
        """
        raise AdapterlabError(
            f"{self.name}: the examples are not prompts with answers, so there is no {self.metric}: leave the metric out"
        )

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a string that names the source of the data; different data must have a different fingerprint."""
