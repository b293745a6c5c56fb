"""What a method can be held to that no single weight shows: properties of the adapted model beside the model before."""

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
    """A model's answer to the same tokens and its base's parameters, before an adapter was attached and now."""

    answer_before: Float[Tensor, "batch tokens vocabulary"]
    answer: Float[Tensor, "batch others vocabulary"]
    base_before: Mapping[str, Tensor]
    """By name, as they were."""
    base: Mapping[str, Tensor]
    """The same, as they stand in the model now."""
    changes: Mapping[str, Tensor]
    """By path, what the adapter adds to parameters."""
    shares: Float[Tensor, "layers batch ..."] | None = None
    """What the router of a routed adapter gave for this answer."""


@dataclass(frozen=True)
class ModelInvariant(Property, ABC):
    """A property of the model that an adapter stands on."""

    @abstractmethod
    def residual(self, observed: Observed) -> float:
        """How far the property is from holding, 0 when it holds exactly."""


@dataclass(frozen=True)
class _Exact(ModelInvariant):
    """A property that rounding cannot break."""

    def bound(self, dtype: torch.dtype) -> float:
        return 0.0


@dataclass(frozen=True)
class AnswersAsBaseAtInit(ModelInvariant):
    """The model answers as the base does before training."""

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
    """Every parameter of the base is what it was, bit for bit, and none is added to."""

    def residual(self, observed: Observed) -> float:
        before, now = observed.base_before, observed.base
        return float(sum(not torch.equal(before[name], now[name]) for name in before) + len(observed.changes))


@dataclass(frozen=True)
class ChangesOnlyVectors(_Exact):
    """Nothing is added to any matrix: the directions of the model are the base's."""

    ending: str = ""

    def residual(self, observed: Observed) -> float:
        changes = observed.changes.items()
        return float(sum(change.ndim > 1 or not name.endswith(self.ending) for name, change in changes))

    def __str__(self) -> str:
        what = f", nor to a vector that is no {self.ending.removeprefix('.')}" if self.ending else ""
        return f"Nothing is added to any matrix{what}"


@dataclass(frozen=True)
class AnswersForOwnTokens(_Exact):
    """The model answers for the user's tokens alone, one answer a token."""

    def residual(self, observed: Observed) -> float:
        return float(observed.answer.shape != observed.answer_before.shape)


@dataclass(frozen=True)
class SharesMix(ModelInvariant):
    """The router's shares are never below zero and sum to one, so that a mixture lies between its parts."""

    def residual(self, observed: Observed) -> float:
        shares = observed.shares
        if shares is None:
            return float("inf")
        return float(torch.maximum((shares.sum(-1) - 1).abs().max(), -shares.min()))
