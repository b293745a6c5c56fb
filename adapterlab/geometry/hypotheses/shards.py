"""Shards: the change repeats one matrix along the inputs.

>>> import torch
>>> tuned = torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0]])
>>> change = WeightChange("q", torch.zeros(2, 5), tuned.repeat(2, 1))
>>> [nearest] = Shards().project([change], 2, Setting())
>>> torch.equal(nearest.weight, change.tuned)
True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting


class Shards(LayerHypothesis):
    """`W' = W + expand(D)`: column `c` of `expand(D)` is column `c % r` of `D (out, r)`; the size is `r`.

    The nearest `D` has the means of the columns of the change that share one of its columns (MiSS, Kang and Yin 2025,
    equations 4 to 7, their efficient form).
    """

    name = "shards"
    title = "Shared shards"
    statement = "Shards of a weight need the same change."
    adapters = ("miss",)
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(min(shape) for shape in shapes) + 1)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size * shape[0]

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        rows, columns = change.shape
        shard = torch.arange(columns) % size
        sums = change.delta.new_zeros(rows, size).index_add(1, shard, change.delta)
        return Nearest(change.base + (sums / torch.bincount(shard))[:, shard])
