"""What a backward pass needs, made again there instead of being kept from the forward pass.

For what is large and quickly made of little: a weight built from an adapter's parameters, the spectrum of an input. All
runs under autocast and `torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

Make = Callable[..., Tensor]


def recomputed(make: Make, *tensors: Tensor) -> Tensor:
    """`make(*tensors)`, of which nothing is kept for the backward pass but `tensors`."""
    return _Recomputed.apply(make, *tensors)


def built_linear(
    x: Float[Tensor, "*batch in"], bias: Tensor | None, build: Make, *tensors: Tensor
) -> Float[Tensor, "*batch out"]:
    """`x @ weight.T + bias` with the weight `build(*tensors)`, of which nothing is kept but `x` and `tensors`."""
    return _BuiltLinear.apply(x, bias, build, *tensors)


class _Recomputed(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(make: Make, *tensors: Tensor) -> Tensor:
        return make(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.make, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.again = _as_now(tensors[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with ctx.again():
            _, pull = _with_gradient(ctx.make, ctx.saved_tensors, ctx.needs_input_grad[1:])
        return None, *pull(gradients[0])


class _BuiltLinear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bias: Tensor | None, build: Make, *tensors: Tensor) -> Tensor:
        return affine(x, build(*tensors), bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.build, *tensors = inputs
        ctx.save_for_backward(x, *tensors)
        ctx.again = _as_now(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, *tensors = ctx.saved_tensors
        by_x, by_bias, _, *by_tensors = ctx.needs_input_grad
        with ctx.again():
            weight, pull = _with_gradient(ctx.build, tensors, by_tensors)
        flat = g.flatten(0, -2)
        to_x = (g @ weight.to(g.dtype)).to(x.dtype) if by_x else None
        to_bias = flat.sum(0) if by_bias else None
        to_tensors: tuple[Tensor | None, ...] = (None,) * len(tensors)
        if any(by_tensors):
            to_tensors = pull((flat.mT @ x.flatten(0, -2).to(g.dtype)).to(weight.dtype))
        return to_x, to_bias, None, *to_tensors


def _as_now(like: Tensor) -> Callable[[], torch.autocast]:
    """Autocast as it is now on the device of `like`, for a time when it may not be."""
    kind = "cpu" if like.is_meta else like.device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    return lambda: torch.autocast(kind, dtype=dtype, enabled=enabled)


def _with_gradient(
    make: Make, tensors: Any, wanted: Any
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor | None, ...]]]:
    """What `make` makes, and what takes its gradient to those of the wanted tensors."""
    moving = [i for i, want in enumerate(wanted) if want]
    if not moving:
        return make(*tensors), lambda gradient: (None,) * len(tensors)

    def of(*moved: Tensor) -> Tensor:
        given = dict(zip(moving, moved, strict=True))
        return make(*(given.get(i, t) for i, t in enumerate(tensors)))

    made, pull = cast(tuple[Tensor, Any], torch.func.vjp(of, *(tensors[i] for i in moving)))

    def gradients(gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = dict(zip(moving, pull(gradient), strict=True))
        return tuple(found.get(i) for i in range(len(tensors)))

    return made, gradients
