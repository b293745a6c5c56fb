"""What an adapter is: a frozen dataclass of hyperparameters, a claim, and two pure functions.

A new method is one file: subclass `LinearAdapter`, give it a `name` and a `claim`, write `init` and `weight`. Everything
else (attaching, devices, dtypes, merging, strength, saving) is the work of `adapterlab.surgery`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.invariants import IdentityAtInit, Property
from adapterlab.adapters.rebuild import built_linear


class Theme(StrEnum):
    """The themes of the argument map."""

    SVD = "svd"
    ORTHOGONAL = "orthogonal"
    DECOUPLED = "decoupled"
    GAIN = "gain"
    RANK = "rank"
    FUNCTIONAL = "functional"
    SHARED = "shared"
    BOUNDARY = "boundary"
    BASELINE = "baseline"


@dataclass(frozen=True)
class State:
    """All tensors of one adapter at one site: what training moves, and what stays as `init` made it."""

    trainable: Mapping[str, Tensor]
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    derived: Mapping[str, Tensor] = field(default_factory=dict)
    """Frozen too, and a function of the base weight alone: not saved, but made anew from the base."""

    def __getitem__(self, name: str) -> Tensor:
        for group in (self.trainable, self.frozen):
            if (tensor := group.get(name)) is not None:
                return tensor
        return self.derived[name]

    def tensors(self) -> list[Tensor]:
        """All tensors, in the order that `with_tensors` takes them."""
        return [t for group in (self.trainable, self.frozen, self.derived) for t in group.values() if t is not None]

    def with_tensors(self, tensors: Iterable[Tensor]) -> State:
        """The same names with these tensors."""
        given = iter(tensors)
        groups = (self.trainable, self.frozen, self.derived)
        return State(*({key: next(given) for key, t in group.items() if t is not None} for group in groups))


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


@dataclass(frozen=True)
class Adapter(ABC):
    """The base of every method: hyperparameters as fields, and what the method says of itself.

    A concrete subclass that sets `name` is known to `adapterlab.adapter(name)` from then on.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    theme: ClassVar[Theme]
    claim: ClassVar[str]
    """What the method believes about a transformer, in one sentence."""
    paper: ClassVar[str]
    """Address of the paper that defines it."""
    site: ClassVar[str]
    """The kind of place that it adapts."""
    mergeable: ClassVar[bool] = True
    size_knob: ClassVar[str | None] = None
    """The field that sets how many parameters are trained, if there is one."""
    registry: ClassVar[dict[str, type[Adapter]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__dict__.get("name"):
            Adapter.registry[cls.name] = cls

    @property
    def invariants(self) -> Sequence[Property]:
        """What the method holds, checked by one test over all methods: of each weight, or of the model."""
        return ()

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        """Why these hyperparameters cannot fit sites of these `(out, in)` shapes and how to mend it, or None."""
        return None

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        """The values that `size_knob` may take on sites of these shapes, from fewest parameters to most."""
        return range(1, min(min(shape) for shape in shapes) + 1)

    def scheduled(self, steps: int) -> Adapter:
        """The same method for a run of `steps` optimizer steps, where it has a schedule of its own."""
        return self

    def informed(self, *, paired: bool) -> Adapter:
        """The same method, once it is known whether it can look at runs of the model on pairs."""
        return self

    @property
    def starts_as_base(self) -> bool:
        """Whether the model answers as the base does before training."""
        return True

    @property
    def draws_in_training(self) -> bool:
        """Whether its forward pass draws random numbers while the model trains."""
        return bool(getattr(self, "dropout", 0.0))

    def strength_problem(self, strength: float) -> str | None:
        """Why the method means nothing at this strength and which it knows, or None."""
        return None

    def regularizer(self, state: State) -> Tensor | None:
        """A scalar added to the loss at each site, or None."""
        return None

    def after_step(self, states: Sequence[State], step: int) -> None:
        """Called with all sites' states after each optimizer step (from 0), before the gradients are cleared.

        Runs without recording gradients; may change the states in place.
        """

    def pack(self, state: State) -> State:
        """What is saved of a state; all of it, unless a method knows how to say it in less."""
        return state

    def unpack(self, state: State) -> State:
        """The state from what `pack` gave, answering with the same bits."""
        return state

    def settings(self) -> dict[str, Any]:
        """Name and hyperparameters as plain data, what TOML and JSON hold: `{"name": "lora", "rank": 8, ...}`."""
        return {"name": self.name, **dataclasses.asdict(self)}

    def __str__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name


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
        return IdentityAtInit() in self.invariants

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


@dataclass(frozen=True)
class ParameterAdapter(Adapter):
    """A method that adapts parameters as they are, in whatever module they stand."""

    site = "parameter"
    tokens_only: ClassVar[bool] = False
    """Whether only the table of the tokens' embeddings is asked for, with whatever is tied to it."""
    where_else: ClassVar[str] = ""
    """What to say to one whose model has no such parameter: the mend, after what is wrong."""

    @property
    def roles(self) -> frozenset[Role] | None:
        """The roles of the linear layers whose parameters it adapts; None: it looks at every module."""
        return None

    @abstractmethod
    def selects(self, module: torch.nn.Module, name: str) -> bool:
        """Whether the parameter `name` of `module` is to be adapted."""

    @abstractmethod
    def init(self, parameter: Tensor, context: Context) -> State:
        """The state at the start of training; `parameter` may be on the meta device."""

    @abstractmethod
    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        """The adapted parameter."""


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Within it, the kind of device that `tensor` is on computes in the dtypes it is given, autocast or not.

    For the small computations that rounding to bfloat16 would break: a matrix that must come out orthogonal.
    """
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def common_divisors(numbers: Iterable[int]) -> list[int]:
    """The divisors, above 1, that all `numbers` share, rising: the block sizes that fit every site."""
    shared = math.gcd(*numbers)
    return [d for d in range(2, shared + 1) if shared % d == 0]
