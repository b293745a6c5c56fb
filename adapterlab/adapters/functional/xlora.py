"""X-LoRA: a mixture of LoRA experts, with shares computed from the base model's hidden state of each token.

>>> from adapterlab.adapters import Context, adapter
>>> method, context = adapter("xlora", experts=3), Context.of_layer(torch.empty(8, 8))
>>> signal = Signal(torch.zeros(2, dtype=torch.long), hidden=torch.randn(2, 5, 8), training=False)
>>> method.route(method.init_router(8, context), signal, layers=1).shape
torch.Size([1, 2, 5, 3])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.adapter_types import RoutedAdapter, Signal
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.linear import Linear
from adapterlab.adapters.model_invariants import AnswersAsBaseAtInit, ChangesNoParameter, SharesMix
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class XLoRA(RoutedAdapter):
    """`W x + strength * weight * alpha / rank * sum_k z_k B_k A_k x`, with shares `z` for each token.

    `a (experts, rank, in)` and `b (experts, out, rank)` are LoRA experts. A first pass without them gives the last hidden
    state of each token. A network of `depth` linear layers, with ReLU between, computes the experts' logits from it, and
    `z` is their softmax at `temperature` (Buehler and Buehler 2024).
    """

    name = "xlora"
    title = "Mixture of low-rank experts"
    theme = Theme.FUNCTIONAL
    claim = "A model's hidden state shows, for each token, which experts it needs."
    paper = "https://arxiv.org/abs/2402.07148"
    size_knob = "rank"
    reads_hidden = True

    experts: int = 4
    """Number of experts in each layer."""
    rank: int = 8
    """Rank of each expert."""
    alpha: float = 16.0
    """Numerator of the factor `alpha / rank`."""
    train_experts: bool = True
    """True to train the experts too, False to train only the router."""
    depth: int = 1
    """Number of linear layers in the router."""
    hidden: int = 2048
    """Width between the router's layers, if there are two or more."""
    layerwise: bool = False
    """True if each layer has its own logits, False if all layers share them."""
    temperature: float = 1.0
    """Divisor of the logits in the softmax."""
    top_k: int = 0
    """Number of experts that keep their share, the largest; 0 for all."""
    renormalize: bool = False
    """True if the shares of the `top_k` experts come from a softmax over these alone."""
    weight: float = 1.0
    """Factor on the output of all experts."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        always = AnswersAsBaseAtInit(), ChangesNoParameter()
        return always if self.top_k and not self.renormalize else (*always, SharesMix())

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        most = min(min(shape) for shape in shapes)
        if not 1 <= self.rank <= most:
            return f"rank {self.rank} does not fit layers whose smallest side is {most}: give 1 to {most}, or other targets"
        if min(self.experts, self.depth, self.hidden) < 1 or not 0 <= self.top_k <= self.experts:
            return "experts, depth and hidden must be 1 or more, and top_k at most experts"
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        a = context.uniform(self.experts, self.rank, columns, bound=columns**-0.5)
        experts = {"a": a, "b": context.zeros(self.experts, rows, self.rank)}
        return State(experts) if self.train_experts else State({}, experts)

    def init_router(self, width: int, context: Context) -> State:
        last = self.experts * (len(context.shapes) if self.layerwise else 1)
        sides = [width, *[self.hidden] * (self.depth - 1), last]
        layers: dict[str, Tensor] = {}
        for i, (columns, rows) in enumerate(pairwise(sides)):
            layers[f"w{i}"] = context.uniform(rows, columns, bound=columns**-0.5)
            layers[f"b{i}"] = context.uniform(rows, bound=columns**-0.5)
        return State(layers)

    def route(self, router: State, signal: Signal, layers: int) -> Float[Tensor, "layers batch ..."]:
        logits = signal.hidden
        assert logits is not None
        for i in range(self.depth):
            logits = affine(logits if i == 0 else logits.relu(), router[f"w{i}"], router[f"b{i}"])
        each = torch.unflatten(logits, -1, (-1, self.experts)).movedim(2, 0) / self.temperature
        if not self.top_k:
            return torch.softmax(each, -1)
        others = torch.ones_like(each, dtype=torch.bool).scatter(-1, each.topk(self.top_k, dim=-1).indices, False)
        if self.renormalize:
            return torch.softmax(each.masked_fill(others, float("-inf")), -1)
        return torch.softmax(each, -1).masked_fill(others, 0.0)

    def forward(
        self,
        state: State,
        x: Float[Tensor, "batch tokens in"],
        linear: Linear,
        shares: Float[Tensor, "batch ..."],
        strength: float = 1.0,
    ) -> Float[Tensor, "batch tokens out"]:
        scale = strength * self.weight * self.alpha / self.rank
        inner = torch.unflatten(affine(x, state["a"].flatten(0, 1)), -1, (self.experts, self.rank))
        mixed = (inner * (scale * shares)[..., None]).flatten(-2)
        return linear(x) + affine(mixed, state["b"].transpose(0, 1).flatten(1))
