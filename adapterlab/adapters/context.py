"""Information that `init` gets beyond the weight: the site, the model's shapes, and the source of random numbers.

>>> import torch
>>> context = Context.of_layer(torch.zeros(6, 8), seed=1)
>>> context.normal(2, 8).shape
torch.Size([2, 8])
>>> context.distinct(3, below=3)
tensor([0, 1, 2])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.errors import AdapterlabError


class Factors(NamedTuple):
    """Leading singular triplets of one weight, or of the weights of several heads at once."""

    u: Float[Tensor, "*heads out k"]
    """Left singular vectors, as columns."""
    s: Float[Tensor, "*heads k"]
    """Singular values, in descending order."""
    vt: Float[Tensor, "*heads k in"]
    """Right singular vectors, as rows."""


class Moments(NamedTuple):
    """Sums over the inputs of a layer, at all tokens of all runs."""

    tokens: int
    """Number of tokens."""
    calls: int
    """Number of calls of the layer."""
    total: Float[Tensor, " in"]
    """Sum of the inputs."""
    squares: Float[Tensor, "in in"]
    """Sum of the outer products of the inputs with themselves."""
    largest: float
    """Largest entry of all inputs, without its sign."""


class Role(StrEnum):
    """Function of a linear layer in its transformer block."""

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUTPUT = "output"
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    OTHER = "other"


def same_place(path: str) -> str:
    """Return a path with `*` in place of its numbers.

    Args:
        path: Dotted path of a module.

    >>> same_place("model.layers.11.mlp.w1")
    'model.layers.*.mlp.w1'
    """
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


@dataclass(frozen=True)
class Context:
    """Everything that `init` may use beside the weight."""

    site: str
    """Dotted path of the site in the model."""
    role: Role
    """Function of the layer in its block."""
    shapes: Sequence[tuple[int, int]]
    """`(out, in)` of every site that the adapter is attached to, for tensors that sites share."""
    generator: torch.Generator
    """The only source of random numbers. It is on the CPU, so that a seed gives the same numbers on every device."""
    device: torch.device
    """Device of the weight; meta if only shapes are wanted."""
    dtype: torch.dtype
    """Dtype of the state: float64 for a float64 base, else float32."""
    decompose: Callable[[Tensor, int | None, int | None], Factors]
    """Function behind `svd`, with the same arguments."""
    shared: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that `share` has made, by key."""
    gradient: Callable[[], Float[Tensor, "out in"]] | None = None
    """Gradient of the loss given to `attach` with respect to the base weight; None if no loss was given."""
    inputs: Callable[[], Sequence[Float[Tensor, "samples in"]]] | None = None
    """Inputs of this layer at the last token of each sequence, for each of the `runs` given to `attach`; None without."""
    moments: Callable[[], Moments] | None = None
    """Sums over the inputs of this layer at all tokens of the `runs` given to `attach`; None without."""
    original: Callable[[], Float[Tensor, "out in"]] | None = None
    """Weight of this layer in the `original` given to `attach`; None without."""
    alike: Callable[[], Sequence[Float[Tensor, "out in"]]] = field(default=lambda: ())
    """Weights of the sites at the same `place`, in order, this one among them."""
    saved: Mapping[str, Tensor] = field(default_factory=dict)
    """Frozen tensors of this site in the file that is being loaded; empty for a new adapter."""

    @classmethod
    def of_layer(cls, weight: Float[Tensor, "out in"], *, role: Role = Role.OTHER, seed: int = 0) -> Context:
        """Return the context of a model that has only this layer, to try a method without attaching it.

        Args:
            weight: The layer's weight.
            role: Function of the layer in its block.
            seed: Seed of the random numbers.
        """
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32

        def decompose(matrix: Tensor, rank: int | None, iterations: int | None) -> Factors:
            u, s, vt = torch.linalg.svd(matrix.to(dtype), full_matrices=False)
            return Factors(u[..., :rank], s[..., :rank], vt[..., :rank, :])

        return cls(
            site="layer",
            role=role,
            shapes=[(weight.shape[0], weight.shape[1])],
            generator=torch.Generator().manual_seed(seed),
            device=weight.device,
            dtype=dtype,
            decompose=decompose,
            alike=lambda: [weight],
        )

    @property
    def place(self) -> str:
        """Path of the site without the numbers of blocks: the same for the sites at the same place in their blocks."""
        return same_place(self.site)

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        """Return independent normal numbers with mean 0.

        Args:
            *shape: Shape of the result.
            std: Standard deviation.
        """
        return self._drawn(shape, lambda t: t.normal_(0.0, std, generator=self.generator))

    def uniform(self, *shape: int, bound: float) -> Tensor:
        """Return independent numbers, uniform in `[-bound, bound]`.

        Args:
            *shape: Shape of the result.
            bound: Largest absolute value.
        """
        return self._drawn(shape, lambda t: t.uniform_(-bound, bound, generator=self.generator))

    def integers(self, *shape: int, below: int) -> Tensor:
        """Return independent integers, uniform in `[0, below)`, as int64.

        Args:
            *shape: Shape of the result.
            below: Exclusive upper bound.
        """
        if self.device.type == "meta":
            return torch.empty(shape, dtype=torch.int64, device="meta")
        return torch.randint(below, shape, generator=self.generator).to(self.device)

    def indices(self, numbers: Sequence[int]) -> Tensor:
        """Return the given integers as an int64 tensor on the weight's device.

        Args:
            numbers: The integers.
        """
        return torch.tensor(list(numbers), dtype=torch.long, device=self.device)

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros in the state's dtype, on the weight's device.

        Args:
            *shape: Shape of the result.
        """
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def full(self, *shape: int, value: float) -> Tensor:
        """Return a constant tensor in the state's dtype, on the weight's device.

        Args:
            *shape: Shape of the result.
            value: Value of every entry.
        """
        return torch.full(shape, value, dtype=self.dtype, device=self.device)

    def distinct(self, count: int, below: int) -> Tensor:
        """Return `count` different integers in `[0, below)`, sorted, as int64. All choices are equally likely.

        Args:
            count: Number of integers, at most `below`.
            below: Exclusive upper bound.
        """
        if self.device.type == "meta":
            return torch.empty(count, dtype=torch.int64, device="meta")
        if 4 * count > below:
            drawn = torch.randperm(below, generator=self.generator)
        else:
            # Draw twice as many, of which at most a quarter are duplicates: this never lists all integers.
            drawn = torch.unique(torch.randint(below, (2 * count + 64,), generator=self.generator))
            drawn = drawn[torch.randperm(len(drawn), generator=self.generator)]
        return drawn[:count].sort().values.to(self.device)

    def svd(
        self, weight: Float[Tensor, "*heads out in"], rank: int | None = None, iterations: int | None = None
    ) -> Factors:
        """Return the top singular triplets of a weight. Results are cached on disk by the content of the weight.

        Args:
            weight: The weight, or a stack of weights.
            rank: Number of triplets; all if None.
            iterations: Number of power iterations of a randomized decomposition, which suffices; exact if None.
        """
        return self.decompose(weight, rank, iterations)

    def share(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor that all sites of this adapter share under a key.

        Args:
            key: Name of the tensor.
            make: Function that makes it; called by the first site that asks.
        """
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def moments_for(self, start: str) -> Moments:
        """Return the sums over the layer's inputs.

        Args:
            start: Name of the start that needs them, for the error message.

        Raises:
            AdapterlabError: `attach` was given no runs.
        """
        if self.moments is None:
            raise AdapterlabError(
                f"start={start!r} needs the layers' inputs: attach(..., runs=[lambda: model(...)]), on texts without padding"
            )
        return self.moments()

    def _drawn(self, shape: tuple[int, ...], fill: Callable[[Tensor], Tensor]) -> Tensor:
        if self.device.type == "meta":
            return torch.empty(shape, dtype=self.dtype, device="meta")
        return fill(torch.empty(shape, dtype=self.dtype)).to(self.device)
