"""VeRA: a low-rank update with random frozen factors and trained gains.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> weight = torch.eye(4)
>>> state = adapter("vera", rank=6).init(weight, Context.of_layer(weight))
>>> {name: tuple(tensor.shape) for name, tensor in state.trainable.items()}
{'gain_d': (6,), 'gain_b': (4,)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter, in_sixteenths
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class VeRA(LinearAdapter):
    """`W' = W + strength * diag(b) B diag(d) A`, with `A (rank, in)` and `B (out, rank)` random, frozen and shared.

    All sites share one pair, as large as the largest site, and each uses the part that fits. Only the gains are trained:
    `d (rank,)`, which starts at `d_initial`, and `b (out,)`, which starts at zero (Kopiczko et al. 2023, equation 2). With
    `shared=False`, the control of the paper's table 7, every site draws a pair of its own from the same distribution; the
    trained parameters are as many.
    """

    name = "vera"
    title = "Vector-based random matrix adaptation"
    theme = Theme.GAIN
    claim = "Random directions are enough; a layer only learns how much of each to use."
    paper = "https://arxiv.org/abs/2310.11454"
    size_knob = "rank"
    bounded_rank = False  # random directions may outnumber the layer's own
    peft_kinds = ("VERA",)
    peft_names: ClassVar[Mapping[str, str]] = {"vera_lambda_d": "gain_d", "vera_lambda_b": "gain_b"}
    peft_transposable = True

    rank: int = 256
    """Number of random directions, which may exceed the width of the layers. A step takes a time proportional to it."""
    d_initial: float = 0.1
    """Start value of `d`."""
    shared: bool = True
    """False to give every site random directions of its own."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank")

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return in_sixteenths(1, 2**14)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = (max(shape[side] for shape in context.shapes) for side in (0, 1))
        # Kaiming-uniform with slope 0, as in PEFT: variance 2 / fan_in of the largest site, also where nothing is shared.
        bound_a, bound_b = (6 / columns) ** 0.5, (6 / self.rank) ** 0.5
        if self.shared:
            a = context.share("a", lambda: context.uniform(self.rank, columns, bound=bound_a))
            b = context.share("b", lambda: context.uniform(rows, self.rank, bound=bound_b))
        else:
            a = context.uniform(self.rank, weight.shape[1], bound=bound_a)
            b = context.uniform(weight.shape[0], self.rank, bound=bound_b)
        gains = {"gain_d": context.full(self.rank, value=self.d_initial), "gain_b": context.zeros(weight.shape[0])}
        return State(gains, {"a": a, "b": b})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        rows, columns = weight.shape
        a, b = state["a"][:, :columns], state["b"][:rows]
        return weight + strength * state["gain_b"][:, None] * ((b * state["gain_d"]) @ a)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        rows, columns = len(state["gain_b"]), x.shape[-1]
        # Two thirds, since the frozen factors have no gradient.
        each = 2 * self.rank * (rows + columns) // 3
        if not self.on_input(x, linear.weight, each, once=self.rank * rows * columns):
            return super().forward(state, x, linear, strength)
        hidden = affine(x, state["a"][:, :columns]) * state["gain_d"]
        return linear(x) + affine(hidden, state["b"][:rows]) * (strength * state["gain_b"])

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if not self.shared:
            raise CannotExportError("PEFT has one pair of random matrices for all layers, here each has its own")
        first = sites[0].state
        return per_site(
            {"peft_type": "VERA", "r": self.rank, "save_projection": True},
            sites,
            self.peft_names,
            shared={"base_model.vera_A": first["a"], "base_model.vera_B": first["b"]},
        )

    @classmethod
    def from_peft(cls, source: PeftSource) -> VeRA | None:
        settings = source.settings
        settings.only_at_start("init_weights", "projection_prng_key")
        settings.only_in_training("vera_dropout")
        if not settings.flag("save_projection", True):
            raise CannotLoadError("save_projection=False: its random matrices are not in the file; save it with them")
        return cls(rank=settings.whole("r", 256), d_initial=settings.number("d_initial", 0.1))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        shared = {side: site.take_shared(f"base_model.vera_{side.upper()}") for side in ("a", "b")}
        return {**super().peft_state(site), **shared}
