"""The weight of a linear layer, however it is stored: transposed, or as the codes of a quantizer.

A quantized layer can be adapted by a method that never looks at its weight. Which those are is found out by trying: the
method is given a stand-in that has a shape and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.errors import AdapterlabError


def weight_of(module: nn.Module) -> Float[Tensor, "out in"]:
    """The weight of a linear layer as `(out, in)`."""
    weight = cast(Tensor, module.weight)
    return weight.T if isinstance(module, Conv1D) else weight


def quantized(module: nn.Module) -> bool:
    """Whether the layer's weight is stored as codes: only its answer can be adapted."""
    return _codes(cast(Tensor, module.weight))


def _codes(weight: Tensor) -> bool:
    if not weight.is_floating_point() or weight.itemsize < 2 or getattr(weight, "quant_state", None) is not None:
        return True
    # A tensor that looks like one of floats may be made of others, as torchao's are.
    parts = weight.__tensor_flatten__()[0] if hasattr(weight, "__tensor_flatten__") else ()
    return any(_codes(getattr(weight, part)) for part in parts)


def readable(*tensors: Tensor) -> list[Tensor]:
    """Those of `tensors` whose numbers can be read: no codes of a quantizer."""
    return [tensor for tensor in tensors if not _codes(tensor)]


def _kind(weight: Tensor) -> str:
    plain = type(weight) in (Tensor, nn.Parameter)
    return str(weight.dtype) if plain or not weight.is_floating_point() else type(weight).__name__


def shape_of(module: nn.Module) -> tuple[int, int]:
    """`(out, in)` of a linear layer, however it stores its weight."""
    if quantized(module):
        return cast(int, module.out_features), cast(int, module.in_features)
    rows, columns = weight_of(module).shape
    return rows, columns


# What a method may ask of a weight without looking at its numbers.
_ABOUT_SHAPE = [Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point] + [
    getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "is_meta", "requires_grad")
]


class QuantizedWeight(Tensor):
    """Stands for a quantized weight while a method is tried: it has a shape, and refuses every other question."""

    message: str

    @staticmethod
    def of(module: nn.Module, where: str = "", method: str = "this method") -> Tensor:
        codes = torch.empty(shape_of(module), device="meta").as_subclass(QuantizedWeight)
        codes.message = (
            f"{where}{type(module).__name__} holds quantized weights ({_kind(cast(Tensor, module.weight))}), and {method} "
            f"works on the weight itself: load the model unquantized, or take a method that adds to the answer, like lora"
        )
        return codes

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ABOUT_SHAPE:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        raise AdapterlabError(
            next(a for a in (*args, *(kwargs or {}).values()) if isinstance(a, QuantizedWeight)).message
        )


@dataclass(frozen=True)
class Answer:
    """A layer of which nothing but the answer is known."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:-1], self.weight.shape[0])
