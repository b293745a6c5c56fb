"""Linear layers whose change is mixed anew in every call, by one router for the whole model.

The router stands on the backbone and works out the shares before the blocks run; each layer's site reads its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from adapterlab.adapters.adapter_types import RoutedAdapter, Signal
from adapterlab.adapters.base import Context, Linear, State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.decoder import Arguments, Decoder
from adapterlab.surgery.model.submodules import ROUTER_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names
from adapterlab.surgery.sites.linear import LinearPlace, LinearStack, in_state_dtype, push


def is_routed(model: nn.Module) -> bool:
    """Whether a router stands on the model, so that a call may bring `task_ids`."""
    return any(isinstance(module, RouterSite) for module in model.modules())


class Shares:
    """What the router gave in the present call: one for all sites of an adapter."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.given: Tensor | None = None
        self.size = (0, 0)
        self.waived = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Shares:
        return Shares(self.layers)  # what was given belongs to a call of the other model

    @contextmanager
    def waive(self) -> Iterator[None]:
        """The base answers within this block."""
        self.waived = True
        try:
            yield
        finally:
            self.waived = False

    @contextmanager
    def giving(self, given: Tensor | None) -> Iterator[None]:
        """These shares count within this block."""
        before, self.given = self.given, given
        try:
            yield
        finally:
            self.given = before


class RoutedPlace(LinearPlace):
    """A linear layer of a routed adapter."""

    def __init__(self, path: str, module: nn.Module, shares: Shares, layer: int) -> None:
        super().__init__(path, module)
        self.shares, self.layer = shares, layer

    def init(self, adapter: Any, context: Context) -> State:
        return cast(State, adapter.init(self.weight(adapter, context), context))

    def install(self, adapter: Any, state: State, name: str) -> Any:
        site = RoutedSite(adapter, state, self)
        push(self.module, name, site)
        return site


class RoutedSite(Site):
    """A `RoutedAdapter` on one linear layer; itself a `Linear`, so another can stand on it."""

    def __init__(self, adapter: RoutedAdapter, state: State, place: RoutedPlace) -> None:
        super().__init__(state)
        self.adapter, self.shares, self.layer, self.path = adapter, place.shares, place.layer, place.path
        self._below: tuple[Linear, ...] = ()
        self._stack: tuple[LinearStack, ...] = ()

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight beneath, since the mixture has none."""
        return self._below[0].weight

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return self._below[0].bias

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """The adapted layer's answer."""
        below, shares = self._below[0], self.shares
        if not self.active or shares.waived:
            return below(x)
        if shares.given is None:
            raise AdapterlabError(f"{self.path} was called outside a call of the model, so nothing was routed to it")
        batch, tokens = shares.size
        if x.ndim != 3 and x.shape[:-1] != (batch * tokens,):
            raise AdapterlabError(f"{self.path} sees {tuple(x.shape)}, not every token of the call: take other targets")
        own = shares.given[min(self.layer, len(shares.given) - 1)].to(x.device)
        each = x.reshape(batch, -1, x.shape[-1])
        answer = in_state_dtype(
            x, self.dtype, lambda: self.adapter.forward(self.state, each, below, own, self.strength)
        )
        return answer.reshape(*x.shape[:-1], -1)

    def neighbours(self, side: Any) -> Sequence[nn.Module]:
        return self._stack[0].neighbours(self, side)

    def remove(self) -> None:
        self._stack[0].remove(self)


class RouterPlace(Place):
    """The one router, on the backbone."""

    def __init__(self, decoder: Decoder, shares: Shares) -> None:
        self.decoder, self.shares = decoder, shares

    @property
    def like(self) -> Tensor:
        return self.decoder.embedding.weight

    @property
    def names(self) -> Collection[str]:
        return site_names(self.decoder.backbone, ROUTER_SITES)

    def init(self, adapter: RoutedAdapter, context: Context) -> State:
        return adapter.init_router(self.decoder.width, context)

    def install(self, adapter: RoutedAdapter, state: State, name: str) -> RouterSite:
        return RouterSite(adapter, state, self, name)


class RouterSite(Site):
    """The router of a `RoutedAdapter`.

    The task of a sequence is the `task_ids` that a call of the model may bring, `(batch,)`, else the site's own `task`.
    """

    def __init__(self, adapter: RoutedAdapter, state: State, place: RouterPlace, name: str) -> None:
        super().__init__(state)
        self.adapter, self.shares, self.task = adapter, place.shares, 0
        self._backbone = (place.decoder.backbone,)
        self._tasks: Tensor | None = None
        # The cache of the router's own pass, beside each cache of the user's.
        self._caches: WeakKeyDictionary[Any, DynamicCache] = WeakKeyDictionary()
        root, backbone = place.decoder.model, place.decoder.backbone
        hooks = [backbone.register_forward_pre_hook(self._route, with_kwargs=True)]
        if root is not backbone:
            hooks.append(root.register_forward_pre_hook(self._see_tasks, with_kwargs=True))
        add_site(backbone, ROUTER_SITES, name, self)
        self._blocks = tuple(m for m in backbone.modules() if isinstance(m, GradientCheckpointingLayer))
        self._leave: list[Callable[[], None]] = [hook.remove for hook in hooks]

    def remove(self) -> None:
        for leave in self._leave:
            leave()
        for block in self._blocks:
            if isinstance(own := vars(block).get("_gradient_checkpointing_func"), _Replayed):
                cast(Any, block)._gradient_checkpointing_func = own.own
        remove_site(self._backbone[0], ROUTER_SITES, self)

    def _see_tasks(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self._tasks = kwargs.pop("task_ids", None)
        return args, kwargs

    def _route(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        tasks = kwargs.pop("task_ids", None)
        tasks, self._tasks = (self._tasks if tasks is None else tasks), None
        if not self.active:
            return args, kwargs
        call = Arguments(module, args, kwargs)
        tasks = self._known(torch.full((call.size[0],), self.task) if tasks is None else tasks, call.size[0])
        hidden = self._base_answer(module, call) if self.adapter.reads_hidden else None
        self.shares.size = call.size
        signal = Signal(tasks.to(call.device), hidden, module.training)
        self.shares.given = self.adapter.route(self.state, signal, self.shares.layers)
        for block in self._blocks:
            own = vars(block).get("_gradient_checkpointing_func")
            if own is not None and not isinstance(own, _Replayed):
                cast(Any, block)._gradient_checkpointing_func = _Replayed(own, self.shares)
        return args, kwargs

    def _known(self, tasks: Any, batch: int) -> Tensor:
        """The tasks of the call's sequences, if they are tasks; what lies on an accelerator is not waited for."""
        known = self.adapter.known_tasks
        if not isinstance(tasks, Tensor) or tasks.shape != (batch,) or tasks.is_floating_point():
            found = f"{tuple(tasks.shape)} {tasks.dtype}" if isinstance(tasks, Tensor) else repr(tasks)
            raise AdapterlabError(f"task_ids must be {batch} whole numbers, one for each sequence, not {found}")
        if known is not None and tasks.device.type == "cpu":
            wrong = sorted({task for task in tasks.tolist() if not 0 <= task < known})
            if wrong:
                raise AdapterlabError(
                    f"task_ids {wrong}: {self.adapter.name} has {known} tasks, 0 to {known - 1}: make it for more"
                )
        return tasks.long()

    def _base_answer(self, module: nn.Module, call: Arguments) -> Tensor:
        """The last hidden state without the adapter, from a pass of its own with a cache of its own."""
        options = dict(call.values) | {"return_dict": True}
        cache = options.get("past_key_values")
        if cache is not None:
            own = self._cache_beside(cache)
            if own.get_seq_length() != call.past:
                raise AdapterlabError(
                    f"the cache holds {call.past} positions that the router never saw: generate with use_cache=False"
                )
            options["past_key_values"] = own
        else:
            options["use_cache"] = False
        with self.shares.waive(), torch.no_grad():
            answer = module.forward(**options)
        return cast(Tensor, answer.last_hidden_state.to(self.dtype))

    def _cache_beside(self, cache: Any) -> DynamicCache:
        if cache not in self._caches:
            own, reorder = DynamicCache(), cache.reorder_cache

            def reorder_both(beams: Tensor) -> None:
                reorder(beams)
                own.reorder_cache(cast(Any, beams))

            self._caches[cache], cache.reorder_cache = own, reorder_both
        return self._caches[cache]


class _Replayed:
    """A block's checkpointing that runs the block again with the shares of the call that it is run again for."""

    def __init__(self, own: Callable[..., Any], shares: Shares) -> None:
        self.own, self.shares = own, shares

    def __call__(self, block: Callable[..., Any], *args: Any) -> Any:
        given = self.shares.given

        def again(*args: Any) -> Any:
            with self.shares.giving(given):
                return block(*args)

        return self.own(again, *args)
