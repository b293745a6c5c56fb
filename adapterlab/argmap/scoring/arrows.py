r"""Arrows of a map that is read as a Bayesian network: what predicts what.

>>> from adapterlab.argmap.model.build import parse
>>> arrow, = arrows_of(parse("[Wet]: It is wet. {prior: 0.2}\n  + [Rain]: It rains. {credence: 0.9}"))
>>> arrow.names
('[Rain] if [Wet]', '[Rain] if not [Wet]')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapterlab.argmap.model.map import SUPPORTS, Argument, Endpoint, Map
from adapterlab.argmap.scoring.network import counted_elsewhere, parameter


@dataclass(frozen=True)
class Arrow:
    """An arrow without its numbers."""

    parent: Endpoint
    """Claim that predicts."""
    child: Endpoint
    """Claim or argument that is predicted, and so bears on the parent."""
    attacks: bool = False
    """True if the child speaks against the parent."""
    contradicts: bool = False
    """True if exactly one of the two is true."""
    step: tuple[str, int] | None = None
    """Title of an argument and number of its step, from 0; None for a relation."""
    share: int = 1
    """Number of premises that the inference is divided between."""
    undercutters: tuple[Endpoint, ...] = ()
    """Claims and arguments that undercut the inference."""

    @property
    def names(self) -> tuple[str, str]:
        """Names of its two numbers: of the child if the parent is true, and if it is false."""
        return f"{self.child} if {self.parent}", f"{self.child} if not {self.parent}"


def arrows_of(the_map: Map, warnings: list[str] | None = None) -> list[Arrow]:
    """Return the arrows of a map.

    Args:
        the_map: The map; its broken parts are left out.
        warnings: List to which remarks on relations that are read otherwise than written are added.
    """
    remarks = [] if warnings is None else warnings
    undercut: dict[Endpoint, list[Endpoint]] = {}
    arrows: list[Arrow] = []
    contradictions: list[Arrow] = []
    elsewhere = counted_elsewhere(the_map)
    for relation in the_map.relations:
        source, target = relation.source, relation.target
        if source == target or _broken(the_map, source) or _broken(the_map, target):
            continue
        if (source, target, relation.kind) in elsewhere:
            continue
        attacks = relation.kind not in SUPPORTS
        structured = target.kind == "argument" and bool(the_map.arguments[target.title].steps)
        if target.kind == "inference" or (structured and attacks):
            argument = the_map.arguments[target.title]
            index = target.index if target.kind == "inference" else argument.steps[-1].conclusion_index
            undercut.setdefault(Endpoint("inference", target.title, index), []).append(source)
        elif structured:
            conclusion = Endpoint("claim", the_map.arguments[target.title].conclusion or "")
            arrows.append(Arrow(conclusion, source))
        elif relation.kind == "contradictory":
            contradictions.append(Arrow(target, source, attacks=True, contradicts=True))
        else:
            if relation.kind == "undercut":
                remarks.append(f"{source} undercuts {target}, which has no inference: it is counted as an attack")
            arrows.append(Arrow(target, source, attacks))
    for argument in the_map.arguments.values():
        if not argument.broken:
            arrows += _steps(argument, undercut)
    above = _Ancestors(arrows)
    for arrow in contradictions:  # either way round says the same
        turned = above.reach(arrow.parent, arrow.child)
        arrows.append(replace(arrow, parent=arrow.child, child=arrow.parent) if turned else arrow)
        above.add(arrows[-1])
    return arrows


def _steps(argument: Argument, undercut: Mapping[Endpoint, Sequence[Endpoint]]) -> list[Arrow]:
    arrows: list[Arrow] = []
    before: list[str] = []
    for number, step in enumerate(argument.steps):
        inputs = [title for title in (*step.premises, *before) if title != step.conclusion]
        parent = Endpoint("claim", step.conclusion)
        undercutters = tuple(undercut.get(Endpoint("inference", argument.title, step.conclusion_index), ()))
        arrows += [
            Arrow(
                parent,
                Endpoint("claim", title),
                step=(argument.title, number),
                share=len(inputs),
                undercutters=undercutters,
            )
            for title in inputs
        ]
        before = [step.conclusion]
    return arrows


def _broken(the_map: Map, end: Endpoint) -> bool:
    return end.kind != "claim" and the_map.arguments[end.title].broken


def number_name(the_map: Map, name: str) -> str:
    """Return the name of a number: of arrows `[Rain] if [Wet]`, of all others as `parameter` reads them.

    Args:
        the_map: The map.
        name: The name, with titles bare or in brackets.

    Raises:
        UnknownNameError: There is no such title.
    """
    child, separator, parent = name.partition(" if ")
    if not separator or name in the_map.claims:
        return parameter(the_map, name)
    negated = "not " if parent.startswith("not ") else ""
    return f"{parameter(the_map, child)} if {negated}{parameter(the_map, parent.removeprefix('not '))}"


class _Ancestors:
    """Arrows by their start, for the direction of contradictions."""

    def __init__(self, arrows: Sequence[Arrow]) -> None:
        self.below: dict[Endpoint, list[Endpoint]] = {}
        for arrow in arrows:
            self.add(arrow)

    def add(self, arrow: Arrow) -> None:
        """Enter an arrow."""
        for parent in (arrow.parent, *arrow.undercutters):
            self.below.setdefault(parent, []).append(arrow.child)

    def reach(self, above: Endpoint, below: Endpoint) -> bool:
        """Return True if an arrow from `above` to `below` would close a circle."""
        waiting, seen = [below], {below}
        while waiting:
            for end in self.below.get(waiting.pop(), ()):
                if end == above:
                    return True
                if end not in seen:
                    seen.add(end)
                    waiting.append(end)
        return False
