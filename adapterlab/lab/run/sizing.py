"""Size each contestant's adapter to the budget or to a rank, and flag sizes that are not near the budget.

>>> budget_flag(52_000, 160_000), budget_flag(150_000, 160_000), budget_flag(170_000, 160_000)
('below', '', 'above')
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.spec import Contestant
from adapterlab.surgery import parameter_count, sized
from adapterlab.surgery.sites.find import places_for


class SizedAdapter(NamedTuple):
    """A contestant's adapter after sizing."""

    adapter: Adapter
    parameters: int
    """Number of parameters that count against a budget: those of the finished adapter."""
    note: str = ""
    """Remark if it has a smaller rank than the sweep asks for."""


def size_at(contestant: Contestant, model: nn.Module, budget: int | None, rank: int | None) -> SizedAdapter:
    """Return the contestant's adapter sized to the budget, or with the largest rank that the weights allow.

    Args:
        contestant: The contestant at a cell, with its settings and targets.
        model: The model that the adapter will be attached to; it is not changed.
        budget: Trained parameters, at most; None to keep the contestant's own size.
        rank: Rank that the study's sweep asks for; None if it sweeps no rank.

    Raises:
        AdapterlabError: If the adapter does not fit the model at all.
    """
    own = contestant.settings.get("rank")
    if rank is None or own != rank or contestant.build().size_knob != "rank":
        return size_to_budget(contestant, model, contestant.budget or budget)
    allowed = _largest_rank(contestant, model, rank)
    if allowed == rank:
        return size_to_budget(contestant, model, None)
    smaller = contestant.model_copy(update={"settings": {**contestant.settings, "rank": allowed}})
    note = f"its rank is {allowed}: the weights that it adapts, or the method, do not allow {rank}"
    return size_to_budget(smaller, model, None)._replace(note=note)


def _largest_rank(contestant: Contestant, model: nn.Module, rank: int) -> int:
    """Return the largest rank that fits the weights, at most `rank`; the smallest that fits if all are larger."""
    adapter = contestant.build()
    try:
        places = places_for(model, adapter, contestant.targets)
    except AdapterlabError as error:
        raise AdapterlabError(f"contestant {contestant.name!r} cannot run on this model: {error}") from error
    sizes = sorted(adapter.sizes([place.shape for place in places.values() if place.shape is not None]))
    return sizes[max(0, bisect_right(sizes, rank) - 1)]


def size_to_budget(contestant: Contestant, model: nn.Module, budget: int | None) -> SizedAdapter:
    """Return the contestant's adapter sized to the budget, or its smallest size if that is above the budget.

    Args:
        contestant: The contestant, with its settings and targets.
        model: The model that the adapter will be attached to; it is not changed.
        budget: Trained parameters, at most; None to keep the contestant's own size.

    Raises:
        AdapterlabError: If the adapter does not fit the model at all, or its losses cannot be compared.
    """
    adapter = contestant.build()
    if adapter.mixes_rows:
        raise AdapterlabError(
            f"contestant {contestant.name!r} cannot compete: with {adapter.name} the loss of a token depends on later "
            "tokens and on the other rows of the batch, so it means something else than the others' losses: leave it out"
        )
    try:
        if budget is not None:
            adapter = sized(adapter, model, budget, contestant.targets, strict=False)
        count = adapter.counted(parameter_count(model, adapter, contestant.targets))
    except AdapterlabError as error:
        raise AdapterlabError(f"contestant {contestant.name!r} cannot run on this model: {error}") from error
    return SizedAdapter(adapter, count)


def budget_flag(parameters: int, budget: int | None) -> str:
    """Return `above` or `below` for a size that is not near the budget, else an empty string.

    Args:
        parameters: Number of trained parameters.
        budget: Trained parameters that were asked for; None for no budget. Less than half of it is `below`.
    """
    if budget is None or budget / 2 <= parameters <= budget:
        return ""
    return "above" if parameters > budget else "below"
