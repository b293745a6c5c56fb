"""Linear layers, each adapted by a `LinearAdapter` on the layer's stack.

>>> from adapterlab.adapters import adapter
>>> layer = nn.Linear(4, 3)
>>> place = LinearPlace(adapter("lora", rank=2), "layer", layer)
>>> place.shape
(3, 4)
>>> state = State({"a": torch.ones(2, 4), "b": torch.ones(3, 2)})
>>> site = place.install(state, "default")
>>> site.changes()[""].shape, site.below.weight is layer.weight
(torch.Size([3, 4]), True)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.context import Context
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.dequantize import can_dequantize
from adapterlab.surgery.model.linear_layers import LinearLayer
from adapterlab.surgery.model.roles import role_of
from adapterlab.surgery.model.weights import QuantizedWeight, ShapeOnlyLinear, quantized, shape_of, weight_of
from adapterlab.surgery.sites.base import Place, TensorSite, readable, swap_parameter
from adapterlab.surgery.sites.stack import StackEntry, in_state_dtype, push, stack_of


class LayerPlace(Place):
    """A linear layer, for any method that adapts linear layers.

    Args:
        path: Path of the layer in the model.
        layer: The layer.
        readers: Modules that read the layer's weight without calling it.
    """

    def __init__(self, path: str, layer: LinearLayer, readers: Sequence[nn.Module] = ()) -> None:
        self.path, self.layer, self.readers, self.role = path, layer, readers, role_of(path)

    @property
    def like(self) -> Tensor:
        return self.layer.weight

    @property
    def shape(self) -> tuple[int, int]:
        return shape_of(self.layer)

    @property
    def names(self) -> Collection[str]:
        return list(stack_of(self.layer) or ())

    def weight(self, method: str, context: Context) -> Float[Tensor, "out in"]:
        """Return the weight as `init` may read it; a `QuantizedWeight` for a quantized layer.

        Args:
            method: Name of the method, for error messages.
            context: The context of `init`.
        """
        if quantized(self.layer):
            if context.device.type == "meta" and can_dequantize(self.layer):
                return torch.empty(shape_of(self.layer), device="meta")
            return QuantizedWeight.of(self.layer, f"{self.path}: ", method)
        return readable(weight_of(self.layer), context)


class LinearPlace(LayerPlace):
    """A linear layer, for a method that adapts its weight.

    Args:
        adapter: The method.
        path: Path of the layer in the model.
        layer: The layer.
        readers: Modules that read the layer's weight without calling it.
    """

    adapter: LinearAdapter

    def __init__(
        self, adapter: LinearAdapter, path: str, layer: LinearLayer, readers: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__(path, layer, readers)
        self.adapter = adapter

    def init(self, context: Context) -> State:
        weight = self.weight(self.adapter.name, context)
        state = self.adapter.init(weight, context)
        if quantized(self.layer) and not can_dequantize(self.layer):
            # Run forward once without values: a method that reads the weight there raises an error now.
            groups = (state.trainable, state.frozen, state.derived)
            shapes = State(*({k: t.to("meta") for k, t in group.items()} for group in groups))
            below = ShapeOnlyLinear(weight, self.layer.bias)
            self.adapter.forward(shapes, torch.empty(2, weight.shape[1], device="meta"), below)
        return state

    def install(self, state: State, name: str) -> LinearSite:
        site = LinearSite(self.adapter, state)
        push(self.layer, name, site, self.readers)
        return site


@dataclass(frozen=True)
class BypassDropout:
    """The linear map below an adapter that has dropout: ignores its argument and maps the input without dropout.

    A method with dropout calls `linear(x)` for the base's part of the output, on the `x` that dropout was applied to.
    This map makes only the method's own part depend on the dropout.
    """

    below: Linear
    """The linear map below."""
    whole: Tensor
    """The input without dropout."""

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """Weight of the map below."""
        return self.below.weight

    @property
    def bias(self) -> Tensor | None:
        """Bias of the map below, `(out,)`."""
        return self.below.bias

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return self.below(self.whole)


class LinearSite(StackEntry, TensorSite):
    """A `LinearAdapter` on a linear layer.

    Args:
        adapter: The method.
        state: Its state at this layer.
    """

    adapter: LinearAdapter

    def __init__(self, adapter: LinearAdapter, state: State) -> None:
        super().__init__(state)
        self.adapter = adapter

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        if not self.active:
            return self.below.weight
        base = self.below.weight
        return self.adapter.weight(self.working_state, base.to(self.dtype), self.strength).to(base.dtype)

    @property
    def bias(self) -> Tensor | None:
        base = self.below.bias
        if base is None or not self.active:
            return base
        given = base.to(self.dtype)
        adapted = self.adapter.bias(self.working_state, given, self.strength)
        return base if adapted is given else adapted.to(base.dtype)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if not self.active:
            return self.below(x)
        below = self.below
        if self.training and (rate := getattr(self.adapter, "dropout", 0.0)):
            # torch's own generator, since gradient checkpointing must draw the same mask again.
            below, x = BypassDropout(below, x), dropout(x, rate)
        return in_state_dtype(x, self.dtype, lambda: self.adapter.forward(self.working_state, x, below, self.strength))

    def base_and_adapted(self) -> tuple[Tensor, Tensor]:
        base = self.below.weight.to(self.dtype)
        return base, self.adapter.weight(self.working_state, base, self.strength) if self.active else base

    def changes(self) -> dict[str, Tensor]:
        before, after = self.below.bias, self.bias
        bias = {} if before is None or after is None or after is before else {".bias": (after - before).to(self.dtype)}
        return super().changes() | bias

    def _adapted(self) -> dict[str, Tensor]:
        self._refuse_quantized()
        adapted = {"weight": self.weight.T if isinstance(self.layer, Conv1D) else self.weight}
        bias = self.bias
        return adapted if bias is None or bias is self.below.bias else adapted | {"bias": bias}

    def _refuse_quantized(self) -> None:
        if quantized(self.layer):
            kind = type(self.layer).__name__
            raise AdapterlabError(f"a {kind} holds quantized weights: nothing can be added to them")

    def _replace(self, name: str, tensor: nn.Parameter) -> nn.Parameter:
        return swap_parameter(self.layer, name, tensor)
