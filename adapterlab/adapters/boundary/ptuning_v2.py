"""P-tuning v2: prefix tuning with keys and values that are trained directly.

>>> from adapterlab.adapters import adapter
>>> adapter("ptuning_v2").reparametrized, adapter("prefix").reparametrized
(False, True)
"""

from __future__ import annotations

from dataclasses import dataclass

from adapterlab.adapters.boundary.prefix import PrefixTuning
from adapterlab.adapters.boundary.prompt import read_prompt_settings
from adapterlab.adapters.peft_source import PeftSource


@dataclass(frozen=True)
class PTuningV2(PrefixTuning):
    """Every layer attends to `[P_K; K]` and `[P_V; V]`, with `P_K` and `P_V (length, kv)` trained directly.

    It is prefix tuning for understanding as well as generation, without the reparametrization, which helps some tasks
    and hurts others. The length is chosen for the task: about twenty for a simple task and about a hundred for a hard
    one (Liu et al. 2021).
    """

    name = "ptuning_v2"
    title = "P-tuning v2"
    claim = "Prompts in every layer are as good as fine-tuning, for models of any size and for hard tasks too."
    paper = "https://arxiv.org/abs/2110.07602"
    peft_kinds = ("PREFIX_TUNING",)

    length: int = 20
    """Length of the prefix, in tokens."""
    reparametrized: bool = False
    """True to compute keys and values with a small network while training, as in prefix tuning."""

    @classmethod
    def from_peft(cls, source: PeftSource) -> PTuningV2 | None:
        read_prompt_settings(source.settings)
        # A network that computes the prefix in training is not in the file, which has its output.
        source.settings.only_at_start("prefix_projection", "encoder_hidden_size", "init_weights")
        return cls(length=source.settings.whole("num_virtual_tokens"))
