"""Every method in a size that fits the small shapes of the tests, and a way to move its state off the start."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.context import Context, Role
from adapterlab.adapters.invariants import IdentityAtInit
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State
from adapterlab.surgery.init.svd_cache import FactorCache

# Only what a method's defaults are too large for.
SMALL: dict[str, dict[str, object]] = {
    "boft": {"block_size": 2},
    "bone": {"block_size": 4},
    "c3a": {"block_size": 4},
    "clover": {"mlp_block": 4},
    "ether": {"block_count": 2},
    "ether_plus": {"block_count": 2},
    "fourierft": {"n": 20},
    "frod": {"millionths": 100_000},
    "gralora": {"rank": 4},
    "hra": {"rank": 4},
    "oft": {"block_size": 4},
    "oftv2": {"block_size": 4},
    "prefix": {"hidden": 16},
    "trainable_tokens": {"ids": (3, 17, 40)},
    "vblora": {"vectors": 12, "length": 4},
    "vera": {"rank": 16},
}
SMALLEST_RANK = 3


def small(name: str) -> Adapter:
    """The method with hyperparameters for layers of a few dozen rows."""
    method = all_adapters()[name]
    settings = dict(SMALL.get(name, {}))
    if "rank" in {f.name for f in dataclasses.fields(method)}:
        settings.setdefault("rank", SMALLEST_RANK)
    return method(**settings)


# Without the methods that tests define, which the registry keeps for as long as the process runs.
SHIPPED = {name: kind for name, kind in all_adapters().items() if kind.__module__.startswith("adapterlab.adapters")}
LINEAR = [name for name, method in SHIPPED.items() if issubclass(method, LinearAdapter)]
ALL = list(SHIPPED)


def starts_at_the_base(method: Adapter) -> bool:
    """Whether a model answers as before when the method has just been attached."""
    return not isinstance(method, LinearAdapter) or any(isinstance(i, IdentityAtInit) for i in method.invariants)


def context(weight: Tensor, seed: int = 0, role: Role = Role.OTHER) -> Context:
    """What `attach` would give to `init` for a model of this one layer."""
    return Context(
        site="layer",
        role=role,
        shapes=[(weight.shape[0], weight.shape[1])],
        generator=torch.Generator().manual_seed(seed),
        device=weight.device,
        dtype=torch.float64 if weight.dtype == torch.float64 else torch.float32,
        decompose=FactorCache(),
        alike=lambda: [weight],
    )


def moved(state: State, seed: int = 1, size: float = 0.1) -> State:
    """The state after a random step, as large as training makes."""
    generator = torch.Generator().manual_seed(seed)
    trainable = {
        name: t + size * torch.randn(t.shape, generator=generator, dtype=t.dtype) for name, t in state.trainable.items()
    }
    return dataclasses.replace(state, trainable=trainable)


def noisy(parameters: Iterable[Tensor], size: float = 0.3) -> None:
    """Move these off their start, in place."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in parameters:
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
