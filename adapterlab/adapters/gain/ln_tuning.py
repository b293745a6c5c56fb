"""LN tuning: training of the gains and biases of normalization layers.

>>> from adapterlab.adapters import adapter
>>> method = adapter("ln_tuning")
>>> [method.selects(module, "weight") for module in (torch.nn.LayerNorm(4), torch.nn.Linear(4, 4))]
[True, False]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit
from adapterlab.adapters.model_invariants import ChangesOnlyVectors
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class LNTuning(ParameterAdapter):
    """`p' = p + strength * delta` for the gains and biases of normalization layers; `delta`, shaped like `p`, starts at 0.

    LayerNorm has both, RMSNorm only a gain (Zhao et al. 2024).
    """

    name = "ln_tuning"
    title = "Norm tuning"
    theme = Theme.GAIN
    claim = "A task needs existing features scaled up or down, and no new features."
    paper = "https://arxiv.org/abs/2312.11420"
    peft_kinds = ("LN_TUNING",)
    where_else = ": its normalization layers have no gain; use ia3, which trains gains of its own"

    @property
    def invariants(self) -> tuple[Property, ...]:
        return IdentityAtInit(), ChangesOnlyVectors()

    def selects(self, module: torch.nn.Module, name: str) -> bool:
        # Every architecture has its own RMSNorm class; they share only the end of the name.
        norm = isinstance(module, torch.nn.LayerNorm | torch.nn.RMSNorm) or type(module).__name__.endswith("Norm")
        return norm and name in ("weight", "bias")

    def init(self, parameter: Tensor, context: Context) -> State:
        return State({"delta": context.zeros(*parameter.shape)})

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        return parameter + strength * state["delta"]

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        tensors, modules = {}, dict[str, None]()
        for site in sites:
            module, _, name = site.path.rpartition(".")
            modules[module] = None
            tensors[f"{module}.ln_tuning_layers.{name}"] = self.value(site.state, site.base)
        return PeftLayout({"peft_type": "LN_TUNING", "target_modules": list(modules)}, tensors)

    @classmethod
    def from_peft(cls, source: PeftSource) -> LNTuning | None:
        return cls()

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        module, _, name = site.path.rpartition(".")
        stored = site.take(f"ln_tuning_layers.{name}", module)
        return {"delta": stored.to(site.start["delta"]) - site.base.to(site.start["delta"])}
