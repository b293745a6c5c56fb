"""Linear layers whose change is mixed in every call by one router for the whole model.

The router is attached to the backbone and computes the routing weights before the blocks run; the site on each layer
reads its own.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery.sites.find import places_for
>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> shape = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
>>> model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2))
>>> list(places_for(model, adapter("poly"), "query")), is_routed(model)
(['router', 'model.layers.0.self_attn.q_proj'], False)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from adapterlab.adapters.adapter_types import RoutedAdapter, Signal
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.call import Args, Arguments, Kwargs
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.surgery.model.linear_layers import LinearLayer
from adapterlab.surgery.model.submodules import ROUTER_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names
from adapterlab.surgery.sites.linear import LayerPlace
from adapterlab.surgery.sites.stack import StackEntry, in_state_dtype, push


def is_routed(model: nn.Module) -> bool:
    """Return True if a router is attached to the model, so that a call may contain `task_ids`.

    Args:
        model: A model.
    """
    return any(isinstance(module, RouterSite) for module in model.modules())


class Shares:
    """Routing weights of the current call, shared by all sites of an adapter.

    Args:
        layers: Number of routed layers.
    """

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.current: Tensor | None = None
        """Output of the router, `(layers, batch, ...)`; None before the first call."""
        self.size = (0, 0)
        """Number of sequences in the current call, and of tokens in each."""
        self.disabled = False
        """True while the base model runs without the adapter."""

    def __deepcopy__(self, memo: dict[int, object]) -> Shares:
        return Shares(self.layers)  # routing weights belong to a call of the original model

    @contextmanager
    def disable(self) -> Iterator[None]:
        """Yield with the adapter disabled in all routed layers."""
        self.disabled = True
        try:
            yield
        finally:
            self.disabled = False

    @contextmanager
    def use(self, weights: Tensor | None) -> Iterator[None]:
        """Yield with other routing weights as the current ones.

        Args:
            weights: Routing weights of another call.
        """
        before, self.current = self.current, weights
        try:
            yield
        finally:
            self.current = before


class RoutedPlace(LayerPlace):
    """A linear layer of a routed adapter.

    Args:
        adapter: The method.
        path: Path of the layer in the model.
        layer: The layer.
        shares: The routing weights, one object for all layers.
        index: Index of the layer among the routed ones.
    """

    adapter: RoutedAdapter

    def __init__(self, adapter: RoutedAdapter, path: str, layer: LinearLayer, shares: Shares, index: int) -> None:
        super().__init__(path, layer)
        self.adapter, self.shares, self.index = adapter, shares, index

    def init(self, context: Context) -> State:
        return self.adapter.init(self.weight(self.adapter.name, context), context)

    def install(self, state: State, name: str) -> RoutedSite:
        site = RoutedSite(self, state)
        push(self.layer, name, site)
        return site


class RoutedSite(StackEntry, Site):
    """A `RoutedAdapter` on one linear layer.

    Args:
        place: The layer.
        state: The method's state for it.
    """

    adapter: RoutedAdapter

    def __init__(self, place: RoutedPlace, state: State) -> None:
        super().__init__(state)
        self.adapter, self.shares, self.index, self.path = place.adapter, place.shares, place.index, place.path

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight below, since a mixture has no weight of its own."""
        return self.below.weight

    @property
    def bias(self) -> Tensor | None:
        return self.below.bias

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        below, shares = self.below, self.shares
        if not self.active or shares.disabled:
            return below(x)
        if shares.current is None:
            raise AdapterlabError(f"{self.path} was called outside a call of the model, so nothing was routed to it")
        batch, tokens = shares.size
        if x.ndim != 3 and x.shape[:-1] != (batch * tokens,):
            raise AdapterlabError(f"{self.path} sees {tuple(x.shape)}, not every token of the call: take other targets")
        own = shares.current[min(self.index, len(shares.current) - 1)].to(x.device)
        each = x.reshape(batch, -1, x.shape[-1])
        output = in_state_dtype(
            x, self.dtype, lambda: self.adapter.forward(self.working_state, each, below, own, self.strength)
        )
        return output.reshape(*x.shape[:-1], -1)


class RouterPlace(Place):
    """The place of the router, on the backbone; a model has one.

    Args:
        adapter: The method.
        decoder: The decoder.
        shares: The routing weights, one object for all layers.
    """

    adapter: RoutedAdapter

    def __init__(self, adapter: RoutedAdapter, decoder: Decoder, shares: Shares) -> None:
        self.adapter, self.decoder, self.shares = adapter, decoder, shares

    @property
    def like(self) -> Tensor:
        return self.decoder.embedding.weight

    @property
    def names(self) -> Collection[str]:
        return site_names(self.decoder.backbone, ROUTER_SITES)

    def init(self, context: Context) -> State:
        return self.adapter.init_router(self.decoder.width, context)

    def install(self, state: State, name: str) -> RouterSite:
        return RouterSite(self, state, name)


class RouterSite(Site):
    """The router of a `RoutedAdapter`.

    The task of each sequence comes from `task_ids`, `(batch,)`, an extra argument of the model's call. Without it every
    sequence has the site's own `task`.

    Args:
        place: The place of the router.
        state: The router's state.
        name: Name of the adapter.
    """

    adapter: RoutedAdapter

    def __init__(self, place: RouterPlace, state: State, name: str) -> None:
        super().__init__(state)
        self.adapter, self.shares, self.task = place.adapter, place.shares, 0
        root, backbone = place.decoder.model, place.decoder.backbone
        # In tuples, since `nn.Module` would register these modules as submodules.
        self._backbone = (backbone,)
        self._blocks = tuple(m for m in backbone.modules() if isinstance(m, GradientCheckpointingLayer))
        self._task_ids: object = None
        # The key-value cache of the router's own pass, for each cache of the user's.
        self._caches: WeakKeyDictionary[Cache, DynamicCache] = WeakKeyDictionary()
        self._hooks = [backbone.register_forward_pre_hook(self._route, with_kwargs=True)]
        if root is not backbone:
            self._hooks.append(root.register_forward_pre_hook(self._take_task_ids, with_kwargs=True))
        add_site(backbone, ROUTER_SITES, name, self)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for block in self._blocks:
            if isinstance(own := vars(block).get(_CHECKPOINT), _CheckpointWithShares):
                vars(block)[_CHECKPOINT] = own.own
        remove_site(self._backbone[0], ROUTER_SITES, self)

    def _take_task_ids(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        self._task_ids = kwargs.pop("task_ids", None)
        return args, kwargs

    def _route(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        task_ids = kwargs.pop("task_ids", None)
        task_ids, self._task_ids = (self._task_ids if task_ids is None else task_ids), None
        if not self.active:
            return args, kwargs
        call = Arguments(module, args, kwargs)
        tasks = self._checked(torch.full((call.size[0],), self.task) if task_ids is None else task_ids, call.size[0])
        hidden = self._base_hidden(module, call) if self.adapter.reads_hidden else None
        self.shares.size = call.size
        signal = Signal(tasks.to(call.device), hidden, module.training)
        self.shares.current = self.adapter.route(self.working_state, signal, self.shares.layers)
        for block in self._blocks:
            own = vars(block).get(_CHECKPOINT)
            if own is not None and not isinstance(own, _CheckpointWithShares):
                vars(block)[_CHECKPOINT] = _CheckpointWithShares(own, self.shares)
        return args, kwargs

    def _checked(self, tasks: object, batch: int) -> Tensor:
        """Return the task of each sequence, or raise an error; values on an accelerator are not waited for."""
        known = self.adapter.known_tasks
        if not isinstance(tasks, Tensor) or tasks.shape != (batch,) or tasks.is_floating_point():
            found = f"{tuple(tasks.shape)} {tasks.dtype}" if isinstance(tasks, Tensor) else repr(tasks)
            raise AdapterlabError(f"task_ids must be {batch} whole numbers, one for each sequence, not {found}")
        if known is not None and torch.compiler.is_compiling():
            # Reading the values would break the graph; this fails when the graph runs.
            in_range = ((tasks >= 0) & (tasks < known)).all()
            torch._assert_async(in_range, f"task_ids: {self.adapter.name} has {known} tasks, 0 to {known - 1}")
        elif known is not None and tasks.device.type == "cpu":
            wrong = sorted({task for task in tasks.tolist() if not 0 <= task < known})
            if wrong:
                raise AdapterlabError(
                    f"task_ids {wrong}: {self.adapter.name} has {known} tasks, 0 to {known - 1}: make it for more"
                )
        return tasks.long()

    def _base_hidden(self, module: nn.Module, call: Arguments) -> Float[Tensor, "batch tokens width"]:
        """Return the last hidden state without the adapter, from a pass of its own with a cache of its own."""
        options = dict(call.values) | {"return_dict": True}
        cache = options.get("past_key_values")
        if call.room is not None:
            raise AdapterlabError(f"{self.adapter.name} cannot use a static cache: generate with the default cache")
        if cache is not None:
            own = self._own_cache(cache)
            if own.get_seq_length() != call.past:
                raise AdapterlabError(
                    f"the cache holds {call.past} positions that the router never saw: generate with use_cache=False"
                )
            options["past_key_values"] = own
        else:
            options["use_cache"] = False
        with self.shares.disable(), torch.no_grad():
            hidden: Tensor = module.forward(**options).last_hidden_state
        return hidden.to(self.dtype)

    def _own_cache(self, cache: Cache) -> DynamicCache:
        """Return the cache of the router's pass that belongs to a cache of the user's, and is reordered with it."""
        if cache not in self._caches:
            own, reorder = DynamicCache(), cache.reorder_cache

            def reorder_both(beams: Any) -> None:  # declared as int64 by transformers, and given as int32
                reorder(beams)
                own.reorder_cache(beams)

            self._caches[cache] = own
            vars(cache)["reorder_cache"] = reorder_both
        return self._caches[cache]


_CHECKPOINT = "_gradient_checkpointing_func"


class _CheckpointWithShares:
    """A block's checkpointing function that reruns the block with the routing weights of the call it belongs to."""

    def __init__(self, own: Callable[..., Any], shares: Shares) -> None:
        self.own, self.shares = own, shares

    def __call__(self, block: Callable[..., Any], *args: Any) -> Any:
        def rerun(weights: Tensor | None, *args: Any) -> Any:
            with self.shares.use(weights):
                return block(*args)

        # As an argument: reentrant checkpointing follows gradients to its arguments alone.
        return self.own(rerun, self.shares.current, *args)
