"""Initial factors of a LoRA: at random, from the weight, from the layer's inputs, or from the gradient of a loss.

A start whose product `B0 A0` is not zero is subtracted from the update, which leaves the model as it was:
`W' = W + scale (B A - B0 A0)`. The papers, and PEFT, subtract it from the base instead, which is the same map.

>>> from adapterlab.adapters import Context
>>> weight = torch.diag(torch.tensor([4.0, 2.0, 1.0]))
>>> a, b = STARTS["milora"](weight, 1, 1.0, Context.of_layer(weight))
>>> (b @ a).abs().round(decimals=4).diagonal()
tensor([0., 0., 1.])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.context import Context
from adapterlab.errors import AdapterlabError

Factors: TypeAlias = tuple[Tensor, Tensor]
"""`A (rank, in)` and `B (out, rank)`."""
Start: TypeAlias = Callable[[Tensor, int, float, Context], Factors]
"""Function of the weight `(out, in)`, the rank, the factor on `B A`, and the context."""
STABLE_GAMMA = 16
"""LoRA-GA's gamma: a larger one starts with smaller factors."""
DAMPING = 0.01
"""Share of the mean of its diagonal that CorDA adds to a covariance, doubled until the inverse is accurate."""


def uniform(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return a uniform `A` and a `B` of zeros (Hu et al. 2021, section 4.1, with the bound of their code).

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Source of random numbers.
    """
    rows, columns = weight.shape
    return context.uniform(rank, columns, bound=columns**-0.5), context.zeros(rows, rank)


def gaussian(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return a normal `A` with the standard deviation `1 / rank`, as in PEFT, and a `B` of zeros.

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Source of random numbers.
    """
    rows, columns = weight.shape
    return context.normal(rank, columns, std=1 / rank), context.zeros(rows, rank)


def orthogonal(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return random factors that are not zero, with `B A = 0`: they use the two halves of an orthogonal basis.

    There is no paper; PEFT cites https://datta0.github.io/posts/rethink-lora-init.

    Args:
        weight: Base weight.
        rank: Rank of the update, an even number.
        scale: Factor on `B A`.
        context: Source of random numbers.
    """
    rows, columns = weight.shape
    square = context.normal(rank, rank)
    q = square if square.is_meta else torch.linalg.qr(square).Q
    a = q[0::2].T @ context.normal(rank // 2, columns, std=0.1)
    return a, context.normal(rows, rank // 2, std=0.1) @ q[1::2]


def olora(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return the first columns of `Q` as `B0` and the first rows of `R` as `A0`, of `W = Q R` (Büyükakyüz 2024).

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Dtype of the factors.
    """
    q, r = torch.linalg.qr(weight.to(context.dtype))
    return r[:rank], q[:, :rank]


def milora(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return the weight's minor singular components, halved between the factors (Wang et al. 2024, section 3).

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`; `scale B0 A0` are the components.
        context: Source of the decomposition.
    """
    u, s, vt = context.svd(weight)
    root = (s[-rank:] / scale).sqrt()
    return root[:, None] * vt[-rank:], u[:, -rank:] * root


def mica(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return the minor left singular vectors as a `B` that is not trained, and an `A` of zeros (MiCA, arXiv 2604.01694).

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Source of the decomposition.
    """
    return context.zeros(rank, weight.shape[1]), context.svd(weight).u[:, -rank:].contiguous()


def eva(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return the leading right singular vectors of the centred inputs as `A`, and a `B` of zeros.

    All layers have the same rank (Paischer et al. 2024, section 3.2); `adapterlab.eva_ranks` redistributes ranks.

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Source of the inputs.

    Raises:
        AdapterlabError: `attach` was given no runs, or runs of fewer than `rank + 1` tokens.
    """
    if weight.is_meta:
        return uniform(weight, rank, scale, context)
    moments = context.moments_for("eva")
    if moments.tokens <= rank:
        raise AdapterlabError(
            f"lora: start='eva' of rank {rank} needs more than {moments.tokens} tokens: give longer runs to attach"
        )
    mean = moments.total.double() / moments.tokens
    covariance = moments.squares.double() / moments.tokens - torch.outer(mean, mean)
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)
    return vectors[:, :rank].T.to(context.dtype).contiguous(), context.zeros(weight.shape[0], rank)


def corda(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context, leading: bool = True) -> Factors:
    """Return components of the weight that matter most for its inputs: `W C = U S V^T`, `B0 A0 = U S V^T C^-1` cut off.

    `C` is the covariance of the inputs (Yang et al. 2024, section 3.2, their instruction-previewed mode). As in their
    code, inputs are divided by the largest, and a hundredth of the mean of the diagonal is added to it.

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`; `scale B0 A0` are the components.
        context: Source of the inputs.
        leading: False for the least important components (their knowledge-preserved mode).

    Raises:
        AdapterlabError: `attach` was given no runs.
    """
    if weight.is_meta:
        return uniform(weight, rank, scale, context)
    moments = context.moments_for("corda")
    covariance = moments.squares.to(context.dtype) / (moments.calls * moments.largest**2)
    eye, damping = torch.eye(len(covariance), dtype=context.dtype, device=weight.device), DAMPING
    while True:
        damped = covariance + damping * covariance.diagonal().mean() * eye
        inverse = torch.linalg.inv(damped)
        if (damped @ inverse - eye).norm() < 0.05:
            break
        damping *= 2
    u, s, vt = torch.linalg.svd(weight.to(context.dtype) @ damped, full_matrices=False)
    chosen = slice(None, rank) if leading else slice(-rank, None)
    root = (s[chosen] / scale).sqrt()
    return root[:, None] * (vt[chosen] @ inverse), u[:, chosen] * root


def corda_kpm(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return the components that matter least for the weight's inputs (Yang et al. 2024, section 3.3).

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Source of the inputs.
    """
    return corda(weight, rank, scale, context, leading=False)


def lora_ga(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return singular vectors of the loss's gradient: the first right ones as `A0`, the next left ones as `B0`.

    `B0` is multiplied by `out ** 0.25 / sqrt(gamma)` (Wang, Yu and Li 2024, section 3.3). As in PEFT, and other than in the
    paper, it is also multiplied by the singular values, and `A0` has length-one rows.

    Args:
        weight: Base weight.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Source of the gradient.

    Raises:
        AdapterlabError: `attach` was given no loss, or the layer has fewer than `2 * rank` singular vectors.
    """
    if 2 * rank > min(weight.shape):
        raise AdapterlabError(
            f"lora: start='lora_ga' of rank {rank} needs {2 * rank} singular vectors, and {context.site} has "
            f"{min(weight.shape)}: give a rank of at most {min(weight.shape) // 2}, or other targets"
        )
    if weight.is_meta:
        return uniform(weight, rank, scale, context)
    if context.gradient is None:
        raise AdapterlabError(
            "lora: start='lora_ga' needs the gradient of a loss: attach(..., loss=lambda: model(...).loss)"
        )
    u, s, vt = torch.linalg.svd(context.gradient().to(context.dtype), full_matrices=False)
    stable = weight.shape[0] ** 0.25 / STABLE_GAMMA**0.5
    return vt[:rank].contiguous(), u[:, rank : 2 * rank] * s[rank : 2 * rank] * stable


def loftq(weight: Float[Tensor, "out in"], rank: int, scale: float, context: Context) -> Factors:
    """Return the best approximation of the error that quantization made, halved between the factors (Li et al. 2023).

    This is one round of their algorithm 1 on a base that is quantized already, as PEFT's `replace_lora_weights_loftq`, which
    leaves out `scale`. The model then answers more like the original than like the quantized base.

    Args:
        weight: Base weight, quantized.
        rank: Rank of the update.
        scale: Factor on `B A`.
        context: Source of the original weight.

    Raises:
        AdapterlabError: `attach` was not given the model before quantization, but none or another.
    """
    if weight.is_meta and context.device.type == "meta":
        return uniform(weight, rank, scale, context)
    if context.original is None:
        raise AdapterlabError(
            "lora: start='loftq' needs the model before quantization: attach(..., original=), a folder or a model"
        )
    original = context.original()
    if original.shape != weight.shape or (error := (original - weight).to(context.dtype)).norm() > original.norm() / 2:
        raise AdapterlabError(f"original: its weight of {context.site} is not the one that was quantized here")
    u, s, vt = torch.linalg.svd(error, full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * vt[:rank], u[:, :rank] * root


STARTS: Mapping[str, Start] = {
    start.__name__: start
    for start in (uniform, gaussian, orthogonal, olora, milora, mica, eva, corda, corda_kpm, lora_ga, loftq)
}
"""Starts by name."""
SUBTRACTED = frozenset({"olora", "milora", "corda", "corda_kpm", "lora_ga"})
"""Starts whose product is not zero, and is subtracted from the update; `loftq` alone moves the model."""
