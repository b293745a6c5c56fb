"""The context: vectors before the embeddings of the user's tokens.

They go in where the backbone takes embeddings, and what it makes of them is cut off again where it gives hidden states.
So the head, its logits, `labels`, `logits_to_keep` and a classifier's pooling never see them, and a cache holds them like
other tokens: a call whose cache is not empty has them in it already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapterlab.adapters.adapter_types import PromptAdapter
from adapterlab.adapters.base import Context, State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.decoder import Arguments, Decoder
from adapterlab.surgery.model.submodules import PROMPT_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names


class PromptPlace(Place):
    """The one place before the user's tokens."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    @property
    def like(self) -> Tensor:
        return self.decoder.embedding.weight

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.like.shape
        return rows, columns

    @property
    def names(self) -> Collection[str]:
        return site_names(self.decoder.backbone, PROMPT_SITES)

    def init(self, adapter: PromptAdapter, context: Context) -> State:
        base = self.like.detach()
        return adapter.init(torch.empty_like(base, device="meta") if context.device.type == "meta" else base, context)

    def install(self, adapter: PromptAdapter, state: State, name: str) -> PromptSite:
        return PromptSite(adapter, state, self.decoder, name)


class PromptSite(Site):
    """A `PromptAdapter` on a backbone."""

    def __init__(self, adapter: PromptAdapter, state: State, decoder: Decoder, name: str) -> None:
        super().__init__(state)
        self.adapter = adapter
        self._backbone, self._embedding = (decoder.backbone,), (decoder.embedding,)
        self._inserted = 0
        add_site(decoder.backbone, PROMPT_SITES, name, self)
        before = decoder.backbone.register_forward_pre_hook(self._insert, with_kwargs=True)
        after = decoder.backbone.register_forward_hook(self._cut)
        self._leave: list[Callable[[], None]] = [before.remove, after.remove]

    def remove(self) -> None:
        for leave in self._leave:
            leave()
        remove_site(self._backbone[0], PROMPT_SITES, self)

    def _insert(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self._inserted = 0
        if not self.active:
            return None
        call = Arguments(module, args, kwargs)
        prompt = self.adapter.prompt(self.state)
        batch, length = call.size[0], len(prompt)
        mask, positions, kinds = call["attention_mask"], call["position_ids"], call["token_type_ids"]
        if mask is not None:
            if not isinstance(mask, Tensor) or mask.ndim != 2:
                raise AdapterlabError(
                    f"a prompt needs an attention mask of two dimensions, (sequences, tokens), not {_shape(mask)}: "
                    "leave it out, or generate with the default cache"
                )
            call["attention_mask"] = torch.cat([mask.new_ones(batch, length), mask], dim=1)
        if positions is not None:
            call["position_ids"] = positions + length
        if call.past == 0:
            embeddings = call["inputs_embeds"]
            embeddings = self._embedding[0](call["input_ids"]) if embeddings is None else embeddings
            before = prompt.to(embeddings.dtype).expand(batch, -1, -1)
            call["inputs_embeds"], call["input_ids"] = torch.cat([before, embeddings], dim=1), None
            if positions is not None:
                own = torch.arange(length, device=positions.device).expand(len(positions), -1)
                call["position_ids"] = torch.cat([own, positions + length], dim=1)
            if kinds is not None:
                call["token_type_ids"] = torch.cat([kinds.new_zeros(batch, length), kinds], dim=1)
            self._inserted = length
        return call.call()

    def _cut(self, module: nn.Module, args: Any, output: Any) -> Any:
        own = self._inserted
        if not own:
            return output
        if isinstance(output, tuple):
            return (output[0][:, own:], *output[1:])
        output.last_hidden_state = output.last_hidden_state[:, own:]
        for key, dimension in (("hidden_states", 1), ("attentions", 2)):
            if output.get(key) is not None:
                output[key] = tuple(
                    t if t is None else t.narrow(dimension, own, t.shape[dimension] - own)
                    for t in cast("tuple[Tensor | None, ...]", output[key])
                )
        return output


def _shape(mask: Any) -> str:
    return str(tuple(mask.shape)) if isinstance(mask, Tensor) else type(mask).__name__
