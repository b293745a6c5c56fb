"""The learning-rate search, which spends the same fixed number of training steps on every contestant.

As in AlgoPerf's external tuning (Dahl et al. 2023, section 4.2), all contestants have the same budget. The first rung trains
a number of rates for a few steps each; the best of them share the remaining steps in the second rung (successive halving,
Jamieson and Talwalkar 2016). The steps of a rate that diverges count too.

>>> searching = search(Tuning(start=(1e-3, 1e-2), rates=3, first_steps=10, keep=1, second_steps=20))
>>> next(searching)
(1, {0.001: 10, 0.01: 10})
>>> searching.send({1e-3: 1.2, 1e-2: 1.1})  # the best rate is the largest: try a larger one
(1, {0.1: 10})
>>> searching.send({1e-1: math.inf})  # it diverged: train the best rate again in the second rung
(2, {0.01: 20})
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

from adapterlab.lab.study.spec import Tuning

Losses = Mapping[float, float]
"""By learning rate, the validation loss; infinite where training diverged."""
Wanted = tuple[int, dict[float, int]]
"""The rung, 1 or 2, and by learning rate, the number of steps to train for."""


def search(tuning: Tuning) -> Generator[Wanted, Losses, float | None]:
    """Search for a learning rate; the steps requested always add up to `tuning.budget_steps`.

    Args:
        tuning: Settings of the search.

    Yields:
        The rung and the rates to train next; the generator must be sent their losses.

    Returns:
        The selected rate, or None if every rate of the last rung diverged.
    """
    left = tuning.budget_steps
    first: dict[float, float] = {}
    wanted = dict.fromkeys(tuning.start, tuning.first_steps)
    while wanted:
        first.update((yield 1, wanted))
        left -= sum(wanted.values())
        wanted = {next_rate(first): steps} if (steps := _steps_of_next(first, left, tuning)) else {}
    best_rates = [
        rate for loss, rate in sorted((loss, rate) for rate, loss in first.items())[: tuning.keep] if loss < math.inf
    ]
    if not best_rates:
        return None
    if not left:
        return best_rates[0]
    share, rest = divmod(left, len(best_rates))
    losses = yield 2, {rate: share + (i < rest) for i, rate in enumerate(best_rates)}
    best = min(losses, key=lambda rate: (losses[rate], rate))
    return best if losses[best] < math.inf else None


def _steps_of_next(first: Losses, left: int, tuning: Tuning) -> int:
    """Return the steps of one more rate in the first rung, or 0 if the rung is complete.

    If every rate so far diverged, the steps of the second rung are spent on lower rates too.
    """
    if min(first.values()) < math.inf:
        return tuning.first_steps if len(first) < tuning.rates else 0
    return tuning.first_steps if left >= 2 * tuning.first_steps else left


def next_rate(losses: Losses) -> float:
    """Return the next learning rate to try.

    If the best rate lies on the edge of the grid, the next one lies a grid step beyond it; if all rates diverged, a step
    below the smallest. Otherwise the wider one of the two gaps beside the best rate is halved on the log scale; of equal
    gaps, the one towards the neighbour with the smaller loss.

    Args:
        losses: By learning rate tried, the loss; at least two.

    Returns:
        The rate, rounded to two digits unless that rate has been tried.
    """
    rates = sorted(losses)
    i = min(range(len(rates)), key=lambda i: (losses[rates[i]], rates[i]))
    if losses[rates[i]] == math.inf or i == 0:
        rate = rates[0] ** 2 / rates[1]
    elif i == len(rates) - 1:
        rate = rates[-1] ** 2 / rates[-2]
    else:
        low, best, high = rates[i - 1 : i + 2]
        below, above = math.log(best / low), math.log(high / best)
        even = math.isclose(below, above, rel_tol=0.1)
        lower = losses[low] < losses[high] if even else below > above
        rate = math.sqrt(best * (low if lower else high))
    rounded = float(f"{rate:.2g}")
    return rate if rounded in losses else rounded
