"""Poly: a task is a mixture of skills that tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.adapter_types import RoutedAdapter, Signal
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.linear import Linear
from adapterlab.adapters.model_invariants import AnswersAsBaseAtInit, ChangesNoParameter, SharesMix
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class Poly(RoutedAdapter):
    """`W x + strength * alpha / rank * B_t A_t x`, `A_t = sum_k z_tk A_k`, `B_t = sum_k z_tk B_k` for task `t`.

    `a (splits, skills, in / splits, rank)` and `b (splits, skills, rank, out / splits)` are the skills of a layer;
    `logits (layers or 1, tasks, splits, skills)` the router, whose shares `z = sigmoid(logits)` are divided by
    their sum over the skills (Ponti et al. 2022). In training `sigmoid` is relaxed by noise if
    `relaxed`: a Bernoulli variable at temperature 1. With `splits` above 1 each slice of the input and the output
    has shares of its own (multi-head routing, Caccia et al. 2022). Each layer has a router, or all share one with
    `one_router`. A call of the model names the tasks of its sequences as `task_ids`; without, they are task 0.
    """

    name = "poly"
    title = "Polytropon"
    theme = Theme.FUNCTIONAL
    claim = "Tasks are mixtures of a few skills, and the skills can be shared."
    paper = "https://arxiv.org/abs/2202.13914"
    size_knob = "rank"

    rank: int = 8
    alpha: float = 1.0
    tasks: int = 1
    skills: int = 4
    splits: int = 1
    relaxed: bool = True
    one_router: bool = False

    @property
    def invariants(self) -> tuple[Property, ...]:
        return AnswersAsBaseAtInit(), ChangesNoParameter(), SharesMix()

    @property
    def known_tasks(self) -> int | None:
        return self.tasks

    @property
    def draws_in_training(self) -> bool:
        return self.relaxed

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if min(self.rank, self.tasks, self.skills, self.splits) < 1:
            return "rank, tasks, skills and splits must be 1 or more"
        sides = {side for shape in shapes for side in shape}
        if wrong := sorted(side for side in sides if side % self.splits):
            return f"splits {self.splits} does not divide a side of {wrong[0]}: give a divisor of every side, such as 1"
        most = min(sides)
        return None if self.rank <= most else f"rank {self.rank} is above the layers' own: give 1 to {most}"

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = (side // self.splits for side in weight.shape)
        a = context.uniform(self.splits, self.skills, columns, self.rank, bound=columns**-0.5)
        return State({"a": a, "b": context.zeros(self.splits, self.skills, self.rank, rows)})

    def init_router(self, width: int, context: Context) -> State:
        layers = 1 if self.one_router else len(context.shapes)
        return State({"logits": context.uniform(layers, self.tasks, self.splits, self.skills, bound=1e-3)})

    def route(self, router: State, signal: Signal, layers: int) -> Float[Tensor, "layers batch ..."]:
        logits = router["logits"][:, signal.tasks]
        if self.relaxed and signal.training:
            tiny = torch.finfo(logits.dtype).eps
            noise = torch.rand_like(logits).clamp(tiny, 1 - tiny)
            logits = logits + noise.log() - torch.log1p(-noise)
        shares = torch.sigmoid(logits)
        return shares / (shares.sum(-1, keepdim=True) + 1e-12)

    def forward(
        self,
        state: State,
        x: Float[Tensor, "batch tokens in"],
        linear: Linear,
        shares: Float[Tensor, "batch ..."],
        strength: float = 1.0,
    ) -> Float[Tensor, "batch tokens out"]:
        a = torch.einsum("bqs,qsdr->bqdr", shares, state["a"]).flatten(1, 2)
        b = torch.einsum("bqs,qsrd->brqd", shares, state["b"]).flatten(2, 3)
        return linear(x) + (x @ a * (strength * self.alpha / self.rank)) @ b
