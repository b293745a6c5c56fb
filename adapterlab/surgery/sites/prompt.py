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
from jaxtyping import Int
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
        self._padding: Tensor | None = None
        self._windowed = _attends_to_a_window(place.decoder.config)
        add_site(backbone, PROMPT_SITES, name, self)
        before = backbone.register_forward_pre_hook(self._insert, with_kwargs=True)
        self._hooks = [before, backbone.register_forward_hook(self._cut)]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        remove_site(self._backbone[0], PROMPT_SITES, self)

    def _insert(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        """Insert the prompt into the arguments of a call of the backbone."""
        self._inserted, self._padding = 0, None
        if not self.active:
            return None
        call = Arguments(module, args, kwargs)
        prompt = self.adapter.prompt(self.working_state)
        batch, length = call.size[0], len(prompt)
        positions = call.positions
        self._refuse_small_cache(call, length)
        if call["attention_mask"] is not None:
            mask = _two_dimensional(call["attention_mask"])
            if self._windowed:
                # Between padding and tokens: before the padding, the prompt would be outside the window.
                self._padding = (mask.cumsum(1) == 0).sum(1, keepdim=True)
            call["attention_mask"] = self._ordered(torch.cat([mask.new_ones(batch, length), mask], dim=1), length)
        if positions is not None:
            call["position_ids"] = positions + length
        if call.past == 0:
            self._insert_embeddings(call, prompt, positions)
        return call.as_hook_result()

    def _refuse_small_cache(self, call: Arguments, length: int) -> None:
        room = call.room
        if room is not None and call.past + call.size[1] + (0 if call.past else length) > room:
            raise AdapterlabError(
                f"the static cache has room for {room} positions, and the prompt takes {length} of them: make it larger, or "
                "use the default cache"
            )

    def _insert_embeddings(self, call: Arguments, prompt: Tensor, positions: Tensor | None) -> None:
        batch, length = call.size[0], len(prompt)
        embeddings = call.tensor("inputs_embeds")
        if embeddings is None:
            embeddings = self._embedding[0](call["input_ids"])
        before = prompt.to(embeddings.dtype).expand(batch, -1, -1)
        call["inputs_embeds"] = self._ordered(torch.cat([before, embeddings], dim=1), length)
        call["input_ids"] = None
        if positions is not None:
            own = torch.arange(length, device=positions.device).expand(len(positions), -1)
            call["position_ids"] = self._ordered(torch.cat([own, positions + length], dim=1), length)
        if (segments := call.tensor("token_type_ids")) is not None:
            call["token_type_ids"] = self._ordered(
                torch.cat([segments.new_zeros(batch, length), segments], dim=1), length
            )
        self._inserted = length

    def _ordered(self, both: Tensor, length: int) -> Tensor:
        """Return rows that begin with the prompt, with the padding of each row moved before it."""
        if self._padding is None:
            return both
        at = torch.arange(both.shape[1], device=both.device).expand(len(self._padding), -1)
        behind = torch.where(at < self._padding + length, at - self._padding, at)
        return _gathered(both, 1, torch.where(at < self._padding, at + length, behind))

    def _cut(self, module: nn.Module, args: Args, output: BackboneOutput) -> BackboneOutput:
        """Cut the prompt's positions off what the backbone returns."""
        if not self._inserted:
            return output
        if isinstance(output, tuple):
            return (self._own(output[0], 1), *output[1:])
        output["last_hidden_state"] = self._own(output["last_hidden_state"], 1)
        for key, dimension in (("hidden_states", 1), ("attentions", 2)):
            tensors: tuple[Tensor | None, ...] | None = output.get(key)
            if tensors is not None:
                output[key] = tuple(t if t is None else self._own(t, dimension) for t in tensors)
        return output

    def _own(self, tensor: Tensor, dimension: int) -> Tensor:
        """Return the positions of the user's tokens along a dimension."""
        length = self._inserted
        tokens = tensor.shape[dimension] - length
        if self._padding is None:
            return tensor.narrow(dimension, length, tokens)
        at = torch.arange(tokens, device=tensor.device).expand(len(self._padding), -1)
        return _gathered(tensor, dimension, torch.where(at < self._padding, at, at + length))


def _gathered(tensor: Tensor, dimension: int, index: Int[Tensor, "batch tokens"]) -> Tensor:
    """Return the entries of each sequence at its own places along a dimension; a tensor of one sequence serves all."""
    shape = [1] * tensor.ndim
    shape[0], shape[dimension] = index.shape
    sizes = [len(index), *tensor.shape[1:]]
    expanded = [*sizes[:dimension], index.shape[1], *sizes[dimension + 1 :]]
    return tensor.expand(sizes).gather(dimension, index.view(shape).expand(expanded))


def _attends_to_a_window(config: object) -> bool:
    get = getattr(config, "get_text_config", None)
    return bool(getattr(get() if callable(get) else config, "sliding_window", None))


def _two_dimensional(mask: object) -> Tensor:
    """Return an attention mask that a prompt can be put before; raise an error for any other."""
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask
    found = str(tuple(mask.shape)) if isinstance(mask, Tensor) else type(mask).__name__
    raise AdapterlabError(
        f"a prompt needs an attention mask of two dimensions, (sequences, tokens), not {found}: "
        "leave it out, or generate with the default cache"
    )
