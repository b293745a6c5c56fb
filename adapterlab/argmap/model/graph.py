"""Cycles and connected components of a graph, without recursion.

>>> cycles({"a": ["b"], "b": ["c"], "c": ["a"]})
[['a', 'b', 'c']]
>>> components("abc", [("a", "c")])
[['a', 'c'], ['b']]
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)


def cycles(edges: Mapping[Node, Sequence[Node]]) -> list[list[Node]]:
    """Return one cycle for each strongly connected component that has a cycle.

    Args:
        edges: For each node, the nodes that its edges lead to.

    Returns:
        For each cycle, its nodes in order; an edge leads from the last back to the first.
    """
    return [
        _shortest_cycle(first, part, edges)
        for first, part in _StrongComponents(edges).found()
        if len(part) > 1 or first in edges.get(first, ())
    ]


class _StrongComponents(Generic[Node]):
    """Strongly connected components by Tarjan's algorithm (1972), with an explicit stack instead of recursion."""

    def __init__(self, edges: Mapping[Node, Sequence[Node]]) -> None:
        self.edges = edges
        self.number: dict[Node, int] = {}
        self.low: dict[Node, int] = {}
        self.stack: list[Node] = []
        self.on_stack: set[Node] = set()

    def found(self) -> Iterator[tuple[Node, set[Node]]]:
        """Yield each component's first visited node and all its nodes."""
        for start in list(self.edges):
            if start not in self.number:
                yield from self._search(start)

    def _search(self, start: Node) -> Iterator[tuple[Node, set[Node]]]:
        path = [(start, self._enter(start))]
        while path:
            node, neighbours = path[-1]
            following = self._next(node, neighbours)
            if following is not None:
                path.append((following, self._enter(following)))
                continue
            path.pop()
            if path:
                parent = path[-1][0]
                self.low[parent] = min(self.low[parent], self.low[node])
            if self.low[node] == self.number[node]:
                yield node, self._leave(node)

    def _enter(self, node: Node) -> Iterator[Node]:
        self.number[node] = self.low[node] = len(self.number)
        self.stack.append(node)
        self.on_stack.add(node)
        return iter(self.edges.get(node, ()))

    def _next(self, node: Node, neighbours: Iterator[Node]) -> Node | None:
        """Return the next neighbour that was not visited yet; take the visited ones before it into account in `low`."""
        for neighbour in neighbours:
            if neighbour not in self.number:
                return neighbour
            if neighbour in self.on_stack:
                self.low[node] = min(self.low[node], self.number[neighbour])
        return None

    def _leave(self, first: Node) -> set[Node]:
        part = {self.stack.pop()}
        while first not in part:
            part.add(self.stack.pop())
        self.on_stack -= part
        return part


def _shortest_cycle(start: Node, part: set[Node], edges: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Return a shortest path from `start` back to itself inside a strongly connected component."""
    previous: dict[Node, Node] = {}
    frontier = [start]
    while frontier:
        following = []
        for node in frontier:
            for neighbour in edges.get(node, ()):
                if neighbour == start:
                    walk = [node]
                    while walk[-1] != start:
                        walk.append(previous[walk[-1]])
                    return walk[::-1]
                if neighbour in part and neighbour not in previous:
                    previous[neighbour] = node
                    following.append(neighbour)
        frontier = following
    return [start]


def components(nodes: Iterable[Node], edges: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """Return the connected components of an undirected graph.

    Args:
        nodes: The nodes.
        edges: Pairs of connected nodes.

    Returns:
        The nodes of each component, in the order of `nodes`.
    """
    parent = {node: node for node in nodes}

    def root(node: Node) -> Node:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in edges:
        parent[root(one)] = root(other)
    parts: dict[Node, list[Node]] = {}
    for node in parent:
        parts.setdefault(root(node), []).append(node)
    return list(parts.values())
