"""AntiPaSTO: a trait is a rotation of singular vectors, and its opposite the rotation back.

The method, and the objective that its paper trains it with: hidden states must move along one axis, in opposite directions
at strengths +1 and -1, while the answers stay coherent and keep their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity
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


class Answers(NamedTuple):
    """What a model gives at one strength to prefixes in pairs that differ by one word."""

    chosen: Float[Tensor, "pairs hidden"]
    """Hidden states at the end of the prefixes with the one word."""
    rejected: Float[Tensor, "pairs hidden"]
    log_probabilities: Float[Tensor, "tokens vocabulary"]
    """Of the next token, over all tokens of all prefixes."""
    gap: Float[Tensor, " pairs"]
    """Log-probability of the chosen continuation less that of the rejected."""


def steering_loss(
    base: Answers,
    plus: Answers,
    minus: Answers,
    subspace: Float[Tensor, "hidden k"] | None = None,
    *,
    margin: float = 0.0,
    kappa: float = 0.3,
    beta: float = 0.1,
    barrier: float = 1.0,
    temperature: float = 3.0,
    order: float = 1.0,
    order_margin: float = 0.02,
) -> Float[Tensor, ""]:
    """The whole objective at strengths 0, +1 and -1 (Clark 2026, section 3.3); set `order` to 0 for the first half."""
    loss = projection_loss(base, plus, minus, subspace, margin)
    for steered in (plus, minus):
        loss = loss + coherence_barrier(
            base.log_probabilities, steered.log_probabilities, kappa, beta, barrier, temperature
        )
    hesitation = _entropy(base.log_probabilities).mean()
    return loss + order * order_penalty(plus.gap - base.gap, minus.gap - base.gap, order_margin * hesitation)


def projection_loss(
    base: Answers,
    plus: Answers,
    minus: Answers,
    subspace: Float[Tensor, "hidden k"] | None = None,
    margin: float = 0.0,
) -> Float[Tensor, ""]:
    """How far the shifts at +1 and -1 are from opposite along the axis between chosen and rejected (equations 1 and 2).

    Low where they are opposite and lie in `subspace` (orthonormal columns; all of the space without one). Dimensions are
    weighed by how far the two signs part there, in standard deviations (equation 5), which is a constant to the gradient.
    """
    apart = [answers.chosen - answers.rejected for answers in (base, plus, minus)]
    shifts = apart[1] - apart[0], apart[2] - apart[0]
    axis, up, down = (t if subspace is None else t @ subspace for t in (apart[0], *shifts))
    with torch.no_grad():
        parted = (up - down).mean(0).square()
        w = (parted / (up.var(0, correction=0) + down.var(0, correction=0) + 0.05**2)).sqrt()
    aligned = cosine_similarity(up * w, axis * w, dim=-1) * cosine_similarity(down * w, axis * w, dim=-1)
    inside, whole = up.norm(dim=-1) * down.norm(dim=-1), shifts[0].norm(dim=-1) * shifts[1].norm(dim=-1)
    a = aligned * inside / whole.clamp_min(torch.finfo(whole.dtype).eps) + margin
    a = a + a.relu().square()
    return (a.sign() * a.abs().log1p()).mean()


def coherence_barrier(
    base: Float[Tensor, "tokens vocabulary"],
    steered: Float[Tensor, "tokens vocabulary"],
    kappa: float = 0.3,
    beta: float = 0.1,
    weight: float = 1.0,
    temperature: float = 3.0,
) -> Float[Tensor, ""]:
    """0 while the next token's log-probabilities stay near the base's, a log-barrier beyond (section 3.3).

    The total variation may be `kappa sqrt(H + beta)` at a token whose entropy under the base is `H`.
    """
    variation = (steered.exp() - base.exp()).abs().sum(-1) / 2
    budget = (kappa * (_entropy(base) + beta).sqrt()).clamp_max(1 - 1e-3)
    violation = (variation - budget).relu() / (1 - budget)
    penalty = -weight * torch.log1p(-violation.clamp_max(1 - 1e-6))
    return temperature * (torch.logsumexp(penalty / temperature, 0) - math.log(len(penalty)))


def order_penalty(
    plus: Float[Tensor, " pairs"], minus: Float[Tensor, " pairs"], margin: float | Tensor = 0.0
) -> Float[Tensor, ""]:
    """0 where the changes of the preference at +1 and -1 lie on either side of 0 by `margin`, in the same order for all.

    The order is the one that the pairs break less; violations count squared (section 3.3).
    """
    one, other = (
        ((margin - up).relu().square() + (margin + down).relu().square()).mean()
        for up, down in ((plus, minus), (minus, plus))
    )
    return torch.minimum(one, other)


def _entropy(log_probabilities: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, " tokens"]:
    constant = log_probabilities.detach()
    return -(constant.exp() * constant).sum(-1)
