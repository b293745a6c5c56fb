"""Prefix tuning: trained keys and values that every layer attends to.

>>> from adapterlab.adapters import State, adapter
>>> method = adapter("prefix", length=2, reparametrized=False)
>>> state = State({"key": torch.zeros(2, 8), "value": torch.ones(2, 8)})
>>> method.peft_layout([PeftSite("layers.0", state, torch.empty(0))]).shared["prompt_embeddings"].shape
torch.Size([2, 16])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.adapter_types import Attention, Prefix, PrefixAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.model_invariants import AnswersForOwnTokens, ChangesNoParameter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.peft_source import CannotLoadError, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class PrefixTuning(PrefixAdapter):
    """Every layer attends to `[P_K; K]` and `[P_V; V]`: trained keys and values before those of the tokens.

    With `reparametrized`, `[P_K, P_V] = W_out tanh(W_in E + b_in) + b_out` (Li and Liang 2021). All layers share
    `embedding E (length, width)`, `w_in (hidden, width)` and `b_in (hidden,)`; each layer has its own `w_out (2 kv,
    hidden)` and `b_out (2 kv,)`, where `kv` is the width of its keys. Otherwise `key` and `value`, `(length, kv)`, are
    trained directly. The positions of the tokens start after the prefix, as after past tokens.

    At strength `s`, the prefix has `s` times its weight in the softmax, so that strengths from 0 to 1 interpolate
    between the base and the adapted model. Negative strengths are not defined.
    """

    name = "prefix"
    title = "Prefix tuning"
    theme = Theme.BOUNDARY
    claim = "A task is a context for every layer, and no weight has to change."
    paper = "https://arxiv.org/abs/2101.00190"
    size_knob = "length"

    length: int = 10
    """Length of the prefix, in tokens."""
    reparametrized: bool = True
    """True to compute keys and values with a small network while training."""
    hidden: int = 512
    """Hidden width of that network."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        return ChangesNoParameter(), AnswersForOwnTokens()

    @property
    def starts_as_base(self) -> bool:
        return False

    def strength_problem(self, strength: float) -> str | None:
        if strength >= 0:
            return None
        return f"strength {strength:g}: a prefix cannot have a negative weight: give 0 or more"

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        return None if self.length > 0 < self.hidden else "length and hidden must be 1 or more"

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, 1025)

    def init(self, attention: Attention, context: Context) -> State:
        rows, width, hidden = attention.kv_heads * attention.head_dim, attention.width, self.hidden
        if not self.reparametrized:
            return State({"key": context.normal(self.length, rows), "value": context.normal(self.length, rows)})
        # The usual initialization of embeddings and linear layers.
        shared = {
            "embedding": context.share("embedding", lambda: context.normal(self.length, width)),
            "w_in": context.share("w_in", lambda: context.uniform(hidden, width, bound=width**-0.5)),
            "b_in": context.share("b_in", lambda: context.uniform(hidden, bound=width**-0.5)),
        }
        w_out = context.uniform(2 * rows, hidden, bound=hidden**-0.5)
        return State(shared | {"w_out": w_out, "b_out": context.uniform(2 * rows, bound=hidden**-0.5)})

    def prefix(self, state: State, attention: Attention, strength: float = 1.0) -> Prefix:
        return Prefix(*self._key_value(state))

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        rows = torch.cat([tensor for site in sites for tensor in self._key_value(site.state)], dim=1)
        config = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": len(rows)}
        return PeftLayout(config, shared={"prompt_embeddings": rows}, prompt_heads="key-value")

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        rows = site.take_shared("prompt_embeddings")
        width = site.start["key"].shape[1]
        if rows.shape[1] != 2 * site.count * width:
            raise CannotLoadError(
                f"prompt_embeddings has {rows.shape[1]} columns, and the {site.count} layers of this model take "
                f"{2 * site.count * width}"
            )
        key, value = rows[:, 2 * site.index * width :][:, : 2 * width].split(width, 1)
        return {"key": key, "value": value}

    def _key_value(self, state: State) -> tuple[Float[Tensor, "length kv"], Float[Tensor, "length kv"]]:
        if not self.reparametrized:
            return state["key"], state["value"]
        inner: Float[Tensor, "length hidden"] = torch.tanh(affine(state["embedding"], state["w_in"], state["b_in"]))
        key, value = affine(inner, state["w_out"], state["b_out"]).chunk(2, dim=1)
        return key, value
