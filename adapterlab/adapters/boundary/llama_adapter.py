"""LLaMA-Adapter: a prefix with a gate that starts at zero.

>>> from adapterlab.adapters import adapter
>>> [layer for layer in range(6) if adapter("llama_adapter", layers=2).chooses(layer, 6)]
[4, 5]
"""

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

    The prompt `P (length, width)` goes through the layer's own projections, without a position. Its scores have a
    softmax of their own, and `gate g (heads,)`, which starts at zero, scales its output (Zhang et al. 2023). With both
    `per_head` and `squash` off, this is the first version of the paper, and PEFT's.
    """

    name = "llama_adapter"
    title = "LLaMA-Adapter"
    theme = Theme.BOUNDARY
    claim = "Instructions can be added as context, as long as they do not disturb the model before they are learned."
    paper = "https://arxiv.org/abs/2303.16199"
    size_knob = "length"
    takes_positions = False

    length: int = 10
    """Number of vectors in the prompt."""
    layers: int = 0
    """Number of adapted layers, counted from the top; 0 for the paper's share, all but one in sixteen (30 of 32)."""
    per_head: bool = True
    """True for one gate for each head, False for one gate for all heads."""
    squash: bool = True
    """True to apply `tanh` to the gate."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        return AnswersAsBaseAtInit(), ChangesNoParameter(), AnswersForOwnTokens()

    def chooses(self, layer: int, layers: int) -> bool:
        return layer >= (layers // 16 if self.layers == 0 else layers - self.layers)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.length < 1 or self.layers < 0:
            return "length must be 1 or more and layers 0 (the paper's share) or more"
        if self.layers > len(shapes):
            return f"layers {self.layers} is more than the model has: give at most {len(shapes)}, or 0 for the paper's share"
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
