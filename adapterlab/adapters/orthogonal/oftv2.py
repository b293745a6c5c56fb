"""OFTv2: OFT with a truncated series in place of the exact inverse.

>>> from adapterlab.adapters import State, adapter
>>> state = State({"skew": torch.tensor([[0.1]])})
>>> [f"{adapter('oftv2', block_size=2, neumann_terms=k).orthogonality_error(state, 2):.0e}" for k in (1, 3, 5)]
['1e-02', '1e-06', '1e-10']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.invariants import IdentityAtInit, Invariant, NearlyPreservesGram
from adapterlab.adapters.orthogonal.oft import OFT
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.rotations import cayley_neumann, skew_symmetric
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class OFTv2(OFT):
    """`W' = W R^T` as in OFT, with blocks `(I + Q)(I + Q + ... + Q^(k - 1))`, `k` being `neumann_terms` (Cayley-Neumann).

    State and shapes are those of OFT (Qiu et al. 2025, section 3.3). The input is rotated instead of the weight (section
    3.2), which is how OFT is computed here too. For `|Q| < 1` the error of the rotation is at most `|Q|^(2 k)` if `k` is
    odd, and about `2 |Q|^k` if it is even.
    """

    name = "oftv2"
    title = "Orthogonal fine-tuning, version 2"
    claim = "A cheap, approximate rotation is as good as an exact one."
    paper = "https://arxiv.org/abs/2506.19847"
    _series: ClassVar[bool] = True

    neumann_terms: int = 5
    """Number of terms of the series; five in the paper. PEFT's `num_cayley_neumann_terms`, at least 4, is one more."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), NearlyPreservesGram("rows")

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.neumann_terms < 1:
            return f"neumann_terms {self.neumann_terms} is not a number of terms: give 1 or more"
        return super().validate(shapes)

    def orthogonal(self, q: Float[Tensor, "blocks size size"]) -> Float[Tensor, "blocks size size"]:
        return cayley_neumann(q, self.neumann_terms)

    def orthogonality_error(self, state: State, width: int) -> Tensor:
        """Return an upper bound on the spectral norm of `R^T R - I`, as a scalar.

        It follows from the norm of `Q`, since `R^T R` is `(I - (-Q)^k)(I - Q^k)`.

        Args:
            state: State of the site.
            width: Number of input features.
        """
        norm: Tensor = torch.linalg.matrix_norm(skew_symmetric(state["skew"], self._size(width)), 2).max()
        rest = norm.pow(self.neumann_terms)
        return rest.square() if self.neumann_terms % 2 else (rest + 1).square() - 1

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if self.neumann_terms < 3:
            raise CannotExportError("PEFT's series has at least four terms, which is neumann_terms=3 here")
        exact = super().peft_layout(sites)
        series = {"use_cayley_neumann": True, "num_cayley_neumann_terms": self.neumann_terms + 1}
        return per_site({**exact.config, **series}, sites, {"oft_R.weight": "skew"})

    @classmethod
    def from_peft(cls, source: PeftSource) -> OFTv2 | None:
        method = super().from_peft(source)
        terms = source.settings.whole("num_cayley_neumann_terms", 5) - 1
        return replace(method, neumann_terms=terms) if isinstance(method, OFTv2) else None

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        return {"skew": site.take("oft_R.weight")}
