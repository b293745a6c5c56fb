"""Weights of linear layers in one layout, however they are stored: transposed, or quantized.

A method gets a `QuantizedWeight` in place of a quantized weight. It has a shape, and dequantizes itself at any other use,
so a method that never reads the weight costs nothing. In a format that is not known, any other use raises an error; each
method is tried at such a layer when it is attached.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.rebuild import built_linear, recomputed
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.dequantize import can_dequantize, dequantized
from adapterlab.surgery.model.linear_layers import LinearLayer


def weight_of(layer: LinearLayer) -> Float[Tensor, "out in"]:
    """Return the weight of a linear layer as `(out, in)`, a transposed view for a `Conv1D`.

    Args:
        layer: A linear layer that is not quantized.

    >>> weight_of(nn.Linear(3, 2)).shape, weight_of(Conv1D(2, 3)).shape
    (torch.Size([2, 3]), torch.Size([2, 3]))
    """
    return layer.weight.T if isinstance(layer, Conv1D) else layer.weight


def quantized(layer: LinearLayer) -> bool:
    """Return True if the layer stores its weight as quantization codes, so that it cannot be read or merged into.

    Args:
        layer: A linear layer.
    """
    return _holds_codes(layer.weight)


def _holds_codes(weight: Tensor) -> bool:
    if not weight.is_floating_point() or weight.itemsize < 2 or getattr(weight, "quant_state", None) is not None:
        return True
    # A tensor subclass may claim a floating-point dtype and hold integer tensors, as torchao's do.
    parts = weight.__tensor_flatten__()[0] if hasattr(weight, "__tensor_flatten__") else ()
    return any(_holds_codes(getattr(weight, part)) for part in parts)


def without_codes(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors that hold plain numbers, and not quantization codes.

    Args:
        *tensors: Tensors of a model.
    """
    return [tensor for tensor in tensors if not _holds_codes(tensor)]


def stored_parts(tensor: Tensor) -> list[Tensor]:
    """Return the plain tensors in which a quantized one is stored; the codes alone for bitsandbytes.

    Args:
        tensor: A weight.
    """
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor.data]
    return [part for name in tensor.__tensor_flatten__()[0] for part in stored_parts(getattr(tensor, name))]


def _format(weight: Tensor) -> str:
    plain = type(weight) in (Tensor, nn.Parameter)
    return str(weight.dtype) if plain or not weight.is_floating_point() else type(weight).__name__


def shape_of(layer: LinearLayer) -> tuple[int, int]:
    """Return `(out, in)` of a linear layer, quantized or not.

    Args:
        layer: A linear layer.
    """
    if isinstance(layer, nn.Linear) and quantized(layer):
        return layer.out_features, layer.in_features
    rows, columns = weight_of(layer).shape
    return rows, columns


_DEVICE = Tensor.device.__get__
# Uses of a tensor that need its shape and not its values.
_ABOUT_SHAPE = [Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point] + [
    getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "is_meta", "requires_grad")
]


class QuantizedWeight(Tensor):
    """Placeholder for a quantized weight: a shape, on the meta device, whose values are computed at each use.

    A use dequantizes the whole weight, computes, and drops it. The backward pass dequantizes it again, so at any time one
    weight of the model exists in full. In a format that is not known, a use of the values raises `AdapterlabError`.
    """

    message: str
    layer: LinearLayer

    @staticmethod
    def of(layer: LinearLayer, path: str = "", method: str = "this method") -> Tensor:
        """Return the placeholder for a layer's weight, `(out, in)` on the meta device.

        Args:
            layer: A quantized linear layer.
            path: Path of the layer and a colon, to open the error message with.
            method: Name of the method that is tried, for the error message.
        """
        weight = torch.empty(shape_of(layer), device="meta").as_subclass(QuantizedWeight)
        weight.layer = layer
        weight.message = (
            f"{path}{type(layer).__name__} holds quantized weights ({_format(layer.weight)}), and {method} works on the "
            "weight itself: load the model unquantized, or use a method that adds to the layer's output, such as lora"
        )
        return weight

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Collection[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        placeholder = next(a for a in (*args, *kwargs.values()) if isinstance(a, QuantizedWeight))
        with torch._C.DisableTorchFunctionSubclass():
            if func == _DEVICE and can_dequantize(placeholder.layer):
                return placeholder.layer.weight.device
            if func in _ABOUT_SHAPE:
                return func(*args, **kwargs)
            if not can_dequantize(placeholder.layer):
                raise AdapterlabError(placeholder.message)
        return _with_values(func, args, kwargs)


def _with_values(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the result of a function of placeholders; only the other tensors are kept for the backward pass."""
    if func is linear and isinstance(args[1], QuantizedWeight) and not isinstance(args[0], QuantizedWeight):
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        return built_linear(args[0], bias, partial(dequantized, args[1].layer))

    def compute(*tensors: Tensor) -> Any:
        given = iter(tensors)

        def value(argument: Any) -> Any:
            if isinstance(argument, QuantizedWeight):
                return dequantized(argument.layer)
            return next(given) if isinstance(argument, Tensor) else argument

        return func(*map(value, args), **{name: value(argument) for name, argument in kwargs.items()})

    others = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and not isinstance(a, QuantizedWeight)]
    if torch.is_grad_enabled() and any(other.requires_grad for other in others):
        return recomputed(compute, *others)
    return compute(*others)


@dataclass(frozen=True)
class ShapeOnlyLinear:
    """A `Linear` that returns outputs of the right shape and no values, to try a method's `forward` with."""

    weight: Tensor
    """Weight of the layer, `(out, in)`: its shape is used."""
    bias: Tensor | None
    """Bias of the layer, `(out,)`."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:-1], self.weight.shape[0])
