"""Exact inference in a network of discrete variables: variable elimination on a join tree.

A factor is a table over a few variables. Eliminating the variables one by one, each time one with the fewest neighbours,
gives a tree of cliques; one pass of messages to its roots and one back give the marginals of all cliques (Dechter 1999;
Lauritzen and Spiegelhalter 1988). The cost is that of the largest clique: on a tree, that of its edges.

The first axis of every table is for draws: tables with one draw are used for all.

>>> import numpy as np
>>> rain, wet = 0, 1
>>> tree = JoinTree([2, 2], [(rain,), (rain, wet)])
>>> found = tree.calibrate([np.array([[0.8, 0.2]]), np.array([[[0.9, 0.1], [0.3, 0.7]]])])
>>> found.marginal((wet,)).round(2).tolist()
[[0.78, 0.22]]
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from adapterlab.errors import AdapterlabError

Table: TypeAlias = NDArray[np.float64]
"""Values of a factor, `(draws, states of its first variable, states of its second, ...)`."""

MOST_CELLS = 2**22
"""Largest number of cells of a clique's table, for one draw."""


class TooEntangledError(AdapterlabError):
    """The network is too far from a tree for exact inference."""


class JoinTree:
    """The structure for inference, without numbers.

    Args:
        states: Number of states of each variable.
        scopes: Variables of each factor.

    Raises:
        TooEntangledError: If a clique would have more than `MOST_CELLS` cells.
    """

    def __init__(self, states: Sequence[int], scopes: Sequence[tuple[int, ...]]) -> None:
        self.states = states
        self.scopes = scopes
        self.order, self.cliques = _eliminate(states, scopes)
        """Variables in the order of their elimination; of each variable, its clique: the variable itself and the later ones
        that it meets, in that order."""
        self.position = {variable: i for i, variable in enumerate(self.order)}

    def calibrate(self, tables: Sequence[Table]) -> Calibrated:
        """Compute the marginals of all cliques.

        Args:
            tables: Values of each factor, their axes in the order of its scope.

        Returns:
            The marginals, and the sum over all variables.
        """
        waiting: dict[int, list[tuple[tuple[int, ...], Table]]] = defaultdict(list)
        for scope, table in zip(self.scopes, tables, strict=True):
            ordered = tuple(sorted(scope, key=self.position.__getitem__))
            axes = (0, *(1 + scope.index(variable) for variable in ordered))
            waiting[ordered[0]].append((ordered, table.transpose(axes)))
        potentials: dict[int, Table] = {}
        upward: dict[int, Table] = {}
        log_total = np.zeros(1)
        for variable in self.order:
            clique = self.cliques[variable]
            potential = np.ones((1,) * (len(clique) + 1))
            for scope, table in waiting.pop(variable, []):
                potential = potential * self._spread(table, scope, clique)
            potentials[variable] = potential
            message = potential.sum(axis=1) if potential.shape[1] > 1 else potential[:, 0] * self.states[variable]
            scale = message.max(axis=tuple(range(1, message.ndim))) if message.ndim > 1 else message
            scale = np.where(scale > 0.0, scale, 1.0)
            with np.errstate(divide="ignore"):
                log_total = log_total + np.log(scale if message.ndim > 1 else message)
            message = message / scale.reshape(-1, *(1,) * (message.ndim - 1))
            upward[variable] = message
            if len(clique) > 1:
                waiting[clique[1]].append((clique[1:], message))
        return Calibrated(self, potentials, upward, log_total)

    def _spread(self, table: Table, scope: tuple[int, ...], clique: tuple[int, ...]) -> Table:
        """Return a table with an axis of length 1 for each variable of the clique that it lacks."""
        if len(scope) == len(clique):
            return table
        shape, axis = [table.shape[0]], 1
        for variable in clique:
            if axis <= len(scope) and scope[axis - 1] == variable:
                shape.append(table.shape[axis])
                axis += 1
            else:
                shape.append(1)
        return table.reshape(shape)


@dataclass
class Calibrated:
    """Marginals of a join tree with numbers."""

    tree: JoinTree
    potentials: dict[int, Table]
    """By variable, the product of the factors and messages in its clique."""
    upward: dict[int, Table]
    """By variable, the message from its clique, scaled."""
    log_total: Table
    """Natural logarithm of the sum of the product of all factors over all variables, `(draws,)`."""

    def marginal(self, scope: tuple[int, ...]) -> Table:
        """Return the joint probability of some variables that occur together in a factor.

        Args:
            scope: The variables.

        Returns:
            The table, `(draws, states of the first, ...)`; its sum over the states is 1. It is not a number where the
            product of all factors is 0.
        """
        first = min(scope, key=self.tree.position.__getitem__)
        clique = self.tree.cliques[first]
        table = _sum_to(self._beliefs[first], clique, set(scope))
        kept = [variable for variable in clique if variable in scope]
        shape = (table.shape[0], *(self.tree.states[variable] for variable in kept))
        full = np.broadcast_to(table, shape)
        with np.errstate(invalid="ignore"):  # impossible evidence has no probabilities
            full = full / full.reshape(full.shape[0], -1).sum(axis=1).reshape(-1, *(1,) * len(kept))
        ordered: Table = full.transpose((0, *(1 + kept.index(variable) for variable in scope)))
        return ordered

    @cached_property
    def _beliefs(self) -> dict[int, Table]:
        """By variable, the marginal of its clique, not scaled to a sum of 1."""
        beliefs: dict[int, Table] = {}
        for variable in reversed(self.tree.order):
            clique = self.tree.cliques[variable]
            belief = self.potentials[variable]
            if len(clique) > 1:
                above = clique[1]
                come = self._full(_sum_to(beliefs[above], self.tree.cliques[above], set(clique[1:])), clique[1:])
                sent = self.upward[variable]
                with np.errstate(divide="ignore", invalid="ignore"):
                    down = np.where(sent > 0.0, come / sent, 0.0)
                belief = self._full(belief * down[:, None], clique)
            else:
                belief = self._full(belief, clique)
            total = belief.reshape(belief.shape[0], -1).sum(axis=1)
            beliefs[variable] = belief / np.where(total > 0.0, total, 1.0).reshape(-1, *(1,) * len(clique))
        return beliefs

    def _full(self, table: Table, scope: tuple[int, ...]) -> Table:
        return np.broadcast_to(table, (table.shape[0], *(self.tree.states[variable] for variable in scope)))


def _sum_to(table: Table, scope: tuple[int, ...], kept: set[int]) -> Table:
    """Sum over the variables of a scope that are not kept; the table has all states of every variable."""
    away = tuple(axis for axis, variable in enumerate(scope, 1) if variable not in kept)
    return table.sum(axis=away) if away else table


def _eliminate(
    states: Sequence[int], scopes: Sequence[tuple[int, ...]]
) -> tuple[list[int], dict[int, tuple[int, ...]]]:
    """Return an order of elimination by the fewest neighbours, and the clique of each variable."""
    neighbours: list[set[int]] = [set() for _ in states]
    for scope in scopes:
        for variable in scope:
            neighbours[variable].update(scope)
    for variable, near in enumerate(neighbours):
        near.discard(variable)
    queue = [(len(near), variable) for variable, near in enumerate(neighbours)]
    heapq.heapify(queue)
    order: list[int] = []
    met: dict[int, set[int]] = {}
    while queue:
        degree, variable = heapq.heappop(queue)
        if variable in met or degree != len(neighbours[variable]):
            continue
        near = neighbours[variable]
        cells = states[variable]
        for other in near:
            cells *= states[other]
        if cells > MOST_CELLS:
            raise TooEntangledError(
                f"the map is too entangled for exact inference: {len(near) + 1} claims depend on each other directly; "
                "give another semantics (--semantics quadratic-energy)"
            )
        order.append(variable)
        met[variable] = near
        for other in near:
            mine = neighbours[other]
            mine |= near
            mine.discard(other)
            mine.discard(variable)
            heapq.heappush(queue, (len(mine), other))
    position = {variable: i for i, variable in enumerate(order)}
    cliques = {variable: (variable, *sorted(near, key=position.__getitem__)) for variable, near in met.items()}
    return order, cliques
