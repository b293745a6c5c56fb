"""The stack of adapters on one linear layer.

The layer stays in place with its class, name and base weight. Its `forward` is replaced by that of the topmost entry,
which calls the entry below it, down to the layer's own forward. While a module runs that reads the layer's weight without
calling it, the layer shows the adapted weight in place of its own, and keeps its own forward.

>>> layer = nn.Linear(2, 2)
>>> class Doubled(StackEntry):
...     merged, weight, bias = False, None, None
...     def forward(self, x):
...         return 2 * self.below(x)
>>> x = torch.ones(1, 2)
>>> plain, entry = layer(x), Doubled()
>>> push(layer, "doubled", entry)
>>> bool((layer(x) == 2 * plain).all())
True
>>> entry.remove()
>>> bool((layer(x) == plain).all())
True
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.linear import Linear
from adapterlab.surgery.model.linear_layers import LinearLayer
from adapterlab.surgery.model.submodules import LINEAR_SITES, PARAMETER_SITES
from adapterlab.surgery.model.weights import QuantizedWeight, quantized, weight_of
from adapterlab.surgery.sites.base import Side


@dataclass(eq=False)
class BaseLinear:
    """A linear layer of the model as a `Linear`, with its own weight and its own forward."""

    module: LinearLayer
    """The layer."""
    own_forward: Callable[[Tensor], Tensor]
    """The layer's forward before anything was attached."""
    in_place: Callable[[Tensor], Tensor] | None = None
    """A function that runs in place of `own_forward` for now, with the same outputs; None for none."""

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """Weight of the layer, `(out, in)` also if the layer stores its transpose."""
        return QuantizedWeight.of(self.module) if quantized(self.module) else weight_of(self.module)

    @property
    def bias(self) -> Tensor | None:
        """Bias of the layer, `(out,)`."""
        return self.module.bias

    @property
    def bare(self) -> bool:
        """True if the layer computes `x @ weight.T + bias` with the base's own weight.

        False if an adapter is merged into the weight or replaces it, or if another library has replaced the forward.
        """
        stack = stack_of(self.module)
        merged = stack is not None and any(entry.merged for entry in stack.entries)
        own = getattr(self.own_forward, "__func__", None) is type(self.module).forward
        return own and not merged and PARAMETER_SITES not in self.module._modules

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return self.own_forward(x) if self.in_place is None else self.in_place(x)


@dataclass(frozen=True, eq=False)
class Slot:
    """Position of an entry in a stack; not an `nn.Module`, so that the entry does not register it as a submodule."""

    below: Linear
    """The entry below, or the layer itself."""
    layer: LinearLayer
    """The layer that the stack is on."""
    stack: LinearStack
    """The stack."""


class StackEntry(nn.Module, ABC):
    """One adapter on a linear layer; itself a `Linear`, so another adapter can be attached above it."""

    slot: Slot
    """Position in the stack; set by the stack."""
    merged: bool
    """True if the adapter is merged into the layer's weight."""

    @property
    @abstractmethod
    def weight(self) -> Float[Tensor, "out in"]:
        """The adapted weight in the base's dtype."""

    @property
    @abstractmethod
    def bias(self) -> Tensor | None:
        """The adapted bias in the base's dtype, `(out,)`."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the adapted layer's output.

        Args:
            x: Inputs of the layer.
        """

    @property
    def below(self) -> Linear:
        """The entry below this one, or the layer itself."""
        return self.slot.below

    @property
    def layer(self) -> LinearLayer:
        """The layer that the stack is on."""
        return self.slot.layer

    def neighbours(self, side: Side) -> Sequence[StackEntry]:
        """Return the other entries of the stack below or above this one.

        Args:
            side: `"below"` for those attached before, `"above"` for those attached after.
        """
        entries = self.slot.stack.entries
        at = next(i for i, other in enumerate(entries) if other is self)
        return entries[:at] if side == "below" else entries[at + 1 :]

    def remove(self) -> None:
        """Take the entry out of its stack, wherever it is; the last one leaves the layer as it was."""
        self.slot.stack.remove(self)


class Rows(Protocol):
    """Adapters that differ between the rows of a batch."""

    def apply(self, top: Callable[[Tensor], Tensor], stack: LinearStack, x: Tensor) -> Tensor:
        """Return the output of a layer for rows with different adapters.

        Args:
            top: The topmost entry of the layer's stack.
            stack: The stack.
            x: Input of the layer; its first dimension holds the rows.
        """


class LinearStack(nn.ModuleDict):
    """The adapters on one linear layer by name, the first attached at the bottom.

    Args:
        module: The layer.
        readers: Modules that read the layer's weight without calling it.
    """

    def __init__(self, module: LinearLayer, readers: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.base = BaseLinear(module, module.forward)
        self._replaced = vars(module).get("forward")  # set by another library's hook, and restored at the end
        self.rows: Rows | None = None
        self._running_readers = 0
        self._hooks: list[RemovableHandle] = []
        for reader in readers:
            before = reader.register_forward_pre_hook(self._show_adapted)
            self._hooks += [before, reader.register_forward_hook(self._show_own, always_call=True)]

    @property
    def entries(self) -> list[StackEntry]:
        """The adapters from bottom to top."""
        return [entry for entry in self.values() if isinstance(entry, StackEntry)]

    def push(self, name: str, entry: StackEntry) -> None:
        """Put an entry on top, in the layer's mode (training or evaluation).

        Args:
            name: Name of the entry in the stack.
            entry: The entry.
        """
        self[name] = entry
        self.train(self.base.module.training)
        self._link()

    def remove(self, entry: StackEntry) -> None:
        """Take one entry out, wherever it is; the last one leaves the layer as it was.

        Args:
            entry: An entry of the stack.
        """
        del self[next(name for name, other in self.items() if other is entry)]
        self._link()

    def _link(self) -> None:
        """Connect each entry to the one below, and the layer's forward to the topmost."""
        layer = self.base.module
        top: Linear = self.base
        for entry in self.entries:
            entry.slot = Slot(top, layer, self)
            top = entry
        self._tops = (top,)  # in a tuple, since `nn.Module` would register it as a submodule
        if len(self):
            vars(layer)["forward"] = self._call
            layer.add_module(LINEAR_SITES, self)
        else:
            del vars(layer)["forward"], layer._modules[LINEAR_SITES]
            if self._replaced is not None:
                vars(layer)["forward"] = self._replaced
            for hook in self._hooks:
                hook.remove()

    def _show_adapted(self, reader: nn.Module, args: object) -> None:
        layer = self.base.module
        self._running_readers += 1
        if self._running_readers > 1:
            return
        top = self.entries[-1]
        weight, bias = top.weight, top.bias
        shown = {"weight": weight.T if isinstance(layer, Conv1D) else weight, "bias": bias}
        # Attributes of the instance hide the registered parameters of the same names.
        vars(layer).update({name: tensor for name, tensor in shown.items() if tensor is not layer._parameters[name]})
        vars(layer)["forward"] = self.base.own_forward

    def _show_own(self, reader: nn.Module, args: object, output: object) -> None:
        layer = self.base.module
        self._running_readers = max(0, self._running_readers - 1)
        if not self._running_readers and len(self):
            for name in ("weight", "bias"):
                vars(layer).pop(name, None)
            vars(layer)["forward"] = self._call

    def _call(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the layer's output, with the adapters of each row of a batch if they differ."""
        (top,) = self._tops
        return top(x) if self.rows is None else self.rows.apply(top, self, x)


def stack_of(layer: LinearLayer) -> LinearStack | None:
    """Return the stack of adapters on a linear layer, or None.

    Args:
        layer: A linear layer of the model.
    """
    stack = layer._modules.get(LINEAR_SITES)
    return stack if isinstance(stack, LinearStack) else None


def push(layer: LinearLayer, name: str, entry: StackEntry, readers: Sequence[nn.Module] = ()) -> None:
    """Attach an entry to a linear layer, above all that are attached already.

    Args:
        layer: A linear layer of the model.
        name: Name of the entry in the stack.
        entry: The entry.
        readers: Modules that read the layer's weight without calling it.
    """
    (stack_of(layer) or LinearStack(layer, readers)).push(name, entry)


def in_state_dtype(x: Tensor, dtype: torch.dtype, compute: Callable[[], Tensor]) -> Tensor:
    """Return the output for `x` of an adapter whose state has another dtype, in the dtype of `x`.

    Args:
        x: Inputs of the layer.
        dtype: Dtype of the adapter's state.
        compute: Returns the output; run under autocast to the dtype of `x` if that differs from `dtype`.
    """
    if x.dtype == dtype or torch.is_autocast_enabled(x.device.type):
        return compute()
    with torch.autocast(x.device.type, dtype=x.dtype):
        return compute().to(x.dtype)
