"""Weights of quantized layers as plain numbers, for the formats of bitsandbytes and torchao.

>>> can_dequantize(nn.Linear(2, 2))
False
"""

from __future__ import annotations

from copy import copy
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


def can_dequantize(layer: nn.Module) -> bool:
    """Return True if the layer's weight is quantized in a format that `dequantized` reads.

    Args:
        layer: A linear layer.
    """
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return _is_torchao(weight) or type(weight).__name__ in ("Params4bit", "Int8Params")


def dequantized(layer: nn.Module) -> Float[Tensor, "out in"]:
    """Return the weight as a new tensor, without gradients, in the dtype that the quantizer computes in.

    It takes the memory of the unquantized weight for as long as it is referred to.

    Args:
        layer: A layer for which `can_dequantize` is True.
    """
    weight = layer.weight
    assert isinstance(weight, Tensor)
    values: Tensor
    if _is_torchao(weight):
        values = weight.dequantize()
        return values.detach()
    import bitsandbytes

    if type(weight).__name__ == "Params4bit":
        codes, state = _unpacked(weight)
        values = bitsandbytes.functional.dequantize_4bit(codes, state)
        return values
    # The first call of the layer moves the scales of the rows from the weight to the layer's state.
    scales: Any = getattr(weight, "SCB", None)
    if scales is None:
        scales = layer.state.SCB  # type: ignore[union-attr]
    values = bitsandbytes.functional.int8_vectorwise_dequant(weight.data, scales)
    return values


def codes_of(weight: Tensor) -> Tensor:
    """Return the codes of a 4-bit weight of bitsandbytes in the order of its entries; any other weight as it is.

    Args:
        weight: The weight.
    """
    return weight if getattr(weight, "quant_state", None) is None else _unpacked(weight)[0]


def _unpacked(weight: Any) -> tuple[Tensor, Any]:
    """Return the codes and scales of a 4-bit weight in the order of its entries.

    On a processor with bfloat16 instructions, the first call of a layer in evaluation mode reorders its codes, and rounds
    its scales to bfloat16. The function of bitsandbytes that undoes this leaves the scales in the other order.
    """
    state = weight.quant_state
    if not getattr(state, "packing_format_for_cpu", False):
        return weight.data, state
    from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

    state = copy(state)
    state.original_nested = False  # the scales are no longer quantized, and quantizing them again would round them
    codes, state = _convert_weight_packed_for_cpu_inverse(weight.data, state)
    state.absmax = state.absmax.T.reshape(-1).float()
    return codes, state


def _is_torchao(weight: Tensor) -> bool:
    return type(weight).__module__.startswith("torchao.")
