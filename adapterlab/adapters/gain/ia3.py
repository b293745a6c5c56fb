"""IA3: a trained gain on each output or input feature of a layer.

>>> import torch
>>> from adapterlab.adapters import State, adapter
>>> method, weight = adapter("ia3"), torch.ones(2, 3)
>>> method.weight(State({"gain_out": torch.tensor([1.0, 2.0])}), weight)
tensor([[1., 1., 1.],
        [2., 2., 2.]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context, Role
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, ScalesLines
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class IA3(LinearAdapter):
    """`diag(g) (W x + bias)`, or `W (diag(g) x) + bias` for the last layer of the feed-forward block.

    `g = 1 + strength * (gain - 1)`, and `gain (out,)` or `(in,)` starts at one (Liu et al. 2022, section 3.3). The paper
    adapts keys, values and the feed-forward block's hidden units, which is `targets=["key", "value", "down"]`. It scales
    activations, so a bias is scaled with the rest of the output.
    """

    name = "ia3"
    title = "Infused adapter by inhibiting and amplifying inner activations"
    theme = Theme.GAIN
    claim = "Useful change is a gain on features that the model already computes."
    paper = "https://arxiv.org/abs/2205.05638"
    peft_kinds = ("IA3",)
    peft_transposable = True

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), ScalesLines()

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        if context.role is Role.DOWN:
            return State({"gain_in": context.full(columns, value=1.0)})
        return State({"gain_out": context.full(rows, value=1.0)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        if "gain_in" in state.trainable:
            return weight * (1 + strength * (state["gain_in"] - 1))
        return weight * (1 + strength * (state["gain_out"] - 1))[:, None]

    def bias(self, state: State, bias: Float[Tensor, " out"], strength: float = 1.0) -> Float[Tensor, " out"]:
        return bias if "gain_in" in state.trainable else bias * (1 + strength * (state["gain_out"] - 1))

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        if "gain_in" in state.trainable:
            return linear(x * (1 + strength * (state["gain_in"] - 1)))
        return linear(x) * (1 + strength * (state["gain_out"] - 1))

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        onward = [site.path for site in sites if "gain_in" in site.state.trainable]

        def gain(site: PeftSite) -> dict[str, Tensor]:
            state = site.state
            return {"ia3_l": state["gain_in"][None] if site.path in onward else state["gain_out"][:, None]}

        return per_site({"peft_type": "IA3", "feedforward_modules": onward}, sites, gain)

    @classmethod
    def from_peft(cls, source: PeftSource) -> IA3 | None:
        source.settings.only_at_start("init_ia3_weights", "feedforward_modules")  # the tensors have the sides
        return cls()

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        stored = site.take("ia3_l")
        if (stored.shape[0] == 1) != ("gain_in" in site.start.trainable):
            raise CannotLoadError(
                f"feedforward_modules: at {site.path} it scales the {'in' if stored.shape[0] == 1 else 'out'}puts, and "
                "ia3 here scales the inputs of the last layer of a feed-forward block, and the outputs of others"
            )
        return {name: stored.flatten() for name in site.start.trainable}
