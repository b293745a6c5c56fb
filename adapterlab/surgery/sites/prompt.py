"""Vectors before the embeddings of the user's tokens.

They are inserted where the backbone takes embeddings, and cut off where it returns hidden states. So the head, its logits,
`labels`, `logits_to_keep` and a classifier's pooling never see them. A key-value cache holds them like other tokens: a
call whose cache is not empty has them in it already.

>>> from adapterlab.adapters import adapter
>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> shape = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
>>> model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2))
>>> place = PromptPlace(adapter("prompt"), Decoder(model))
>>> site = place.install(State({"prompt": torch.zeros(3, 8)}), "default")
>>> model(torch.ones(1, 5, dtype=torch.long)).logits.shape
torch.Size([1, 5, 32])
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from adapterlab.adapters.adapter_types import PromptAdapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.call import Args, Arguments, Kwargs
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.surgery.model.submodules import PROMPT_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, readable, remove_site, site_names

BackboneOutput: TypeAlias = ModelOutput | tuple[Any, ...]
"""Output of a backbone: by name, or a tuple that starts with the last hidden state."""


class PromptPlace(Place):
    """The place before the user's tokens; a model has one.

    Args:
        adapter: The method.
        decoder: The decoder.
    """

    adapter: PromptAdapter

    def __init__(self, adapter: PromptAdapter, decoder: Decoder) -> None:
        self.adapter, self.decoder = adapter, decoder

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

    def init(self, context: Context) -> State:
        return self.adapter.init(readable(self.like, context), context)

    def install(self, state: State, name: str) -> PromptSite:
        return PromptSite(self, state, name)


class PromptSite(Site):
    """A `PromptAdapter` on a backbone.

    Args:
        place: The place before the user's tokens.
        state: The method's state.
        name: Name of the adapter.
    """

    adapter: PromptAdapter

    def __init__(self, place: PromptPlace, state: State, name: str) -> None:
        super().__init__(state)
        self.adapter = place.adapter
        backbone = place.decoder.backbone
        # In tuples, since `nn.Module` would register these modules as submodules.
        self._backbone, self._embedding = (backbone,), (place.decoder.embedding,)
        self._inserted = 0
        add_site(backbone, PROMPT_SITES, name, self)
        before = backbone.register_forward_pre_hook(self._insert, with_kwargs=True)
        self._hooks = [before, backbone.register_forward_hook(self._cut)]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        remove_site(self._backbone[0], PROMPT_SITES, self)

    def _insert(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        """Insert the prompt into the arguments of a call of the backbone."""
        self._inserted = 0
        if not self.active:
            return None
        call = Arguments(module, args, kwargs)
        prompt = self.adapter.prompt(self.state)
        batch, length = call.size[0], len(prompt)
        positions = call.positions
        if call["attention_mask"] is not None:
            mask = _two_dimensional(call["attention_mask"])
            call["attention_mask"] = torch.cat([mask.new_ones(batch, length), mask], dim=1)
        if positions is not None:
            call["position_ids"] = positions + length
        if call.past == 0:
            self._insert_embeddings(call, prompt, positions)
        return call.as_hook_result()

    def _insert_embeddings(self, call: Arguments, prompt: Tensor, positions: Tensor | None) -> None:
        batch, length = call.size[0], len(prompt)
        embeddings = call.tensor("inputs_embeds")
        if embeddings is None:
            embeddings = self._embedding[0](call["input_ids"])
        before = prompt.to(embeddings.dtype).expand(batch, -1, -1)
        call["inputs_embeds"], call["input_ids"] = torch.cat([before, embeddings], dim=1), None
        if positions is not None:
            own = torch.arange(length, device=positions.device).expand(len(positions), -1)
            call["position_ids"] = torch.cat([own, positions + length], dim=1)
        if (segments := call.tensor("token_type_ids")) is not None:
            call["token_type_ids"] = torch.cat([segments.new_zeros(batch, length), segments], dim=1)
        self._inserted = length

    def _cut(self, module: nn.Module, args: Args, output: BackboneOutput) -> BackboneOutput:
        """Cut the prompt's positions off what the backbone returns."""
        own = self._inserted
        if not own:
            return output
        if isinstance(output, tuple):
            return (output[0][:, own:], *output[1:])
        output["last_hidden_state"] = _behind(output["last_hidden_state"], 1, own)
        for key, dimension in (("hidden_states", 1), ("attentions", 2)):
            tensors: tuple[Tensor | None, ...] | None = output.get(key)
            if tensors is not None:
                output[key] = tuple(t if t is None else _behind(t, dimension, own) for t in tensors)
        return output


def _behind(tensor: Tensor, dimension: int, start: int) -> Tensor:
    return tensor.narrow(dimension, start, tensor.shape[dimension] - start)


def _two_dimensional(mask: object) -> Tensor:
    """Return an attention mask that a prompt can be put before; raise an error for any other."""
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask
    found = str(tuple(mask.shape)) if isinstance(mask, Tensor) else type(mask).__name__
    raise AdapterlabError(
        f"a prompt needs an attention mask of two dimensions, (sequences, tokens), not {found}: "
        "leave it out, or generate with the default cache"
    )
