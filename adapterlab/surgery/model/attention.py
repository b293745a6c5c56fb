"""The self-attention of a decoder's block, and its projections.

>>> import torch
>>> projection = Projection("attn.qkv", nn.Linear(8, 24), slice(8, 16))
>>> projection.shape, projection(torch.zeros(2, 8)).shape
((8, 8), torch.Size([2, 8]))
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear as affine

from adapterlab.surgery.model.linear_layers import LinearLayer
from adapterlab.surgery.model.submodules import LINEAR_SITES
from adapterlab.surgery.model.weights import quantized, shape_of, weight_of


@dataclass(frozen=True, eq=False)
class Projection:
    """The rows of a linear layer that compute the queries, the keys, the values or the output."""

    path: str
    """Path of the layer in the model."""
    module: LinearLayer
    """The layer."""
    rows: slice | Tensor | None = None
    """Index of the rows in the layer's weight, or None if the layer computes nothing else."""

    @property
    def fused(self) -> bool:
        """True if the layer computes other projections too."""
        return self.rows is not None

    @property
    def index(self) -> slice | Tensor:
        """Index of the projection's rows in the layer's weight."""
        return slice(None) if self.rows is None else self.rows

    @property
    def shape(self) -> tuple[int, int]:
        """`(out, in)` of the projection."""
        rows, columns = shape_of(self.module)
        if isinstance(self.rows, slice):
            rows = len(range(rows)[self.rows])
        elif self.rows is not None:
            rows = len(self.rows)
        return rows, columns

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """Weight of the projection, without adapters."""
        return weight_of(self.module)[self.index]

    @property
    def bias(self) -> Tensor | None:
        """Bias of the projection, `(out,)`."""
        bias: Tensor | None = self.module.bias
        return None if bias is None else bias[self.index]

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if self.fused and LINEAR_SITES not in self.module._modules:
            return affine(x, self.weight, self.bias)
        outputs: Tensor = self.module(x)
        return outputs[..., self.index] if self.fused else outputs


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """The self-attention of one block: the `Attention` that an adapter receives."""

    path: str
    """Path of the attention module in the model."""
    module: nn.Module
    """The attention module."""
    layer: int
    """Index of the block, from 0."""
    head_dim: int
    """Width of one head."""
    query: Projection
    """Projection to the queries."""
    keys: Projection
    """Projection to the keys."""
    values: Projection
    """Projection to the values."""
    output: Projection
    """Projection from the heads back to the residual stream."""

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.keys.shape[1]

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.query.shape[0] // self.head_dim

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return self.keys.shape[0] // self.head_dim

    def key(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """Return the keys of hidden states, before any positional encoding.

        Args:
            x: Hidden states; cast to the dtype of the layer's weight.
        """
        return _in_weight_dtype(self.keys, x)

    def value(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """Return the values of hidden states.

        Args:
            x: Hidden states; cast to the dtype of the layer's weight.
        """
        return _in_weight_dtype(self.values, x)


def _in_weight_dtype(projection: Projection, x: Tensor) -> Tensor:
    layer = projection.module
    return projection(x if quantized(layer) else x.to(layer.weight.dtype))
