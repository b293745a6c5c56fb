"""AdaLoRA: a low-rank update whose rank is distributed over the layers during training.

>>> from adapterlab.adapters import adapter
>>> method = adapter("adalora", rank=4, keep=0.5, total_steps=100, warmup_steps=10, final_steps=30)
>>> [method.budget(step, whole=80) for step in (10, 40, 70)]
[80, 45, 40]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
from adapterlab.adapters.peft_source import PeftSource, PeftStored, padded
from adapterlab.adapters.rank.lora import LoRA
from adapterlab.adapters.state import State

PARTS = ("p", "q", "values")
"""Names of the trained tensors."""
MEANS = ("sensitivity", "uncertainty")
"""Names of the running means that are kept for each of them."""


@dataclass(frozen=True)
class AdaLoRA(LinearAdapter):
    """`W' = W + strength * alpha / rank * P diag(values) Q`, with the least important `values` of all sites set to zero.

    `P (out, rank)` and `Q (rank, in)` start as small noise and `values (rank,)` at zero (Zhang et al. 2023, equation 3).

    The importance of a value is the sum of its own, the mean over its column of `P` and the mean over its row of `Q`
    (equation 7). For each entry it is the running mean of `|w dL/dw|` times the running mean of that quantity's variation
    (equations 8 to 11). Every `interval` steps, the most important values of all sites together are kept, up to the
    budget; the others are set to zero, and training may bring them back. The budget is the whole rank for `warmup_steps`,
    then decreases along a cubic curve to the share `keep`, which it reaches `final_steps` before the end of `total_steps`.
    From then on, values that are zero stay zero.

    A budget of parameters counts the final rank, as the paper does: `keep` of what is trained at the start.

    Equation 12 as printed would start above the whole budget; here, as in PEFT, the curve starts at the whole budget. Also
    as in PEFT, the importance combines the gradients from before a step with the tensors from after it.
    """

    name = "adalora"
    title = "Adaptive budget allocation"
    theme = Theme.SVD
    claim = "Some layers need more rank than others, and the sensitivity of the loss shows which."
    paper = "https://arxiv.org/abs/2303.10512"
    size_knob = "rank"
    peft_kinds = ("ADALORA",)
    peft_transposable = True

    rank: int = 12
    """Rank of the update before pruning."""
    alpha: float = 16.0
    """Numerator of the factor `alpha / rank`."""
    keep: float = 2 / 3
    """Share of all values that are not pruned in the end."""
    total_steps: int = 1000
    """Number of optimizer steps that the schedule is made for."""
    warmup_steps: int = 100
    """Steps before the first pruning."""
    final_steps: int = 500
    """Steps after the last pruning."""
    interval: int = 1
    """Steps from one pruning to the next."""
    beta1: float = 0.85
    """Decay of the running mean of `|w dL/dw|`."""
    beta2: float = 0.85
    """Decay of the running mean of its variation."""
    penalty: float = 0.1
    """Weight, in the loss, of the mean of `|P^T P - I|_F` and `|Q Q^T - I|_F`, which keeps `P` and `Q` near orthonormal."""
    squared: bool = False
    """True for the sum of the squared norms, as equation 4 is printed."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank")

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if not 0 < self.keep <= 1:
            return f"keep {self.keep} is not a share of the values: give a number above 0 and up to 1"
        if self.interval < 1 or not 0 <= self.warmup_steps < self.total_steps - self.final_steps <= self.total_steps:
            return (
                f"{self.warmup_steps} warmup_steps and {self.final_steps} final_steps leave no time to prune within "
                f"{self.total_steps} total_steps, every {self.interval}: give fewer, or more total_steps"
            )
        return super().validate(shapes)

    def counted(self, trained: int) -> int:
        return round(self.keep * trained)

    def scheduled(self, steps: int) -> Adapter:
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
        return self.penalty * (squares.sum() if self.squared else squares.sqrt().mean())

    def after_step(self, states: Sequence[State], step: int) -> None:
        last = self.total_steps - self.final_steps
        if step < last:
            for state in states:
                self._measure(state)
        if self.warmup_steps < step <= last and (step % self.interval == 0 or step == last):
            self._allocate(states, self.budget(step, sum(len(state["values"]) for state in states)))
        if self.warmup_steps < step and (step % self.interval == 0 or step >= last):
            for state in states:
                state["values"].mul_(state["kept"])

    def budget(self, step: int, whole: int) -> int:
        """Return the number of values that are kept.

        Args:
            step: Number of the step, from 0.
            whole: Number of values of all sites.
        """
        target = round(self.keep * whole)
        spent = (step - self.warmup_steps) / (self.total_steps - self.final_steps - self.warmup_steps)
        return int(target + (whole - target) * (1 - min(max(spent, 0.0), 1.0)) ** 3)

    def importance(self, state: State) -> Float[Tensor, " rank"]:
        """Return the importance of each value, with its column of `P` and its row of `Q`, to the loss.

        Args:
            state: State of the site.
        """
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
        for state, part in zip(states, torch.split(kept, [len(score) for score in scores]), strict=True):
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

    @classmethod
    def from_peft(cls, source: PeftSource) -> AdaLoRA | None:
        settings = source.settings
        settings.only_at_start("init_lora_weights", "megatron_core", "qalora_group_size", "r", "rank_pattern")
        settings.only_in_training("lora_dropout")
        whole = settings.whole("init_r", 12)
        return cls(
            rank=max(source.sizes("lora_A"), default=0),
            alpha=settings.number("lora_alpha", 8),
            keep=settings.whole("target_r", 8) / whole,
            total_steps=settings.whole("total_step", 1),
            warmup_steps=settings.whole("tinit"),
            final_steps=settings.whole("tfinal"),
            interval=settings.whole("deltaT", 1),
            beta1=settings.number("beta1", 0.85),
            beta2=settings.number("beta2", 0.85),
            penalty=settings.number("orth_reg_weight", 0.5),
        )

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        # PEFT divides by the rank before pruning, and adds a small number to it.
        settings = site.settings
        alpha = settings.at(site.path, "alpha_pattern", self.alpha)
        scale = alpha / (settings.whole("init_r", 12) + 1e-5) * self.rank / self.alpha
        return {
            "q": padded(site.take("lora_A"), self.rank, 0),
            "p": padded(site.take("lora_B"), self.rank, 1),
            "values": padded(site.take("lora_E")[:, 0] * scale, self.rank, 0),
        }
