r"""Export of a map as GraphML, for networkx, Gephi, yEd and other tools for graphs.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> '<edge id="e0" source="[Rain]" target="[Wet]">' in to_graphml(weather, score(weather))
True
"""

from __future__ import annotations

from xml.etree import ElementTree

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.characters import legible
from adapterlab.argmap.tools.colours import Colours

_KEYS = {
    "node": {
        "kind": "string",
        "title": "string",
        "text": "string",
        "role": "string",
        "credence": "double",
        "stated": "double",
        "strength": "double",
        "inference": "double",
        "tags": "string",
        "section": "string",
        "color": "string",
    },
    "edge": {"relation": "string"},
}
"""Attributes of nodes and edges, with their types."""


def to_graphml(the_map: Map, scores: Scores) -> str:
    """Return a map as GraphML: a directed graph of claims `[Title]` and arguments `<Title>`.

    Edges lead from premises to their argument, from an argument to its conclusions, and from the source of each relation
    to its target; an undercut leads to the argument. Nodes have `kind`, `title`, `text`, `role`, `credence` (of claims),
    `strength` (of arguments), `stated`, `inference` (of the last step), `tags` (separated by commas), `section` and
    `color`; edges have `relation`.

    Args:
        the_map: The map.
        scores: Its scores.
    """
    root = ElementTree.Element("graphml", {"xmlns": "http://graphml.graphdrawing.org/xmlns"})
    for domain, keys in _KEYS.items():
        for name, kind in keys.items():
            attributes = {"id": f"{domain}-{name}", "for": domain, "attr.name": name, "attr.type": kind}
            ElementTree.SubElement(root, "key", attributes)
    graph = ElementTree.SubElement(root, "graph", {"id": "map", "edgedefault": "directed"})
    colours = Colours(the_map)
    sections = {section.id: section.title for section in the_map.all_sections}
    elements: list[Claim | Argument] = [*the_map.claims.values(), *the_map.arguments.values()]
    for element in elements:
        _node(graph, element, scores, colours, sections.get(element.section or ""))
    for number, (source, target, relation) in enumerate(edges(the_map)):
        ends = {"id": f"e{number}", "source": legible(str(source)), "target": legible(str(target))}
        _data(ElementTree.SubElement(graph, "edge", ends), "edge", relation=relation)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def edges(the_map: Map) -> list[tuple[Endpoint, Endpoint, str]]:
    """Return the edges of a map as a graph of claims and arguments.

    Args:
        the_map: The map.

    Returns:
        Source, target, and kind: `premise`, `conclusion`, or the kind of the relation.
    """
    found: list[tuple[Endpoint, Endpoint, str]] = []
    for argument in the_map.arguments.values():
        own = Endpoint("argument", argument.title)
        for role, title in argument.numbered:
            claim = Endpoint("claim", title)
            found.append((claim, own, "premise") if role == "premise" else (own, claim, "conclusion"))
    for relation in the_map.relations:
        ends = (relation.source, relation.target)
        source, target = (Endpoint("argument", end.title) if end.kind == "inference" else end for end in ends)
        found.append((source, target, relation.kind))
    return list(dict.fromkeys(found))


def _node(
    graph: ElementTree.Element, element: Claim | Argument, scores: Scores, colours: Colours, section: str | None
) -> None:
    end = Endpoint("claim" if isinstance(element, Claim) else "argument", element.title)
    node = ElementTree.SubElement(graph, "node", {"id": legible(str(end))})
    common = {"title": element.title, "text": element.text, "tags": ",".join(element.tags), "section": section}
    _data(node, "node", kind=end.kind, **common, color=colours.drawn(end))
    if isinstance(element, Claim):
        found = scores.claims.get(element.title)
        credence = found.credence if found else None
        _data(node, "node", role=element.role, credence=credence, stated=element.credence)
    else:
        strength = scores.arguments.get(element.title)
        _data(node, "node", strength=strength.strength if strength else None, inference=element.inference)


def _data(parent: ElementTree.Element, domain: str, **values: str | float | None) -> None:
    for name, value in values.items():
        if value is not None and value != "":
            data = ElementTree.SubElement(parent, "data", {"key": f"{domain}-{name}"})
            data.text = legible(value) if isinstance(value, str) else repr(value)
