"""OFTv2: a rotation need not be exact, nor ever touch the weight, to serve as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.invariants import IdentityAtInit, Invariant, NearlyPreservesGram
from adapterlab.adapters.orthogonal.oft import OFT
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.rotations import cayley_neumann, skew_symmetric
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class OFTv2(OFT):
    """`W' = W R^T` as in OFT, with blocks `(I + Q)(I + Q + ... + Q^(k - 1))`, `k` being `neumann_terms` (Cayley-Neumann).

    State and shapes are OFT's (Qiu et al. 2025, section 3.3). The input is rotated, never the weight (section 3.2), as
    OFT does here too. For `|Q| < 1` the series falls short of a rotation by at most `|Q|^(2 k)` where `k` is odd, and
    by about `2 |Q|^k` where it is even. The paper uses five terms; PEFT's `num_cayley_neumann_terms` of n, from 4 on,
    is n - 1 here.
    """

    name = "oftv2"
    title = "Orthogonal fine-tuning, version 2"
    claim = "A rotation that is cheap and only nearly exact does what an exact one does."
    paper = "https://arxiv.org/abs/2506.19847"

    neumann_terms: int = 5

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), NearlyPreservesGram("rows")

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.neumann_terms < 1:
            return f"neumann_terms {self.neumann_terms} leaves no series: give 1 or more"
        return super().validate(shapes)

    def orthogonal(self, q: Float[Tensor, "blocks size size"]) -> Float[Tensor, "blocks size size"]:
        return cayley_neumann(q, self.neumann_terms)

    def orthogonality_error(self, state: State, width: int) -> Tensor:
        """A bound on the spectral norm of `R^T R - I`, from that of `Q`: `R^T R` is `(I - (-Q)^k)(I - Q^k)`."""
        norm = torch.linalg.matrix_norm(skew_symmetric(state["skew"], self._size(width)), 2).max()
        rest = norm**self.neumann_terms
        return rest**2 if self.neumann_terms % 2 else (1 + rest) ** 2 - 1

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if self.neumann_terms < 3:
            raise CannotExportError("PEFT's series has four terms or more")
        exact = super().peft_layout(sites)
        series = {"use_cayley_neumann": True, "num_cayley_neumann_terms": self.neumann_terms + 1}
        return per_site({**exact.config, **series}, sites, {"oft_R.weight": "skew"})
