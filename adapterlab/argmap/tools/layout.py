"""Where the boxes of a drawn map stand: a tree from its theses on the left to its premises on the right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from adapterlab.argmap.model.map import SUPPORTS, Argument, Endpoint, Map

Sign = Literal["support", "attack", "premise", "undercut"]

WIDTH, GAP, ROW_GAP, LINE = 1100, 44, 8, 15
CHARACTER = 6.4
"""The mean width of a character at 12 px; a box breaks its title by it."""


@dataclass
class Box:
    """A claim, or an argument with the conclusion that it alone draws."""

    kind: Literal["claim", "argument"]
    title: str
    argument: Argument | None = None
    children: list[tuple[Sign, Box]] = field(default_factory=list)
    cross_links: list[tuple[Sign, Box]] = field(default_factory=list)
    """Boxes that stand elsewhere and bear on this one too."""
    lines: list[str] = field(default_factory=list)
    depth: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def middle(self) -> float:
        """Half way down the box."""
        return self.y + self.height / 2


@dataclass
class Layout:
    """All boxes, placed."""

    boxes: list[Box]
    width: float
    height: float


def lay_out(the_map: Map) -> Layout:
    """Place every claim and argument of a map."""
    return _Tree(the_map).layout()


class _Tree:
    def __init__(self, the_map: Map) -> None:
        self.map = the_map
        self.placed: dict[Endpoint, Box] = {}
        self.boxes: list[Box] = []
        self.bearing: dict[Endpoint, list[tuple[Sign, Endpoint]]] = defaultdict(list)
        self.drawing: dict[str, list[Argument]] = defaultdict(list)
        for relation in the_map.relations:
            sign: Sign = (
                "undercut" if relation.kind == "undercut" else "support" if relation.kind in SUPPORTS else "attack"
            )
            target = (
                relation.target if relation.target.kind != "inference" else Endpoint("argument", relation.target.title)
            )
            self.bearing[target].append((sign, relation.source))
        for argument in the_map.arguments.values():
            for conclusion in dict.fromkeys(step.conclusion for step in argument.steps):
                self.drawing[conclusion].append(argument)

    def layout(self) -> Layout:
        roots = [Endpoint("claim", title) for title in self.map.theses]
        roots += [Endpoint("claim", title) for title in self.map.claims] + [
            Endpoint("argument", t) for t in self.map.arguments
        ]
        trees = [self._grow(end, 0) for end in roots if end not in self.placed]
        columns = 1 + max((box.depth for box in self.boxes), default=0)
        width = max(float(WIDTH), columns * 200.0)
        column = (width - 2 - GAP * (columns - 1)) / columns
        for box in self.boxes:
            box.width, box.x = column, 1 + box.depth * (column + GAP)
            box.lines = _wrap(box.title, int((column - 70) / CHARACTER))
            caption = 13 if box.argument and box.kind == "claim" else 0
            box.height = 12 + LINE * len(box.lines) + caption
        height = 2.0
        for tree in trees:
            height = self._stack(tree, height) + ROW_GAP
        return Layout(self.boxes, width, max(height, 40.0))

    def _grow(self, end: Endpoint, depth: int) -> Box:
        # Iterative: a chain of claims may be longer than Python's stack is deep.
        root = self._box(end, depth)
        waiting = [root]
        while waiting:
            box = waiting.pop()
            fresh = []
            for sign, source in self._bears_on(box):
                if source in self.placed:
                    box.cross_links.append((sign, self.placed[source]))
                else:
                    child = self._box(source, box.depth + 1)
                    box.children.append((sign, child))
                    fresh.append(child)
            waiting.extend(reversed(fresh))
        return root

    def _box(self, end: Endpoint, depth: int) -> Box:
        box = Box("claim" if end.kind == "claim" else "argument", end.title, depth=depth)
        self.placed[end] = box
        drawn_by = self.drawing.get(end.title, []) if end.kind == "claim" else []
        free = [a for a in drawn_by if Endpoint("argument", a.title) not in self.placed]
        if len(drawn_by) == 1 and free and end.title not in self.map.theses:
            box.argument = free[0]
            self.placed[Endpoint("argument", free[0].title)] = box
        elif end.kind == "argument":
            box.argument = self.map.arguments[end.title]
        self.boxes.append(box)
        return box

    def _bears_on(self, box: Box) -> list[tuple[Sign, Endpoint]]:
        ends: list[tuple[Sign, Endpoint]] = []
        if box.kind == "claim" and box.argument is None:
            ends += [("support", Endpoint("argument", a.title)) for a in self.drawing.get(box.title, [])]
        if box.argument is not None:
            for number, step in enumerate(box.argument.steps):
                if (box.kind == "claim" and step.conclusion == box.title) or number == len(box.argument.steps) - 1:
                    ends += [("premise", Endpoint("claim", title)) for title in step.premises]
                    if number:
                        ends.append(("premise", Endpoint("claim", box.argument.steps[number - 1].conclusion)))
                    break
            ends += self.bearing[Endpoint("argument", box.argument.title)]
        if box.kind == "claim":
            ends += self.bearing[Endpoint("claim", box.title)]
        own = {box.title} if box.kind == "claim" else set()
        return [(sign, end) for sign, end in dict.fromkeys(ends) if not (end.kind == "claim" and end.title in own)]

    def _stack(self, tree: Box, top: float) -> float:
        """Give every box a strip as high as its subtree and put it half way down; the bottom of the tree's strip."""
        order, waiting = [], [tree]
        while waiting:
            box = waiting.pop()
            order.append(box)
            waiting.extend(child for _, child in box.children)
        strips: dict[int, float] = {}
        below: dict[int, float] = {}
        for box in reversed(order):
            below[id(box)] = sum(strips[id(child)] for _, child in box.children)
            strips[id(box)] = max(box.height + ROW_GAP, below[id(box)])
        tops = {id(tree): top}
        for box in order:
            strip, start = strips[id(box)], tops[id(box)]
            box.y = start + (strip - ROW_GAP - box.height) / 2
            start += (strip - below[id(box)]) / 2
            for _, child in box.children:
                tops[id(child)] = start
                start += strips[id(child)]
        return top + strips[id(tree)]


def _wrap(title: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in title.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    lines = [line if len(line) <= width else line[: width - 1] + "…" for line in lines or [""]]
    return lines if len(lines) <= 4 else [*lines[:3], lines[3] + "…"]
