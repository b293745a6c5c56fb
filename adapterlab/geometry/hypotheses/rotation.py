"""Block rotation: the input features are rotated within blocks.

>>> import torch
>>> quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
>>> change = WeightChange("q", torch.eye(2), quarter_turn)
>>> [nearest] = Rotation().project([change], 2, Setting())
>>> torch.allclose(nearest.weight, quarter_turn, atol=1e-6)
True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.orthogonal.oft import OFT
from adapterlab.adapters.rotations import rotate_blocks
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting


class Rotation(LayerHypothesis):
    """`W' = W R^T`, `R` block-diagonal with rotations of `b` features; the size is `b`.

    The nearest `R` is the solution of the orthogonal Procrustes problem in each block (Schönemann 1966), with determinant
    +1 (Kabsch 1976). OFT's Cayley transforms are all rotations but those by a half turn, which they only approach.
    """

    name = "rotation"
    title = "Block rotation"
    statement = "Useful change rotates the inputs of a layer and keeps the angles between its neurons."
    adapters = ("oft", "oftv2")
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return OFT().sizes(shapes)

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return shape[1] * (size - 1) // 2

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        tuned, base = (w.unflatten(1, (-1, size)) for w in (change.tuned, change.base))
        blocks = nearest_rotations(tuned.permute(1, 2, 0) @ base.transpose(0, 1))
        return Nearest(rotate_blocks(change.base, blocks.mT))


def nearest_rotations(cross: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """Return the rotations `R`, with determinant +1, of largest inner product `sum(R * cross)`.

    For `cross = T^T W` these minimize the Frobenius norm of `T - W R^T`.

    Args:
        cross: Square matrices.

    >>> nearest_rotations(torch.tensor([[0.0, -3.0], [3.0, 0.0]]))
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """
    if cross.shape[-1] == 2:
        cos, sin = cross[..., 0, 0] + cross[..., 1, 1], cross[..., 1, 0] - cross[..., 0, 1]
        length = torch.hypot(cos, sin)
        # Where every rotation is as good, the identity.
        cos = torch.where(length > 0, cos / length.clamp_min(torch.finfo(cross.dtype).tiny), 1.0)
        sin = torch.where(length > 0, sin / length.clamp_min(torch.finfo(cross.dtype).tiny), 0.0)
        plane: Tensor = torch.stack([cos, -sin, sin, cos], -1)
        return torch.unflatten(plane, -1, (2, 2))
    u, _, vt = torch.linalg.svd(cross)
    sign = torch.linalg.det(u @ vt).sign()
    u = torch.cat([u[..., :-1], u[..., -1:] * sign[..., None, None]], -1)
    turned: Tensor = u @ vt
    return turned
