"""The learning-rate search: the same refinement for every contestant, after a bracket has been found.

Rates lie on a lattice of quarter decades (1, 1.8, 3.2, 5.6, 10 ...), so the runs of different contestants are at the same
rates. The first rung trains the starting rate and the rates beside it: half a decade away, or a quarter of a decade if the
start is a trusted prediction. While the best of them is the lowest or the highest, a rate beyond it is added; this growth is
limited, and costs nothing of what follows. Then those of the two rates a quarter of a decade beside the best that were not
tried yet are trained.

If the best rate is now within one step of the lattice of a trusted prediction, the search ends: the lowest point of the
parabola through the best rate and its neighbours is averaged with the prediction, which weighs half as much, and the nearest
rate is chosen. Otherwise the second rung trains the best few rates again, at full length and with another seed, and its best
is chosen (successive halving, Jamieson and Talwalkar 2016). Equal refinement takes the place of the equal budgets of
AlgoPerf's external tuning (Dahl et al. 2023, section 4.2), in which a method with a poor start has fewer trials near its
optimum.

>>> searching = search(Tuning(), steps=40, start=1e-2)
>>> next(searching).rates
{0.0032: 20, 0.01: 20, 0.032: 20}
>>> searching.send({3.2e-3: 1.3, 1e-2: 1.2, 3.2e-2: 1.1}).rates  # the best rate is the highest: add a higher one
{0.1: 20}
>>> searching.send({1e-1: math.inf}).rates  # it diverged: look closer at the best rate
{0.018: 20, 0.056: 20}
>>> searching.send({1.8e-2: 1.12, 5.6e-2: 1.2}).rates  # train the best two at full length
{0.032: 40, 0.018: 40}
>>> try:
...     searching.send({3.2e-2: 1.0, 1.8e-2: 1.01})
... except StopIteration as end:
...     print(end.value.rate)
0.032

A trusted prediction that the first rung confirms ends the search:

>>> searching = search(Tuning(), steps=40, start=1e-2, trusted=True)
>>> next(searching).rates
{0.0056: 20, 0.01: 20, 0.018: 20}
>>> try:
...     searching.send({5.6e-3: 1.2, 1e-2: 1.1, 1.8e-2: 1.15})
... except StopIteration as end:
...     print(end.value.rate)
0.01
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from adapterlab.lab.study.spec import Tuning

PER_DECADE = 4
"""Rates of the lattice in one decade."""
HALF_DECADE, DECADE = PER_DECADE // 2, PER_DECADE
"""Distances on the lattice."""
AGREEMENT = 1
"""Largest distance on the lattice at which the best rate of the first rung confirms a trusted prediction."""
PREDICTION_WEIGHT = 1 / 3
"""Weight of a confirmed prediction beside the lowest point that the first rung found."""

Losses = Mapping[float, float]
"""By learning rate, the validation loss; infinite where training diverged."""


class Stage(StrEnum):
    """Stage of a search, and of what follows it in a contest."""

    BRACKET = "bracket"
    """Rates half a decade apart, or a quarter about a trusted prediction, in the first rung."""
    REFINE = "refine"
    """Rates a quarter of a decade beside the best, in the first rung."""
    FINALS = "finals"
    """The best rates at full length, in the second rung."""
    EXTEND = "extend"
    """The neighbours of the chosen rate at full length, in the second rung."""
    REGRET = "regret"
    """The chosen rate and its neighbours at full length with other seeds, to measure the regret."""
    REPORT = "report"
    """The reported runs."""


class Wanted(NamedTuple):
    """Runs that a search needs next."""

    stage: Stage
    rates: dict[float, int]
    """By learning rate, the number of steps to train for."""

    @property
    def rung(self) -> int:
        """Rung of the search, 1 or 2; each has its seed."""
        return 1 if self.stage in (Stage.BRACKET, Stage.REFINE) else 2


class Flag(StrEnum):
    """Reason to doubt that a chosen rate is near the best one."""

    NONE = ""
    EDGE = "edge"
    """It is the lowest or the highest rate that was tried."""
    WIDE = "wide"
    """The nearest rate tried on one side is more than half a decade away."""

    @property
    def text(self) -> str:
        """Meaning of the flag, in words; empty for none."""
        return {
            Flag.NONE: "",
            Flag.EDGE: "on the edge of the rates tried: a rate beyond it may be better",
            Flag.WIDE: "the next rate tried is more than half a decade away: one between them may be better",
        }[self]


@dataclass(frozen=True)
class Found:
    """Result of a search."""

    rate: float | None
    """Chosen learning rate; None if no rate is left that did not diverge."""
    flag: Flag = Flag.NONE


Search = Generator[Wanted, Losses, Found]
"""A search under way: it yields the runs that it needs, and must be sent their losses."""


@cache
def rate_at(position: int) -> float:
    """Return the rate at a position of the lattice, to two digits.

    >>> [rate_at(position) for position in (-12, -11, -10, -9, -8)]
    [0.001, 0.0018, 0.0032, 0.0056, 0.01]

    Args:
        position: Quarter decades above 1.
    """
    return float(f"{10 ** (position / PER_DECADE):.2g}")


def position_of(rate: float) -> int:
    """Return the position of the lattice that is nearest to a rate.

    >>> position_of(5.6e-3), position_of(5e-3)
    (-9, -9)

    Args:
        rate: A learning rate.
    """
    return round(PER_DECADE * math.log10(rate))


def neighbours(rate: float) -> tuple[float, float]:
    """Return the rates of the lattice below and above a rate.

    >>> neighbours(1e-2)
    (0.0056, 0.018)

    Args:
        rate: A rate of the lattice.
    """
    position = position_of(rate)
    return rate_at(position - 1), rate_at(position + 1)


def describe(tuning: Tuning, steps: int) -> str:
    """Return the course of a search in a few sentences.

    >>> describe(Tuning(keep=1), 40)
    '3 rates about the start, half a decade apart, or a quarter where the start is a trusted prediction, up to 8 more while
    the best is the lowest or highest, then the untried ones of the two beside the best: 20 steps each.'

    Args:
        tuning: Settings of the search.
        steps: Training steps of a reported run.
    """
    narrow = ", or a quarter where the start is a trusted prediction" if tuning.narrow else ""
    first = (
        f"{tuning.bracket} rates about the start, half a decade apart{narrow}, up to {tuning.growth} more while the best is "
        f"the lowest or highest, then the untried ones of the two beside the best: {tuning.first_steps(steps)} steps each."
    )
    if tuning.keep == 1:
        return first
    unless = " unless the best confirms a trusted prediction" if tuning.narrow else ""
    return f"{first} The best {tuning.keep} again with another seed{unless}: {steps} steps each."


def spacing(tuning: Tuning, trusted: bool) -> int:
    """Return the distance of the bracket's rates on the lattice.

    >>> spacing(Tuning(), trusted=True), spacing(Tuning(), trusted=False), spacing(Tuning(bracket=7), trusted=True)
    (1, 2, 2)

    Args:
        tuning: Settings of the search.
        trusted: True if the search starts at a trusted prediction.
    """
    return 1 if trusted and tuning.narrow else HALF_DECADE


def search(tuning: Tuning, steps: int, start: float, extensions: int = 0, *, trusted: bool = False) -> Search:
    """Search for a learning rate.

    Args:
        tuning: Settings of the search.
        steps: Training steps of a reported run.
        start: Rate at which to start; the nearest one of the lattice is taken.
        extensions: Number of times that the search is extended at its end: the neighbours of the chosen rate are trained
            at full length, and the best of the three is chosen.
        trusted: True if the start is a trusted prediction of the best rate.

    Yields:
        The runs needed next; the generator must be sent their losses.

    Returns:
        The chosen rate.
    """
    middle, short, apart = position_of(start), tuning.first_steps(steps), spacing(tuning, trusted)
    first: dict[int, float] = {}
    second: dict[int, float] = {}
    reach = tuning.bracket // 2 * apart
    wanted: Sequence[int] = range(middle - reach, middle + reach + 1, apart)
    confirmed = False
    for _ in range(tuning.growth + 1):
        first |= yield from _train(Stage.BRACKET, wanted, short)
        if not (wanted := _growth(first, middle, apart)):
            break
    if min(first.values()) < math.inf:
        best = _best(first, middle)
        if untried := [position for position in (best - 1, best + 1) if position not in first]:
            first |= yield from _train(Stage.REFINE, untried, short)
        finite = sorted((p for p in first if first[p] < math.inf), key=lambda p: _order(first, p, middle))
        if confirmed := apart == 1 and abs(finite[0] - middle) <= AGREEMENT:
            chosen = _between(first, finite[0], PER_DECADE * math.log10(start))
        elif tuning.keep > 1:
            second |= yield from _train(Stage.FINALS, finite[: tuning.keep], steps)
    if not confirmed:
        chosen = _best(second or first, middle)
    for _ in range(extensions if (second or first)[chosen] < math.inf else 0):
        near = chosen - 1, chosen, chosen + 1
        if new := [position for position in near if position not in second]:
            second |= yield from _train(Stage.EXTEND, new, steps)
        chosen = _best({position: second[position] for position in near}, chosen)
    if (second or first)[chosen] == math.inf:
        return Found(None)
    return Found(rate_at(chosen), _flag(chosen, {*first, *second}))


def _train(stage: Stage, positions: Sequence[int], steps: int) -> Generator[Wanted, Losses, dict[int, float]]:
    """Ask for runs at positions of the lattice; return their losses by position."""
    losses = yield Wanted(stage, {rate_at(position): steps for position in positions})
    return {position: losses[rate_at(position)] for position in positions}


def _order(losses: Mapping[int, float], position: int, middle: int) -> tuple[float, int, int]:
    """Sort by loss; of equal losses, the rate nearest to `middle` and then the lower one is preferred."""
    return losses[position], abs(position - middle), position


def _best(losses: Mapping[int, float], middle: int) -> int:
    return min(losses, key=lambda position: _order(losses, position, middle))


def _between(losses: Mapping[int, float], best: int, predicted: float) -> int:
    """Return the position nearest to the average of a prediction and the lowest point of the parabola through the best rate.

    A neighbour that diverged says nothing about the curve, so the best rate itself is the lowest point then.
    """
    low, middle, high = (losses[position] for position in (best - 1, best, best + 1))
    bend = low - 2 * middle + high
    lowest = best + (low - high) / (2 * bend) if 0 < bend < math.inf else best
    between = round(PREDICTION_WEIGHT * predicted + (1 - PREDICTION_WEIGHT) * lowest)
    return between if losses.get(between, math.inf) < math.inf else best


def _growth(losses: Mapping[int, float], middle: int, apart: int) -> tuple[int, ...]:
    """Return the next rate to bracket the best one with, or nothing if it has a worse rate near it on either side.

    If every rate diverged, that is a decade below the lowest.
    """
    tried, best = sorted(losses), _best(losses, middle)
    if losses[best] == math.inf:
        return (tried[0] - DECADE,)
    i = tried.index(best)
    if i == 0:
        return (best - apart,)
    if i == len(tried) - 1:
        return (best + apart,)
    for near in (tried[i - 1], tried[i + 1]):
        if abs(near - best) > HALF_DECADE:
            return ((near + best) // 2,)
    return ()


def _flag(chosen: int, tried: set[int]) -> Flag:
    below, above = (sorted(abs(p - chosen) for p in tried if (p - chosen) * side > 0) for side in (-1, 1))
    if not below or not above:
        return Flag.EDGE
    return Flag.WIDE if max(below[0], above[0]) > HALF_DECADE else Flag.NONE
