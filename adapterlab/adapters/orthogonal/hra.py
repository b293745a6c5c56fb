"""HRA: a chain of reflections of the input.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("hra", rank=2), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))  # two equal reflections
>>> torch.allclose(method.weight(state, weight), weight, atol=1e-6)
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine
from torch.nn.functional import normalize

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, PreservesGram, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.rotations import full_precision
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class HRA(LinearAdapter):
    """`W' = W H_1 ... H_rank`, `H_i = I - 2 u_i u_i^T` with the rows of `normals (rank, in)` scaled to length 1 as `u_i`.

    Normals start random in equal pairs, so that the reflections cancel (Yuan et al. 2024, equation 1). A pair rotates the
    plane of its normals by twice the angle between them. `strength` scales this angle, so that the matrix is orthogonal at
    every strength. For both reasons the rank must be even.

    The chain is applied in compact form, `I - U^T S U` with `S^-1 = I / 2 + triu(U U^T, 1)`: two products of rank size.
    """

    name = "hra"
    title = "Householder reflection adaptation"
    theme = Theme.ORTHOGONAL
    claim = "Useful change is a few reflections: orthogonal and low-rank at once."
    paper = "https://arxiv.org/abs/2405.17484"
    size_knob = "rank"
    peft_kinds = ("HRA",)

    rank: int = 8
    """Number of reflections, an even number."""
    penalty: float = 0.0064
    """Weight of `|I - U U^T|_F^2` in the loss (equation 6). The paper's sum over the 64 adapted layers of LLaMA-2-7B has a
    weight of 1e-4, which is this weight of the mean."""
    strict: bool = False
    """True to make the normals orthonormal by Gram-Schmidt, the paper's infinite penalty. The chain is then `I - 2 P`, with
    `P` the projection on the span of the normals, and does not start at `I`."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        always = PreservesGram("rows"), RankAtMost("rank")
        return always if self.strict else (IdentityAtInit(), *always)

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(2, min(min(shape) for shape in shapes) + 1, 2)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.rank % 2:
            return (
                f"rank {self.rank} is odd, and an odd number of reflections cannot be the identity: give an even rank"
            )
        return super().validate(shapes)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        free = self.rank if self.strict else self.rank // 2
        normals = context.uniform(free, weight.shape[1], bound=free**-0.5)
        return State({"normals": normals if self.strict else normals.repeat_interleave(2, 0)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        u, v = self.compact(state, strength)
        return weight - affine(weight, u) @ v

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        u, v = self.compact(state, strength)
        return linear(x - affine(x, v) @ u)

    def compact(self, state: State, strength: float) -> tuple[Float[Tensor, "rank in"], Float[Tensor, "rank in"]]:
        """Return `U` and `V` with `H_1 ... H_rank = I - U^T V`.

        Args:
            state: State of the site.
            strength: As in `weight`.
        """
        with full_precision(state["normals"]):
            u = self.unit_normals(state)
            if strength != 1.0:
                u = self._turned(u, strength)
            eye = torch.eye(self.rank, dtype=u.dtype, device=u.device)
            return u, torch.linalg.solve_triangular((u @ u.T).triu(1) + eye / 2, u, upper=True)

    def unit_normals(self, state: State) -> Float[Tensor, "rank in"]:
        """Return the normals scaled to length 1; orthonormal normals if `strict`.

        Args:
            state: State of the site.
        """
        normals = state["normals"]
        return torch.linalg.qr(normals.T)[0].T if self.strict else normalize(normals)

    def _turned(self, u: Float[Tensor, "rank in"], strength: float) -> Float[Tensor, "rank in"]:
        first, second = u[0::2], u[1::2]
        cos = (first * second).sum(1, keepdim=True)
        if not self.strict:
            # A normal and its negative give the same reflection: take the smaller angle.
            cos, second = cos.abs(), torch.where(cos < 0, -second, second)
        sin = torch.linalg.vector_norm(second - cos * first, dim=1, keepdim=True)
        angle = torch.atan2(sin, cos)
        # sin(strength angle) / sin(angle), which tends to `strength` as the two normals become equal, as at the start.
        tiny = sin < torch.finfo(u.dtype).eps ** (1 / 3)
        ratio = torch.where(tiny, strength, (strength * angle).sin() / torch.where(tiny, 1.0, sin))
        between = ((strength * angle).cos() - cos * ratio) * first + ratio * second
        return torch.stack([first, between], 1).flatten(0, 1)

    def regularizer(self, state: State) -> Tensor | None:
        if not self.penalty or self.strict:
            return None
        u = self.unit_normals(state)
        return self.penalty * (torch.eye(self.rank, dtype=u.dtype, device=u.device) - u @ u.T).square().sum()

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        config = {"peft_type": "HRA", "r": self.rank, "apply_GS": self.strict}
        return per_site(config, sites, lambda site: {"hra_u": site.state["normals"].T})

    @classmethod
    def from_peft(cls, source: PeftSource) -> HRA | None:
        settings = source.settings
        settings.only_at_start("init_weights")
        # PEFT has no penalty in the loss.
        return cls(rank=settings.whole("r", 8), strict=settings.flag("apply_GS"), penalty=0.0)

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        return {"normals": site.take("hra_u").T}
