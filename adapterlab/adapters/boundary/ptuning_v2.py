"""P-tuning v2: a prompt in every layer, trained as it is."""

from __future__ import annotations

from dataclasses import dataclass

from adapterlab.adapters.boundary.prefix import PrefixTuning


@dataclass(frozen=True)
class PTuningV2(PrefixTuning):
    """Every layer attends to `[P_K; K]` and `[P_V; V]`, with `P_K` and `P_V (length, kv)` trained directly.

    The prompts of prefix tuning, made to work for understanding as for generation: without its reparametrization,
    which helps some tasks and hurts others and is here an option (`reparametrized`, with `hidden` units), and with
    a length chosen for the task, some twenty for a simple one and about a hundred for a hard one (Liu et al. 2021).
    """

    name = "ptuning_v2"
    title = "P-tuning v2"
    claim = "Prompts in every layer do what fine-tuning does, at any size and for hard tasks too."
    paper = "https://arxiv.org/abs/2110.07602"

    length: int = 20
    reparametrized: bool = False
