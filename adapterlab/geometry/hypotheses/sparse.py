"""Sparse: a few entries of the weight change.

>>> import torch
>>> tuned = torch.zeros(2, 3)
>>> tuned[1, 2] = 5.0
>>> [nearest] = Sparse().project([WeightChange("q", torch.zeros(2, 3), tuned)], 1, Setting())
>>> torch.equal(nearest.weight, tuned)
True
"""

from __future__ import annotations

from collections.abc import Sequence

from adapterlab.adapters.shared.shira import SHiRA
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting


class Sparse(LayerHypothesis):
    """`W' = W + S`, `S` zero but for as many entries as a LoRA of rank `r` has parameters; the size is `r`.

    The nearest `S` has the largest entries of the change. Their positions are chosen here and not counted; `shira` chooses
    them before training, at random by default (Bhardwaj et al. 2024, section 3.1), so the residual is a lower bound of what
    it can reach.
    """

    name = "sparse"
    title = "Sparse"
    statement = "Changing a few percent of the weights is enough if they are chosen well; the rank need not be low."
    adapters = ("shira",)
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return SHiRA().sizes(shapes)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size * sum(shape)

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        flat = change.delta.flatten()
        chosen = flat.abs().topk(self.count(size, change.shape), sorted=False).indices
        weight = change.base.flatten().clone()
        weight[chosen] = change.tuned.flatten()[chosen]
        return Nearest(weight.view(change.shape))
