"""The interface that all kinds of sites share: a place that can be adapted, and the module that adapts it.

A `Place` describes a part of a model before anything is changed. A `Site` is the module that is attached there; it holds
one adapter's state and calls the adapter's pure functions. The model's own modules keep their classes, names and base
weights. Each kind of site has a file of its own beside this one.

>>> from adapterlab.surgery.model.submodules import RESIDUAL_SITES
>>> block = nn.Identity()
>>> add_site(block, RESIDUAL_SITES, "default", nn.Identity())
>>> site_names(block, RESIDUAL_SITES)
['default']
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.context import Context, Role
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.sharded import gathered

Side: TypeAlias = Literal["below", "above"]
"""Direction in a stack of sites: attached before, or after."""


class Place(ABC):
    """A part of a model that an adapter can be attached to; nothing is changed before `install`."""

    adapter: Adapter
    """The method, with its settings at this place."""
    role: Role = Role.OTHER
    """Role of the adapted layer in its block."""

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """A tensor of the base at this place, for its device and dtype."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """`(out, in)` of the adapted map, or None if the place has no such shape."""
        return None

    @property
    @abstractmethod
    def names(self) -> Collection[str]:
        """Names of the adapters that are already attached here."""

    @abstractmethod
    def init(self, context: Context) -> State:
        """Return the adapter's initial state at this place.

        Args:
            context: Device, dtype and random numbers; on the meta device the state has shapes and no values.
        """

    @abstractmethod
    def install(self, state: State, name: str) -> Site:
        """Attach a site here.

        Args:
            state: The adapter's state at this place.
            name: Name of the adapter, unique at this place.

        Returns:
            The site, which is then part of the model.
        """


class Site(nn.Module, ABC):
    """One adapter's state at one place: `trainable` as parameters, the rest as buffers, under the state's own names.

    Args:
        state: The adapter's state; a trainable tensor that already is an `nn.Parameter` is shared, not copied.
    """

    adapter: Adapter
    """The method, with its settings at this place."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for name, tensor in state.trainable.items():
            self.register_parameter(name, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))
        for name, tensor in state.frozen.items():
            self.register_buffer(name, tensor)
        for name, tensor in state.derived.items():
            self.register_buffer(name, tensor, persistent=False)
        self._derived = frozenset(state.derived)
        self._shared: dict[str, tuple[nn.Module, str]] = {}
        self._order = list(state.trainable)
        self.strength, self.enabled, self.merged = 1.0, True, False

    @property
    def state(self) -> State:
        """The state as the adapter's functions take it."""
        parameters, buffers = self._trainable, cast(dict[str, Tensor], self._buffers)
        if not self._derived:
            return State(parameters, buffers)
        frozen = {name: t for name, t in buffers.items() if name not in self._derived}
        return State(parameters, frozen, {name: buffers[name] for name in self._derived})

    @property
    def _trainable(self) -> dict[str, Tensor]:
        parameters = cast(dict[str, Tensor], self._parameters)
        if not self._shared:
            return parameters
        held = {name: cast(Tensor, owner._parameters[key]) for name, (owner, key) in self._shared.items()}
        return {name: held[name] if name in held else parameters[name] for name in self._order}

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, with those that the site shares with others, which `parameters` leaves out."""
        return cast(dict[str, nn.Parameter], dict(self._trainable))

    def __getattr__(self, name: str) -> Any:
        if name in (shared := self.__dict__.get("_shared", ())):
            owner, key = shared[name]
            return owner._parameters[key]
        return super().__getattr__(name)

    def share(self, name: str, owner: nn.Module, key: str) -> None:
        """Move a parameter that several sites share to another module.

        Args:
            name: Name of the parameter in the site's state.
            owner: The module.
            key: Name of the parameter in it.
        """
        del self._parameters[name]
        self._shared[name] = owner, key

    def owner_of(self, name: str) -> tuple[nn.Module, str]:
        """Return the module that holds a tensor of the state, and the tensor's name in it.

        Args:
            name: Name of the tensor in the state.
        """
        return self._shared.get(name, (self, name))

    @property
    def working_state(self) -> State:
        """The state to compute with: all numbers in its widest dtype, at least float32.

        States are made so. A model that is cast to half precision casts them too, as TRL does with the trained parameters on
        a quantized base, and not every method can compute in half precision.
        """
        state, dtype = self.state, self.dtype
        own = state.tensors()
        tensors = [gathered(t) for t in own]  # divided ones are read outside the forward pass, by penalties
        if all(
            t is whole and (t.dtype == dtype or not t.is_floating_point())
            for t, whole in zip(own, tensors, strict=True)
        ):
            return state
        return state.with_tensors(t.to(dtype) if t.is_floating_point() else t for t in tensors)

    @property
    def states(self) -> Sequence[State]:
        """The states of all matrices at the place, which share memory and gradients with `state`."""
        return [self.state]

    @property
    def active(self) -> bool:
        """True if the site changes the model now; at strength 0 the outputs are exactly the base's."""
        return self.enabled and not self.merged and self.strength != 0

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of `working_state`."""
        tensors = (*self._trainable.values(), *self._buffers.values())
        dtypes = {t.dtype for t in tensors if t is not None and t.is_floating_point()}
        return torch.float64 if torch.float64 in dtypes else torch.float32

    @abstractmethod
    def remove(self) -> None:
        """Detach the site from the model."""

    def base_and_adapted(self) -> tuple[Tensor, Tensor] | None:
        """Return the base's tensor and the adapted one in the state's dtype, or None if the site changes no tensor."""
        return None

    def changes(self) -> dict[str, Tensor]:
        """Return what the adapter adds to each tensor of the base, in the state's dtype.

        Returns:
            Differences by suffix to the place's path: `""` for its weight, `".bias"` for its bias.
        """
        tensors = self.base_and_adapted()
        return {} if tensors is None else {"": tensors[1] - tensors[0]}

    def regularizer(self) -> Tensor | None:
        """Return the method's own penalty at this place, a scalar, or None if it has none."""
        return self.adapter.regularizer(self.working_state)

    def neighbours(self, side: Side) -> Sequence[nn.Module]:
        """Return the other sites at the same place that were attached before or after this one.

        Args:
            side: `"below"` for those attached before, `"above"` for those attached after.
        """
        return []

    def merge(self) -> None:
        """Replace the base's tensors by the adapted ones.

        Raises:
            AdapterlabError: The adapter does not change a weight.
        """
        raise AdapterlabError("this adapter does not change a weight, so it cannot be merged")

    def unmerge(self) -> None:
        """Restore the base's own tensors."""


class TensorSite(Site):
    """A site that adapts tensors of the base.

    Args:
        state: The adapter's state.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._base: dict[str, nn.Parameter] = {}

    @abstractmethod
    def base_and_adapted(self) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _replace(self, name: str, tensor: nn.Parameter) -> nn.Parameter:
        """Replace the base's parameter of this name by `tensor`, and return the replaced one."""

    @abstractmethod
    def _adapted(self) -> dict[str, Tensor]:
        """Return the adapted tensors by name, in the layout in which the base stores them."""

    def merge(self) -> None:
        if self.merged:
            return
        with torch.no_grad():
            adapted = {name: t.clone(memory_format=torch.contiguous_format) for name, t in self._adapted().items()}
        for name, tensor in adapted.items():
            self._base[name] = self._replace(name, nn.Parameter(tensor, requires_grad=False))
        self.merged = True

    def unmerge(self) -> None:
        for name, base in self._base.items():
            self._replace(name, base)
        self._base, self.merged = {}, False


def swap_parameter(module: nn.Module, name: str, tensor: nn.Parameter) -> nn.Parameter:
    """Replace a parameter of a module.

    Args:
        module: The module that holds it.
        name: Name of the parameter in the module.
        tensor: The new parameter.

    Returns:
        The replaced parameter.
    """
    replaced = module.get_parameter(name)
    module._parameters[name] = tensor
    return replaced


def readable(tensor: Tensor, context: Context) -> Tensor:
    """Return a base tensor as an adapter's `init` may read it: detached, and without values on the meta device.

    Args:
        tensor: A tensor of the base.
        context: The context of `init`; its device decides whether values are given.
    """
    base = tensor.detach()
    return torch.empty_like(base, device="meta") if context.device.type == "meta" else base


def site_names(module: nn.Module, key: str) -> list[str]:
    """Return the names of the sites registered on a module.

    Args:
        module: A module of the model.
        key: Kind of the sites, one of the names in `surgery.model.submodules`.
    """
    return list(_registered(module, key) or ())


def add_site(module: nn.Module, key: str, name: str, site: nn.Module) -> None:
    """Register a site as a submodule, so that it is part of the model, in the module's mode (training or evaluation).

    Args:
        module: The module that the site is attached to.
        key: Kind of the site, one of the names in `surgery.model.submodules`.
        name: Name of the adapter.
        site: The site.
    """
    sites = _registered(module, key)
    if sites is None:
        sites = nn.ModuleDict()
        module.add_module(key, sites)
    sites[name] = site
    sites.train(module.training)


def remove_site(module: nn.Module, key: str, site: nn.Module) -> None:
    """Undo `add_site`; the last site of a kind leaves no trace on the module.

    Args:
        module: The module that the site is attached to.
        key: Kind of the site, one of the names in `surgery.model.submodules`.
        site: The site.
    """
    sites = _registered(module, key) or nn.ModuleDict()
    del sites[next(name for name, other in sites.items() if other is site)]
    if not len(sites):
        del module._modules[key]


def sites_on(module: nn.Module, key: str) -> Iterator[nn.Module]:
    """Yield the sites registered on a module, in the order in which they were attached.

    Args:
        module: A module of the model.
        key: Kind of the sites, one of the names in `surgery.model.submodules`.
    """
    yield from (_registered(module, key) or nn.ModuleDict()).values()


def _registered(module: nn.Module, key: str) -> nn.ModuleDict | None:
    sites = module._modules.get(key)
    return sites if isinstance(sites, nn.ModuleDict) else None
