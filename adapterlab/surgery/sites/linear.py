"""Linear layers: found, named by what they do, and adapted by the sites stacked on them.

The layer stays in place with its class, name and base weight; it only answers through the topmost site.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.base import Context, Linear, LinearAdapter, State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.linear_layers import role_of
from adapterlab.surgery.model.submodules import LINEAR_SITES, PARAMETER_SITES
from adapterlab.surgery.model.weights import Answer, QuantizedWeight, quantized, shape_of, weight_of
from adapterlab.surgery.sites.base import Place, TensorSite


@dataclass(frozen=True)
class Layer:
    """A linear layer of the model seen as a `Linear`: its own weight, its own forward."""

    module: nn.Module
    own_forward: Callable[[Tensor], Tensor]

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The layer's weight, `(out, in)` also where the layer stores its transpose."""
        return QuantizedWeight.of(self.module) if quantized(self.module) else weight_of(self.module)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return cast("Tensor | None", self.module.bias)

    @property
    def bare(self) -> bool:
        """Whether the weight is the base's and its product all that the layer does.

        Not so where an adapter is merged into the weight or stands in for it, or another library has its own forward.
        """
        stack = cast("LinearStack | None", self.module._modules.get(LINEAR_SITES))
        merged = stack is not None and any(cast(TensorSite, site).merged for site in stack.values())
        own = getattr(self.own_forward, "__func__", None) is type(self.module).forward
        return own and not merged and PARAMETER_SITES not in self.module._modules

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return self.own_forward(x)


class LinearPlace(Place):
    """A linear layer."""

    def __init__(self, path: str, module: nn.Module) -> None:
        self.path, self.module, self.role = path, module, role_of(path)

    @property
    def like(self) -> Tensor:
        return cast(Tensor, self.module.weight)

    @property
    def shape(self) -> tuple[int, int]:
        return shape_of(self.module)

    @property
    def names(self) -> Collection[str]:
        return list(stack_of(self.module) or ())

    def weight(self, adapter: Any, context: Context) -> Float[Tensor, "out in"]:
        """The weight as `init` may see it."""
        if quantized(self.module):
            return QuantizedWeight.of(self.module, f"{self.path}: ", adapter.name)
        weight = weight_of(self.module).detach()
        return torch.empty_like(weight, device="meta") if context.device.type == "meta" else weight

    def init(self, adapter: LinearAdapter, context: Context) -> State:
        weight = self.weight(adapter, context)
        state = adapter.init(weight, context)
        if quantized(self.module):
            groups = (state.trainable, state.frozen, state.derived)
            shapes = State(*({k: t.to("meta") for k, t in group.items()} for group in groups))
            below = Answer(weight, cast("Tensor | None", self.module.bias))
            adapter.forward(shapes, torch.empty(2, weight.shape[1], device="meta"), below)
        return state

    def install(self, adapter: LinearAdapter, state: State, name: str) -> LinearSite:
        site = LinearSite(adapter, state)
        push(self.module, name, site)
        return site


@dataclass(frozen=True)
class BypassDropout:
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


def in_state_dtype(x: Tensor, dtype: torch.dtype, answer: Callable[[], Tensor]) -> Tensor:
    """The answer to `x` of a state of this dtype, under autocast where `x` has fewer bits, in the dtype of `x`."""
    if x.dtype == dtype or torch.is_autocast_enabled(x.device.type):
        return answer()
    with torch.autocast(x.device.type, dtype=x.dtype):
        return answer().to(x.dtype)


class LinearSite(TensorSite):
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
        """The adapted bias in the base's dtype."""
        base = self.below.bias
        if base is None or not self.active:
            return base
        given = base.to(self.dtype)
        adapted = self.adapter.bias(self.state, given, self.strength)
        return base if adapted is given else adapted.to(base.dtype)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """The adapted layer's answer."""
        if not self.active:
            return self.below(x)
        below = self.below
        if self.training and (rate := getattr(self.adapter, "dropout", 0.0)):
            # torch's own generator, since gradient checkpointing must draw the same mask again.
            below, x = BypassDropout(below, x), dropout(x, rate)
        return in_state_dtype(x, self.dtype, lambda: self.adapter.forward(self.state, x, below, self.strength))

    def both(self) -> tuple[Tensor, Tensor]:
        self._readable()
        base = self.below.weight.to(self.dtype)
        return base, self.adapter.weight(self.state, base, self.strength) if self.active else base

    def changes(self) -> dict[str, Tensor]:
        before, after = self.below.bias, self.bias
        bias = {} if before is None or after is None or after is before else {".bias": (after - before).to(self.dtype)}
        return super().changes() | bias

    def neighbours(self, side: Literal["below", "above"]) -> Sequence[nn.Module]:
        return self._stack[0].neighbours(self, side)

    def remove(self) -> None:
        self._stack[0].remove(self)

    def _adapted(self) -> dict[str, Tensor]:
        self._readable()
        transposed = isinstance(self._stack[0].layer.module, Conv1D)
        adapted, bias = {"weight": self.weight.T if transposed else self.weight}, self.bias
        return adapted if bias is None or bias is self.below.bias else adapted | {"bias": bias}

    def _readable(self) -> None:
        module = self._stack[0].layer.module
        if quantized(module):
            raise AdapterlabError(f"a {type(module).__name__} holds quantized weights: nothing can be added to them")

    def _replace(self, name: str, tensor: nn.Parameter) -> nn.Parameter:
        module = self._stack[0].layer.module
        replaced = cast(nn.Parameter, getattr(module, name))
        setattr(module, name, tensor)
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

    def push(self, name: str, site: nn.Module) -> None:
        """Stand `site` on top: a `Linear` that takes `_below` and `_stack`."""
        self[name] = site
        self._link()

    def neighbours(self, site: nn.Module, side: Literal["below", "above"]) -> Sequence[nn.Module]:
        """The other sites on the layer that were attached before, or after."""
        sites = list(self.values())
        at = next(i for i, other in enumerate(sites) if other is site)
        return sites[:at] if side == "below" else sites[at + 1 :]

    def remove(self, site: nn.Module) -> None:
        """Take one site out, wherever it stands; the last leaves the layer as it was."""
        del self[next(name for name, other in self.items() if other is site)]
        self._link()

    def _link(self) -> None:
        module = self.layer.module
        top: Linear = self.layer
        for site in cast(Any, self.values()):
            site._below, site._stack = (top,), (self,)
            top = site
        if len(self):
            module.forward = top.__call__
            module.add_module(LINEAR_SITES, self)
        else:
            del module.forward, module._modules[LINEAR_SITES]
            if self._replaced is not None:
                module.forward = self._replaced


def stack_of(module: nn.Module) -> LinearStack | None:
    """The sites on this linear layer, if any."""
    return cast("LinearStack | None", module._modules.get(LINEAR_SITES))


def push(module: nn.Module, name: str, site: nn.Module) -> None:
    """Stand `site` on the linear layer, above whatever stands there."""
    (stack_of(module) or LinearStack(module)).push(name, site)
