"""Measures of the singular values of a change.

>>> import torch
>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> change = WeightChange("q", torch.zeros(4, 4), torch.diag(torch.tensor([2.0, 2.0, 0.0, 0.0])))
>>> layer = Layer(change, torch_svd)
>>> numerical_rank(layer), round(stable_rank(layer), 4), round(effective_rank(layer), 4)
(2, 2.0, 2.0)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.geometry.measures.base import Layer, Measure

_FORMATS = (torch.bfloat16, torch.float16, torch.float32)


def numerical_rank(layer: Layer) -> int:
    """Return the number of singular values of the change above the tolerance of `rank_tolerance`.

    Args:
        layer: The layer.
    """
    if numerical_rank not in layer.memo:
        layer.memo[numerical_rank] = int((layer.of_delta.s > rank_tolerance(layer)).sum())
    rank: int = layer.memo[numerical_rank]
    return rank


def rank_tolerance(layer: Layer) -> float:
    """Return the largest singular value that rounding can explain.

    It is the larger of two errors. The first is that of the stored weights: rounding to a format with machine epsilon `e`
    shifts entries of root mean square `w` by at most `e w / 2` each, and independent errors of this size have the largest
    singular value `e w / 2 (sqrt(out) + sqrt(in))`. The format is the coarsest of bfloat16, float16, float32 and float64
    that holds both weights exactly. The second is that of the decomposition, `max(out, in) e s_1`, with the `e` of the
    change's dtype (as `numpy.linalg.matrix_rank`).

    Args:
        layer: The layer.
    """
    change = layer.change
    rows, columns = change.shape
    size = float(torch.linalg.vector_norm(change.tuned.double())) / math.sqrt(rows * columns)
    stored = max(_epsilon(change.base), _epsilon(change.tuned)) / 2 * size * (math.sqrt(rows) + math.sqrt(columns))
    computed = max(rows, columns) * torch.finfo(change.delta.dtype).eps * float(layer.of_delta.s[0])
    return max(stored, computed)


def stable_rank(layer: Layer) -> float:
    """Return the squared Frobenius norm of the change divided by its squared spectral norm.

    Args:
        layer: The layer.
    """
    return layer.energy / float(layer.of_delta.s[0]) ** 2


def effective_rank(layer: Layer) -> float:
    """Return the exponential of the entropy of the singular values, divided by their sum.

    Source: Roy and Vetterli 2007, "The effective rank", definition 1.

    Args:
        layer: The layer.
    """
    share = layer.of_delta.s.double()
    share = share / share.sum()
    return float(torch.special.entr(share).sum().exp())


def _epsilon(weight: Float[Tensor, "out in"]) -> float:
    """Return the machine epsilon of the coarsest format that holds a weight exactly; 0 for a weight of zero."""
    if not weight.any():
        return 0.0
    for dtype in _FORMATS:
        if torch.equal(weight.to(dtype).to(weight.dtype), weight):
            return torch.finfo(dtype).eps
    return torch.finfo(weight.dtype).eps


SPECTRUM = (
    Measure(
        "rank",
        "Rank",
        "Number of singular values of the change above the largest that rounding of the weights and of the decomposition "
        "can explain.",
        numerical_rank,
    ),
    Measure(
        "stable_rank",
        "Stable rank",
        "Squared Frobenius norm of the change divided by its squared spectral norm.",
        stable_rank,
        compared=True,
        of_shape=True,
        directions=lambda length: 1,
    ),
    Measure(
        "effective_rank",
        "Effective rank",
        "Exponential of the entropy of the singular values of the change, divided by their sum (Roy and Vetterli 2007).",
        effective_rank,
        compared=True,
        of_shape=True,
    ),
)
