"""Equal budgets: how many parameters a method trains on a model, and its size that comes nearest below a number."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from typing import TypeVar

from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.attach import initial_states
from adapterlab.surgery.sites.find import Targets, places_for

A = TypeVar("A", bound=Adapter)


def parameter_count(model: nn.Module, adapter: Adapter, targets: Targets = "all-linear") -> int:
    """How many numbers `adapter` would train on `model`; allocates nothing, so the model may be on the meta device."""
    states = initial_states(adapter, places_for(model, adapter, targets), meta=True)
    unique = {id(t): t.numel() for state in states.values() for t in state.trainable.values()}
    return sum(unique.values())


def sized(adapter: A, model: nn.Module, budget: int, targets: Targets = "all-linear", *, strict: bool = True) -> A:
    """`adapter` with its size set so that its trainable parameters come nearest below `budget`.

    A method that has no size comes back as it is. If even its smallest size is above the budget, that is what comes
    back, or, if `strict`, an `AdapterlabError` that says so.
    """
    knob = adapter.size_knob
    if knob is None:
        return adapter
    shapes = [place.shape for place in places_for(model, adapter, targets).values() if place.shape is not None]
    sizes = adapter.sizes(shapes)

    def count(size: int) -> int:
        return parameter_count(model, dataclasses.replace(adapter, **{knob: size}), targets)

    fits = bisect_right(sizes, budget, key=count)
    if fits == 0 and strict:
        raise AdapterlabError(
            f"{adapter.name}: the smallest {knob}, {sizes[0]}, trains {count(sizes[0]):,} parameters, "
            f"above the budget of {budget:,}"
        )
    return dataclasses.replace(adapter, **{knob: sizes[max(0, fits - 1)]})
