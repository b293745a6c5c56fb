"""Planted changes: members of a hypothesis's class, made by the adapter that states it."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterlab.adapters import Context, State, adapter
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.hypotheses.shared_random import random_factors

CHANGED = 0.2
"""Norm of a planted change relative to that of the base."""
STEPS = {"magnitude": 0.15}
"""Scale of the perturbation of a trained tensor relative to the others, where an equal one would hide their effect."""


def maker(name: str, size: int) -> LinearAdapter:
    """The adapter that makes exactly the changes of a class of this size."""
    settings: dict[str, tuple[str, dict[str, object]]] = {
        "low_rank": ("lora", {"rank": size}),
        "rotation": ("oft", {"block_size": size}),
        "butterfly": ("boft", {"block_size": size, "factors": 2}),
        "givens": ("goft", {}),
        "reflections": ("hra", {"rank": size}),
        "gain": ("ia3", {}),
        "magnitude_direction": ("dora", {"rank": size}),
        "svd_banded": ("svft", {"off_diagonals": size}),
        "svd_top_k": ("ssvd", {"rank": size, "rotation": "free"}),
        "svd_rotation": ("ssvd", {"rank": size, "rotation": "strict"}),
        "fourier": ("fourierft", {"n": size}),
        "circulant": ("c3a", {"block_size": size}),
        "kronecker": ("lokr", {"factor": size, "full": True}),
        "hadamard": ("loha", {"rank": size}),
        "sparse": ("shira", {"rank": size}),
        "shards": ("miss", {"rank": size}),
        "shared_random": ("vera", {"rank": size}),
    }
    method, changes = settings[name]
    made = adapter(method, **changes)
    assert isinstance(made, LinearAdapter)
    return made


def weights(shape: tuple[int, int], seed: int = 0) -> Tensor:
    """A random base weight in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def start(method: LinearAdapter, base: Tensor, seed: int) -> State:
    """The state before training; of VeRA with the random factors that the hypothesis draws."""
    state = method.init(base, Context.of_layer(base, seed=seed))
    if method.name != "vera":
        return state
    rank, (rows, columns) = len(state["gain_d"]), base.shape
    a, b = random_factors(rank, (rows, columns), 0)
    return State(state.trainable, {"a": a, "b": b})


def planted(name: str, size: int, shape: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A base, and the weight of the adapter with trained tensors moved at random until it has changed by `CHANGED`."""
    base = weights(shape, seed)
    method = maker(name, size)
    state = start(method, base, seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    moves = {key: torch.randn(t.shape, generator=generator, dtype=t.dtype) for key, t in state.trainable.items()}
    low, high = 1e-6, 1e6
    for _ in range(40):
        middle = (low * high) ** 0.5
        moved = {
            key: t + middle * STEPS.get(key, 1.0) * t.abs().mean().clamp_min(0.1) * moves[key]
            for key, t in state.trainable.items()
        }
        tuned = method.weight(State(moved, state.frozen, state.derived), base)
        low, high = (middle, high) if torch.dist(tuned, base) < CHANGED * base.norm() else (low, middle)
    return base, tuned


def in_layers(name: str, size: int, shape: tuple[int, int], layers: int = 2) -> InMemory:
    """A change of several layers of one shape, planted with different seeds."""
    if name == "shared_subspace":
        return shared_subspace(size, shape, layers)
    return InMemory({f"h.{n}.q_proj": planted(name, size, shape, n) for n in range(layers)})


def shared_subspace(size: int, shape: tuple[int, int], layers: int) -> InMemory:
    """Changes of several layers between the same left and right directions; no adapter makes exactly these."""
    left, right = (weights((side, size), 100 + at) for at, side in enumerate(shape))
    changes = {}
    for n in range(layers):
        base = weights(shape, n)
        delta = left @ weights((size, size), 200 + n) @ right.T
        changes[f"h.{n}.q_proj"] = base, base + delta * (CHANGED * base.norm() / delta.norm())
    return InMemory(changes)
