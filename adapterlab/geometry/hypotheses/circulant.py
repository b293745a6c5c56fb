"""Circulant: every block of the change is a circular convolution.

>>> import torch
>>> turn = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [2.0, 3.0, 1.0]])
>>> [nearest] = Circulant().project([WeightChange("q", torch.zeros(3, 3), turn)], 3, Setting())
>>> torch.allclose(nearest.weight, turn)
True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterlab.adapters.rank.c3a import C3A
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting


class Circulant(LayerHypothesis):
    """`W' = W + C`, each `b x b` block of `C` circulant; the size is `b`, and a larger block has fewer parameters.

    The nearest block has, on each wrapped diagonal, the mean of the change there (C3A, Chen et al. 2025, equation 4).
    """

    name = "circulant"
    title = "Block-circulant"
    statement = "The change is a circular convolution: it has full rank, and acts in the same way at every position."
    adapters = ("c3a",)
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return C3A().sizes(shapes)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return shape[0] * shape[1] // size

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        k = torch.arange(size)
        blocks = change.delta.unflatten(1, (-1, size)).unflatten(0, (-1, size)).transpose(1, 2)
        # Row i of a block is its kernel shifted right by i places.
        kernel = blocks[..., k[:, None], (k[:, None] + k) % size].mean(-2)
        circulant = kernel[..., (k - k[:, None]) % size]
        return Nearest(change.base + circulant.transpose(1, 2).reshape(change.shape))
