"""Trainable tokens: training of the embeddings of a few tokens.

>>> from adapterlab.adapters import Context, adapter
>>> method, embedding = adapter("trainable_tokens", ids=(3, 7)), torch.randn(50, 8)
>>> method.init(embedding, Context.of_layer(embedding))["rows"].shape
torch.Size([2, 8])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, OtherRowsUntouched
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class TrainableTokens(ParameterAdapter):
    """`E'[ids] = E[ids] + strength * (rows - E[ids])`; every other row of the embedding is unchanged.

    `rows (len(ids), width)` starts as `E[ids]`. If the head is tied to the embedding, its rows change too. There is no
    paper; the method comes from the library PEFT.
    """

    name = "trainable_tokens"
    title = "Trainable tokens"
    theme = Theme.BOUNDARY
    claim = "A task needs new tokens, and nothing else in the model has to change to use them."
    paper = "https://huggingface.co/docs/peft/package_reference/trainable_tokens"
    peft_kinds = ("TRAINABLE_TOKENS",)
    tokens_only = True

    ids: tuple[int, ...] = ()
    """Ids of the trained tokens; at least one must be given."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        return IdentityAtInit(), OtherRowsUntouched("ids")

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        rows = shapes[0][0]
        if not self.ids:
            return "no token is given: give ids=(...), such as the ids of tokens that were added to the tokenizer"
        if wrong := [i for i in self.ids if not 0 <= i < rows]:
            return f"ids {wrong} are not in the vocabulary of {rows}: resize the embedding first, or give other ids"
        if len(set(self.ids)) < len(self.ids):
            return f"ids {list(self.ids)} contain a token twice: give each id once"
        return None

    def selects(self, module: torch.nn.Module, name: str) -> bool:
        return name == "weight"

    def init(self, parameter: Tensor, context: Context) -> State:
        ids = context.indices(self.ids)
        start = parameter[ids].to(context.dtype)
        return State({"rows": start}, {"start": start.clone(), "ids": ids})

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        return parameter.index_add(0, state["ids"], strength * (state["rows"] - state["start"]))

    def index_bound(self, name: str, shape: tuple[int, int] | None) -> int | None:
        return None if shape is None else shape[0]

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        (site,) = sites
        module = site.path.rpartition(".")[0]
        config = {
            "peft_type": "TRAINABLE_TOKENS",
            "token_indices": site.state["ids"].tolist(),
            "target_modules": [module],
        }
        return PeftLayout(config, {f"{module}.trainable_tokens_delta": site.state["rows"]})

    @classmethod
    def from_peft(cls, source: PeftSource) -> TrainableTokens | None:
        source.settings.only_at_start("init_weights")
        ids = source.settings.get("token_indices", [])
        if not isinstance(ids, list):
            raise CannotLoadError(f"token_indices={ids!r} is not a list of ids")
        return cls(ids=tuple(ids))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        name, own = "trainable_tokens_delta", site.path.rpartition(".")[0]
        rows = site.take(name, own)
        # PEFT writes the rows of a head that is tied to the embedding too.
        if other := [path for path in site.source.tensors if not torch.equal(site.take(name, path), rows)]:
            raise CannotLoadError(f"target_modules: {other[0]} has other rows than {own}")
        return {"rows": rows}
