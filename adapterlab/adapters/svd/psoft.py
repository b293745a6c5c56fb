"""PSOFT: a rotation within the weight's principal subspace.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("psoft", rank=3), torch.diag(torch.arange(1.0, 6.0))
>>> state = method.init(weight, Context.of_layer(weight))
>>> {name: tuple(tensor.shape) for name, tensor in state.trainable.items()}
{'skew': (3,), 'alpha': (3,), 'beta': (3,)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, InSingularBasis, Invariant, PreservesGram, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.rotations import cayley, cayley_neumann, skew_symmetric
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class PSOFT(LinearAdapter):
    """`W' = W + U S (diag(beta) R diag(alpha) - I) V^T`, with the top `rank` singular triplets of `W`.

    `R = (I + Q)(I - Q)^-1`, where `Q` is `strength` times the skew-symmetric matrix with the upper triangle `skew (rank
    (rank - 1) / 2,)`, which starts at zero. The vectors `alpha (rank,)` and `beta (rank,)` start at one, and strength
    interpolates them as `1 + strength (alpha - 1)` (Wu et al. 2025, equation 8; its matrices are the transposes of these).
    """

    name = "psoft"
    title = "Orthogonal fine-tuning with principal subspace adaptation"
    theme = Theme.SVD
    claim = "The rotation that a task needs lies in the weight's principal subspace."
    paper = "https://arxiv.org/abs/2505.11235"
    size_knob = "rank"
    peft_kinds = ("PSOFT",)

    rank: int = 32
    """Number of singular triplets."""
    relaxed: bool = True
    """False to leave out `alpha` and `beta`; neurons then keep their lengths and the angles between them."""
    neumann_terms: int = 0
    """Number of terms in a truncated series of the inverse; 0 for the exact inverse."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        always: tuple[Invariant, ...] = (IdentityAtInit(), InSingularBasis("u", "vt"), RankAtMost("rank"))
        return always if self.relaxed or self.neumann_terms else (*always, PreservesGram("rows"))

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.neumann_terms < 0:
            return f"neumann_terms {self.neumann_terms} is below 0: give 0 for the exact inverse, or a number of terms"
        return super().validate(shapes)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        u, s, vt = context.svd(weight, self.rank)
        trainable = {"skew": context.zeros(self.rank * (self.rank - 1) // 2)}
        if self.relaxed:
            trainable |= {name: context.full(self.rank, value=1.0) for name in ("alpha", "beta")}
        return State(trainable, derived={"u": u, "s": s, "vt": vt})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + state["u"] @ self.core(state, strength) @ state["vt"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        return linear(x) + affine(affine(affine(x, state["vt"]), self.core(state, strength)), state["u"])

    @classmethod
    def from_peft(cls, source: PeftSource) -> PSOFT | None:
        settings = source.settings
        settings.only_at_start("init_weights", "psoft_alpha", "psoft_svd_lowrank_niter", "random_seed")
        settings.only_in_training("psoft_dropout")
        scaled = settings.flag("psoft_mag_b", True)
        wanted = {"ab_svd_init": "psoft_init", "psoft_svd": "full", "psoft_orth": True, "psoft_mag_a": scaled}
        for name, value in wanted.items():
            if (found := settings.get(name, value)) != value:
                raise CannotLoadError(f"{name}={found!r}: psoft here has only {value!r}")
        terms = settings.whole("num_cayley_neumann_terms", 5) - 1
        if not settings.flag("use_cayley_neumann"):
            settings.only_at_start("cayley_neumann_eps")  # not in use
            terms = 0
        return cls(rank=settings.whole("r", 32), relaxed=scaled, neumann_terms=terms)

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        names = {"weight": "skew", "vector_a": "alpha", "vector_b": "beta"}
        found = {own: name for name, own in names.items() if own in site.start.trainable}
        tensors = {own: site.take(f"psoft_R.{name}") for own, name in found.items()}
        # A pair of singular vectors may have the other sign in PEFT, which decomposes the weight again.
        u = torch.linalg.svd(site.base.float(), full_matrices=False).U[:, : self.rank]
        sign = (u * site.start["u"]).sum(0).sign()
        first, second = torch.triu_indices(self.rank, self.rank, 1)
        return {**tensors, "skew": tensors["skew"] * (sign[first] * sign[second]).to(tensors["skew"].device)}

    def core(self, state: State, strength: float) -> Float[Tensor, "rank rank"]:
        """Return `S (diag(beta) R diag(alpha) - I)`, the matrix between `U` and `V^T` in the update.

        Args:
            state: State of the site.
            strength: As in `weight`.
        """
        q = skew_symmetric(strength * state["skew"], self.rank)
        r = cayley_neumann(q, self.neumann_terms) if self.neumann_terms else cayley(q)
        if self.relaxed:
            alpha, beta = (1 + strength * (state[name] - 1) for name in ("alpha", "beta"))
            r = beta[:, None] * r * alpha
        s = state["s"]
        return s[:, None] * r - torch.diag(s)
