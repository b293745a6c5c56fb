"""DeLoRA: a low-rank update of bounded size, whose size is trained separately.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("delora", rank=2), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))
>>> {name: tuple(tensor.shape) for name, tensor in state.trainable.items()}
{'a': (2, 4), 'b': (4, 2), 'boundary': (1,)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource
from adapterlab.adapters.state import State

SMALLEST_NORM = 1e-4
"""Lower bound on the lengths that a term is divided by, with `zero_start`."""


@dataclass(frozen=True)
class DeLoRA(LinearAdapter):
    """`W' = W + strength * (D - D0)`, `D = boundary / rank * (sum_i b_i a_i^T / |b_i| |a_i|) * |W|`.

    Each of the `rank` terms has norm one, so the norm of `D` is at most `boundary * |W|` for any learning rate.
    `boundary (1,)`, the rows `a_i` of `A (rank, in)` and the columns `b_i` of `B (out, rank)` are trained; `A` and `B`
    start uniform, and `D0` is `D` at the start (Bini, Girrbach and Akata 2025, equations 5 to 9). `|W| (in,)` are the
    lengths of the weight's columns, as in the authors' implementation (figure 4 compares the alternatives).
    """

    name = "delora"
    title = "Decoupled low-rank adaptation"
    theme = Theme.DECOUPLED
    claim = "A bounded step in a learned direction is enough, and safe at any learning rate."
    paper = "https://arxiv.org/abs/2503.18225"
    size_knob = "rank"
    peft_kinds = ("DELORA",)
    peft_names: ClassVar[Mapping[str, str]] = {
        "delora_A": "a",
        "delora_B": "b",
        "delora_lambda": "boundary",
        "delora_w_norm": "norm",
    }

    rank: int = 8
    """Rank of the update."""
    boundary: float = 8.0
    """Start value of the trained bound on the size of the update, relative to the weight."""
    boundary_lr_ratio: float = 0.5
    """Learning rate of `boundary` relative to that of `A` and `B`; the paper has 0.005 and 0.01 for LLaMA (appendix B)."""
    frobenius: bool = False
    """True for `|W|` as one number, the Frobenius norm of the weight."""
    zero_start: bool = False
    """True to start `B` at zero without `D0`, as PEFT does; lengths below 1e-4 then count as 1e-4."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        rank = RankAtMost("rank", factor=1 if self.zero_start else 2)
        return IdentityAtInit(), rank, Bounded()

    @property
    def lr_ratios(self) -> Mapping[str, float]:
        return {"boundary": self.boundary_lr_ratio}

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
        # D0 is stored as two factors of low rank, with the lengths multiplied in.
        b0 = b * self.scales(state)
        return State(state.trainable, {**state.frozen, "a0": a.clone(), "b0": b0})

    def scales(self, state: State) -> Float[Tensor, " rank"]:
        """Return `boundary / (rank |b_i| |a_i|)` for every term.

        Args:
            state: State of the site.
        """
        floor = SMALLEST_NORM if self.zero_start else 0.0
        lengths = [torch.linalg.vector_norm(state[side], dim=dim) for side, dim in (("a", 1), ("b", 0))]
        a, b = (length.clamp_min(floor) if floor else length for length in lengths)
        lengths_product: Tensor = self.rank * a * b
        return state["boundary"] / lengths_product

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
            raise CannotExportError("PEFT has it only with zero_start and without frobenius")
        config = {"peft_type": "DELORA", "r": self.rank, "delora_lambda": self.boundary}
        return per_site(config, sites, self.peft_names)

    @classmethod
    def from_peft(cls, source: PeftSource) -> DeLoRA | None:
        settings = source.settings
        settings.only_at_start("init_weights", "lambda_pattern")
        settings.only_in_training("module_dropout")
        return cls(rank=settings.whole("r", 8), boundary=settings.number("delora_lambda", 15), zero_start=True)


@dataclass(frozen=True)
class Bounded(Invariant):
    """The norm of the change is at most the boundary (now, plus at the start) times the length of the weight."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, DeLoRA)
        boundary = float(state["boundary"].detach().abs()) + (0 if adapter.zero_start else adapter.boundary)
        size = torch.linalg.vector_norm((after - before).detach().double())
        longest = state["norm"].double().max()
        return max(0.0, float(size / longest) - boundary)
