"""The places in a model that can be adapted, and the modules that stand there.

A site's module holds one adapter's state and calls its pure functions. The model's own modules stay in place, with their
classes, names and base weights: a linear layer only answers through the sites stacked on it.
"""

from __future__ import annotations

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.base import Linear, LinearAdapter, ParameterAdapter, Role, State
from adapterlab.errors import AdapterlabError, UnknownNameError

STACK = "adapterlab"
"""The name under which a linear layer keeps the sites that stand on it."""
PARAMETERS = "adapterlab_parameters"
"""The name under which a module keeps the sites that stand in for its parameters."""

# The names that Hugging Face decoders and encoders use for the leaves of a block.
_ROLES = {
    Role.QUERY: {"q_proj", "query", "q_lin", "wq", "q"},
    Role.KEY: {"k_proj", "key", "k_lin", "wk", "k"},
    Role.VALUE: {"v_proj", "value", "v_lin", "wv", "v"},
    Role.OUTPUT: {
        "o_proj",
        "out_proj",
        "out_lin",
        "wo",
        "o",
        "attn.c_proj",
        "attention.output.dense",
        "self_attn.dense",
    },
    Role.GATE: {"gate_proj", "w1"},
    Role.UP: {"up_proj", "w3", "fc1", "c_fc", "dense_h_to_4h", "intermediate.dense", "lin1", "gate_up_proj"},
    Role.DOWN: {"down_proj", "w2", "fc2", "mlp.c_proj", "dense_4h_to_h", "output.dense", "lin2"},
}


def role_of(path: str) -> Role:
    """What the linear layer at this dotted path does, by the name it bears; the longest known ending decides."""
    endings = [(len(name), role) for role, names in _ROLES.items() for name in names if f".{path}".endswith(f".{name}")]
    return max(endings)[1] if endings else Role.OTHER


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer (`nn.Linear`, GPT-2's `Conv1D`) by path, but for the one that makes the logits."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head and f".{STACK}" not in path
    }


def select(model: nn.Module, targets: str | Sequence[str]) -> dict[str, nn.Module]:
    """The linear layers that `targets` names: `"all-linear"`, or roles, endings of a path, or patterns with `*`.

    Raises `UnknownNameError` for a target that matches none.
    """
    found = linears(model)
    if targets == "all-linear":
        if not found:
            raise AdapterlabError(f"{type(model).__name__} has no linear layer to adapt")
        return found
    chosen: set[str] = set()
    for target in [targets] if isinstance(targets, str) else targets:
        hits = {
            path
            for path in found
            if role_of(path) == target or f".{path}".endswith(f".{target}") or fnmatch.fnmatchcase(path, target)
        }
        if not hits:
            names = {path.rsplit(".", 1)[-1] for path in found} | {role_of(path).value for path in found}
            raise UnknownNameError("target", target, names, where=type(model).__name__)
        chosen |= hits
    return {path: module for path, module in found.items() if path in chosen}


@dataclass(frozen=True)
class Layer:
    """A linear layer of the model seen as a `Linear`: its own weight, its own forward."""

    module: nn.Module
    own_forward: Callable[[Tensor], Tensor]

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The layer's weight, `(out, in)` also where the layer stores its transpose."""
        return weight_of(self.module)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return cast("Tensor | None", self.module.bias)

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return self.own_forward(x)


@dataclass(frozen=True)
class Undropped:
    """The linear map below an adapter whose input is under dropout: it answers to the whole input.

    A method with dropout asks `linear(x)` for the base's answer to its own `x`; only what it adds then feels the dropout.
    """

    below: Linear
    whole: Tensor

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight below."""
        return self.below.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias below."""
        return self.below.bias

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return self.below(self.whole)


def weight_of(module: nn.Module) -> Float[Tensor, "out in"]:
    """The weight of a linear layer as `(out, in)`."""
    weight = cast(Tensor, module.weight)
    return weight.T if isinstance(module, Conv1D) else weight


class Site(nn.Module, ABC):
    """One adapter's state at one place: `trainable` as parameters, `frozen` as buffers, under their own names."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for name, tensor in state.trainable.items():
            # What several sites share is one parameter in all of them.
            self.register_parameter(name, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))
        for name, tensor in state.frozen.items():
            self.register_buffer(name, tensor)
        self.strength, self.enabled, self.merged = 1.0, True, False
        self._base: nn.Parameter | None = None

    @property
    def state(self) -> State:
        """The state as the adapter's functions take it."""
        return State(cast(dict[str, Tensor], self._parameters), cast(dict[str, Tensor], self._buffers))

    @property
    def active(self) -> bool:
        """Whether the site changes anything now; at strength 0 the base answers, exactly."""
        return self.enabled and not self.merged and self.strength != 0

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the state."""
        return next(t.dtype for t in (*self._parameters.values(), *self._buffers.values()) if t is not None)

    @abstractmethod
    def both(self) -> tuple[Tensor, Tensor]:
        """The base's tensor and the adapted one, in the state's dtype."""

    @abstractmethod
    def _replace(self, tensor: nn.Parameter) -> nn.Parameter:
        """Put `tensor` in the base's place; gives what stood there."""

    @abstractmethod
    def remove(self) -> None:
        """Leave the model."""

    def neighbours(self, side: Literal["below", "above"]) -> list[Site]:
        """The other sites at the same place that were attached before, or after."""
        return []

    def merge(self) -> None:
        """Put the adapted tensor in the base's place."""
        if not self.merged:
            with torch.no_grad():
                adapted = self._adapted().clone(memory_format=torch.contiguous_format)
            self._base = self._replace(nn.Parameter(adapted, requires_grad=False))
            self.merged = True

    def unmerge(self) -> None:
        """Put the base's own tensor back."""
        if self._base is not None:
            self._replace(self._base)
            self._base, self.merged = None, False

    @abstractmethod
    def _adapted(self) -> Tensor:
        """The adapted tensor as the base stores it."""


class LinearSite(Site):
    """A `LinearAdapter` on a linear layer; itself a `Linear`, so another can stand on it."""

    def __init__(self, adapter: LinearAdapter, state: State) -> None:
        super().__init__(state)
        self.adapter = adapter
        # In tuples, lest what holds this site become its child.
        self._below: tuple[Linear, ...] = ()
        self._stack: tuple[LinearStack, ...] = ()

    @property
    def below(self) -> Linear:
        """What this adapter adapts: the layer, or the adapter beneath."""
        return self._below[0]

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The adapted weight in the base's dtype."""
        if not self.active:
            return self.below.weight
        base = self.below.weight
        return self.adapter.weight(self.state, base.to(self.dtype), self.strength).to(base.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return self.below.bias

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """The adapted layer's answer."""
        if not self.active:
            return self.below(x)
        below = self.below
        if self.training and (rate := getattr(self.adapter, "dropout", 0.0)):
            # torch's own generator, since gradient checkpointing must draw the same mask again.
            below, x = Undropped(below, x), dropout(x, rate)
        if x.dtype == self.dtype or torch.is_autocast_enabled(x.device.type):
            return self.adapter.forward(self.state, x, below, self.strength)
        with torch.autocast(x.device.type, dtype=x.dtype):
            return self.adapter.forward(self.state, x, below, self.strength).to(x.dtype)

    def both(self) -> tuple[Tensor, Tensor]:
        base = self.below.weight.to(self.dtype)
        return base, self.adapter.weight(self.state, base, self.strength) if self.active else base

    def neighbours(self, side: Literal["below", "above"]) -> list[Site]:
        sites = [cast(Site, site) for site in self._stack[0].values()]
        at = next(i for i, site in enumerate(sites) if site is self)
        return sites[:at] if side == "below" else sites[at + 1 :]

    def remove(self) -> None:
        self._stack[0].remove(self)

    def _adapted(self) -> Tensor:
        return self.weight.T if isinstance(self._stack[0].layer.module, Conv1D) else self.weight

    def _replace(self, tensor: nn.Parameter) -> nn.Parameter:
        module = self._stack[0].layer.module
        replaced = cast(nn.Parameter, module.weight)
        module.weight = tensor
        return replaced


class LinearStack(nn.ModuleDict):
    """The sites on one linear layer, the first attached at the bottom. The layer answers through the topmost."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._layer = (Layer(module, module.forward),)
        self._replaced = vars(module).get("forward")  # another library's hook, to be put back

    @property
    def layer(self) -> Layer:
        """The layer that the sites stand on."""
        return self._layer[0]

    def push(self, name: str, site: LinearSite) -> None:
        """Stand `site` on top."""
        self[name] = site
        self._link()

    def remove(self, site: LinearSite) -> None:
        """Take one site out, wherever it stands; the last leaves the layer as it was."""
        del self[next(name for name, other in self.items() if other is site)]
        self._link()

    def _link(self) -> None:
        module = self.layer.module
        top: Linear = self.layer
        for site in cast("list[LinearSite]", list(self.values())):
            site._below, site._stack = (top,), (self,)
            top = cast(Linear, site)
        if len(self):
            module.forward = top.__call__
            module.add_module(STACK, self)
        else:
            del module.forward, module._modules[STACK]
            if self._replaced is not None:
                module.forward = self._replaced


class ParameterSite(Site):
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
        if PARAMETERS not in module._modules:
            module.add_module(PARAMETERS, nn.ModuleDict())
        sites, key = cast(nn.ModuleDict, module._modules[PARAMETERS]), f"{parameter}:{name}"
        sites[key] = self

        def leave() -> None:
            del sites[key]
            if not len(sites):
                del module._modules[PARAMETERS]

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

    def _adapted(self) -> Tensor:
        module, name = self._owners[0]
        return self.both()[1].to(cast(Tensor, getattr(module, name)).dtype)

    def _replace(self, tensor: nn.Parameter) -> nn.Parameter:
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


def parameter_sites(owners: Sequence[tuple[nn.Module, str]]) -> list[str]:
    """The names of the adapters that stand in for the parameter of these modules."""
    module, parameter = owners[0]
    keys = cast(nn.ModuleDict, module._modules.get(PARAMETERS) or {})
    return [key.removeprefix(f"{parameter}:") for key in keys if key.startswith(f"{parameter}:")]


def parameters_of(model: nn.Module, adapter: ParameterAdapter) -> Iterator[tuple[str, list[tuple[nn.Module, str]]]]:
    """Each parameter that `adapter` selects: its path, and the modules that hold it."""
    owners: dict[nn.Parameter, tuple[str, list[tuple[nn.Module, str]]]] = {}
    for path, module in model.named_modules():
        if not {STACK, PARAMETERS}.isdisjoint(path.split(".")):
            continue
        if adapter.roles is not None and role_of(path) not in adapter.roles:
            continue
        for name, parameter in module._parameters.items():
            if parameter is not None and adapter.selects(module, name):
                owners.setdefault(parameter, (f"{path}.{name}".lstrip("."), []))[1].append((module, name))
    yield from owners.values()
