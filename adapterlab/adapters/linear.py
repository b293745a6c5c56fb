"""The base class of methods that adapt the weight of a linear layer.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("ia3"), torch.eye(3)
>>> state = method.init(weight, Context.of_layer(weight))
>>> torch.equal(method.weight(state, weight), weight)
True
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.rebuild import built_linear
from adapterlab.adapters.state import State

SMALL_WEIGHT = 2**18
"""Entries of a weight up to which an adapted weight is kept for the backward pass: building it again would take a noticeable
part of a training step, and keeping it takes 1 MiB at most."""


@runtime_checkable
class Linear(Protocol):
    """The linear map that an adapter changes: a layer, or a layer with other adapters attached to it."""

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight; computed on demand if another adapter is attached below."""
        ...

    @property
    def bias(self) -> Tensor | None:
        """The bias, `(out,)`, or None."""
        ...

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return `x @ weight.T + bias`, computed in the fastest way available."""
        ...


def is_bare(linear: Linear) -> bool:
    """Return True if `linear` is a layer exactly as `init` got it, with no other adapter on its weight.

    Args:
        linear: The linear map below an adapter.
    """
    return bool(getattr(linear, "bare", False))


@dataclass(frozen=True)
class LinearAdapter(Adapter):
    """Base class of methods that adapt the weight of a linear layer.

    A method that adds to the layer's output may have a field `dropout`: the probability that an input feature is dropped
    from that addition in training mode. Its `forward` must then compute the base's part as `linear(x)`, with the `x` that
    it was given.
    """

    site = "linear"
    bounded_rank: ClassVar[bool] = True
    """True if a `rank` above the smaller side of a layer is an error."""

    @property
    def starts_as_base(self) -> bool:
        return any(invariant.starts_as_base for invariant in self.invariants)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        dropout = getattr(self, "dropout", 0.0)
        if not 0 <= dropout < 1:
            return f"dropout {dropout} is not a probability below 1: give a value from 0 to below 1"
        rank, most = getattr(self, "rank", 1), min(min(shape) for shape in shapes)
        if rank < 1 or (self.bounded_rank and rank > most):
            return f"rank {rank} does not fit layers whose smallest side is {most}: give 1 to {most}, or other targets"
        return None

    @abstractmethod
    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        """Return the state before training.

        Args:
            weight: Base weight; on the meta device if only shapes are wanted.
            context: Everything else that the state may depend on.
        """

    @abstractmethod
    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        """Return the adapted weight. This function defines the method.

        Args:
            state: State of the site.
            weight: Base weight.
            strength: 0 for the base weight, 1 for the trained adapter; other values as the method defines.
        """

    def bias(self, state: State, bias: Float[Tensor, " out"], strength: float = 1.0) -> Float[Tensor, " out"]:
        """Return the adapted bias. Override it if the method acts on the layer's whole output.

        Args:
            state: State of the site.
            bias: Base bias.
            strength: As in `weight`.
        """
        return bias

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        """Return the output of the adapted layer. Override it only with a faster way to compute the same output.

        Args:
            state: State of the site.
            x: Input of the layer.
            linear: The linear map to adapt.
            strength: As in `weight`.
        """
        bias = None if linear.bias is None else self.bias(state, linear.bias, strength)
        base = linear.weight
        if base.numel() <= SMALL_WEIGHT and not base.is_meta:
            return affine(x, self.weight(state, base, strength), bias)

        def build(weight: Tensor, *tensors: Tensor) -> Tensor:
            return self.weight(state.with_tensors(tensors), weight, strength)

        return built_linear(x, bias, build, base, *state.tensors())

    @staticmethod
    def on_input(x: Float[Tensor, "*batch in"], weight: Float[Tensor, "out in"], each: int, once: int) -> bool:
        """Return True if one training step costs less with the update applied to each input than built into the weight.

        The backward pass repeats the cost twice in both ways, and a built weight also needs the product that is its
        gradient. Nothing can be built into a quantized weight, which is a meta tensor here.

        Args:
            x: Input of the layer.
            weight: Base weight.
            each: Multiplications that apply the update to one input vector.
            once: Multiplications that build the update into a weight of this shape.
        """
        if weight.is_meta and not x.is_meta:
            return True
        inputs, (rows, columns) = x.numel() // x.shape[-1], weight.shape
        return 3 * inputs * each < 3 * once + inputs * rows * columns


def common_divisors(numbers: Iterable[int]) -> list[int]:
    """Return the common divisors above 1, in ascending order: the block sizes that fit every site.

    Args:
        numbers: Sides of the sites.
    """
    shared = math.gcd(*numbers)
    return [d for d in range(2, shared + 1) if shared % d == 0]


def in_sixteenths(first: int, last: int) -> list[int]:
    """Return sizes from `first` to at least `last`, each a sixteenth above the one before it or one more.

    Args:
        first: The smallest size.
        last: A size that the largest is not below.
    """
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(sizes[-1] + max(1, sizes[-1] // 16))
    return sizes
