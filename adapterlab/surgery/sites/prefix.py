"""Keys and values of an adapter's own in the attention of each block.

transformers' decoders look up the function that computes attention by a name in their config. While a prefix is attached
to a layer, its attention reads that name through a `_Config`, which names `_attend` below; that function adds the prefixes
and calls the function that the model's own config names. So every attention implementation (eager, SDPA, flash) works, with
positions already encoded in the queries. The user's key-value cache holds the user's tokens alone, so that gradient
checkpointing, which drops the cache, changes nothing.

>>> from adapterlab.adapters import adapter
>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> shape = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
>>> decoder = Decoder(LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2)))
>>> place = PrefixPlace(adapter("prefix", length=3), decoder, decoder.attentions[0], first=True)
>>> place.shape
(8, 8)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_utils import AttentionInterface

from adapterlab.adapters.adapter_types import Prefix, PrefixAdapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.attention import BlockAttention
from adapterlab.surgery.model.call import Args, Arguments, Kwargs
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.surgery.model.submodules import PREFIX_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names, sites_on

_FUNCTION = "adapterlab"


class PrefixPlace(Place):
    """The attention of one block.

    Args:
        adapter: The method.
        decoder: The decoder.
        attention: The attention.
        first: True for the first adapted block, whose site also moves the positions of the user's tokens.

    Raises:
        AdapterlabError: The attention does not use transformers' attention functions.
    """

    adapter: PrefixAdapter

    def __init__(self, adapter: PrefixAdapter, decoder: Decoder, attention: BlockAttention, first: bool) -> None:
        self.adapter, self.decoder, self.attention, self.first = adapter, decoder, attention, first
        if _source(attention.module) is None or "config" not in vars(attention.module):
            kind = type(attention.module).__name__
            raise AdapterlabError(
                f"{attention.path} ({kind}) does not attend through transformers' attention functions, "
                "so nothing can be put before its keys: take another model, or a prompt before the embeddings"
            )

    @property
    def like(self) -> Tensor:
        return self.attention.keys.module.weight

    @property
    def shape(self) -> tuple[int, int]:
        return self.attention.kv_heads * self.attention.head_dim, self.attention.width

    @property
    def names(self) -> Collection[str]:
        return site_names(self.attention.module, PREFIX_SITES)

    def init(self, context: Context) -> State:
        return self.adapter.init(self.attention, context)

    def install(self, state: State, name: str) -> PrefixSite:
        return PrefixSite(self, state, name)


class PrefixSite(Site):
    """A `PrefixAdapter` on the attention of one block.

    Args:
        place: The attention.
        state: The method's state for it.
        name: Name of the adapter.
    """

    adapter: PrefixAdapter

    def __init__(self, place: PrefixPlace, state: State, name: str) -> None:
        super().__init__(state)
        self.adapter, self.attention = place.adapter, place.attention
        module = place.attention.module
        config = vars(module)["config"]
        if not isinstance(config, _Config):
            vars(module)["config"] = _Config(config, module)
        add_site(module, PREFIX_SITES, name, self)
        self._hooks: list[RemovableHandle] = []
        if place.first:
            self._hooks.append(place.decoder.backbone.register_forward_pre_hook(self._move_positions, with_kwargs=True))

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        module = self.attention.module
        remove_site(module, PREFIX_SITES, self)
        if PREFIX_SITES not in module._modules:
            vars(module)["config"] = vars(module)["config"].own

    def prefix(self) -> Prefix:
        """Return the keys and values at the present strength."""
        return self.adapter.prefix(self.working_state, self.attention, self.strength)

    def heads(self, rows: Float[Tensor, "tokens kv"], like: Tensor) -> Float[Tensor, "batch kv_heads tokens head_dim"]:
        """Return keys or values in the shape in which attention takes them.

        Args:
            rows: Keys or values of all key-value heads side by side.
            like: Keys or values of the call, for batch size and dtype.
        """
        shape = (self.attention.kv_heads, self.attention.head_dim)
        split = torch.unflatten(rows.to(like.dtype), -1, shape).transpose(0, 1)
        return split.expand(like.shape[0], -1, -1, -1)

    def _move_positions(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        """Number the positions of the user's tokens without their padding, from behind a prefix that takes positions."""
        call = Arguments(module, args, kwargs)
        if not self.active or "position_ids" not in call.names:
            return None
        positions, taken = call.positions, self.adapter.length if self.adapter.takes_positions else 0
        if positions is None and not taken:
            return None
        if positions is None:
            positions = torch.arange(call.past, call.past + call.size[1], device=call.device)[None]
        call["position_ids"] = positions + taken
        return call.as_hook_result()


class _Config:
    """An attention's own config, except for the name of the function that computes attention."""

    def __init__(self, own: Any, module: nn.Module) -> None:
        self.own, self.module = own, module

    @property
    def _attn_implementation(self) -> str:
        active = any(True for _ in _active_sites(self.module))
        return _FUNCTION if active else str(self.own._attn_implementation)

    def __getattr__(self, name: str) -> Any:
        own = vars(self).get("own")
        if own is None:  # while a copy is being made
            raise AttributeError(name)
        return getattr(own, name)


def _active_sites(attention: nn.Module) -> Iterator[PrefixSite]:
    for site in sites_on(attention, PREFIX_SITES):
        if isinstance(site, PrefixSite) and site.active:
            yield site


def _source(attention: nn.Module) -> ModuleType | None:
    """Return the Python module of the model's code, in which it looks up the function that computes attention."""
    for cls in type(attention).__mro__:
        source = sys.modules[cls.__module__]
        if cls.__module__.startswith(("torch.", "builtins")):
            return None
        if hasattr(source, "ALL_ATTENTION_FUNCTIONS"):
            return source
    return None


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: object, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Compute attention over the prefixes of `module` and the call's own keys; called by transformers."""
    source, config = _source(module), vars(module)["config"].own
    assert source is not None, "PrefixPlace accepts no such attention"
    function = source.ALL_ATTENTION_FUNCTIONS.get_interface(
        config._attn_implementation, getattr(source, "eager_attention_forward", None)
    )
    prefixes = [(site, site.prefix()) for site in _active_sites(module)]
    all_keys, all_values, all_mask = key, value, mask
    for site, prefix in prefixes:
        if prefix.gate is None:
            before = site.heads(prefix.key, key), site.heads(prefix.value, value)
            all_mask = _widen(all_mask, before[0].shape[2], site.strength, query, all_keys, module)
            all_keys = torch.cat([before[0], all_keys], dim=2)
            all_values = torch.cat([before[1], all_values], dim=2)
    output, weights = function(module, query, all_keys, all_values, all_mask, **options)
    unmasked = options | {"is_causal": False} | ({"sliding_window": None} if "sliding_window" in options else {})
    for site, prefix in prefixes:
        if prefix.gate is not None:
            heads = site.heads(prefix.key, key), site.heads(prefix.value, value)
            extra, _ = function(module, query, *heads, None, **unmasked)
            output = output + prefix.gate.to(output.dtype)[:, None] * extra
    return output, weights


def _widen(mask: object, more: int, strength: float, query: Tensor, key: Tensor, module: nn.Module) -> Tensor | None:
    """Return the mask with `more` columns before it, for keys that every query sees with weight `strength`."""
    implementation = str(vars(module)["config"].own._attn_implementation)
    causal = bool(getattr(module, "is_causal", True))
    if mask is not None and not isinstance(mask, Tensor):
        raise AdapterlabError(
            f"a prefix cannot widen a mask of {type(mask).__name__}: use eager, sdpa or flash attention"
        )
    if "flash" in implementation and (mask is None or mask.ndim == 2):
        if strength != 1:
            raise AdapterlabError("flash attention cannot weight a prefix: keep strength 0 or 1, or use eager or sdpa")
        return mask if mask is None else torch.cat([mask.new_ones(len(mask), more), mask], dim=1)
    if mask is None:
        if strength == 1 and (query.shape[2] == 1 or not causal):
            return None
        mask = _full_mask(query.shape[2], key.shape[2], causal, query.device)
    if mask.dtype == torch.bool and strength == 1 and implementation != "eager":
        return torch.cat([mask.new_ones(*mask.shape[:3], more), mask], dim=3)
    if mask.dtype == torch.bool:
        low = torch.finfo(query.dtype).min
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, low)
    return torch.cat([mask.new_full((*mask.shape[:3], more), math.log(strength)), mask], dim=3)


def _full_mask(queries: int, keys: int, causal: bool, device: torch.device) -> Tensor:
    """Return the mask, `(1, 1, queries, keys)`, that is implied by a call without one."""
    if not causal:
        return torch.ones(1, 1, queries, keys, dtype=torch.bool, device=device)
    # Aligned with the first key, as torch does it: a static cache holds keys that are not filled yet.
    rows = torch.arange(queries, device=device)
    return (rows[:, None] >= torch.arange(keys, device=device))[None, None]


AttentionInterface.register(_FUNCTION, _attend)
