"""AdaLoRA: some layers need more rank than others, and training can tell which."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.rank.lora import LoRA
from adapterlab.adapters.state import State

PARTS = ("p", "q", "values")
MEANS = ("sensitivity", "uncertainty")


@dataclass(frozen=True)
class AdaLoRA(LinearAdapter):
    """`W' = W + strength * alpha / rank * P diag(values) Q`, with the least important `values` of all sites set to zero.

    `P (out, rank)` and `Q (rank, in)` start as small noise, `values (rank,)` at zero (Zhang et al. 2023, equation 3);
    `penalty` weighs `|P^T P - I|_F^2 + |Q Q^T - I|_F^2`, which keeps `P` and `Q` near orthonormal (equation 4); without
    `squared`, the norms themselves, of which PEFT takes the mean over all sites.

    A value's importance is that of its entry, its column of `P` and its row of `Q`, the mean of each (equation 7): running
    means of `|w dL/dw|` times those of how it varies (equations 8 to 11), which the state keeps beside the tensors they
    measure. Every `interval` steps the most important values of all sites together stay, as many as the budget has, and
    the rest are set to zero, from where training may bring them back. The budget is whole for `warmup_steps`, then falls
    as a cube to the share `keep` at `final_steps` before the end of `total_steps`; from then on what was zero stays zero.

    Equation 12 as printed would start above the whole budget; here the fall starts at it, as in PEFT. Gradients are those
    before a step and tensors those after it, as in PEFT; `after_step` does all of this.
    """

    name = "adalora"
    title = "Adaptive budget allocation"
    theme = Theme.SVD
    claim = "Some layers need more rank than others, and the sensitivity of the loss tells which."
    paper = "https://arxiv.org/abs/2303.10512"
    size_knob = "rank"

    rank: int = 12
    alpha: float = 16.0
    keep: float = 2 / 3
    total_steps: int = 1000
    warmup_steps: int = 100
    final_steps: int = 300
    interval: int = 10
    beta1: float = 0.85
    beta2: float = 0.85
    penalty: float = 0.1
    squared: bool = True

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank")

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if not 0 < self.keep <= 1:
            return f"keep {self.keep} is no share of the values: give one above 0 and up to 1"
        if self.interval < 1 or not 0 <= self.warmup_steps < self.total_steps - self.final_steps <= self.total_steps:
            return (
                f"{self.warmup_steps} warmup_steps and {self.final_steps} final_steps leave no time to prune within "
                f"{self.total_steps} total_steps, every {self.interval}: give fewer, or more total_steps"
            )
        return super().validate(shapes)

    def scheduled(self, steps: int) -> Adapter:
        """The schedule's parts in the same proportions over `steps`."""
        return dataclasses.replace(
            self,
            total_steps=steps,
            warmup_steps=self.warmup_steps * steps // self.total_steps,
            final_steps=self.final_steps * steps // self.total_steps,
            interval=max(1, self.interval * steps // self.total_steps),
        )

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        trainable = {
            "p": context.normal(rows, self.rank, std=0.02),
            "q": context.normal(self.rank, columns, std=0.02),
            "values": context.zeros(self.rank),
        }
        running = {f"{mean}_{part}": torch.zeros_like(trainable[part]) for mean in MEANS for part in PARTS}
        return State(trainable, {**running, "kept": context.full(self.rank, value=1.0)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        scale = strength * self.alpha / self.rank
        return weight + (state["p"] * (scale * state["values"])) @ state["q"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        scale = strength * self.alpha / self.rank
        return linear(x) + affine(affine(x, state["q"]) * (scale * state["values"]), state["p"])

    def regularizer(self, state: State) -> Tensor | None:
        if not self.penalty:
            return None
        p, q = state["p"], state["q"]
        eye = torch.eye(self.rank, dtype=p.dtype, device=p.device)
        squares = torch.stack([(p.T @ p - eye).square().sum(), (q @ q.T - eye).square().sum()])
        return self.penalty * (squares if self.squared else squares.sqrt()).sum()

    def after_step(self, states: Sequence[State], step: int) -> None:
        last = self.total_steps - self.final_steps
        if step < last:
            for state in states:
                self._measure(state)
        if self.warmup_steps < step <= last and (step % self.interval == 0 or step == last):
            self._allocate(states, self.budget(step, self.rank * len(states)))
        if self.warmup_steps < step and (step % self.interval == 0 or step >= last):
            for state in states:
                state["values"].mul_(state["kept"])

    def budget(self, step: int, whole: int) -> int:
        """How many of `whole` values stay at `step`."""
        target = round(self.keep * whole)
        spent = (step - self.warmup_steps) / (self.total_steps - self.final_steps - self.warmup_steps)
        return int(target + (whole - target) * (1 - min(max(spent, 0.0), 1.0)) ** 3)

    def importance(self, state: State) -> Float[Tensor, " rank"]:
        """How much each value, with its column of `P` and its row of `Q`, matters to the loss."""
        entries = {part: state[f"sensitivity_{part}"] * state[f"uncertainty_{part}"] for part in PARTS}
        return entries["values"] + entries["p"].mean(0) + entries["q"].mean(1)

    def _measure(self, state: State) -> None:
        for part in PARTS:
            tensor, mean, varied = state[part], state[f"sensitivity_{part}"], state[f"uncertainty_{part}"]
            if tensor.grad is None:
                continue
            sensitivity = (tensor * tensor.grad).abs()
            mean.mul_(self.beta1).add_(sensitivity, alpha=1 - self.beta1)
            varied.mul_(self.beta2).add_((sensitivity - mean).abs(), alpha=1 - self.beta2)

    def _allocate(self, states: Sequence[State], budget: int) -> None:
        scores = [self.importance(state) for state in states]
        everywhere = torch.cat([score.to(scores[0].device) for score in scores])
        kept = torch.zeros_like(everywhere).index_fill(0, everywhere.topk(budget).indices, 1.0)
        for state, part in zip(states, kept.split(self.rank), strict=True):
            state["kept"].copy_(part)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        # A pruned value stays zero, so the values can be multiplied into one of the factors.
        plain = [
            dataclasses.replace(
                site, state=State({"a": site.state["q"] * site.state["values"][:, None], "b": site.state["p"]})
            )
            for site in sites
        ]
        return LoRA(rank=self.rank, alpha=self.alpha).peft_layout(plain)
