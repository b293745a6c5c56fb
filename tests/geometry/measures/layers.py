"""Layers with planted changes."""

from __future__ import annotations

import torch
from scipy.stats import ortho_group
from torch import Tensor

from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.measures.base import Layer, torch_svd


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Independent normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(size: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix in float64."""
    return torch.from_numpy(ortho_group.rvs(size, random_state=seed))


def layer(base: Tensor, delta: Tensor) -> Layer:
    """A layer with a change."""
    return Layer(WeightChange("model.layers.0.self_attn.q_proj", base, base + delta), torch_svd)


def in_basis(base: Tensor, coupling: Tensor) -> Layer:
    """A layer whose change is `U C V^T` in the singular basis of the base."""
    u, _, vt = torch_svd(base)
    return layer(base, u @ coupling @ vt)
