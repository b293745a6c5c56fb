r"""Layout of a drawn map: a tree of boxes with theses on the left and premises on the right.

>>> from adapterlab.argmap.model.build import parse
>>> [(box.title, box.depth) for box in lay_out(parse("[Wet]: It is wet.\n  + [Rain]: It rains.")).boxes]
[('Wet', 0), ('Rain', 1)]
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from adapterlab.argmap.model.map import SUPPORTS, Argument, Endpoint, Map
from adapterlab.argmap.tools.anchors import label
from adapterlab.argmap.tools.wrap import wrap

Sign = Literal["support", "attack", "premise", "undercut"]

WIDTH, COLUMN, GAP, ROW_GAP, LINE = 1100, 240, 44, 8, 15
"""Smallest width of a drawing and of a column with its gap, gaps between columns and between rows, and height of a line
of text, in pixels."""
CHARACTER, BOLD_CHARACTER = 6.8, 7.6
"""Mean widths of a character at 12 px, for breaking titles into lines."""
VALUE = 28
"""Width of a number such as 0.55 in the corner of a box, in pixels."""
MAX_LINES = 6
"""Lines of a title or text in a box; the rest is left out."""
MAX_DROP = 120
"""Largest distance of a box from the top of its subtree, so that the theses of a tall drawing are on its first screen."""


@dataclass
class Box:
    """A claim, an argument, or a claim together with the only argument that concludes it."""

    kind: Literal["claim", "argument"]
    title: str
    argument: Argument | None = None
    """The argument in the box."""
    children: list[tuple[Sign, Box]] = field(default_factory=list)
    """Boxes to the right that bear on this one."""
    cross_links: list[tuple[Sign, Box]] = field(default_factory=list)
    """Boxes elsewhere in the tree that bear on this one."""
    lines: list[str] = field(default_factory=list)
    """The title, broken into lines."""
    depth: int = 0
    """Column, from 0 on the left."""
    x: float = 0.0
    """Left edge in pixels."""
    y: float = 0.0
    """Upper edge in pixels."""
    width: float = 0.0
    height: float = 0.0

    @property
    def middle(self) -> float:
        """Vertical centre of the box in pixels."""
        return self.y + self.height / 2


@dataclass
class Layout:
    """The placed boxes of a map."""

    boxes: list[Box]
    width: float
    """Width of the drawing in pixels."""
    height: float
    """Height of the drawing in pixels."""


def lay_out(the_map: Map, value_width: float = VALUE, width: float = WIDTH) -> Layout:
    """Place every claim and argument of a map.

    Args:
        the_map: The map.
        value_width: Room for the numbers in the upper right corner of each box, in pixels.
        width: Smallest width of the drawing, in pixels.

    Returns:
        The boxes and the size of the drawing.
    """
    return _Tree(the_map).layout(value_width, width)


class _Tree:
    def __init__(self, the_map: Map) -> None:
        self.map = the_map
        self.placed: dict[Endpoint, Box] = {}
        self.boxes: list[Box] = []
        self.sources: dict[Endpoint, list[tuple[Sign, Endpoint]]] = defaultdict(list)
        self.concluding: dict[str, list[Argument]] = defaultdict(list)
        for relation in the_map.relations:
            sign: Sign = (
                "undercut" if relation.kind == "undercut" else "support" if relation.kind in SUPPORTS else "attack"
            )
            target = (
                relation.target if relation.target.kind != "inference" else Endpoint("argument", relation.target.title)
            )
            self.sources[target].append((sign, relation.source))
        for argument in the_map.arguments.values():
            for conclusion in dict.fromkeys(step.conclusion for step in argument.steps):
                self.concluding[conclusion].append(argument)

    def layout(self, value_width: float, least: float) -> Layout:
        roots = [Endpoint("claim", title) for title in self.map.theses]
        roots += [Endpoint("claim", title) for title in self.map.claims] + [
            Endpoint("argument", t) for t in self.map.arguments
        ]
        trees = [self._build(end, 0) for end in roots if end not in self.placed]
        columns = 1 + max((box.depth for box in self.boxes), default=0)
        width = max(least, float(columns * COLUMN))
        column = (width - 2 - GAP * (columns - 1)) / columns
        theses = set(self.map.theses)
        for box in self.boxes:
            box.width, box.x = column, 1 + box.depth * (column + GAP)
            character = BOLD_CHARACTER if box.kind == "claim" and box.title in theses else CHARACTER
            box.lines = wrap(self._label(box), (column - 24 - value_width) / character, MAX_LINES)
            caption = 13 if box.argument and box.kind == "claim" else 0
            box.height = 18 + LINE * len(box.lines) + caption
        height = 2.0
        for tree in trees:
            height = self._stack(tree, height) + ROW_GAP
        return Layout(self.boxes, width, max(height, 40.0))

    def _label(self, box: Box) -> str:
        return label(self.map.claims[box.title] if box.kind == "claim" else self.map.arguments[box.title])

    def _build(self, end: Endpoint, depth: int) -> Box:
        # Iterative, because a chain of claims may be longer than Python's recursion limit.
        root = self._box(end, depth)
        waiting = [root]
        while waiting:
            box = waiting.pop()
            fresh = []
            for sign, source in self._sources_of(box):
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
        concluded_by = self.concluding.get(end.title, []) if end.kind == "claim" else []
        free = [a for a in concluded_by if Endpoint("argument", a.title) not in self.placed]
        if len(concluded_by) == 1 and free and self.map.claims[end.title].role != "thesis":
            box.argument = free[0]
            self.placed[Endpoint("argument", free[0].title)] = box
        elif end.kind == "argument":
            box.argument = self.map.arguments[end.title]
        self.boxes.append(box)
        return box

    def _sources_of(self, box: Box) -> list[tuple[Sign, Endpoint]]:
        ends: list[tuple[Sign, Endpoint]] = []
        if box.kind == "claim" and box.argument is None:
            ends += [("support", Endpoint("argument", a.title)) for a in self.concluding.get(box.title, [])]
        if box.argument is not None:
            for number, step in enumerate(box.argument.steps):
                if (box.kind == "claim" and step.conclusion == box.title) or number == len(box.argument.steps) - 1:
                    ends += [("premise", Endpoint("claim", title)) for title in step.premises]
                    if number:
                        ends.append(("premise", Endpoint("claim", box.argument.steps[number - 1].conclusion)))
                    break
            ends += self.sources[Endpoint("argument", box.argument.title)]
        if box.kind == "claim":
            ends += self.sources[Endpoint("claim", box.title)]
        own = {box.title} if box.kind == "claim" else set()
        return [(sign, end) for sign, end in dict.fromkeys(ends) if not (end.kind == "claim" and end.title in own)]

    def _stack(self, tree: Box, top: float) -> float:
        """Place every box in a strip as high as its subtree; return the lower edge of the tree's strip."""
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
            box.y = start + min((strip - ROW_GAP - box.height) / 2, MAX_DROP)
            start += (strip - below[id(box)]) / 2
            for _, child in box.children:
                tops[id(child)] = start
                start += strips[id(child)]
        return top + strips[id(tree)]
