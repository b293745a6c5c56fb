"""Rotation matrices made from skew-symmetric matrices, and block-diagonal products with them.

Vectors are rows here, `x (*, width)`: a block `R` maps `x` to `x R`. All functions are differentiable, run under
`torch.func.vmap`, and compute in the dtype of their arguments, also under autocast.

>>> import torch
>>> r = cayley(skew_symmetric(torch.tensor([1.0]), 2))  # a quarter turn
>>> rotate_blocks(torch.tensor([[3.0, 4.0]]), r[None])
tensor([[-4.,  3.]])
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast is off, for small computations that rounding to bfloat16 would spoil.

    Args:
        tensor: Any tensor on the device that computes.
    """
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def skew_symmetric(upper: Float[Tensor, "*batch pairs"], size: int) -> Float[Tensor, "*batch {size} {size}"]:
    """Return skew-symmetric matrices with the given upper triangles.

    Args:
        upper: Entries above the diagonal, row by row: `size (size - 1) / 2` for each matrix.
        size: Number of rows and columns.
    """
    rows, columns = torch.triu_indices(size, size, 1, device=upper.device)
    flat = upper.new_zeros(*upper.shape[:-1], size * size).index_copy(-1, rows * size + columns, upper)
    q = torch.unflatten(flat, -1, (size, size))
    return q - q.mT


def cayley(q: Float[Tensor, "*batch size size"]) -> Float[Tensor, "*batch size size"]:
    """Return the Cayley transform `(I + Q)(I - Q)^-1`; its inverse is the transform of `-Q`.

    Args:
        q: Skew-symmetric matrices, for which the result is orthogonal.
    """
    with full_precision(q):
        eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
        # `2 (I - Q)^-1 - I` is the same, and its gradient needs two products where that of `solve` needs two more solves.
        # `I - Q` is never singular; checking that would wait for the device.
        inverse: Tensor = torch.linalg.inv_ex(eye - q, check_errors=False)[0]
        return 2 * inverse - eye


def cayley_neumann(q: Float[Tensor, "*batch size size"], terms: int) -> Float[Tensor, "*batch size size"]:
    """Return `(I + Q)(I + Q + ... + Q^(terms - 1))`: the Cayley transform with a truncated inverse (Qiu et al. 2025).

    Args:
        q: Skew-symmetric matrices.
        terms: Number of terms of the inverse's series, at least 1.
    """
    with full_precision(q):
        eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
        if terms == 1:
            return eye + q
        # Horner's scheme for I + Q (2 I + Q (2 I + ... Q (2 I + Q))), whose coefficients are 1, 2, ..., 2, 1.
        flat = q.reshape(-1, *q.shape[-2:])
        series = flat + 2 * eye
        for _ in range(terms - 2):
            series = torch.baddbmm(eye, flat, series, beta=2)
        return torch.baddbmm(eye, flat, series).view_as(q)


def rotate_blocks(
    x: Float[Tensor, "*batch width"], blocks: Float[Tensor, "blocks size size"]
) -> Float[Tensor, "*batch width"]:
    """Return `x` times a block-diagonal matrix.

    Args:
        x: Row vectors.
        blocks: Blocks of the matrix; a single block is repeated along the whole diagonal.
    """
    grouped = torch.unflatten(x, -1, (-1, blocks.shape[-1]))
    if len(blocks) == 1:
        return (grouped @ blocks[0]).flatten(-2)
    return torch.einsum("...gi,gij->...gj", grouped, blocks).flatten(-2)
