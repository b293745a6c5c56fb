"""Values through a network, and derivatives back through it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapterlab.argmap.scoring.network import Network, Node
from adapterlab.argmap.scoring.semantics import Number, Semantics, products_without_each

TOLERANCE, SETTLED = 1e-10, 1e-6
"""Rounds end when no value would move by the first; where none moves by more than the second, it is a fixed point."""
STEPS = ((0.5, 300), (0.1, 1000), (0.02, 4000))
"""Step and number of rounds for cycles, each tried where the one before does not settle. Small steps follow the
continuous dynamics by which Potyka (2018) defines strengths, and settle where leaps would swing for ever."""
BUDGET = 2_000_000
"""Values worked out in one attempt, at most: a large knot of cycles gets fewer rounds rather than an hour."""


@dataclass
class Order:
    """The nodes in an order in which each comes after its inputs, and those that lie on or behind a cycle."""

    acyclic: list[int]
    cyclic: list[int]
    users: list[list[int]]
    """For each node, those that are made of it."""


def order(network: Network) -> Order:
    """Kahn's algorithm: what cannot be ordered lies on a cycle or depends on one."""
    nodes = network.nodes
    waiting = [len(node.inputs) + len(node.attackers) for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for source in (*node.inputs, *node.attackers):
            users[source].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    for index in ready:
        for user in users[index]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return Order(ready, [index for index, count in enumerate(waiting) if count > 0], users)


@dataclass
class Values:
    """The value of every node; `change`: the largest move of the last round, where there are cycles."""

    values: list[Number]
    order: Order
    change: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether cycles came to a fixed point."""
        return self.change <= SETTLED


def evaluate(network: Network, semantics: Semantics, given: Mapping[int, Number] | None = None) -> Values:
    """Every node's value; `given` replaces given numbers by index (an array evaluates many draws at once)."""
    sequence, nodes = order(network), network.nodes
    values: list[Any] = [node.given for node in nodes]
    for index, value in (given or {}).items():
        values[index] = value
    for index in sequence.acyclic:
        if nodes[index].kind != "given":
            values[index] = _value(nodes[index], values, semantics)
    result = Values(values, sequence)
    if sequence.cyclic:
        among = set(sequence.cyclic)
        for index in sequence.cyclic:
            base = nodes[index].inputs[0] if nodes[index].kind == "weigh" else index
            values[index] = 0.5 if base in among else values[base]
        for damping, rounds in STEPS:
            _iterate(result, nodes, semantics, damping, min(rounds, max(50, BUDGET // len(sequence.cyclic))))
            if result.settled:
                break
    return result


def downstream(result: Values, index: int) -> list[int]:
    """The nodes that a number bears on, each after those that it is made of."""
    reached, waiting = {index}, [index]
    while waiting:
        for user in result.order.users[waiting.pop()]:
            if user not in reached:
                reached.add(user)
                waiting.append(user)
    return [node for node in result.order.acyclic if node in reached and node != index]


def reevaluate(
    network: Network, semantics: Semantics, result: Values, index: int, value: float, path: list[int]
) -> list[Number]:
    """All values with one given number changed; `path` is what is `downstream` of it."""
    if result.order.cyclic:
        return evaluate(network, semantics, {index: value}).values
    values = result.values.copy()
    values[index] = value
    for node in path:
        values[node] = _value(network.nodes[node], values, semantics)
    return values


def _iterate(result: Values, nodes: list[Node], semantics: Semantics, damping: float, rounds: int) -> None:
    # All nodes move at once, so that the order of the text decides nothing.
    values, cyclic = result.values, result.order.cyclic
    for _ in range(rounds):
        new = [_value(nodes[index], values, semantics) for index in cyclic]
        result.change = max(_largest(abs(n - values[i])) for n, i in zip(new, cyclic, strict=True))
        for index, value in zip(cyclic, new, strict=True):
            values[index] = values[index] + damping * (value - values[index])
        if result.change <= TOLERANCE:
            return


def _largest(value: Number) -> float:
    return float(value if isinstance(value, float) else value.max())


def _value(node: Node, values: list[Number], semantics: Semantics) -> Number:
    inputs = [values[i] for i in node.inputs]
    if node.kind == "product":
        return math.prod(inputs)
    if node.kind == "noisy_or":
        return semantics.noisy_or(inputs)
    if len(inputs) == 1 and not node.attackers:
        return inputs[0]
    return semantics.weigh(inputs[0], inputs[1:], [values[i] for i in node.attackers])


def slopes(node: Node, values: list[float], semantics: Semantics) -> list[tuple[int, float]]:
    """The derivatives of a node's value in each node that it is made of."""
    inputs = [values[i] for i in node.inputs]
    if node.kind == "given":
        return []
    if node.kind == "product":
        return list(zip(node.inputs, products_without_each(inputs), strict=True))
    if node.kind == "noisy_or":
        return list(zip(node.inputs, semantics.noisy_or_slopes(inputs), strict=True))
    base, up, down = semantics.slopes(inputs[0], inputs[1:], [values[i] for i in node.attackers])
    return [*zip(node.inputs, [base, *up], strict=True), *zip(node.attackers, down, strict=True)]


def derivatives(network: Network, semantics: Semantics, result: Values, of: int) -> list[float]:
    """D value(of) / d every node, in one reverse pass.

    Where the network has cycles, the adjoint of those nodes solves (I - J^T) x = e, J the derivatives among them at the
    fixed point (implicit function theorem).
    """
    nodes, values = network.nodes, result.values
    adjoint = [0.0] * len(nodes)
    adjoint[of] = 1.0
    if result.order.cyclic:
        _cyclic_adjoint(nodes, values, semantics, result.order.cyclic, adjoint)
        cyclic = set(result.order.cyclic)
        for index in result.order.cyclic:
            for source, slope in slopes(nodes[index], values, semantics):
                if source not in cyclic:
                    adjoint[source] += adjoint[index] * slope
    for index in reversed(result.order.acyclic):
        if adjoint[index]:
            for source, slope in slopes(nodes[index], values, semantics):
                adjoint[source] += adjoint[index] * slope
    return adjoint


def _cyclic_adjoint(
    nodes: list[Node], values: list[float], semantics: Semantics, cyclic: list[int], adjoint: list[float]
) -> None:
    import numpy as np
    from scipy.sparse import coo_array, identity
    from scipy.sparse.linalg import spsolve

    place = {index: row for row, index in enumerate(cyclic)}
    rows, columns, entries = [], [], []
    for index in cyclic:
        for source, slope in slopes(nodes[index], values, semantics):
            if source in place:
                rows.append(place[source])
                columns.append(place[index])
                entries.append(slope)
    size = len(cyclic)
    transposed = coo_array((entries, (rows, columns)), shape=(size, size))
    start = np.array([adjoint[index] for index in cyclic])
    solved = spsolve((identity(size) - transposed).tocsc(), start)
    for index, value in zip(cyclic, np.atleast_1d(solved), strict=True):
        adjoint[index] = float(value)
