"""Functions with a backward pass of their own.

Most recompute intermediate tensors there, instead of keeping them from the forward pass. They are for tensors that are
large but quickly computed from small ones, such as a weight built from an adapter's parameters. All run under autocast and
`torch.func.vmap`.

>>> import torch
>>> x, gain = torch.ones(2, 3), torch.full((3,), 2.0, requires_grad=True)
>>> y = built_linear(x, None, torch.diag, gain)  # `torch.diag(gain)` is not kept
>>> y.sum().backward()
>>> gain.grad
tensor([2., 2., 2.])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

Make: TypeAlias = Callable[..., Tensor]
"""Function that computes a tensor from tensors."""
Saved: TypeAlias = Any
"""The `ctx` of an autograd function: it takes any attribute, and under `vmap` torch passes another class."""


def recomputed(make: Make, *tensors: Tensor) -> Tensor:
    """Return `make(*tensors)`, keeping only `tensors` for the backward pass.

    Args:
        make: Differentiable function of the tensors.
        *tensors: Its arguments.
    """
    run: Callable[..., Tensor] = _Recomputed.apply
    return run(make, *tensors)


def built_linear(
    x: Float[Tensor, "*batch in"], bias: Tensor | None, build: Make, *tensors: Tensor
) -> Float[Tensor, "*batch out"]:
    """Return `x @ build(*tensors).T + bias`, keeping only `x` and `tensors` for the backward pass.

    Args:
        x: Input of the layer.
        bias: Bias of the layer, `(out,)`, or None.
        build: Differentiable function that computes the weight, `(out, in)`.
        *tensors: Its arguments.
    """
    run: Callable[..., Tensor] = _BuiltLinear.apply
    return run(x, bias, build, *tensors)


def times_in_backward(x: Float[Tensor, "rows rank"], matrix: Float[Tensor, "rank rank"]) -> Float[Tensor, "rows rank"]:
    """Return `x`, whose gradient is multiplied by a matrix on its way back.

    Args:
        x: A tensor.
        matrix: The matrix, without gradient.
    """
    run: Callable[..., Tensor] = _TimesInBackward.apply
    return run(x, matrix)


class _TimesInBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, matrix: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Saved, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Saved, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (matrix,) = ctx.saved_tensors
        return gradients[0] @ matrix.to(gradients[0].dtype), None


class _Recomputed(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(make: Make, *tensors: Tensor) -> Tensor:
        return make(*tensors)

    @staticmethod
    def setup_context(ctx: Saved, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.make, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.autocast = _current_autocast(tensors[0])

    @staticmethod
    def backward(ctx: Saved, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with ctx.autocast():
            _, pull = _with_gradient(ctx.make, ctx.saved_tensors, ctx.needs_input_grad[1:])
        return None, *pull(gradients[0])


class _BuiltLinear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bias: Tensor | None, build: Make, *tensors: Tensor) -> Tensor:
        return affine(x, build(*tensors), bias)

    @staticmethod
    def setup_context(ctx: Saved, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.build, *tensors = inputs
        ctx.save_for_backward(x, *tensors)
        ctx.autocast = _current_autocast(x)

    @staticmethod
    def backward(ctx: Saved, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, *tensors = ctx.saved_tensors
        by_x, by_bias, _, *by_tensors = ctx.needs_input_grad
        with ctx.autocast():
            weight, pull = _with_gradient(ctx.build, tensors, by_tensors)
        flat = g.flatten(0, -2)
        to_x = (g @ weight.to(g.dtype)).to(x.dtype) if by_x else None
        to_bias = flat.sum(0) if by_bias else None
        to_tensors: tuple[Tensor | None, ...] = (None,) * len(tensors)
        if any(by_tensors):
            to_tensors = pull((flat.mT @ x.flatten(0, -2).to(g.dtype)).to(weight.dtype))
        return to_x, to_bias, None, *to_tensors


def _current_autocast(like: Tensor) -> Callable[[], torch.autocast]:
    """Return a function that restores the present autocast setting on the device of `like`, for use in the backward pass."""
    kind = "cpu" if like.is_meta else like.device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    return lambda: torch.autocast(kind, dtype=dtype, enabled=enabled)


def _with_gradient(
    make: Make, tensors: Sequence[Tensor], wanted: Sequence[bool]
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor | None, ...]]]:
    """Return `make(*tensors)`, and a function from its gradient to the gradients of the wanted tensors."""
    moving = [i for i, want in enumerate(wanted) if want]
    if not moving:
        return make(*tensors), lambda gradient: (None,) * len(tensors)

    def of(*moved: Tensor) -> Tensor:
        given = dict(zip(moving, moved, strict=True))
        return make(*(given.get(i, t) for i, t in enumerate(tensors)))

    made: Tensor
    pull: Callable[[Tensor], tuple[Tensor, ...]]
    made, pull = torch.func.vjp(of, *(tensors[i] for i in moving))[:2]

    def gradients(gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = dict(zip(moving, pull(gradient), strict=True))
        return tuple(found.get(i) for i in range(len(tensors)))

    return made, gradients
