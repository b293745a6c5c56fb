"""Methods that adapt something other than a weight: two weights at once, the residual stream, the context, a mixture.

For each kind of place, what its methods are asked for. `adapterlab.surgery` has a module of the same name for each, which
finds the places on a model and stands there.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.context import Context, Role
from adapterlab.adapters.linear import Linear
from adapterlab.adapters.state import State


class Pair(NamedTuple):
    """Two maps that meet inside every head, so that only their product counts: `second[h] @ first[h]`.

    Values and outputs: `first` makes a head's values, `second` puts them into the residual stream. Keys and queries: `first`
    makes a head's keys, and `second` is the transpose of what makes the queries. Query heads that share a key-value head
    are stacked in `second`. A bias is one more column of the side that has it. `second` is None where something that is not
    linear stands between the two.
    """

    first: Float[Tensor, "heads width in"]
    second: Float[Tensor, "heads out width"] | None


@dataclass(frozen=True)
class PairAdapter(Adapter):
    """A method that adapts two linear layers as the one map that they are within a head."""

    site = "attention pair"

    @property
    def unit_block(self) -> int:
        """How many hidden units of the feed-forward block count as a head; 0 leaves them alone."""
        return 0

    @property
    def lone_queries(self) -> bool:
        """Whether queries are adapted too where nothing linear joins them to the keys."""
        return False

    @abstractmethod
    def init(self, pair: Pair, context: Context) -> State:
        """The state at the start of training; the pair may be on the meta device."""

    @abstractmethod
    def first(self, state: State, strength: float = 1.0) -> Float[Tensor, "heads width in"]:
        """The adapted first map: the definition of the method, together with `second`."""

    @abstractmethod
    def second(self, state: State) -> Float[Tensor, "heads out width"] | None:
        """The second map, in the basis that `first` gives its answer in; nothing in it is trained."""

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], strength: float = 1.0
    ) -> Float[Tensor, "*batch rows"]:
        """What `first` makes of `x`, all heads in a row. Override it only with a faster way to the same answer."""
        return affine(x, self.first(state, strength).flatten(0, 1))


@dataclass(frozen=True)
class ResidualAdapter(Adapter):
    """A method that edits the residual stream behind chosen blocks, at chosen positions of the prompt."""

    site = "residual stream"
    mergeable = False

    @property
    @abstractmethod
    def positions(self) -> tuple[int, int] | None:
        """How many positions at the prompt's start and at its end are edited; None for every one, generated ones too."""

    @abstractmethod
    def chooses(self, layer: int, layers: int) -> bool:
        """Whether block `layer` (from 0) of `layers` is edited."""

    @abstractmethod
    def init(self, width: int, context: Context) -> State:
        """The state at the start of training, for a stream of this width."""

    @abstractmethod
    def change(
        self, state: State, hidden: Float[Tensor, "batch positions width"], strength: float = 1.0
    ) -> Float[Tensor, "batch positions width"]:
        """What is added to the stream.

        Where `positions` names `(p, s)`, slot `j < p` is the `j`-th from the start and slot `p + j` the `j`-th from the
        end, both from 0.
        """


@dataclass(frozen=True)
class PromptAdapter(Adapter):
    """A method that puts vectors of its own before the embeddings of the user's tokens."""

    site = "prompt"
    mergeable = False

    @property
    def starts_as_base(self) -> bool:
        return False

    def strength_problem(self, strength: float) -> str | None:
        """A prompt is there or not: nothing lies between."""
        return (
            None if strength in (0, 1) else f"strength {strength:g}: a prompt is there (1) or not (0), nothing between"
        )

    @abstractmethod
    def init(self, embedding: Float[Tensor, "vocabulary width"], context: Context) -> State:
        """The state at the start of training; `embedding` may be on the meta device."""

    @abstractmethod
    def prompt(self, state: State) -> Float[Tensor, "tokens width"]:
        """The vectors that stand before the user's own."""


@runtime_checkable
class Attention(Protocol):
    """A layer's attention as an adapter sees it: its shape, and its own projections to keys and values."""

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def heads(self) -> int:
        """How many heads ask."""
        ...

    @property
    def kv_heads(self) -> int:
        """How many heads answer."""
        ...

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        ...

    def key(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """The layer's keys of `x`, before any position is put into them."""
        ...

    def value(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """The layer's values of `x`."""
        ...


class Prefix(NamedTuple):
    """Keys and values that every token of a layer attends to, all key-value heads in a row."""

    key: Float[Tensor, "tokens kv"]
    value: Float[Tensor, "tokens kv"]
    gate: Float[Tensor, " heads"] | None = None
    """None: they share one softmax with the tokens. Else they have their own, and its answer counts by the head's gate."""


@dataclass(frozen=True)
class PrefixAdapter(Adapter):
    """A method that gives the attention of chosen layers keys and values of its own."""

    site = "prefix"
    mergeable = False
    takes_positions: ClassVar[bool] = True
    """Whether the user's tokens count their positions from behind the prefix."""

    def chooses(self, layer: int, layers: int) -> bool:
        """Whether block `layer` (from 0) of `layers` is adapted."""
        return True

    @property
    @abstractmethod
    def length(self) -> int:
        """How many tokens long the prefix is."""

    @abstractmethod
    def init(self, attention: Attention, context: Context) -> State:
        """The state at the start of training."""

    @abstractmethod
    def prefix(self, state: State, attention: Attention, strength: float = 1.0) -> Prefix:
        """The keys and values; without a gate the same at every strength, since attention then weighs them by it."""


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


class Signal(NamedTuple):
    """What a router may go by in one call of the model."""

    tasks: Int[Tensor, " batch"]
    """The task of each sequence."""
    hidden: Float[Tensor, "batch tokens width"] | None
    """What the model without the adapter makes of the call, before the logits; None unless the method asks for it."""
    training: bool


@dataclass(frozen=True)
class RoutedAdapter(Adapter):
    """A method that holds several changes of each linear layer and mixes them anew in every call."""

    site = "routed linear"
    mergeable = False
    reads_hidden: ClassVar[bool] = False
    """Whether the router reads the base model's answer, which costs one more pass without gradients."""

    @property
    def known_tasks(self) -> int | None:
        """How many tasks the router was made for; None: it goes by something else."""
        return None

    @abstractmethod
    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        """The state of one layer at the start of training; `weight` may be on the meta device."""

    @abstractmethod
    def init_router(self, width: int, context: Context) -> State:
        """The state of the one router, for a residual stream of this width and layers of `context.shapes`."""

    @abstractmethod
    def route(self, router: State, signal: Signal, layers: int) -> Float[Tensor, "layers batch ..."]:
        """For each layer and sequence, how much of each part it gets."""

    @abstractmethod
    def forward(
        self,
        state: State,
        x: Float[Tensor, "batch tokens in"],
        linear: Linear,
        shares: Float[Tensor, batch * parts],
        strength: float = 1.0,
    ) -> Float[Tensor, "batch tokens out"]:
        """The layer's answer to `x` with these shares: the definition of the method."""
