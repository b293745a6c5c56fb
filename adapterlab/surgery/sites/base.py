"""What every kind of site has in common: a place that could be adapted, and the module that then stands there.

A site's module holds one adapter's state and calls its pure functions. The model's own modules stay in place, with their
classes, names and base weights. Each kind of site has a file of its own beside this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from adapterlab.adapters.base import Context, Role, State
from adapterlab.errors import AdapterlabError


class Place(ABC):
    """Somewhere that an adapter could stand, before anything is changed."""

    role: Role = Role.OTHER

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """A tensor of the base that is there, for its device and dtype."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """`(out, in)` of what is adapted, where it has one."""
        return None

    @property
    @abstractmethod
    def names(self) -> Collection[str]:
        """The names of the adapters that stand here already."""

    @abstractmethod
    def init(self, adapter: Any, context: Context) -> State:
        """The adapter's state here; shapes alone where the context's device is meta."""

    @abstractmethod
    def install(self, adapter: Any, state: State, name: str) -> Site:
        """Put a site here."""


class Site(nn.Module, ABC):
    """One adapter's state at one place: `trainable` as parameters, the rest as buffers, under their own names."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for name, tensor in state.trainable.items():
            # What several sites share is one parameter in all of them.
            self.register_parameter(name, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))
        for name, tensor in state.frozen.items():
            self.register_buffer(name, tensor)
        for name, tensor in state.derived.items():
            self.register_buffer(name, tensor, persistent=False)
        self._derived = frozenset(state.derived)
        self.strength, self.enabled, self.merged = 1.0, True, False

    @property
    def state(self) -> State:
        """The state as the adapter's functions take it."""
        parameters, buffers = cast(dict[str, Tensor], self._parameters), cast(dict[str, Tensor], self._buffers)
        if not self._derived:
            return State(parameters, buffers)
        frozen = {name: t for name, t in buffers.items() if name not in self._derived}
        return State(parameters, frozen, {name: buffers[name] for name in self._derived})

    @property
    def active(self) -> bool:
        """Whether the site changes anything now; at strength 0 the base answers, exactly."""
        return self.enabled and not self.merged and self.strength != 0

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the state."""
        return next(t.dtype for t in (*self._parameters.values(), *self._buffers.values()) if t is not None)

    @abstractmethod
    def remove(self) -> None:
        """Leave the model."""

    def both(self) -> tuple[Tensor, Tensor] | None:
        """The base's tensor and the adapted one, in the state's dtype; None where the site changes no tensor."""
        return None

    def changes(self) -> dict[str, Tensor]:
        """What the adapter adds to each tensor of the base, by what its name adds to the place's path."""
        tensors = self.both()
        return {} if tensors is None else {"": tensors[1] - tensors[0]}

    def neighbours(self, side: Literal["below", "above"]) -> Sequence[nn.Module]:
        """The other sites at the same place that were attached before, or after."""
        return []

    def merge(self) -> None:
        """Put the adapted tensors in the base's place."""
        raise AdapterlabError("this adapter is no change of a weight, so it cannot be merged")

    def unmerge(self) -> None:
        """Put the base's own tensors back."""


class TensorSite(Site):
    """A site that stands for tensors of the base."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._base: dict[str, nn.Parameter] = {}

    @abstractmethod
    def both(self) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _replace(self, name: str, tensor: nn.Parameter) -> nn.Parameter:
        """Put `tensor` in the place of the base's of this name; gives what stood there."""

    @abstractmethod
    def _adapted(self) -> dict[str, Tensor]:
        """The adapted tensors by name, as the base stores them."""

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


def site_names(holder: nn.Module, key: str) -> list[str]:
    """The names of the adapters that a module keeps under `key`."""
    return list(cast(nn.ModuleDict, holder._modules.get(key) or {}))


def add_site(holder: nn.Module, key: str, name: str, site: nn.Module) -> None:
    """Make `site` part of the model: `holder` keeps it under `key`."""
    if key not in holder._modules:
        holder.add_module(key, nn.ModuleDict())
    cast(nn.ModuleDict, holder._modules[key])[name] = site


def remove_site(holder: nn.Module, key: str, site: nn.Module) -> None:
    """Undo `add_site`."""
    kept = cast(nn.ModuleDict, holder._modules[key])
    del kept[next(name for name, other in kept.items() if other is site)]
    if not len(kept):
        del holder._modules[key]


def sites_on(holder: nn.Module, key: str) -> Iterator[Any]:
    """The sites that `holder` keeps under `key`, the first attached first."""
    yield from cast(nn.ModuleDict, holder._modules.get(key) or {}).values()
