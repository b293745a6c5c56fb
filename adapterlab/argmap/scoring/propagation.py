"""Forward evaluation of a network, and derivatives by one reverse pass.

>>> from adapterlab.argmap.scoring.network import Network, Node
>>> from adapterlab.argmap.scoring.semantics import DFQuAD
>>> network = Network([Node("given", given=0.5), Node("given", given=0.8), Node("product", [0, 1])])
>>> result = evaluate(network, DFQuAD())
>>> result.values
[0.5, 0.8, 0.4]
>>> derivatives(network, DFQuAD(), result, of=2)
[0.8, 0.5, 1.0]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from adapterlab.argmap.scoring.network import Network, Node
from adapterlab.argmap.scoring.semantics import Number, Semantics, products_without_each

if TYPE_CHECKING:
    from adapterlab.argmap.scoring.semantics import Draws

Value = TypeVar("Value", bound=Number, covariant=True)

TOLERANCE, SETTLED = 1e-10, 1e-6
"""Largest change of a value in one round at which the iteration stops, and at which it counts as converged."""
STEPS = ((0.5, 300), (0.1, 1000), (0.02, 4000))
"""Step size and number of rounds for cycles; each pair is tried if the one before does not converge. Small steps follow
the continuous dynamics by which Potyka (2018) defines strengths, and converge where large steps oscillate."""
BUDGET = 2_000_000
"""Largest number of node evaluations in one attempt: large cycles get fewer rounds, so that they do not take hours."""


@dataclass
class Order:
    """An evaluation order of a network's nodes."""

    acyclic: list[int]
    """Nodes that depend on no cycle, each after its inputs."""
    cyclic: list[int]
    """Nodes on a cycle, and nodes that depend on one."""
    users: list[list[int]]
    """For each node, the nodes that have it as an input or attacker."""


def order(network: Network) -> Order:
    """Return an evaluation order (Kahn's algorithm).

    Args:
        network: The network.
    """
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
class Values(Generic[Value]):
    """The value of every node of a network."""

    values: list[Value]
    """Values by index of the node: floats, or arrays of draws."""
    order: Order
    change: float = 0.0
    """Largest change of a value in the last round; 0 without cycles."""

    @property
    def settled(self) -> bool:
        """True if the iteration over cycles converged."""
        return self.change <= SETTLED


@overload
def evaluate(network: Network, semantics: Semantics, given: Mapping[int, float] | None = None) -> Values[float]: ...
@overload
def evaluate(network: Network, semantics: Semantics, given: Mapping[int, Draws]) -> Values[Number]: ...
def evaluate(
    network: Network, semantics: Semantics, given: Mapping[int, float] | Mapping[int, Draws] | None = None
) -> Values[float] | Values[Number]:
    """Compute the value of every node.

    Args:
        network: The network.
        semantics: The semantics.
        given: Values that replace those of given nodes, by index. Arrays evaluate many draws at once.

    Returns:
        The values. Nodes on cycles are iterated to a fixed point; see `Values.settled`.
    """
    sequence, nodes = order(network), network.nodes
    values: list[Number] = [node.given for node in nodes]
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
        for step, rounds in STEPS:
            _iterate(result, nodes, semantics, step, min(rounds, max(50, BUDGET // len(sequence.cyclic))))
            if result.settled:
                break
    return result


def downstream(result: Values[Number], index: int) -> list[int]:
    """Return the nodes that depend on a given node, each after its inputs. Nodes on cycles are left out.

    Args:
        result: The evaluated network.
        index: The given node.
    """
    reached, waiting = {index}, [index]
    while waiting:
        for user in result.order.users[waiting.pop()]:
            if user not in reached:
                reached.add(user)
                waiting.append(user)
    return [node for node in result.order.acyclic if node in reached and node != index]


def reevaluate(
    network: Network, semantics: Semantics, result: Values[float], index: int, value: float, path: list[int]
) -> Sequence[Number]:
    """Compute the value of every node with another value for one given node.

    Args:
        network: The network.
        semantics: The semantics.
        result: The values with the stated number.
        index: The given node.
        value: Its new value.
        path: The nodes to compute again, from `downstream`. With cycles, all nodes are computed again.

    Returns:
        The values by index of the node.
    """
    if result.order.cyclic:
        return evaluate(network, semantics, {index: value}).values
    values: list[Number] = [*result.values]
    values[index] = value
    for node in path:
        values[node] = _value(network.nodes[node], values, semantics)
    return values


def _iterate(result: Values[Number], nodes: list[Node], semantics: Semantics, step: float, rounds: int) -> None:
    # All nodes are updated at the same time, so that the result does not depend on the order of the text.
    values, cyclic = result.values, result.order.cyclic
    for _ in range(rounds):
        new = [_value(nodes[index], values, semantics) for index in cyclic]
        result.change = max(_distance(n, values[i]) for n, i in zip(new, cyclic, strict=True))
        for index, value in zip(cyclic, new, strict=True):
            values[index] = values[index] + step * (value - values[index])
        if result.change <= TOLERANCE:
            return


def _distance(new: Number, old: Number) -> float:
    """Return the absolute difference; of arrays, the largest."""
    difference = new - old
    return abs(difference) if isinstance(difference, float) else float(abs(difference).max())


def _value(node: Node, values: Sequence[Number], semantics: Semantics) -> Number:
    inputs = [values[i] for i in node.inputs]
    if node.kind == "product":
        return math.prod(inputs)
    if node.kind == "noisy_or":
        return semantics.noisy_or(inputs)
    if len(inputs) == 1 and not node.attackers:
        return inputs[0]
    return semantics.weigh(inputs[0], inputs[1:], [values[i] for i in node.attackers])


def slopes(node: Node, values: Sequence[float], semantics: Semantics) -> list[tuple[int, float]]:
    """Return the derivatives of a node's value with respect to its inputs and attackers.

    Args:
        node: The node.
        values: Values of all nodes, by index.
        semantics: The semantics.

    Returns:
        Pairs of an index and a derivative; empty for a given node.
    """
    inputs = [values[i] for i in node.inputs]
    if node.kind == "given":
        return []
    if node.kind == "product":
        return list(zip(node.inputs, products_without_each(inputs), strict=True))
    if node.kind == "noisy_or":
        return list(zip(node.inputs, semantics.noisy_or_slopes(inputs), strict=True))
    base, up, down = semantics.slopes(inputs[0], inputs[1:], [values[i] for i in node.attackers])
    return [*zip(node.inputs, [base, *up], strict=True), *zip(node.attackers, down, strict=True)]


def derivatives(network: Network, semantics: Semantics, result: Values[float], of: int) -> list[float]:
    """Compute the derivatives of one node's value with respect to all nodes, in one reverse pass.

    On cycles, the adjoint x solves (I - J^T) x = e, where J holds the derivatives between the nodes of cycles at the
    fixed point (implicit function theorem).

    Args:
        network: The network.
        semantics: The semantics.
        result: The values of the nodes.
        of: The node whose value is differentiated.

    Returns:
        For each node, d value(of) / d value(node).
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
