"""Keys and values of an adapter's own, in the attention of each block.

transformers' decoders look up the function that attends by a name in their config. While a prefix stands on a layer, its
attention reads that name through a `_Config`, which names `_attend` below; that function adds the prefixes and calls the
one that was meant. So every kind of attention (eager, SDPA, flash) works, with queries that have their positions in them,
and the user's cache holds the user's tokens alone: gradient checkpointing, which drops the cache, changes nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface

from adapterlab.adapters.adapter_types import Prefix, PrefixAdapter
from adapterlab.adapters.base import Context, State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.decoder import Arguments, BlockAttention, Decoder
from adapterlab.surgery.model.submodules import PREFIX_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names, sites_on

_FUNCTION = "adapterlab"


class PrefixPlace(Place):
    """The attention of one block."""

    def __init__(self, decoder: Decoder, attention: BlockAttention, first: bool) -> None:
        self.decoder, self.attention, self.first = decoder, attention, first
        source = _source(attention.module)
        if source is None or not hasattr(attention.module, "config"):
            kind = type(attention.module).__name__
            raise AdapterlabError(
                f"{attention.path} ({kind}) does not attend through transformers' attention functions, "
                "so nothing can be put before its keys: take another model, or a prompt before the embeddings"
            )

    @property
    def like(self) -> Tensor:
        return cast(Tensor, self.attention.keys.module.weight)

    @property
    def shape(self) -> tuple[int, int]:
        return self.attention.kv_heads * self.attention.head_dim, self.attention.width

    @property
    def names(self) -> Collection[str]:
        return site_names(self.attention.module, PREFIX_SITES)

    def init(self, adapter: PrefixAdapter, context: Context) -> State:
        return adapter.init(self.attention, context)

    def install(self, adapter: PrefixAdapter, state: State, name: str) -> PrefixSite:
        return PrefixSite(adapter, state, self, name)


class PrefixSite(Site):
    """A `PrefixAdapter` on the attention of one block."""

    def __init__(self, adapter: PrefixAdapter, state: State, place: PrefixPlace, name: str) -> None:
        super().__init__(state)
        self.adapter = adapter
        self._attention = (place.attention,)
        module = place.attention.module
        if not isinstance(module.config, _Config):
            cast(Any, module).config = _Config(module.config, module)
        add_site(module, PREFIX_SITES, name, self)
        self._leave: list[Callable[[], None]] = []
        if place.first and adapter.takes_positions:
            backbone = place.decoder.backbone
            self._leave.append(backbone.register_forward_pre_hook(self._move_positions, with_kwargs=True).remove)

    def remove(self) -> None:
        for leave in self._leave:
            leave()
        module = self._attention[0].module
        remove_site(module, PREFIX_SITES, self)
        if PREFIX_SITES not in module._modules:
            module.config = vars(module.config)["own"]

    def prefix(self) -> Prefix:
        """The keys and values, at the present strength."""
        return self.adapter.prefix(self.state, self._attention[0], self.strength)

    def heads(self, rows: Tensor, like: Tensor) -> Tensor:
        """`(tokens, kv)` as `(batch, kv heads, tokens, width of a head)`, for the batch of `like`."""
        attention = self._attention[0]
        split = rows.to(like.dtype).unflatten(-1, (attention.kv_heads, attention.head_dim)).transpose(0, 1)
        return split.expand(like.shape[0], -1, -1, -1)

    def _move_positions(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = Arguments(module, args, kwargs)
        if not self.active or "position_ids" not in call.known:
            return None
        if call["position_ids"] is None:
            call["position_ids"] = torch.arange(call.past, call.past + call.size[1], device=call.device)[None]
        call["position_ids"] = call["position_ids"] + self.adapter.length
        return call.call()


class _Config:
    """An attention's own config, but for the name of the function that attends."""

    def __init__(self, own: Any, module: nn.Module) -> None:
        self.own, self.module = own, module

    @property
    def _attn_implementation(self) -> str:
        active = any(site.active for site in sites_on(self.module, PREFIX_SITES))
        return _FUNCTION if active else cast(str, self.own._attn_implementation)

    def __getattr__(self, name: str) -> Any:
        own = vars(self).get("own")
        if own is None:  # while a copy is being made
            raise AttributeError(name)
        return getattr(own, name)


def _source(attention: nn.Module) -> Any:
    """The file of the model's own code: where it looks up the function that attends."""
    for cls in type(attention).__mro__:
        source = sys.modules[cls.__module__]
        if cls.__module__.startswith(("torch.", "builtins")):
            return None
        if hasattr(source, "ALL_ATTENTION_FUNCTIONS"):
            return source
    return None


def _attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
    """Attention over the prefixes of `module` and then over what it would attend to; as transformers calls it."""
    source, own = _source(module), vars(module.config)["own"]
    function = source.ALL_ATTENTION_FUNCTIONS.get_interface(
        own._attn_implementation, getattr(source, "eager_attention_forward", None)
    )
    sites: list[PrefixSite] = [site for site in sites_on(module, PREFIX_SITES) if site.active]
    prefixes = [(site, site.prefix()) for site in sites]
    shown_key, shown_value, shown_mask = key, value, mask
    for site, prefix in prefixes:
        if prefix.gate is None:
            before = site.heads(prefix.key, key), site.heads(prefix.value, value)
            shown_mask = _widen(shown_mask, before[0].shape[2], site.strength, query, shown_key, module, own)
            shown_key = torch.cat([before[0], shown_key], dim=2)
            shown_value = torch.cat([before[1], shown_value], dim=2)
    answer, weights = function(module, query, shown_key, shown_value, shown_mask, **options)
    free = options | {"is_causal": False} | ({"sliding_window": None} if "sliding_window" in options else {})
    for site, prefix in prefixes:
        if prefix.gate is not None:
            heads = site.heads(prefix.key, key), site.heads(prefix.value, value)
            extra, _ = function(module, query, *heads, None, **free)
            answer = answer + prefix.gate.to(answer.dtype)[:, None] * extra
    return answer, weights


def _widen(mask: Any, more: int, strength: float, query: Tensor, key: Tensor, module: nn.Module, config: Any) -> Any:
    """The mask with `more` columns before it that all may see, each counting `strength` times in the softmax."""
    tokens, seen = query.shape[2], key.shape[2]
    if mask is not None and not isinstance(mask, Tensor):
        raise AdapterlabError(
            f"a prefix cannot widen a mask of {type(mask).__name__}: use eager, sdpa or flash attention"
        )
    if "flash" in str(config._attn_implementation) and (mask is None or mask.ndim == 2):
        if strength != 1:
            raise AdapterlabError("flash attention cannot weigh a prefix: keep strength 0 or 1, or use eager or sdpa")
        return mask if mask is None else torch.cat([mask.new_ones(len(mask), more), mask], dim=1)
    if mask is None:
        if strength == 1 and (tokens == 1 or not getattr(module, "is_causal", True)):
            return None
        rows = torch.arange(seen - tokens, seen, device=query.device)
        mask = (rows[:, None] >= torch.arange(seen, device=query.device))[None, None]
        if not getattr(module, "is_causal", True):
            mask = torch.ones_like(mask)
    if mask.dtype == torch.bool and strength == 1 and config._attn_implementation != "eager":
        return torch.cat([mask.new_ones(*mask.shape[:3], more), mask], dim=3)
    if mask.dtype == torch.bool:
        low = torch.finfo(query.dtype).min
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, low)
    return torch.cat([mask.new_full((*mask.shape[:3], more), math.log(strength)), mask], dim=3)


AttentionInterface.register(_FUNCTION, _attend)
