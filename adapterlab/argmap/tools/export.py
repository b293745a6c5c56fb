r"""Export of a map: DOT for Graphviz; `to_html` of `page` is available here too.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> print(to_dot(weather, score(weather)).splitlines()[5])
  "c:Rain" -> "c:Wet" [color="#2e8b57"];
"""

from __future__ import annotations

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.draw import GREEN, GREY, RED
from adapterlab.argmap.tools.page import to_html

__all__ = ["to_dot", "to_html"]

_EDGES = {
    "support": f'color="{GREEN}"',
    "entails": f'color="{GREEN}"',
    "attack": f'color="{RED}"',
    "contrary": f'color="{RED}"',
    "contradictory": f'color="{RED}", dir=both',
    "undercut": f'color="{RED}", style=dashed',
}


def to_dot(the_map: Map, scores: Scores) -> str:
    """Return a map as a Graphviz digraph: claims are boxes, arguments are ellipses.

    Args:
        the_map: The map.
        scores: Its scores.
    """
    lines = ["digraph map {", "  rankdir=RL;", '  node [fontname="Helvetica", fontsize=11];']
    for title, found in scores.claims.items():
        bold = ", penwidth=2" if found.role == "thesis" else ""
        lines.append(
            f"  {_quoted('c:' + title)} [shape=box{bold}, label={_quoted(f'{title} ({found.credence:.2f})')}];"
        )
    for title, argument in scores.arguments.items():
        lines.append(
            f"  {_quoted('a:' + title)} [shape=ellipse, label={_quoted(f'{title} ({argument.strength:.2f})')}];"
        )
    for title in scores.arguments:
        own = _quoted("a:" + title)
        for role, numbered in the_map.arguments[title].numbered:
            claim = _quoted("c:" + numbered)
            premise = role == "premise"
            edge, colour = (f"{claim} -> {own}", GREY) if premise else (f"{own} -> {claim}", GREEN)
            lines.append(f'  {edge} [color="{colour}"];')
    for relation in the_map.relations:
        ends = [("c:" if end.kind == "claim" else "a:") + end.title for end in (relation.source, relation.target)]
        if all(end[2:] in (scores.claims if end[0] == "c" else scores.arguments) for end in ends):
            source, target = map(_quoted, ends)
            lines.append(f"  {source} -> {target} [{_EDGES[relation.kind]}];")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
