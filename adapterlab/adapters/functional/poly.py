"""Poly: a mixture of low-rank updates ("skills"), with trained shares for each task.

>>> from adapterlab.adapters import Context, adapter
>>> method, context = adapter("poly", tasks=2, skills=3), Context.of_layer(torch.empty(8, 8))
>>> signal = Signal(torch.tensor([0, 1]), hidden=None, training=False)
>>> shares = method.route(method.init_router(8, context), signal, layers=1)
>>> shares.shape, torch.allclose(shares.sum(-1), torch.ones(()))
(torch.Size([1, 2, 1, 3]), True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    `a (splits, skills, in / splits, rank)` and `b (splits, skills, rank, out / splits)` are the skills of a layer. The
    router has `logits (layers or 1, tasks, splits, skills)`; the shares are `z = sigmoid(logits)`, divided by their sum
    over the skills (Ponti et al. 2022). The factors are averaged before they are multiplied, as in the authors' code and
    in Caccia et al. 2022; equation 6 of the paper averages the products. A call of the model passes the tasks of its
    sequences as `task_ids`; without them, every sequence belongs to task 0.
    """

    name = "poly"
    title = "Polytropon"
    theme = Theme.FUNCTIONAL
    claim = "Tasks are mixtures of a few skills, which tasks can share."
    paper = "https://arxiv.org/abs/2202.13914"
    size_knob = "rank"

    rank: int = 8
    """Rank of each skill."""
    alpha: float = 1.0
    """Numerator of the factor `alpha / rank`."""
    tasks: int = 1
    """Number of tasks."""
    skills: int = 4
    """Number of skills in each layer."""
    splits: int = 1
    """Number of slices of the input and the output that have their own shares (multi-head routing, Caccia et al. 2022)."""
    relaxed: bool = True
    """True to add noise to the logits in training mode, which makes each share a relaxed Bernoulli variable at
    temperature 1."""
    one_router: bool = False
    """True if all layers share one router, False if each has its own."""
    router_lr_ratio: float = 100.0
    """Learning rate of the logits relative to that of the skills; the code of Caccia et al. has 0.1 and 0.001."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        return AnswersAsBaseAtInit(), ChangesNoParameter(), SharesMix()

    @property
    def lr_ratios(self) -> Mapping[str, float]:
        return {"logits": self.router_lr_ratio}

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
        if self.rank > most:
            return f"rank {self.rank} does not fit layers whose smallest side is {most}: give 1 to {most}"
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = (side // self.splits for side in weight.shape)
        bound = (3 * weight.shape[1]) ** -0.5  # as in the authors' code; PEFT has `columns ** -0.5`
        a = context.uniform(self.splits, self.skills, columns, self.rank, bound=bound)
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
