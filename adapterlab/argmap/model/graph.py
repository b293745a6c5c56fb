"""Cycles and connected parts of a graph, without recursion."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def cycles(edges: Mapping[Node, Sequence[Node]]) -> list[list[Node]]:
    """One cycle for each strongly connected part that has any (Tarjan 1972), as a closed walk without its last step."""
    number: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    on_stack: set[Node] = set()
    found: list[list[Node]] = []
    for root in list(edges):
        if root in number:
            continue
        work: list[tuple[Node, int]] = [(root, 0)]
        while work:
            node, position = work.pop()
            if position == 0:
                number[node] = low[node] = len(number)
                stack.append(node)
                on_stack.add(node)
            neighbours = edges.get(node, ())
            descended = False
            for index in range(position, len(neighbours)):
                neighbour = neighbours[index]
                if neighbour not in number:
                    work.extend([(node, index + 1), (neighbour, 0)])
                    descended = True
                    break
                if neighbour in on_stack:
                    low[node] = min(low[node], number[neighbour])
            if descended:
                continue
            if low[node] == number[node]:
                part = set()
                while True:
                    member = stack.pop()
                    on_stack.discard(member)
                    part.add(member)
                    if member == node:
                        break
                if len(part) > 1 or node in neighbours:
                    found.append(_walk(node, part, edges))
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
    return found


def _walk(start: Node, part: set[Node], edges: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """A shortest way from `start` back to itself inside a strongly connected part."""
    came: dict[Node, Node] = {}
    frontier = [start]
    while frontier:
        following = []
        for node in frontier:
            for neighbour in edges.get(node, ()):
                if neighbour == start:
                    walk = [node]
                    while walk[-1] != start:
                        walk.append(came[walk[-1]])
                    return walk[::-1]
                if neighbour in part and neighbour not in came:
                    came[neighbour] = node
                    following.append(neighbour)
        frontier = following
    return [start]


def components(nodes: Iterable[Node], edges: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """The connected parts, each in the order of `nodes`."""
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
