"""Parameter counts of adapters on a model, and the size of an adapter for a given number of parameters.

>>> from adapterlab.adapters import adapter
>>> model = nn.Sequential(nn.Linear(10, 10))
>>> parameter_count(model, adapter("lora", rank=3))
60
>>> sized(adapter("lora"), model, budget=50).rank
2
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from typing import TypeVar

from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.attach import initial_states
from adapterlab.surgery.model.where import Targets
from adapterlab.surgery.sites.find import places_for

A = TypeVar("A", bound=Adapter)


def parameter_count(model: nn.Module, adapter: Adapter, targets: Targets = "all-linear") -> int:
    """Return the number of scalars that an adapter would train on a model.

    Args:
        model: The model. Nothing is allocated, so it may be on the meta device.
        adapter: The method and its hyperparameters.
        targets: Linear layers to adapt, as in `attach`.
    """
    states = initial_states(adapter, places_for(model, adapter, targets), meta=True)
    unique = {id(t): t.numel() for state in states.values() for t in state.trainable.values()}
    return sum(unique.values())


def sized(adapter: A, model: nn.Module, budget: int, targets: Targets = "all-linear", *, strict: bool = True) -> A:
    """Return an adapter with its size set so that its parameter count is the largest within a budget.

    The count is that of the finished adapter: `Adapter.counted`.

    Args:
        adapter: The method; returned unchanged if it has no size.
        model: The model.
        budget: Largest allowed number of trained scalars.
        targets: Linear layers to adapt, as in `attach`.
        strict: True to raise an error if even the smallest size is above the budget, False to return that size.

    Raises:
        AdapterlabError: The smallest size is above the budget, and `strict` is True.
    """
    knob = adapter.size_knob
    if knob is None:
        return adapter
    shapes = [place.shape for place in places_for(model, adapter, targets).values() if place.shape is not None]
    adapter = dataclasses.replace(adapter, **adapter.settings_for(budget, shapes))
    sizes = adapter.sizes(shapes)

    def count(size: int) -> int:
        return adapter.counted(parameter_count(model, dataclasses.replace(adapter, **{knob: size}), targets))

    fits = bisect_right(sizes, budget, key=count)
    if fits == 0 and strict:
        raise AdapterlabError(
            f"{adapter.name}: the smallest {knob}, {sizes[0]}, trains {count(sizes[0]):,} parameters, "
            f"above the budget of {budget:,}"
        )
    return dataclasses.replace(adapter, **{knob: sizes[max(0, fits - 1)]})
