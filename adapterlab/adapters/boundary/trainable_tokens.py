"""Trainable tokens: a few words of the vocabulary learn what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, OtherRowsUntouched
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class TrainableTokens(ParameterAdapter):
    """`E'[ids] = E[ids] + strength * (rows - E[ids])`, and every other row of the embedding stays.

    `rows (len(ids), width)` starts as the rows it stands for. Where the head is tied to the embedding, its rows
    move along. There is no paper; the method comes from the library PEFT.
    """

    name = "trainable_tokens"
    title = "Trainable tokens"
    theme = Theme.BOUNDARY
    claim = "A task needs new words, and nothing else in the model has to change to use them."
    paper = "https://huggingface.co/docs/peft/package_reference/trainable_tokens"
    tokens_only = True

    ids: tuple[int, ...] = ()

    @property
    def invariants(self) -> tuple[Property, ...]:
        return IdentityAtInit(), OtherRowsUntouched("ids")

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        rows = shapes[0][0]
        if not self.ids:
            return "no token is named: give ids=(...), such as those of tokens that the tokenizer was given"
        if wrong := [i for i in self.ids if not 0 <= i < rows]:
            return f"ids {wrong} are not in the vocabulary of {rows}: resize the embedding first, or give others"
        if len(set(self.ids)) < len(self.ids):
            return f"ids {list(self.ids)} name a token twice"
        return None

    def selects(self, module: torch.nn.Module, name: str) -> bool:
        return name == "weight"

    def init(self, parameter: Tensor, context: Context) -> State:
        ids = context.indices(self.ids)
        start = parameter[ids].to(context.dtype)
        return State({"rows": start}, {"start": start.clone(), "ids": ids})

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        return parameter.index_add(0, state["ids"], strength * (state["rows"] - state["start"]))

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        (site,) = sites
        module = site.path.rpartition(".")[0]
        config = {
            "peft_type": "TRAINABLE_TOKENS",
            "token_indices": site.state["ids"].tolist(),
            "target_modules": [module],
        }
        return PeftLayout(config, {f"{module}.trainable_tokens_delta": site.state["rows"]})
