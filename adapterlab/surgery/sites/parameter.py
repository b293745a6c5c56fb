"""Single parameters: while a module runs, its parameter is replaced by the adapted value.

>>> from adapterlab.adapters import adapter
>>> model = nn.ModuleDict({"norm": nn.LayerNorm(4), "body": nn.Linear(4, 4)})
>>> list(parameter_places(model, adapter("ln_tuning")))
['norm.weight', 'norm.bias']
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State
from adapterlab.surgery.model.linear_layers import token_embedding
from adapterlab.surgery.model.new_heads import new_head_parameters
from adapterlab.surgery.model.roles import role_of
from adapterlab.surgery.model.submodules import PARAMETER_SITES, in_adapter
from adapterlab.surgery.model.trained_modules import head_modules
from adapterlab.surgery.sites.base import (
    Place,
    TensorSite,
    add_site,
    readable,
    remove_site,
    site_names,
    swap_parameter,
)

Owner: TypeAlias = tuple[nn.Module, str]
"""A module and the name under which it holds a parameter."""


@runtime_checkable
class ParameterMethod(Protocol):
    """The functions of a `ParameterAdapter` that a site calls."""

    def init(self, parameter: Tensor, context: Context) -> State:
        """Return the state before training; see `ParameterAdapter.init`.

        Args:
            parameter: Base parameter.
            context: Everything else that the state may depend on.
        """

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        """Return the adapted parameter.

        Args:
            state: State of the site.
            parameter: Base parameter.
            strength: 0 for the base parameter, 1 for the trained adapter.
        """

    def regularizer(self, state: State) -> Tensor | None:
        """Return the method's penalty.

        Args:
            state: State of the site.
        """


@runtime_checkable
class SeveralMatrices(Protocol):
    """A method of a parameter that holds several matrices, each with a state of its own."""

    def states(self, state: State) -> Sequence[State]:
        """Return the state of each matrix, which shares memory and gradients with the state of the site.

        Args:
            state: State of the site.
        """


class ParameterPlace(Place):
    """A parameter.

    Args:
        adapter: The method.
        owners: The modules that hold the parameter; several if it is tied.
        readers: Modules that read the parameter of an owner without calling it.
    """

    module_paths: Sequence[str] = ()
    """Paths of the modules that hold the parameter."""

    adapter: ParameterAdapter | LinearAdapter

    def __init__(self, adapter: ParameterAdapter, owners: Sequence[Owner], readers: Sequence[nn.Module] = ()) -> None:
        self.adapter, self.owners, self.readers = adapter, owners, readers

    @property
    def functions(self) -> ParameterMethod:
        """The method's functions of a parameter."""
        assert isinstance(self.adapter, ParameterAdapter)
        return self.adapter

    def with_method(self, adapter: ParameterAdapter | LinearAdapter) -> ParameterPlace:
        """Return the same place for the method with other settings.

        Args:
            adapter: The method.
        """
        place = copy.copy(self)
        place.adapter = adapter
        return place

    @property
    def like(self) -> Tensor:
        module, name = self.owners[0]
        return module.get_parameter(name)

    @property
    def shape(self) -> tuple[int, int]:
        rows, *rest = self.like.shape or (1,)
        return rows, rest[0] if len(rest) == 1 else 1

    @property
    def names(self) -> Collection[str]:
        module, parameter = self.owners[0]
        names = site_names(module, PARAMETER_SITES)
        return [name.removeprefix(f"{parameter}:") for name in names if name.startswith(f"{parameter}:")]

    def init(self, context: Context) -> State:
        return self.functions.init(readable(self.like, context), context)

    def install(self, state: State, name: str) -> ParameterSite:
        return ParameterSite(self, state, name)


class ParameterSite(TensorSite):
    """A `ParameterAdapter` on one parameter, in every module that holds it (tied embeddings are one parameter).

    While such a module runs, or one that reads its parameter without calling it, reading the parameter gives the adapted
    value. The parameter itself stays registered.

    Args:
        place: The parameter.
        state: The method's state for it.
        name: Name of the adapter.
    """

    def __init__(self, place: ParameterPlace, state: State, name: str) -> None:
        super().__init__(state)
        self.adapter, self.functions, self._owners = place.adapter, place.functions, tuple(place.owners)
        module, parameter = self._owners[0]
        add_site(module, PARAMETER_SITES, f"{parameter}:{name}", self)
        self._undo: list[Callable[[], None]] = [partial(remove_site, module, PARAMETER_SITES, self)]
        self._depth = [0] * len(self._owners)
        for i, (owner, _) in enumerate(self._owners):
            for caller in (owner, *place.readers):
                before = caller.register_forward_pre_hook(partial(self._show_adapted, i))
                after = caller.register_forward_hook(partial(self._show_own, i), always_call=True)
                self._undo += [before.remove, after.remove]

    def remove(self) -> None:
        for undo in self._undo:
            undo()
        self._undo = []

    def base_and_adapted(self) -> tuple[Tensor, Tensor]:
        module, name = self._owners[0]
        base = module.get_parameter(name).to(self.dtype)
        return base, self.functions.value(self.working_state, base, self.strength) if self.active else base

    @property
    def states(self) -> Sequence[State]:
        return self.functions.states(self.state) if isinstance(self.functions, SeveralMatrices) else [self.state]

    def regularizer(self) -> Tensor | None:
        return self.functions.regularizer(self.working_state)

    def _adapted(self) -> dict[str, Tensor]:
        module, name = self._owners[0]
        return {name: self.base_and_adapted()[1].to(module.get_parameter(name).dtype)}

    def _replace(self, name: str, tensor: nn.Parameter) -> nn.Parameter:
        replaced = [swap_parameter(owner, parameter, tensor) for owner, parameter in self._owners]
        return replaced[0]

    def _show_adapted(self, owner: int, caller: nn.Module, args: object) -> None:
        module, name = self._owners[owner]
        self._depth[owner] += 1
        if self.active and self._depth[owner] == 1:
            # Set by an adapter attached before, or the registered parameter.
            below: Tensor = getattr(module, name)
            adapted = self.functions.value(self.working_state, below.to(self.dtype), self.strength)
            # Autocast casts where it must; a cast here would round small changes of a bfloat16 base away.
            kept = torch.is_autocast_enabled(below.device.type)
            # An attribute of the instance hides the registered parameter of the same name.
            vars(module)[name] = adapted if kept else adapted.to(below.dtype)

    def _show_own(self, owner: int, caller: nn.Module, args: object, output: object) -> None:
        module, name = self._owners[owner]
        self._depth[owner] = max(0, self._depth[owner] - 1)
        if not self._depth[owner]:
            vars(module).pop(name, None)


def parameter_places(
    model: nn.Module, adapter: ParameterAdapter, readers: Mapping[str, Sequence[nn.Module]] | None = None
) -> dict[str, ParameterPlace]:
    """Return the parameters of a model that a method selects, by their path in the first module that holds them.

    Args:
        model: The model; task heads and adapters that are already attached are skipped.
        adapter: The method.
        readers: Modules that read a module's parameters without calling it, by path.
    """
    owners: dict[nn.Parameter, list[tuple[str, Owner]]] = {}
    tokens = getattr(token_embedding(model), "weight", None)
    heads = [model.get_submodule(path) for path in head_modules(model)]
    new = {id(p) for p in (*new_head_parameters(model).values(), *(p for head in heads for p in head.parameters()))}
    for path, module in model.named_modules():
        if in_adapter(path) or (adapter.roles is not None and role_of(path) not in adapter.roles):
            continue
        for name, parameter in module._parameters.items():
            if parameter is None or id(parameter) in new or (adapter.tokens_only and parameter is not tokens):
                continue
            if adapter.selects(module, name) or parameter in owners:
                owners.setdefault(parameter, []).append((path, (module, name)))
    places = {}
    for found in owners.values():
        path, (_, name) = found[0]
        reading = [reader for path, _ in found for reader in (readers or {}).get(path, ())]
        place = ParameterPlace(adapter, [owner for _, owner in found], reading)
        place.module_paths = [path for path, _ in found]
        places[f"{path}.{name}".lstrip(".")] = place
    return places
