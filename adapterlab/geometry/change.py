"""A change of a model's weights, read layer by layer.

>>> change = InMemory({"h.0.mlp.c_fc": (torch.zeros(2, 3), torch.ones(2, 3))})
>>> [(layer.role.value, layer.depth, float(layer.norm)) for layer in change]
[('up', 0, 2.449489742783178)]
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.context import Role
from adapterlab.surgery.model.roles import role_of


@dataclass(frozen=True, eq=False)
class WeightChange:
    """The weight of one linear layer before and after."""

    path: str
    """Dotted path of the layer."""
    base: Float[Tensor, "out in"]
    """Weight before, in float32, or float64 if it was stored so."""
    tuned: Float[Tensor, "out in"]
    """Weight after, in the same dtype."""

    @cached_property
    def delta(self) -> Float[Tensor, "out in"]:
        """The difference of the two weights."""
        return self.tuned - self.base

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of the change."""
        return frobenius(self.delta)

    @cached_property
    def relative_norm(self) -> float:
        """Frobenius norm of the change divided by that of the base; infinite for a base of zero."""
        size = frobenius(self.base)
        return self.norm / size if size else float("inf")

    @property
    def shape(self) -> tuple[int, int]:
        """`(out, in)` of the weight."""
        rows, columns = self.base.shape
        return rows, columns

    @property
    def role(self) -> Role:
        """Role of the layer in its block, judged by its name."""
        return role_of(self.path)

    @property
    def depth(self) -> int | None:
        """Number of the block, from 0; None for a layer outside of the blocks."""
        return depth_of(self.path)


class OtherChange(NamedTuple):
    """A changed parameter that is not the weight of a linear layer: a norm, a bias, an embedding."""

    path: str
    """Dotted path of the parameter."""
    norm: float
    """Frobenius norm of the change."""
    relative_norm: float
    """The same divided by the norm of the base; infinite for a base of zero."""


class Change(ABC):
    """A change of the weights of a model's linear layers. Layers are read when they are asked for, and not kept."""

    base_name: str = "base"
    """The base model, as the user named it."""
    tuned_name: str = "tuned"
    """The changed model, as the user named it."""
    notes: Sequence[str] = ()
    """Remarks for the reader, such as how the layers were found."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """`(out, in)` of every linear layer by path, in the order of the model."""

    @abstractmethod
    def read(self, path: str) -> WeightChange:
        """Return the change of one layer.

        Args:
            path: A key of `shapes`.
        """

    @property
    def others(self) -> Sequence[OtherChange]:
        """Changed parameters that are not weights of linear layers."""
        return ()

    def __iter__(self) -> Iterator[WeightChange]:
        for path in self.shapes:
            yield self.read(path)


class InMemory(Change):
    """A change whose weights are in memory.

    Args:
        weights: By path, the weight before and after, `(out, in)`.
        base_name: Name of the base model.
        tuned_name: Name of the changed model.
        others: Changed parameters that are not weights of linear layers.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[Tensor, Tensor]],
        base_name: str = "base",
        tuned_name: str = "tuned",
        others: Sequence[OtherChange] = (),
    ) -> None:
        self._weights, self._others = dict(weights), tuple(others)
        self.base_name, self.tuned_name = base_name, tuned_name

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        return {path: (base.shape[0], base.shape[1]) for path, (base, _) in self._weights.items()}

    @property
    def others(self) -> Sequence[OtherChange]:
        return self._others

    def read(self, path: str) -> WeightChange:
        base, tuned = (_at_least_float32(weight.detach()) for weight in self._weights[path])
        return WeightChange(path, base, tuned)


class SomeLayers(Change):
    """The change of some of a model's linear layers.

    Args:
        change: The whole change.
        paths: Paths of the layers, in the order of the model.
        hold: True to keep the layers in memory once they are read.
    """

    def __init__(self, change: Change, paths: Sequence[str], hold: bool = False) -> None:
        self._change, self._paths, self._hold = change, tuple(paths), hold
        self._held: dict[str, WeightChange] = {}
        self.base_name, self.tuned_name, self.notes = change.base_name, change.tuned_name, change.notes

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        shapes = self._change.shapes
        return {path: shapes[path] for path in self._paths}

    @property
    def others(self) -> Sequence[OtherChange]:
        return self._change.others

    def read(self, path: str) -> WeightChange:
        if path in self._held:
            return self._held[path]
        layer = self._change.read(path)
        if self._hold:
            self._held[path] = layer
        return layer


def frobenius(matrix: Float[Tensor, "rows columns"]) -> float:
    """Return the Frobenius norm of a matrix, with the rows' squared norms added in float64.

    Args:
        matrix: The matrix.

    >>> frobenius(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    5.0
    """
    return math.sqrt(float(torch.linalg.vecdot(matrix, matrix).double().sum()))


def depth_of(path: str) -> int | None:
    """Return the number of the block that a layer belongs to, from 0; None for a layer outside of the blocks.

    Args:
        path: Dotted path of the layer; its first part that is a number is that of the block.

    >>> depth_of("model.layers.3.mlp.up_proj"), depth_of("lm_head")
    (3, None)
    """
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return int(found[1]) if found else None


def _at_least_float32(weight: Tensor) -> Tensor:
    return weight if weight.dtype == torch.float64 else weight.float()
