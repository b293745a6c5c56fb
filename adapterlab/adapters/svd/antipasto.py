"""AntiPaSTO: a trait is a rotation of singular vectors, and its opposite the rotation back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, InSingularBasis, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.rotations import cayley, skew_symmetric
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError

DIRECTIONS = ("auto", "task", "top")


@dataclass(frozen=True)
class AntiPaSTO(LinearAdapter):
    """`W' = U (S + strength * dS) R V^T` on `rank` singular triplets of `W`, the rest of `W` as it is.

    `R = (I - K)(I + K)^-1`, `K = strength / 2 * limit * tanh(A / limit)`, `limit = 2 tan(max_angle / 2)`, `A` the
    skew-symmetric matrix in `skew (rank (rank - 1) / 2,)`; `dS` is `shift (rank,)` (Clark 2026, equations 4 and 6 to 8).
    Strength -1 turns back by the same angles and shifts the other way, which is the method's steering coefficient.

    `shift` starts at zero, and `skew` as noise of size `noise`, as the author's code has it: at zero both signs of strength
    give the base, and the objective no gradient. The paper adapts what writes into the residual stream, `targets=["output",
    "down"]`, and takes the singular triplets by their task (appendix A.4), which is `directions="task"`: those where `s_k`
    times the standard deviation of `v_k . x` is largest, a third each over the inputs `x` of chosen prefixes, of rejected
    ones, and their differences, from the two `runs` given to `attach`. `top` takes the largest `s_k`, and needs no data;
    `auto` is `task` where `attach` was given runs (the lab gives those of a task that has pairs), else `top`.
    """

    name = "antipasto"
    title = "Anti-parallel subspace training for ordered steering"
    theme = Theme.SVD
    claim = "A trait is a rotation in the weight's singular basis, and its opposite is the rotation back."
    paper = "https://arxiv.org/abs/2601.07473"
    size_knob = "rank"

    rank: int = 64
    max_angle: float = math.pi / 3
    noise: float = 0.003
    directions: str = "auto"

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        held: tuple[Invariant, ...] = (InSingularBasis("u", "vt"), RankAtMost("rank"))
        return held if self.noise else (IdentityAtInit(), *held)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if not 0 < self.max_angle < math.pi:
            return f"max_angle {self.max_angle} is no angle between 0 and pi: give one, in radians"
        if self.directions not in DIRECTIONS:
            return f"directions {self.directions!r} does not exist: give one of {', '.join(DIRECTIONS)}"
        return super().validate(shapes)

    def informed(self, *, paired: bool) -> AntiPaSTO:
        return replace(self, directions="task" if paired else "top") if self.directions == "auto" else self

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        skew = context.normal(self.rank * (self.rank - 1) // 2, std=self.noise)
        trainable = {"skew": skew, "shift": context.zeros(self.rank)}
        if self.directions != "task":
            u, s, vt = context.svd(weight, self.rank)
            return State(trainable, derived={"u": u, "s": s, "vt": vt})
        u, s, vt = context.svd(weight)
        chosen = self._chosen(s, vt, context)
        return State(trainable, {"chosen": chosen}, {"u": u[:, chosen], "s": s[chosen], "vt": vt[chosen]})

    def _chosen(self, s: Float[Tensor, " k"], vt: Float[Tensor, "k in"], context: Context) -> Int[Tensor, " rank"]:
        if (known := context.saved.get("chosen")) is not None or s.is_meta:
            return torch.empty(self.rank, dtype=torch.long, device="meta") if known is None else known.to(s.device)
        runs = context.inputs() if context.inputs is not None else ()
        if len(runs) != 2 or runs[0].shape != runs[1].shape or len(runs[0]) < 2:
            raise AdapterlabError(
                f"{context.site}: antipasto takes directions by how they vary on two or more pairs of prefixes: "
                "attach(..., runs=[lambda: model(chosen), lambda: model(rejected)]), or directions='top'"
            )
        first, second = (x.to(vt.dtype) for x in runs)
        taken = torch.zeros(len(s), dtype=torch.bool, device=s.device)
        for x, most in ((first, self.rank // 3), (second, 2 * self.rank // 3), (first - second, self.rank)):
            score = (s * affine(x, vt).std(0)).masked_fill(taken, -1)
            taken[score.topk(most - int(taken.sum())).indices] = True
        return taken.nonzero().flatten()

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + state["u"] @ self.core(state, strength) @ state["vt"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        return linear(x) + affine(affine(affine(x, state["vt"]), self.core(state, strength)), state["u"])

    def core(self, state: State, strength: float) -> Float[Tensor, "rank rank"]:
        """What is added between `U` and `V^T`."""
        limit = 2 * math.tan(self.max_angle / 2)
        bounded = limit * (state["skew"] / limit).tanh()
        r = cayley(skew_symmetric(-strength / 2 * bounded, self.rank))
        s = state["s"]
        return (s + strength * state["shift"])[:, None] * r - torch.diag(s)
