"""BitFit: biases alone."""

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

    All biases, those of norms among them (Ben Zaken, Goldberg and Ravfogel 2022); with `subset` only those of the
    queries and of the layer that widens the feed-forward block, which the paper finds nearly as good at half the size.
    """

    name = "bitfit"
    title = "Bias-only fine-tuning"
    theme = Theme.BASELINE
    claim = "Moving thresholds is enough: the model's directions are there already."
    paper = "https://arxiv.org/abs/2106.10199"
    where_else = ": it has no biases (many decoders have none); ln_tuning is the nearest method that needs none"

    subset: bool = False

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
