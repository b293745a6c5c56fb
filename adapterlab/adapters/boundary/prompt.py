"""Prompt tuning: trained vectors before the embeddings of the user's tokens.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> method, embedding = adapter("prompt", length=3), torch.randn(50, 8)
>>> method.prompt(method.init(embedding, Context.of_layer(embedding))).shape
torch.Size([3, 8])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.adapter_types import PromptAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.model_invariants import AnswersForOwnTokens, ChangesNoParameter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.peft_source import CannotLoadError, PeftSettings, PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class PromptTuning(PromptAdapter):
    """`[P; E(x)]`: trained vectors `P (length, width)` come before the embeddings of the user's tokens.

    `P` starts as the embeddings of random tokens (Lester, Al-Rfou and Constant 2021). The paper draws them from the 5,000
    most frequent tokens; a model does not record token frequencies, so they are drawn from the whole vocabulary here.
    """

    name = "prompt"
    title = "Prompt tuning"
    theme = Theme.BOUNDARY
    claim = "The model can already do the task; it only needs the right prompt."
    paper = "https://arxiv.org/abs/2104.08691"
    size_knob = "length"
    peft_kinds = ("PROMPT_TUNING", "P_TUNING")

    length: int = 20
    """Number of vectors."""
    from_vocabulary: bool = True
    """True to start as embeddings of random tokens, False to start uniform in `[-0.5, 0.5]`."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        return ChangesNoParameter(), AnswersForOwnTokens()

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        return None if self.length > 0 else f"length {self.length} is too small: give 1 or more"

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, 1025)

    def init(self, embedding: Float[Tensor, "vocabulary width"], context: Context) -> State:
        vocabulary, width = embedding.shape
        if not self.from_vocabulary:
            return State({"prompt": context.uniform(self.length, width, bound=0.5)})
        drawn = context.integers(self.length, below=vocabulary)
        return State({"prompt": embedding[drawn].to(context.dtype)})

    def prompt(self, state: State) -> Float[Tensor, "tokens width"]:
        return state["prompt"]

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        rows = sites[0].state["prompt"]
        config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": len(rows)}
        return PeftLayout(config, shared={"prompt_embeddings": rows}, prompt_heads="query")

    @classmethod
    def from_peft(cls, source: PeftSource) -> PromptTuning | None:
        read_prompt_settings(source.settings)
        # A network that computes the prompt in training is not in the file, which has its output.
        source.settings.only_at_start(
            "encoder_reparameterization_type", "encoder_hidden_size", "encoder_num_layers", "encoder_dropout"
        )
        source.settings.only_at_start(
            "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"
        )
        return cls(length=source.settings.whole("num_virtual_tokens"))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        return {"prompt": site.take_shared("prompt_embeddings")}


def read_prompt_settings(settings: PeftSettings) -> None:
    """Read the settings that describe the model that a prompt of PEFT was trained on; the shape of its tensor decides.

    Args:
        settings: Settings of a prompt or a prefix.

    Raises:
        CannotLoadError: It is for an encoder with a decoder.
    """
    settings.only_at_start("token_dim", "num_attention_heads", "num_layers")
    if (parts := settings.whole("num_transformer_submodules", 1)) != 1:
        raise CannotLoadError(f"num_transformer_submodules={parts}: prompts of encoder-decoder models are not read")
