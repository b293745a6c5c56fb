"""AntiPaSTO: a rotation of singular vectors whose inverse, at strength -1, steers in the opposite direction.

>>> from adapterlab.adapters import Context, State, adapter
>>> method, weight = adapter("antipasto", rank=2), torch.eye(4)
>>> start = method.init(weight, Context.of_layer(weight))
>>> state = State({"skew": torch.tensor([1.0]), "shift": torch.zeros(2)}, derived=start.derived)
>>> forth, back = (method.core(state, strength) + torch.eye(2) for strength in (1.0, -1.0))
>>> torch.allclose(forth @ back, torch.eye(2), atol=1e-6)
True
"""

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
"""Values of `directions`."""
AUTHORS_NOISE = 0.003 * 8**0.5
"""Standard deviation of an entry of `A` in the author's code: noise of 0.003, made skew-symmetric twice by `x - x^T`."""


@dataclass(frozen=True)
class AntiPaSTO(LinearAdapter):
    """`W' = U (S + strength * dS) R V^T` on `rank` singular triplets of `W`; the rest of `W` is unchanged.

    `R = (I - K)(I + K)^-1`, `K = strength / 2 * limit * tanh(A / limit)`, `limit = 2 tan(max_angle / 2)`, where `A` is the
    skew-symmetric matrix with the upper triangle `skew (rank (rank - 1) / 2,)`; `dS` is `shift (rank,)` (Clark 2026,
    equations 4 and 6 to 8). Strength is the method's steering coefficient: -1 rotates by the opposite angles and shifts in
    the opposite direction.

    `shift` starts at zero, and so does `skew`, unless `attach` was given runs of pairs of prompts. Then `skew` starts as
    small noise, as in the author's code: with `skew` at zero, both signs of strength would give the base, and the paper's
    objective would have no gradient. The paper adapts the layers that write to the residual stream, `targets=["output",
    "down"]`.
    """

    name = "antipasto"
    title = "Anti-parallel subspace training for ordered steering"
    theme = Theme.SVD
    claim = "A trait is a rotation in the weight's singular basis, and the opposite trait is the inverse rotation."
    paper = "https://arxiv.org/abs/2601.07473"
    size_knob = "rank"

    rank: int = 64
    """Number of adapted singular triplets."""
    max_angle: float = math.pi / 3
    """Largest rotation angle that a single entry of `skew` can cause at strength 1, in radians."""
    noise: float | None = None
    """Standard deviation of `skew` at the start; None for that of the author's code, 0.0085, if `attach` was given runs,
    else 0."""
    directions: str = "auto"
    """Choice of the triplets. `top` takes the largest `s_k`. `task` takes those with the largest `s_k` times the standard
    deviation of `v_k . x` (appendix A.4): a third over the inputs `x` of chosen prompts, a third over rejected prompts, a
    third over their differences, from the two `runs` given to `attach`. `auto` is `task` if `attach` was given runs, else
    `top`."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        always: tuple[Invariant, ...] = (InSingularBasis("u", "vt"), RankAtMost("rank"))
        return always if self.noise else (IdentityAtInit(), *always)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if not 0 < self.max_angle < math.pi:
            return f"max_angle {self.max_angle} is not between 0 and pi: give an angle in radians"
        if self.directions not in DIRECTIONS:
            return f"directions {self.directions!r} does not exist: give one of {', '.join(DIRECTIONS)}"
        return super().validate(shapes)

    def informed(self, *, paired: bool, prompted: bool | None = None) -> AntiPaSTO:
        chosen = replace(self, directions="task" if paired else "top") if self.directions == "auto" else self
        return replace(chosen, noise=AUTHORS_NOISE if paired else 0.0) if chosen.noise is None else chosen

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        skew = context.normal(self.rank * (self.rank - 1) // 2, std=self.noise or 0.0)
        trainable = {"skew": skew, "shift": context.zeros(self.rank)}
        if self.directions != "task":
            u, s, vt = context.svd(weight, self.rank)
            return State(trainable, derived={"u": u, "s": s, "vt": vt})
        u, s, vt = context.svd(weight)
        chosen = self._chosen(s, vt, context)
        return State(trainable, {"chosen": chosen}, {"u": u[:, chosen], "s": s[chosen], "vt": vt[chosen]})

    def index_bound(self, name: str, shape: tuple[int, int] | None) -> int | None:
        return None if shape is None else min(shape)

    def _chosen(self, s: Float[Tensor, " k"], vt: Float[Tensor, "k in"], context: Context) -> Int[Tensor, " rank"]:
        if (known := context.saved.get("chosen")) is not None or s.is_meta:
            return torch.empty(self.rank, dtype=torch.long, device="meta") if known is None else known.to(s.device)
        runs = context.inputs() if context.inputs is not None else ()
        if len(runs) != 2 or runs[0].shape != runs[1].shape or len(runs[0]) < 2:
            raise AdapterlabError(
                f"{context.site}: antipasto selects directions by their variation on two or more pairs of prompts: give "
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
        """Return `(S + strength * dS) R - S`, the matrix between `U` and `V^T` in the update.

        Args:
            state: State of the site.
            strength: As in `weight`.
        """
        limit = 2 * math.tan(self.max_angle / 2)
        bounded = limit * (state["skew"] / limit).tanh()
        r = cayley(skew_symmetric(-strength / 2 * bounded, self.rank))
        s = state["s"]
        shifted: Tensor = s + strength * state["shift"]
        return shifted[:, None] * r - torch.diag(s)
