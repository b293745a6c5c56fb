"""Single parameters: while a module runs, its parameter is replaced by the adapted value.

>>> from adapterlab.adapters import adapter
>>> model = nn.ModuleDict({"norm": nn.LayerNorm(4), "body": nn.Linear(4, 4)})
>>> [path for path, _ in parameters_of(model, adapter("ln_tuning"))]
['norm.weight', 'norm.bias']
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from adapterlab.surgery.model.linear_layers import role_of
from adapterlab.surgery.model.new_heads import new_head_parameters
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


class ParameterPlace(Place):
    """A parameter.

    Args:
        adapter: The method.
        owners: The modules that hold the parameter; several if it is tied.
    """

    def __init__(self, adapter: ParameterAdapter, owners: Sequence[Owner]) -> None:
        self.adapter, self.owners = adapter, owners

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
        return self.adapter.init(readable(self.like, context), context)

    def install(self, state: State, name: str) -> ParameterSite:
        return ParameterSite(self, state, name)


class ParameterSite(TensorSite):
    """A `ParameterAdapter` on one parameter, in every module that holds it (tied embeddings are one parameter).

    While such a module runs, reading its parameter gives the adapted value. The parameter itself stays registered.

    Args:
        place: The parameter.
        state: The method's state for it.
        name: Name of the adapter.
    """

    def __init__(self, place: ParameterPlace, state: State, name: str) -> None:
        super().__init__(state)
        self.adapter, self._owners = place.adapter, tuple(place.owners)
        module, parameter = self._owners[0]
        add_site(module, PARAMETER_SITES, f"{parameter}:{name}", self)
        self._undo: list[Callable[[], None]] = [partial(remove_site, module, PARAMETER_SITES, self)]
        for owner, parameter in self._owners:
            before = owner.register_forward_pre_hook(partial(self._show_adapted, parameter))
            after = owner.register_forward_hook(partial(self._show_own, parameter), always_call=True)
            self._undo += [before.remove, after.remove]

    def remove(self) -> None:
        for undo in self._undo:
            undo()
        self._undo = []

    def base_and_adapted(self) -> tuple[Tensor, Tensor]:
        module, name = self._owners[0]
        base = module.get_parameter(name).to(self.dtype)
        return base, self.adapter.value(self.state, base, self.strength) if self.active else base

    def _adapted(self) -> dict[str, Tensor]:
        module, name = self._owners[0]
        return {name: self.base_and_adapted()[1].to(module.get_parameter(name).dtype)}

    def _replace(self, name: str, tensor: nn.Parameter) -> nn.Parameter:
        replaced = [swap_parameter(owner, parameter, tensor) for owner, parameter in self._owners]
        return replaced[0]

    def _show_adapted(self, name: str, module: nn.Module, args: object) -> None:
        if self.active:
            # Set by an adapter attached before, or the registered parameter.
            below: Tensor = getattr(module, name)
            adapted = self.adapter.value(self.state, below.to(self.dtype), self.strength)
            # Autocast casts where it must; a cast here would round small changes of a bfloat16 base away.
            kept = torch.is_autocast_enabled(below.device.type)
            # An attribute of the instance hides the registered parameter of the same name.
            vars(module)[name] = adapted if kept else adapted.to(below.dtype)

    def _show_own(self, name: str, module: nn.Module, args: object, output: object) -> None:
        vars(module).pop(name, None)


def parameters_of(model: nn.Module, adapter: ParameterAdapter) -> Iterator[tuple[str, list[Owner]]]:
    """Yield each parameter of a model that a method selects.

    Args:
        model: The model; task heads and adapters that are already attached are skipped.
        adapter: The method.

    Yields:
        The parameter's path and its owners; the path is that in the first owner.
    """
    owners: dict[nn.Parameter, tuple[str, list[Owner]]] = {}
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    tokens = getattr(embedding, "weight", None)
    heads = [model.get_submodule(path) for path in head_modules(model)]
    new = {id(p) for p in (*new_head_parameters(model).values(), *(p for head in heads for p in head.parameters()))}
    for path, module in model.named_modules():
        if in_adapter(path) or (adapter.roles is not None and role_of(path) not in adapter.roles):
            continue
        for name, parameter in module._parameters.items():
            if parameter is None or id(parameter) in new or (adapter.tokens_only and parameter is not tokens):
                continue
            if adapter.selects(module, name) or parameter in owners:
                owners.setdefault(parameter, (f"{path}.{name}".lstrip("."), []))[1].append((module, name))
    yield from owners.values()
