"""How a learning rate is found: a fixed number of training steps, the same for every contestant, spent to the last one.

As in AlgoPerf's external tuning (Dahl et al. 2023, section 4.2), what is equal is what may be spent, whatever comes of it. A
first round tries a fixed number of rates for a few steps each; the best of them share the rest (successive halving, Jamieson
and Talwalkar 2016). A rate that diverges has used its steps all the same.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

from adapterlab.lab.study.spec import Tuning

Losses = Mapping[float, float]
"""By learning rate, the validation loss; infinite where training diverged."""
Wanted = tuple[int, dict[float, int]]
"""The round, 1 or 2, and the steps that each rate is to be trained for."""


def search(tuning: Tuning) -> Generator[Wanted, Losses, float | None]:
    """Yields what is to be trained next and is sent the losses; returns the chosen rate, or None if all diverged.

    The steps that it asks for always add up to `tuning.budget_steps`.
    """
    left = tuning.budget_steps
    first: dict[float, float] = {}
    wanted = dict.fromkeys(tuning.start, tuning.first_steps)
    while wanted:
        first.update((yield 1, wanted))
        left -= sum(wanted.values())
        wanted = {next_rate(first): steps} if (steps := _steps_of_next(first, left, tuning)) else {}
    kept = [
        rate for loss, rate in sorted((loss, rate) for rate, loss in first.items())[: tuning.keep] if loss < math.inf
    ]
    if not kept:
        return None
    if not left:
        return kept[0]
    share, over = divmod(left, len(kept))
    losses = yield 2, {rate: share + (i < over) for i, rate in enumerate(kept)}
    best = min(losses, key=lambda rate: (losses[rate], rate))
    return best if losses[best] < math.inf else None


def _steps_of_next(first: Losses, left: int, tuning: Tuning) -> int:
    """The steps of one more rate in the first round; 0 where the round is over.

    The second round's steps are kept for it, unless nothing has lived so far: then they go on lower rates.
    """
    if min(first.values()) < math.inf:
        return tuning.first_steps if len(first) < tuning.rates else 0
    return tuning.first_steps if left >= 2 * tuning.first_steps else left


def next_rate(losses: Losses) -> float:
    """Where to look next: one grid step beyond the edge if the best rate lies on it, else within the grid.

    Within, the wider of the two gaps beside the best is halved (on the log scale); of equal ones, that towards the
    better neighbour. Where all diverged, one step below.
    """
    rates = sorted(losses)
    i = min(range(len(rates)), key=lambda i: (losses[rates[i]], rates[i]))
    if losses[rates[i]] == math.inf or i == 0:
        found = rates[0] ** 2 / rates[1]
    elif i == len(rates) - 1:
        found = rates[-1] ** 2 / rates[-2]
    else:
        low, best, high = rates[i - 1 : i + 2]
        below, above = math.log(best / low), math.log(high / best)
        even = math.isclose(below, above, rel_tol=0.1)
        lower = losses[low] < losses[high] if even else below > above
        found = math.sqrt(best * (low if lower else high))
    tidy = float(f"{found:.2g}")
    return found if tidy in losses else tidy
