"""RoAd: a rotation and scaling of pairs of output features.

>>> from adapterlab.adapters import State, adapter
>>> state = State({"angles": torch.full((1, 1), torch.pi / 2), "scales": torch.ones(1, 1)})
>>> adapter("road").weight(state, torch.eye(2)).round().int().tolist()  # a quarter turn
[[0, -1], [1, 0]]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, KeepsPlanes
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class RoAd(LinearAdapter):
    """`R (W x + bias)`, with blocks `[[a11 cos t11, -a12 sin t12], [a21 sin t21, a22 cos t22]]` of `R` on pairs of outputs.

    `angles t` and `scales a`, both `(variant, out / 2)`, start at zero and one (Liao and Monz 2024, equations 2 and 3).
    `strength` scales the angle, and interpolates the scale as `1 + strength (a - 1)`. The whole output is rotated, also its
    bias.
    """

    name = "road"
    title = "2D rotary adaptation"
    theme = Theme.ORTHOGONAL
    claim = "Useful change rotates pairs of features and hardly changes their length."
    paper = "https://arxiv.org/abs/2409.00119"
    size_knob = "variant"
    peft_kinds = ("ROAD",)

    variant: int = 1
    """Angles and scales for each pair: 1 for all four entries, 2 for one per row, 4 for one per entry (table 1)."""
    group_size: int = 2
    """Number of outputs in a group, whose first half is paired with its second half. 2, as in the paper, pairs neighbours;
    PEFT uses 64."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), KeepsPlanes("group_size")

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return 1, 2, 4

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.variant not in (1, 2, 4):
            return f"variant {self.variant} does not exist: give 1, 2 or 4"
        if self.group_size < 2 or self.group_size % 2 or any(rows % self.group_size for rows, _ in shapes):
            return f"group_size {self.group_size} is not even, or does not divide every output width: give 2"
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        pairs = weight.shape[0] // 2
        return State(
            {"angles": context.zeros(self.variant, pairs), "scales": context.full(self.variant, pairs, value=1.0)}
        )

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return self.turn(weight.T, state, strength).T

    def bias(self, state: State, bias: Float[Tensor, " out"], strength: float = 1.0) -> Float[Tensor, " out"]:
        return self.turn(bias, state, strength)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        return self.turn(linear(x), state, strength)

    def turn(self, y: Float[Tensor, "*batch out"], state: State, strength: float) -> Float[Tensor, "*batch out"]:
        """Return `R y`.

        Args:
            y: Outputs of the layer.
            state: State of the site.
            strength: As in `weight`.
        """
        angle, scale = strength * state["angles"], 1 + strength * (state["scales"] - 1)
        half = self.group_size // 2
        # One row for each of the entries 11, 12, 21, 22.
        cos, sin = (
            torch.unflatten((scale * part).repeat_interleave(4 // self.variant, 0), -1, (-1, half))
            for part in (angle.cos(), angle.sin())
        )
        first, second = torch.unflatten(y, -1, (-1, 2, half)).unbind(-2)
        turned = cos[0] * first - sin[1] * second, sin[2] * first + cos[3] * second
        return torch.stack(turned, -2).flatten(-3)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        order = PEFT_ORDER[self.variant]

        def flat(tensor: Tensor) -> Tensor:
            return torch.unflatten(tensor[order], 1, (-1, self.group_size // 2)).transpose(0, 1).flatten()

        config = {"peft_type": "ROAD", "variant": f"road_{self.variant}", "group_size": self.group_size}
        return per_site(
            config,
            sites,
            lambda site: {"road_theta": flat(site.state["angles"]), "road_alpha": flat(site.state["scales"])},
        )

    @classmethod
    def from_peft(cls, source: PeftSource) -> RoAd | None:
        settings = source.settings
        settings.only_at_start("init_weights")
        variant = settings.get("variant", "road_1")
        known = {f"road_{number}": number for number in PEFT_ORDER}
        if variant not in known:
            raise CannotLoadError(f"variant={variant!r} is not one of {', '.join(known)}")
        return cls(variant=known[str(variant)], group_size=settings.whole("group_size", 64))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        order, half = PEFT_ORDER[self.variant], self.group_size // 2

        def rows(flat: Tensor) -> Tensor:
            stored = flat.reshape(-1, len(order), half).transpose(0, 1).flatten(1)
            return stored[torch.tensor(order).argsort()]

        return {"angles": rows(site.take("road_theta")), "scales": rows(site.take("road_alpha"))}


PEFT_ORDER = {1: [0], 2: [0, 1], 4: [0, 3, 1, 2]}
"""Rows of angles and scales in PEFT's order: in variant 4 the diagonal's entries (11, 22) come first, then 12 and 21."""
