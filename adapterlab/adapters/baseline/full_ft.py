"""Full fine-tuning: an unstructured change of every parameter.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("full_ft"), torch.ones(2, 3)
>>> state = method.init(weight, Context.of_layer(weight))
>>> torch.equal(method.value(state, weight), weight)
True
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class FullFT(ParameterAdapter):
    """`p' = p + strength * delta` for every parameter of the model; `delta`, shaped like `p`, starts at zero."""

    name = "full_ft"
    title = "Full fine-tuning"
    theme = Theme.BASELINE
    claim = "Nothing is known about the change in advance."
    paper = "https://arxiv.org/abs/1801.06146"

    @property
    def invariants(self) -> tuple[Property, ...]:
        return (IdentityAtInit(),)

    def selects(self, module: torch.nn.Module, name: str) -> bool:
        return True

    def init(self, parameter: Tensor, context: Context) -> State:
        return State({"delta": context.zeros(*parameter.shape)})

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        return parameter + strength * state["delta"]
