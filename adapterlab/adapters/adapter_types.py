"""Base classes of methods that adapt something other than the weight of one linear layer.

Each class declares the functions that its methods define. `adapterlab.surgery.sites` has a module for each, which finds the
sites in a model and attaches an adapter to them.

>>> from adapterlab.adapters import adapter
>>> {name: adapter(name).site for name in ("clover", "ln_tuning", "reft", "prompt", "prefix", "poly")}
{'clover': 'attention pair', 'ln_tuning': 'parameter', 'reft': 'residual stream', 'prompt': 'prompt', 'prefix': 'prefix',
'poly': 'routed linear'}
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
    """Two linear maps that are applied one after the other in every head: `second[h] @ first[h]`.

    In the value-output pair, `first` computes a head's values and `second` writes them to the residual stream. In the
    key-query pair, `first` computes a head's keys and `second` is the transpose of the map that computes its queries. Query
    heads that share a key-value head are stacked in `second`. A bias is one more column of the side that has it.
    """

    first: Float[Tensor, "heads width in"]
    """The first map."""
    second: Float[Tensor, "heads out width"] | None
    """The second map; None if something nonlinear lies between the two."""


@dataclass(frozen=True)
class PairAdapter(Adapter):
    """Base class of methods that adapt two linear layers as the single map that they form in each head."""

    site = "attention pair"

    @property
    def unit_block(self) -> int:
        """Number of hidden units of the feed-forward block that are treated as a head; 0 leaves that block unchanged."""
        return 0

    @property
    def lone_queries(self) -> bool:
        """True if queries are adapted also in models with a nonlinear map between queries and keys."""
        return False

    @abstractmethod
    def init(self, pair: Pair, context: Context) -> State:
        """Return the state before training.

        Args:
            pair: Base weights; on the meta device if only shapes are wanted.
            context: Everything else that the state may depend on.
        """

    @abstractmethod
    def first(self, state: State, strength: float = 1.0) -> Float[Tensor, "heads width in"]:
        """Return the adapted first map. Together with `second`, this function defines the method.

        Args:
            state: State of the site.
            strength: 0 for the base maps, 1 for the trained adapter.
        """

    @abstractmethod
    def second(self, state: State) -> Float[Tensor, "heads out width"] | None:
        """Return the second map, in the basis of the outputs of `first`. Nothing in it is trained.

        Args:
            state: State of the site.
        """

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], strength: float = 1.0
    ) -> Float[Tensor, "*batch rows"]:
        """Return the output of `first`, all heads concatenated. Override it only with a faster way to the same output.

        Args:
            state: State of the site.
            x: Input of the first map.
            strength: As in `first`.
        """
        return affine(x, self.first(state, strength).flatten(0, 1))


@dataclass(frozen=True)
class ParameterAdapter(Adapter):
    """Base class of methods that adapt single parameters, in modules of any kind."""

    site = "parameter"
    tokens_only: ClassVar[bool] = False
    """True if only the token embedding, with whatever is tied to it, can be adapted."""
    where_else: ClassVar[str] = ""
    """End of the error message for a model without such a parameter: the reason and another method to use."""

    @property
    def roles(self) -> frozenset[Role] | None:
        """Roles of the linear layers whose parameters are adapted; None for modules of all kinds."""
        return None

    @abstractmethod
    def selects(self, module: torch.nn.Module, name: str) -> bool:
        """Return True if a parameter is to be adapted.

        Args:
            module: Module that holds the parameter.
            name: Name of the parameter in the module.
        """

    @abstractmethod
    def init(self, parameter: Tensor, context: Context) -> State:
        """Return the state before training.

        Args:
            parameter: Base parameter; on the meta device if only shapes are wanted.
            context: Everything else that the state may depend on.
        """

    @abstractmethod
    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        """Return the adapted parameter.

        Args:
            state: State of the site.
            parameter: Base parameter.
            strength: 0 for the base parameter, 1 for the trained adapter.
        """


@dataclass(frozen=True)
class ResidualAdapter(Adapter):
    """Base class of methods that edit the residual stream after some blocks, at some positions or at all."""

    site = "residual stream"
    mergeable = False

    @property
    @abstractmethod
    def positions(self) -> tuple[int, int] | None:
        """Number of edited positions at a prompt's start and at its end; None for all positions, also generated ones."""

    @property
    def edits_whole_text(self) -> bool:
        """True to edit all positions of running text, False to treat running text as one prompt."""
        return False

    @abstractmethod
    def chooses(self, layer: int, layers: int) -> bool:
        """Return True if the output of a block is edited.

        Args:
            layer: Number of the block, from 0.
            layers: Number of blocks.
        """

    @abstractmethod
    def init(self, width: int, context: Context) -> State:
        """Return the state before training.

        Args:
            width: Width of the residual stream.
            context: Everything else that the state may depend on.
        """

    @abstractmethod
    def change(
        self,
        state: State,
        hidden: Float[Tensor, "batch tokens width"],
        slots: Int[Tensor, "batch tokens"] | None = None,
        strength: float = 1.0,
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the change that is added to the residual stream.

        Args:
            state: State of the site.
            hidden: Residual stream.
            slots: Slot of each token, or None if all positions are edited in the same way. If `positions` is `(p, s)`,
                slot `j < p` is the `j`-th position from a prompt's start and slot `p + j` the `j`-th from its end, both
                from 0. The change of a token with slot -1 is not used.
            strength: 0 for no change, 1 for the trained adapter.
        """


@dataclass(frozen=True)
class PromptAdapter(Adapter):
    """Base class of methods that put trained vectors before the embeddings of the user's tokens."""

    site = "prompt"
    mergeable = False

    @property
    def starts_as_base(self) -> bool:
        return False

    def strength_problem(self, strength: float) -> str | None:
        if strength in (0, 1):
            return None
        return f"strength {strength:g}: a prompt is either present (1) or absent (0): give 0 or 1"

    @abstractmethod
    def init(self, embedding: Float[Tensor, "vocabulary width"], context: Context) -> State:
        """Return the state before training.

        Args:
            embedding: Token embedding of the base; on the meta device if only shapes are wanted.
            context: Everything else that the state may depend on.
        """

    @abstractmethod
    def prompt(self, state: State) -> Float[Tensor, "tokens width"]:
        """Return the vectors that come before the user's.

        Args:
            state: State of the site.
        """


@runtime_checkable
class Attention(Protocol):
    """The attention of one block as an adapter sees it: its shape, and its own projections to keys and values."""

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def heads(self) -> int:
        """Number of query heads."""
        ...

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        ...

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        ...

    def key(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """Return the layer's keys of `x`, before positions are encoded in them.

        Args:
            x: Residual stream.
        """
        ...

    def value(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """Return the layer's values of `x`.

        Args:
            x: Residual stream.
        """
        ...


class Prefix(NamedTuple):
    """Keys and values that every token of a layer attends to."""

    key: Float[Tensor, "tokens kv"]
    """Keys, all key-value heads concatenated."""
    value: Float[Tensor, "tokens kv"]
    """Values, all key-value heads concatenated."""
    gate: Float[Tensor, " heads"] | None = None
    """Factor on the prefix's output for each query head, with a softmax of its own; None for one softmax with the tokens."""


@dataclass(frozen=True)
class PrefixAdapter(Adapter):
    """Base class of methods that add trained keys and values to the attention of some blocks."""

    site = "prefix"
    mergeable = False
    takes_positions: ClassVar[bool] = True
    """True if the positions of the user's tokens start after the prefix."""

    def chooses(self, layer: int, layers: int) -> bool:
        """Return True if a block is adapted.

        Args:
            layer: Number of the block, from 0.
            layers: Number of blocks.
        """
        return True

    @property
    @abstractmethod
    def length(self) -> int:
        """Length of the prefix, in tokens."""

    @abstractmethod
    def init(self, attention: Attention, context: Context) -> State:
        """Return the state before training.

        Args:
            attention: Attention of the block.
            context: Everything else that the state may depend on.
        """

    @abstractmethod
    def prefix(self, state: State, attention: Attention, strength: float = 1.0) -> Prefix:
        """Return the keys and values.

        Args:
            state: State of the site.
            attention: Attention of the block.
            strength: Factor on the gate. A prefix without a gate ignores it: the attention then applies the strength.
        """


class Signal(NamedTuple):
    """Inputs of a router in one call of the model."""

    tasks: Int[Tensor, " batch"]
    """Task of each sequence."""
    hidden: Float[Tensor, "batch tokens width"] | None
    """Last hidden states of the model without the adapter; None unless the method has `reads_hidden`."""
    training: bool
    """True if the model is in training mode."""


@dataclass(frozen=True)
class RoutedAdapter(Adapter):
    """Base class of methods that hold several changes of each linear layer and mix them in every call of the model."""

    site = "routed linear"
    mergeable = False
    reads_hidden: ClassVar[bool] = False
    """True if the router needs the base model's hidden states, which costs one more forward pass without gradients."""

    @property
    def known_tasks(self) -> int | None:
        """Number of tasks that the router can distinguish; None if it does not use the task."""
        return None

    @abstractmethod
    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        """Return the state of one layer before training.

        Args:
            weight: Base weight; on the meta device if only shapes are wanted.
            context: Everything else that the state may depend on.
        """

    @abstractmethod
    def init_router(self, width: int, context: Context) -> State:
        """Return the state of the router, which all layers share, before training.

        Args:
            width: Width of the residual stream.
            context: Everything else that the state may depend on; its `shapes` are those of the layers.
        """

    @abstractmethod
    def route(self, router: State, signal: Signal, layers: int) -> Float[Tensor, "layers batch ..."]:
        """Return the share of each part, for each layer and sequence.

        Args:
            router: State of the router.
            signal: Inputs of the router.
            layers: Number of adapted layers.
        """

    @abstractmethod
    def forward(
        self,
        state: State,
        x: Float[Tensor, "batch tokens in"],
        linear: Linear,
        shares: Float[Tensor, "batch ..."],
        strength: float = 1.0,
    ) -> Float[Tensor, "batch tokens out"]:
        """Return the output of the adapted layer. This function defines the method.

        Args:
            state: State of the layer.
            x: Input of the layer.
            linear: The linear map to adapt.
            shares: Shares of the parts at this layer, for each sequence.
            strength: 0 for the base layer, 1 for the trained adapter.
        """
