"""Rotations as the methods use them: from skew-symmetric matrices, and applied block by block.

Vectors are rows here, `x (*, width)`: a block `R` takes `x` to `x R`. All is differentiable, runs under `torch.func.vmap`,
and is computed in the dtype given, whatever autocast says.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Within it, the kind of device that `tensor` is on computes in the dtypes it is given, autocast or not.

    For the small computations that rounding to bfloat16 would break: a matrix that must come out orthogonal.
    """
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def skew_symmetric(upper: Float[Tensor, "*batch pairs"], size: int) -> Float[Tensor, "*batch {size} {size}"]:
    """The skew-symmetric matrices whose upper triangles, row by row, are `upper`: `size (size - 1) / 2` numbers each."""
    rows, columns = torch.triu_indices(size, size, 1, device=upper.device)
    flat = upper.new_zeros(*upper.shape[:-1], size * size).index_copy(-1, rows * size + columns, upper)
    q = flat.unflatten(-1, (size, size))
    return q - q.mT


def cayley(q: Float[Tensor, "*batch size size"]) -> Float[Tensor, "*batch size size"]:
    """`(I + Q)(I - Q)^-1`, orthogonal for a skew-symmetric `Q`; the inverse matrix belongs to `-Q`."""
    with full_precision(q):
        eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
        # `2 (I - Q)^-1 - I`, whose gradient takes products where that of a solution would solve twice more. `I - Q` is
        # never singular, so nothing need be checked, which would wait for the device.
        return 2 * torch.linalg.inv_ex(eye - q, check_errors=False)[0] - eye


def cayley_neumann(q: Float[Tensor, "*batch size size"], terms: int) -> Float[Tensor, "*batch size size"]:
    """`(I + Q)(I + Q + ... + Q^(terms - 1))`: the Cayley transform with its inverse cut short (Qiu et al. 2025)."""
    with full_precision(q):
        eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
        if terms == 1:
            return eye + q
        # From the inside, I + Q (2 I + Q (2 I + ... Q (2 I + Q))): a power series whose coefficients are 1, 2, ..., 2, 1.
        flat = q.reshape(-1, *q.shape[-2:])
        series = flat + 2 * eye
        for _ in range(terms - 2):
            series = torch.baddbmm(eye, flat, series, beta=2)
        return torch.baddbmm(eye, flat, series).view_as(q)


def rotate_blocks(
    x: Float[Tensor, "*batch width"], blocks: Float[Tensor, "blocks size size"]
) -> Float[Tensor, "*batch width"]:
    """`x` times the block-diagonal matrix of `blocks`; one block alone serves all of the diagonal."""
    grouped = x.unflatten(-1, (-1, blocks.shape[-1]))
    if len(blocks) == 1:
        return (grouped @ blocks[0]).flatten(-2)
    return torch.einsum("...gi,gij->...gj", grouped, blocks).flatten(-2)
