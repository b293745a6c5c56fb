"""What `init` may know beyond the weight, and the random numbers that it draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Factors(NamedTuple):
    """The leading singular triplets of a weight: `u (out, k)`, `s (k,)` falling, `vt (k, in)`; or of many at once."""

    u: Float[Tensor, "*heads out k"]
    s: Float[Tensor, "*heads k"]
    vt: Float[Tensor, "*heads k in"]


class Role(StrEnum):
    """What a linear layer does in its block."""

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUTPUT = "output"
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    OTHER = "other"


@dataclass(frozen=True)
class Context:
    """What `init` may know beyond the weight: where it is, and the only source of randomness."""

    site: str
    """The site's dotted path in the model."""
    role: Role
    shapes: Sequence[tuple[int, int]]
    """`(out, in)` of every site of this attach, for what the sites share."""
    generator: torch.Generator
    """On the CPU whatever the device, so that a seed means the same everywhere."""
    device: torch.device
    dtype: torch.dtype
    """The dtype of the state: float32, or float64 for a float64 base."""
    decompose: Callable[[Tensor, int | None, int | None], Factors]
    shared: dict[str, Tensor] = field(default_factory=dict)
    gradient: Callable[[], Float[Tensor, "out in"]] | None = None
    """The gradient of the loss given to `attach` by this base weight, if one was given."""
    inputs: Callable[[], Sequence[Float[Tensor, "samples in"]]] | None = None
    """What this layer sees at the last token of each sequence in each of the runs given to `attach`, if any were given."""
    saved: Mapping[str, Tensor] = field(default_factory=dict)
    """The frozen tensors that a file holds for this site, where a state is made for loading it."""

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        """Independent normal numbers of mean 0."""
        return self._drawn(shape, lambda t: t.normal_(0.0, std, generator=self.generator))

    def uniform(self, *shape: int, bound: float) -> Tensor:
        """Independent numbers, uniform in `[-bound, bound]`."""
        return self._drawn(shape, lambda t: t.uniform_(-bound, bound, generator=self.generator))

    def integers(self, *shape: int, below: int) -> Tensor:
        """Independent whole numbers, uniform in `[0, below)`."""
        if self.device.type == "meta":
            return torch.empty(shape, dtype=torch.int64, device="meta")
        return torch.randint(below, shape, generator=self.generator).to(self.device)

    def indices(self, numbers: Sequence[int]) -> Tensor:
        """These whole numbers as a tensor on the weight's device."""
        return torch.tensor(list(numbers), dtype=torch.long, device=self.device)

    def zeros(self, *shape: int) -> Tensor:
        """Zeros in the state's dtype, on the weight's device."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def full(self, *shape: int, value: float) -> Tensor:
        """One value in the state's dtype, on the weight's device."""
        return torch.full(shape, value, dtype=self.dtype, device=self.device)

    def distinct(self, count: int, below: int) -> Tensor:
        """`count` different whole numbers from 0 to `below - 1`, all choices equally likely, in rising order."""
        if self.device.type == "meta":
            return torch.empty(count, dtype=torch.int64, device="meta")
        if 4 * count > below:
            drawn = torch.randperm(below, generator=self.generator)
        else:
            # Twice as many as wanted, of which a quarter are alike at most: no list of all numbers is made.
            drawn = torch.randint(below, (2 * count + 64,), generator=self.generator).unique()
            drawn = drawn[torch.randperm(len(drawn), generator=self.generator)]
        return drawn[:count].sort().values.to(self.device)

    def svd(
        self, weight: Float[Tensor, "*heads out in"], rank: int | None = None, iterations: int | None = None
    ) -> Factors:
        """The top `rank` singular triplets of `weight` (all of them without `rank`), from the factor cache.

        With `iterations`, from a randomized decomposition of so many power iterations will do.
        """
        return self.decompose(weight, rank, iterations)

    def share(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """The one tensor of this name in the whole attach, made by the first site that asks."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def _drawn(self, shape: tuple[int, ...], fill: Callable[[Tensor], Tensor]) -> Tensor:
        if self.device.type == "meta":
            return torch.empty(shape, dtype=self.dtype, device="meta")
        return fill(torch.empty(shape, dtype=self.dtype)).to(self.device)
