"""Properties of an adapted model, compared with the base model: those that no single weight shows.

>>> import torch
>>> logits = torch.zeros(1, 2, 5)
>>> observed = Observed(logits, logits, base_before={}, base={}, changes={"norm.weight": torch.ones(4)})
>>> AnswersAsBaseAtInit().residual(observed), ChangesNoParameter().residual(observed)
(0.0, 1.0)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Property
from adapterlab.adapters.invariants import relative_size


class Observed(NamedTuple):
    """A model's output for the same tokens, and its base parameters, without the adapter and with it."""

    answer_before: Float[Tensor, "batch tokens vocabulary"]
    """Logits before the adapter was attached."""
    answer: Float[Tensor, "batch others vocabulary"]
    """Logits of the adapted model."""
    base_before: Mapping[str, Tensor]
    """Parameters of the model before the adapter was attached, by name."""
    base: Mapping[str, Tensor]
    """The same parameters as they are in the adapted model."""
    changes: Mapping[str, Tensor]
    """Changes that the adapter adds to parameters, by path."""
    shares: Float[Tensor, "layers batch ..."] | None = None
    """Shares that the router of a routed adapter computed for this output."""


@dataclass(frozen=True)
class ModelInvariant(Property, ABC):
    """A property of the model that an adapter is attached to."""

    @abstractmethod
    def residual(self, observed: Observed) -> float:
        """Return by how much the property is violated; 0 if it holds exactly.

        Args:
            observed: The model without the adapter and with it.
        """


@dataclass(frozen=True)
class _Exact(ModelInvariant):
    """A property that rounding cannot violate."""

    def bound(self, dtype: torch.dtype) -> float:
        return 0.0


@dataclass(frozen=True)
class AnswersAsBaseAtInit(ModelInvariant):
    """The adapted model gives the base model's outputs before training."""

    @property
    def only_at_start(self) -> bool:
        return True

    @property
    def starts_as_base(self) -> bool:
        return True

    def residual(self, observed: Observed) -> float:
        return relative_size(observed.answer - observed.answer_before, observed.answer_before)


@dataclass(frozen=True)
class ChangesNoParameter(_Exact):
    """Every parameter of the base is unchanged, bit for bit, and nothing is added to any."""

    def residual(self, observed: Observed) -> float:
        before, now = observed.base_before, observed.base
        return float(sum(not torch.equal(before[name], now[name]) for name in before) + len(observed.changes))


@dataclass(frozen=True)
class ChangesOnlyVectors(_Exact):
    """No matrix of the model is changed."""

    ending: str = ""
    """Ending of the names of the vectors that may change, such as `".bias"`; any vector may change if it is empty."""

    def residual(self, observed: Observed) -> float:
        changes = observed.changes.items()
        return float(sum(change.ndim > 1 or not name.endswith(self.ending) for name, change in changes))

    def __str__(self) -> str:
        other = f", and no vector other than a {self.ending.removeprefix('.')}" if self.ending else ""
        return f"No matrix of the model is changed{other}"


@dataclass(frozen=True)
class AnswersForOwnTokens(_Exact):
    """The model gives one output for each of the user's tokens, and none for tokens of the adapter."""

    def residual(self, observed: Observed) -> float:
        return float(observed.answer.shape != observed.answer_before.shape)


@dataclass(frozen=True)
class SharesMix(ModelInvariant):
    """The router's shares are not negative and sum to one, so that a mixture lies between its parts."""

    def residual(self, observed: Observed) -> float:
        shares = observed.shares
        if shares is None:
            return float("inf")
        return float(torch.maximum((shares.sum(-1) - 1).abs().max(), -shares.min()))
