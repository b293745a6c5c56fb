"""BitFit: training of the biases only.

>>> from adapterlab.adapters import adapter
>>> [adapter("bitfit").selects(torch.nn.Linear(2, 2), name) for name in ("weight", "bias")]
[False, True]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context, Role
from adapterlab.adapters.invariants import IdentityAtInit
from adapterlab.adapters.model_invariants import ChangesOnlyVectors
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class BitFit(ParameterAdapter):
    """`b' = b + strength * delta` for every bias of the model; `delta`, shaped like `b`, starts at zero.

    All biases are trained, also those of normalization layers (Ben Zaken, Goldberg and Ravfogel 2022).
    """

    name = "bitfit"
    title = "Bias-only fine-tuning"
    theme = Theme.BASELINE
    claim = "Changing biases is enough: the model already has the directions that a task needs."
    paper = "https://arxiv.org/abs/2106.10199"
    where_else = ": it has no biases (many decoders have none); ln_tuning is the nearest method that needs none"

    subset: bool = False
    """True to train only the biases of the queries and of the layer that widens the feed-forward block, which the paper
    finds nearly as good at half the size."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        return IdentityAtInit(), ChangesOnlyVectors(".bias")

    @property
    def roles(self) -> frozenset[Role] | None:
        return frozenset({Role.QUERY, Role.UP}) if self.subset else None

    def selects(self, module: torch.nn.Module, name: str) -> bool:
        return name == "bias"

    def init(self, parameter: Tensor, context: Context) -> State:
        return State({"delta": context.zeros(*parameter.shape)})

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        return parameter + strength * state["delta"]
