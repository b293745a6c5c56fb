"""Tables of the geometry of a weight change, which its page, its pictures and its terminal output share.

>>> from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
>>> layers = (LayerGeometry("h.0.up", "up", 0, (4, 4), 2.0, 0.1), LayerGeometry("h.0.down", "down", 0, (4, 4), 1.0, 0.1))
>>> result = GeometryResult("base", "tuned", layers, projections=(Projection("low_rank", 1, 16, 0.25),))
>>> [(row.name, row.share, row.entries) for row in by_role(result)]
[('up', 0.8, 0.5), ('down', 0.2, 0.5)]
>>> [(row.title, [cell.expressed for cell in row.cells]) for row in expressed(result)]
[('Low rank', [0.75])]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

from adapterlab.adapters.context import Role
from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.geometry.measures import all_measures
from adapterlab.geometry.random_spectrum import random_spectrum
from adapterlab.geometry.result import GeometryResult, LayerGeometry, Null, Projection

FILLS = 0.5
"""Least share of a budget that a projection uses to be compared at it."""


@dataclass(frozen=True)
class Cell:
    """A hypothesis at one budget."""

    projection: Projection
    """The largest projection within the budget."""
    comparable: bool
    """True if it uses at least half of the budget."""

    @property
    def expressed(self) -> float:
        """Share of the change's squared norm that the projection expresses: 1 minus the residual."""
        return 1 - self.projection.residual


@dataclass(frozen=True)
class Expressed:
    """A hypothesis at all budgets."""

    name: str
    """Name of the hypothesis."""
    title: str
    """Its name for reports."""
    statement: str
    """The assumption about useful changes, in one sentence; empty if this version does not know the hypothesis."""
    adapters: tuple[str, ...]
    """Adapters whose changes are of this class."""
    cells: tuple[Cell | None, ...]
    """By budget; None if the smallest size is larger than the budget."""


@dataclass(frozen=True)
class Place:
    """A part of the model: the layers of one role, or of one block."""

    name: str
    """Role, or number of the block."""
    layers: int
    """Number of changed layers."""
    share: float
    """Share of the change's squared norm."""
    entries: float
    """Share of the entries of the changed weights."""
    relative: float
    """Median over the layers of the norm of the change divided by that of the weight."""


@dataclass(frozen=True)
class Against:
    """A measure over all layers, beside random changes of the same norm."""

    name: str
    """Name of the measure."""
    title: str
    """Its title for reports."""
    explanation: str
    """Its definition; empty if this version does not know the measure."""
    value: float
    """Median over the layers."""
    low: float
    """Smallest value of a layer."""
    high: float
    """Largest value of a layer."""
    null: float | None
    """Mean over the layers of the mean of random changes; None if the measure is not compared with them."""
    above: int
    """Layers above the interval of random changes."""
    below: int
    """Layers below it."""
    layers: int
    """Layers that have the measure."""


def budgets_of(result: GeometryResult) -> tuple[int, ...]:
    """Return the budgets of a result; without a record of them, the sizes of the hypothesis that has most.

    Args:
        result: The result.
    """
    if result.budgets or not result.projections:
        return result.budgets
    [(name, _)] = Counter(each.hypothesis for each in result.projections).most_common(1)
    return tuple(sorted({each.parameters for each in result.projections if each.hypothesis == name}))


def expressed(result: GeometryResult) -> tuple[Expressed, ...]:
    """Return the hypotheses at each budget, in the order of the result.

    Args:
        result: The result.
    """
    budgets, known = budgets_of(result), all_hypotheses()
    rows = []
    for name in dict.fromkeys(each.hypothesis for each in result.projections):
        own = sorted((e for e in result.projections if e.hypothesis == name), key=lambda e: e.parameters)
        cells = []
        for budget in budgets:
            within = [each for each in own if each.parameters <= budget]
            cells.append(Cell(within[-1], within[-1].parameters >= FILLS * budget) if within else None)
        statement, adapters = (known[name].statement, known[name].adapters) if name in known else ("", ())
        rows.append(Expressed(name, title_of(name), statement, adapters, tuple(cells)))
    return tuple(rows)


def main_budget(result: GeometryResult) -> int | None:
    """Return the index of the budget that is reported: at which most hypotheses can be compared, those with scores first.

    Of several such budgets it is the one nearest the middle.

    Args:
        result: The result.

    Returns:
        Index into `budgets_of`; None without a projection.
    """
    rows, count = expressed(result), len(budgets_of(result))
    compared = [
        [cell for row in rows if (cell := row.cells[at]) is not None and cell.comparable] for at in range(count)
    ]
    if not any(compared):
        return None
    scored = [sum(bool(cell.projection.scores) for cell in cells) for cells in compared]
    return min(range(count), key=lambda at: (-scored[at], -len(compared[at]), abs(at - (count - 1) / 2)))


def title_of(hypothesis: str) -> str:
    """Return the title of a hypothesis; its name if this version does not know it.

    Args:
        hypothesis: Name of the hypothesis.
    """
    known = all_hypotheses()
    return known[hypothesis].title if hypothesis in known else hypothesis


def by_role(result: GeometryResult) -> tuple[Place, ...]:
    """Return the parts of the change by role of the layers, in the order of `Role`.

    Args:
        result: The result.
    """
    places = _places(result, lambda layer: layer.role)
    return tuple(sorted(places, key=lambda place: ROLES.index(place.name) if place.name in ROLES else len(ROLES)))


def by_depth(result: GeometryResult) -> tuple[Place, ...]:
    """Return the parts of the change by block, from the input to the output; layers outside of the blocks are last.

    Args:
        result: The result.
    """
    outside = "outside"
    places = _places(result, lambda layer: outside if layer.depth is None else str(layer.depth))
    return tuple(sorted(places, key=lambda place: math.inf if place.name == outside else int(place.name)))


def against_chance(result: GeometryResult) -> tuple[Against, ...]:
    """Return every measure over all layers: first those that are compared with random changes.

    Args:
        result: The result.
    """
    known = {measure.name: measure for measure in all_measures()}
    rows = []
    for name in dict.fromkeys(name for layer in result.layers for name in layer.measures):
        having = [layer for layer in result.layers if math.isfinite(layer.measures.get(name, math.nan))]
        values = [layer.measures[name] for layer in having] or [math.nan]
        nulls = [(layer.measures[name], layer.nulls[name]) for layer in having if name in layer.nulls]
        rows.append(
            Against(
                name,
                known[name].title if name in known else name,
                known[name].explanation if name in known else "",
                median(values),
                min(values),
                max(values),
                fmean(null.mean for _, null in nulls) if nulls else None,
                sum(value > null.high for value, null in nulls),
                sum(value < null.low for value, null in nulls),
                len(having),
            )
        )
    return tuple(sorted(rows, key=lambda row: row.null is None))


def standardized(value: float, null: Null) -> float:
    """Return the distance of a value from the mean of random changes, in their standard deviations.

    The standard deviation is that of a normal distribution with the same 95 % interval. Where all draws agree, any other
    value is infinitely far.

    Args:
        value: Value of the measure.
        null: Its values for random changes.
    """
    deviation = (null.high - null.low) / (2 * 1.959964)
    distance = value - null.mean
    if deviation <= 1e-12 * abs(null.mean):
        return 0.0 if math.isclose(value, null.mean, rel_tol=1e-9) else math.copysign(math.inf, distance)
    return distance / deviation


def low_rank_by_chance(result: GeometryResult, rank: int) -> float:
    """Return the share that low rank expresses of a random change of the same shapes and norms.

    Args:
        result: The result.
        rank: Rank of the change of each layer.
    """
    total = sum(layer.norm**2 for layer in result.layers)
    kept = (layer.norm**2 * sum(s**2 for s in _spectrum(layer.shape)[:rank]) for layer in result.layers)
    return sum(kept) / total if total else 0.0


def random_value(shape: tuple[int, int], at: int) -> float:
    """Return one singular value of a random change, as a share of its norm.

    Args:
        shape: `(out, in)`.
        at: Its number, from 1 for the largest.
    """
    return _spectrum(shape)[at - 1]


def entries_of(result: GeometryResult) -> int:
    """Return the number of entries of the changed weights.

    Args:
        result: The result.
    """
    return sum(rows * columns for rows, columns in (layer.shape for layer in result.layers))


@cache
def _spectrum(shape: tuple[int, int]) -> tuple[float, ...]:
    return random_spectrum(shape, min(shape))


def _places(result: GeometryResult, key: Callable[[LayerGeometry], Hashable]) -> list[Place]:
    total, entries = sum(layer.norm**2 for layer in result.layers), entries_of(result)
    places = []
    for name in dict.fromkeys(map(key, result.layers)):
        own = [layer for layer in result.layers if key(layer) == name]
        size = sum(layer.shape[0] * layer.shape[1] for layer in own)
        share = sum(layer.norm**2 for layer in own) / total if total else 0.0
        places.append(Place(str(name), len(own), share, size / entries, median(layer.relative_norm for layer in own)))
    return places


ROLES = tuple(role.value for role in Role)
"""Roles in the order of tables."""
