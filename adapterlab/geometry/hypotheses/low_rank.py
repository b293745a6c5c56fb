"""Low rank: the change is a product of two thin matrices.

>>> LowRank().count(2, (3, 5))
16
"""

from __future__ import annotations

from collections.abc import Sequence

from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting


class LowRank(LayerHypothesis):
    """`W' = W + B A` with `B (out, r)` and `A (r, in)`; the size is the rank `r`.

    The nearest change keeps the `r` largest singular values of the change (Eckart and Young 1936).
    """

    name = "low_rank"
    title = "Low rank"
    statement = "Useful change is low-rank."
    adapters = ("lora", "pissa", "adalora")
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(min(shape) for shape in shapes) + 1)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size * (shape[0] + shape[1])

    def directions(self, size: int) -> int:
        return size

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        u, s, vt = setting.factors(change.delta)
        return Nearest(change.base + (u[:, :size] * s[:size]) @ vt[:size])
