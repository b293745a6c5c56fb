r"""Export of a map: DOT for Graphviz; `to_html` of `page` is available here too.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> print(to_dot(weather, score(weather)).splitlines()[5])
  "c:Rain" -> "c:Wet" [color="#2e8b57"];
"""

from __future__ import annotations

from collections import defaultdict

from adapterlab.argmap.model.map import Endpoint, Map, Section
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.anchors import label
from adapterlab.argmap.tools.characters import legible
from adapterlab.argmap.tools.colours import Colours
from adapterlab.argmap.tools.draw import GREEN, GREY, RED
from adapterlab.argmap.tools.graphml import edges
from adapterlab.argmap.tools.page import to_html
from adapterlab.argmap.tools.section_depth import refuse_deep_sections

__all__ = ["to_dot", "to_html"]

_EDGES = {
    "support": f'color="{GREEN}"',
    "entails": f'color="{GREEN}"',
    "attack": f'color="{RED}"',
    "contrary": f'color="{RED}"',
    "contradictory": f'color="{RED}", dir=both',
    "undercut": f'color="{RED}", style=dashed',
    "premise": f'color="{GREY}"',
    "conclusion": f'color="{GREEN}"',
}


def to_dot(the_map: Map, scores: Scores) -> str:
    """Return a map as a Graphviz digraph: claims are boxes, arguments are ellipses, sections are clusters.

    Args:
        the_map: The map.
        scores: Its scores.

    Raises:
        AdapterlabError: Sections are nested more than 100 levels deep.
    """
    refuse_deep_sections(the_map)
    colours = Colours(the_map)
    lines = ["digraph map {", "  rankdir=RL;", '  node [fontname="Helvetica", fontsize=11];']
    by_section: dict[str | None, list[str]] = defaultdict(list)
    for title, claim in the_map.claims.items():
        if title in scores.claims:
            bold = ", penwidth=2" if claim.role == "thesis" else ""
            shown = f"{label(claim)} ({scores.claims[title].credence:.2f})"
            mark = _mark(colours.drawn(Endpoint("claim", title)), "color")
            by_section[claim.section].append(
                f"{_quoted('c:' + title)} [shape=box{bold}{mark}, label={_quoted(shown)}];"
            )
    for title, argument in the_map.arguments.items():
        if title in scores.arguments:
            shown = f"{label(argument)} ({scores.arguments[title].strength:.2f})"
            mark = _mark(colours.drawn(Endpoint("argument", title)), "fillcolor")
            by_section[argument.section].append(
                f"{_quoted('a:' + title)} [shape=ellipse{mark}, label={_quoted(shown)}];"
            )
    lines += [f"  {node}" for node in by_section[None]]
    for section in the_map.sections:
        lines += _cluster(section, by_section, colours, "  ")
    for source, target, kind in edges(the_map):
        ends = [(scores.claims if end.kind == "claim" else scores.arguments, end) for end in (source, target)]
        if all(end.title in known for known, end in ends):
            one, other = (_quoted(f"{end.kind[0]}:{end.title}") for _, end in ends)
            lines.append(f"  {one} -> {other} [{_EDGES[kind]}];")
    return legible("\n".join([*lines, "}", ""]))


def _cluster(section: Section, nodes: dict[str | None, list[str]], colours: Colours, indent: str) -> list[str]:
    """Return a section as a box around its nodes; nothing if it has none."""
    inside = [f"{indent}  {node}" for node in nodes.get(section.id, [])]
    for child in section.children:
        inside += _cluster(child, nodes, colours, indent + "  ")
    if not inside:
        return []
    colour = colours.of_section(section, default=False)
    style = f' style=filled; color="{colour}";' if colour else " color=gray;"
    head = f"{indent}subgraph {_quoted('cluster_' + section.id)} {{ label={_quoted(section.title)};{style}"
    return [head, *inside, f"{indent}}}"]


def _mark(colour: str | None, attribute: str) -> str:
    if not colour:
        return ""
    return f', color="{colour}"' if attribute == "color" else f', style=filled, fillcolor="{colour}"'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
