"""Methods that adapt the weight of a linear layer."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.rebuild import built_linear
from adapterlab.adapters.state import State


@runtime_checkable
class Linear(Protocol):
    """A linear map as an adapter sees it: the layer, or the layer with other adapters already on it."""

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight; computed on demand where another adapter is below."""
        ...

    @property
    def bias(self) -> Tensor | None:
        """The bias, `(out,)`."""
        ...

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """`x @ weight.T + bias`, the fastest way there is."""
        ...


def is_bare(linear: Linear) -> bool:
    """Whether `linear` is a layer as `init` saw it, with no other adapter on its weight."""
    return bool(getattr(linear, "bare", False))


@dataclass(frozen=True)
class LinearAdapter(Adapter):
    """A method that adapts the weight of a linear layer.

    A method that adds to the layer's answer may have a field `dropout`: the chance that an input is dropped, while the
    model trains, from what it adds alone. Its `forward` must then take the base's part as `linear(x)`, of its own `x`.
    """

    site = "linear"
    bounded_rank: ClassVar[bool] = True
    """Whether a `rank` above the layer's own is a mistake."""

    @property
    def starts_as_base(self) -> bool:
        return any(invariant.starts_as_base for invariant in self.invariants)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        """As `Adapter.validate`; here, that `rank` is between 1 and the layers' own, and `dropout` a chance below 1."""
        if not 0 <= getattr(self, "dropout", 0.0) < 1:
            return f"dropout {getattr(self, 'dropout', 0.0)} is not a chance: give 0 to below 1"
        rank, most = getattr(self, "rank", 1), min(min(shape) for shape in shapes)
        if rank < 1 or (self.bounded_rank and rank > most):
            return f"rank {rank} does not fit layers whose smallest side is {most}: give 1 to {most}, or other targets"
        return None

    @abstractmethod
    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        """The state at the start of training; `weight` may be on the meta device."""

    @abstractmethod
    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        """The adapted weight: the definition of the method."""

    def bias(self, state: State, bias: Float[Tensor, " out"], strength: float = 1.0) -> Float[Tensor, " out"]:
        """The adapted bias; part of the definition where a method acts on the layer's whole answer."""
        return bias

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        """The layer's answer to `x`. Override it only with a faster way to the same answer."""
        bias = None if linear.bias is None else self.bias(state, linear.bias, strength)

        def build(weight: Tensor, *tensors: Tensor) -> Tensor:
            return self.weight(state.with_tensors(tensors), weight, strength)

        return built_linear(x, bias, build, linear.weight, *state.tensors())

    @staticmethod
    def on_input(x: Float[Tensor, "*batch in"], weight: Float[Tensor, "out in"], each: int, once: int) -> bool:
        """Whether the update costs less applied to every input than built into the weight, for one training step.

        `each` multiplications apply the update to one input; `once` build it for a weight of this shape. Both come again
        twice in the backward pass, where a built weight also costs the product that is its gradient. A weight of which
        only the shape is known (a quantized one) can have nothing built into it.
        """
        if weight.is_meta and not x.is_meta:
            return True
        inputs, (rows, columns) = x.numel() // x.shape[-1], weight.shape
        return 3 * inputs * each < 3 * once + inputs * rows * columns


def common_divisors(numbers: Iterable[int]) -> list[int]:
    """The divisors, above 1, that all `numbers` share, rising: the block sizes that fit every site."""
    shared = math.gcd(*numbers)
    return [d for d in range(2, shared + 1) if shared % d == 0]
