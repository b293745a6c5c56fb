"""DeLoRA: how far a weight moves and where to are learned apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.state import State

SMALLEST_NORM = 1e-4


@dataclass(frozen=True)
class DeLoRA(LinearAdapter):
    """`W' = W + strength * (D - D0)`, `D = boundary / rank * (sum_i b_i a_i^T / |b_i| |a_i|) * |W|`.

    Each of the `rank` terms has length one, so `D` has length at most `boundary * |W|` whatever the learning rate.
    `boundary (1,)`, the rows `a_i` of `A (rank, in)` and the columns `b_i` of `B (out, rank)` are trained; `A` and `B`
    start uniform and `D0` is `D` at the start (Bini, Girrbach and Akata 2025, equations 5 to 9). `|W| (in,)` are the
    lengths of the weight's columns, as in the authors' implementation (figure 4 compares them); with `frobenius` it is
    one number, the length of `W`. With `zero_start`, as in PEFT, `B` starts at zero, there is no `D0`, and lengths below
    1e-4 count as 1e-4.
    """

    name = "delora"
    title = "Decoupled low-rank adaptation"
    theme = Theme.DECOUPLED
    claim = "A bounded step in a learned direction is enough, and safe at any learning rate."
    paper = "https://arxiv.org/abs/2503.18225"
    size_knob = "rank"

    rank: int = 8
    boundary: float = 8.0
    frobenius: bool = False
    zero_start: bool = False

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        rank = RankAtMost("rank", factor=1 if self.zero_start else 2)
        return IdentityAtInit(), rank, Bounded()

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        a = context.uniform(self.rank, columns, bound=columns**-0.5)
        b = (
            context.zeros(rows, self.rank)
            if self.zero_start
            else context.uniform(rows, self.rank, bound=self.rank**-0.5)
        )
        squares = weight.to(context.dtype).square().sum(0)
        norm = (squares.sum().expand(columns) if self.frobenius else squares).sqrt()
        boundary = context.full(1, value=self.boundary)
        state = State({"a": a, "b": b, "boundary": boundary}, {"norm": norm.contiguous()})
        if self.zero_start:
            return state
        # D0 as two factors, the lengths in them, so that it costs nothing but its rank.
        b0 = b * self.scales(state)
        return State(state.trainable, {**state.frozen, "a0": a.clone(), "b0": b0})

    def scales(self, state: State) -> Float[Tensor, " rank"]:
        """`boundary / (rank |b_i| |a_i|)`."""
        floor = SMALLEST_NORM if self.zero_start else 0.0
        lengths = [torch.linalg.vector_norm(state[side], dim=dim) for side, dim in (("a", 1), ("b", 0))]
        a, b = (length.clamp_min(floor) if floor else length for length in lengths)
        return state["boundary"] / (self.rank * a * b)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        moved = (state["b"] * self.scales(state)) @ state["a"]
        if not self.zero_start:
            moved = moved - state["b0"] @ state["a0"]
        return weight + strength * moved * state["norm"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        a, b = state["a"] * state["norm"], state["b"] * (strength * self.scales(state))
        if not self.zero_start:
            a = torch.cat([a, state["a0"] * state["norm"]])
            b = torch.cat([b, -strength * state["b0"]], 1)
        return linear(x) + affine(affine(x, a), b)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if not self.zero_start or self.frobenius:
            raise CannotExportError("PEFT's starts elsewhere")
        config = {"peft_type": "DELORA", "r": self.rank, "delora_lambda": self.boundary}
        names = {"delora_A": "a", "delora_B": "b", "delora_lambda": "boundary", "delora_w_norm": "norm"}
        return per_site(config, sites, names)


@dataclass(frozen=True)
class Bounded(Invariant):
    """The change is at most the boundary, before and after training, times the length of the weight."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, DeLoRA)
        boundary = float(state["boundary"].detach().abs()) + (0 if adapter.zero_start else adapter.boundary)
        size = torch.linalg.vector_norm((after - before).detach().double())
        longest = state["norm"].double().max()
        return max(0.0, float(size / longest) - boundary)
