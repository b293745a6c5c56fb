"""LLaMA-Adapter: instructions that come in through a gate which starts closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adapterlab.adapters.adapter_types import Attention, Prefix, PrefixAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.model_invariants import AnswersAsBaseAtInit, AnswersForOwnTokens, ChangesNoParameter
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class LlamaAdapter(PrefixAdapter):
    """`attend(Q, K, V) + strength * tanh(g) softmax(Q (W_k P)^T / sqrt(d)) (W_v P)` in the topmost layers.

    The prompt `P (length, width)` goes through the layer's own projections, without a position; its scores have a
    softmax of their own, and `gate g (heads,)`, started at zero, lets its answer in (Zhang et al. 2023). With
    `per_head` off there is one gate for all heads, with `squash` off it counts as it is; both off is the first version
    of the paper, and what PEFT does. `layers` counts from the top, 0 takes all; the paper takes 30 of 32.
    """

    name = "llama_adapter"
    title = "LLaMA-Adapter"
    theme = Theme.BOUNDARY
    claim = "Instructions may come in from outside, if what the model knows is left alone until they are learned."
    paper = "https://arxiv.org/abs/2303.16199"
    size_knob = "length"
    takes_positions = False

    length: int = 10
    layers: int = 0
    per_head: bool = True
    squash: bool = True

    @property
    def invariants(self) -> tuple[Property, ...]:
        return AnswersAsBaseAtInit(), ChangesNoParameter(), AnswersForOwnTokens()

    def chooses(self, layer: int, layers: int) -> bool:
        return self.layers == 0 or layer >= layers - self.layers

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.length < 1 or self.layers < 0:
            return "length must be 1 or more and layers 0 (all) or more"
        if self.layers > len(shapes):
            return f"layers {self.layers} is more than the model has: give at most {len(shapes)}, or 0 for all"
        return None

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, 1025)

    def init(self, attention: Attention, context: Context) -> State:
        gates = attention.heads if self.per_head else 1
        return State({"prompt": context.normal(self.length, attention.width), "gate": context.zeros(gates)})

    def prefix(self, state: State, attention: Attention, strength: float = 1.0) -> Prefix:
        gate = torch.tanh(state["gate"]) if self.squash else state["gate"]
        prompt = state["prompt"]
        return Prefix(attention.key(prompt), attention.value(prompt), strength * gate.expand(attention.heads))
