"""Parameters as they are: a module runs with the adapted value in the parameter's place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapterlab.adapters.base import Context, ParameterAdapter, State
from adapterlab.surgery.model.linear_layers import role_of
from adapterlab.surgery.model.new_heads import fresh_parameters
from adapterlab.surgery.model.submodules import PARAMETER_SITES, in_adapter
from adapterlab.surgery.sites.base import Place, TensorSite


class ParameterPlace(Place):
    """A parameter, with the modules that hold it and the name that each has for it."""

    def __init__(self, owners: Sequence[tuple[nn.Module, str]]) -> None:
        self.owners = owners

    @property
    def like(self) -> Tensor:
        module, name = self.owners[0]
        return cast(Tensor, getattr(module, name))

    @property
    def shape(self) -> tuple[int, int]:
        rows, *rest = self.like.shape or (1,)
        return rows, rest[0] if len(rest) == 1 else 1

    @property
    def names(self) -> Collection[str]:
        module, parameter = self.owners[0]
        keys = cast(nn.ModuleDict, module._modules.get(PARAMETER_SITES) or {})
        return [key.removeprefix(f"{parameter}:") for key in keys if key.startswith(f"{parameter}:")]

    def init(self, adapter: ParameterAdapter, context: Context) -> State:
        base = self.like.detach()
        return adapter.init(torch.empty_like(base, device="meta") if context.device.type == "meta" else base, context)

    def install(self, adapter: ParameterAdapter, state: State, name: str) -> ParameterSite:
        site = ParameterSite(adapter, state, self.owners)
        site.install(name)
        return site


class ParameterSite(TensorSite):
    """A `ParameterAdapter` on one parameter, in every module that holds it (tied embeddings are one parameter).

    While such a module runs, its parameter reads as the adapted value; the parameter itself stays where it is.
    """

    def __init__(self, adapter: ParameterAdapter, state: State, owners: Sequence[tuple[nn.Module, str]]) -> None:
        super().__init__(state)
        self.adapter, self._owners = adapter, tuple(owners)
        self._leave: list[Callable[[], None]] = []

    def install(self, name: str) -> None:
        """Begin to stand in for the parameter, as part of the first module that holds it."""
        module, parameter = self._owners[0]
        if PARAMETER_SITES not in module._modules:
            module.add_module(PARAMETER_SITES, nn.ModuleDict())
        sites, key = cast(nn.ModuleDict, module._modules[PARAMETER_SITES]), f"{parameter}:{name}"
        sites[key] = self

        def leave() -> None:
            del sites[key]
            if not len(sites):
                del module._modules[PARAMETER_SITES]

        self._leave = [leave]
        for owner, parameter in self._owners:
            # The instance's own attribute hides the registered parameter for as long as the module runs.
            before = owner.register_forward_pre_hook(partial(self._stand_in, parameter))
            after = owner.register_forward_hook(partial(self._stand_back, parameter), always_call=True)
            self._leave += [before.remove, after.remove]

    def remove(self) -> None:
        for leave in self._leave:
            leave()
        self._leave = []

    def both(self) -> tuple[Tensor, Tensor]:
        module, name = self._owners[0]
        base = cast(Tensor, getattr(module, name)).to(self.dtype)
        return base, self.adapter.value(self.state, base, self.strength) if self.active else base

    def _adapted(self) -> dict[str, Tensor]:
        module, name = self._owners[0]
        return {name: self.both()[1].to(cast(Tensor, getattr(module, name)).dtype)}

    def _replace(self, name: str, tensor: nn.Parameter) -> nn.Parameter:
        replaced = [module._parameters[name] for module, name in self._owners]
        for module, name in self._owners:
            module._parameters[name] = tensor
        return cast(nn.Parameter, replaced[0])

    def _stand_in(self, name: str, module: nn.Module, args: Any) -> None:
        if self.active:
            below = cast(Tensor, getattr(module, name))
            vars(module)[name] = self.adapter.value(self.state, below.to(self.dtype), self.strength).to(below.dtype)

    def _stand_back(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        vars(module).pop(name, None)


def parameters_of(model: nn.Module, adapter: ParameterAdapter) -> Iterator[tuple[str, list[tuple[nn.Module, str]]]]:
    """Each parameter that `adapter` selects: its path, and the modules that hold it."""
    owners: dict[nn.Parameter, tuple[str, list[tuple[nn.Module, str]]]] = {}
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    tokens = getattr(embedding, "weight", None)
    fresh = {id(parameter) for parameter in fresh_parameters(model).values()}
    for path, module in model.named_modules():
        if in_adapter(path):
            continue
        if adapter.roles is not None and role_of(path) not in adapter.roles:
            continue
        for name, parameter in module._parameters.items():
            if parameter is None or id(parameter) in fresh or (adapter.tokens_only and parameter is not tokens):
                continue
            if adapter.selects(module, name) or parameter in owners:
                owners.setdefault(parameter, (f"{path}.{name}".lstrip("."), []))[1].append((module, name))
    yield from owners.values()
