r"""Selection of a part of a map to draw or export, by tags, sections and titles.

The settings under `selection:` in front matter are those of the reference implementation: `selectedTags`,
`selectedSections`, `selectElementsWithoutTag`, `selectElementsWithoutSection`, `excludeStatements`, `excludeArguments`,
`ignoreIsInMap`; and `isInMap: false` in the metadata of an element leaves it out.

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("[Wet]: It is wet. #street\n  + [Rain]: It rains. #sky")
>>> list(select(weather, tags=["sky"]).claims)
['Rain']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, Relation, Section
from adapterlab.argmap.tools.section_depth import refuse_deep_sections
from adapterlab.errors import AdapterlabError, UnknownNameError


def select(the_map: Map, tags: Sequence[str] = (), sections: Sequence[str] = ()) -> Map:
    """Return the part of a map that has one of the tags and is in one of the sections.

    An argument brings all statements of its structure with it. Relations stay if both their ends do. The part is meant
    for drawing and export; scores are those of the whole map.

    Args:
        the_map: The map.
        tags: Tags without `#`; they replace `selectedTags` of the front matter. Empty: any.
        sections: Titles of sections, whose subsections are included; they replace `selectedSections` of the front
            matter, which do not include subsections. Empty: any.

    Returns:
        The part; the map itself if nothing is left out.

    Raises:
        UnknownNameError: A tag or section does not exist; the message names similar ones.
        AdapterlabError: Nothing is selected, or sections are nested more than 100 levels deep.
    """
    refuse_deep_sections(the_map)
    _known("tag", tags, the_map.tags, the_map)
    _known("section", sections, [section.title for section in the_map.all_sections], the_map)
    chosen = _Selection(the_map, list(tags), list(sections))
    arguments = {title: argument for title, argument in the_map.arguments.items() if chosen.holds(argument)}
    inside = {title for argument in arguments.values() for _, title in argument.numbered}
    claims = {title: claim for title, claim in the_map.claims.items() if title in inside or chosen.holds(claim)}
    if len(claims) == len(the_map.claims) and len(arguments) == len(the_map.arguments):
        return the_map
    if not claims and not arguments:
        raise AdapterlabError(f"{the_map.source.name}: no claim or argument is selected{chosen.shown()}")
    used = {element.section for element in (*claims.values(), *arguments.values())}

    def known(end: Endpoint) -> bool:
        return end.title in (claims if end.kind == "claim" else arguments)

    return replace(
        the_map,
        claims=claims,
        arguments=arguments,
        relations=[r for r in (_within(r, known) for r in the_map.relations) if r],
        sections=_used(the_map.sections, used),
    )


def _known(kind: str, wanted: Sequence[str], names: list[str], the_map: Map) -> None:
    for name in wanted:
        if not names:
            raise AdapterlabError(f"{the_map.source.name} has no {kind}s, so {name!r} selects nothing")
        if name not in names:
            raise UnknownNameError(kind, name, names, the_map.source.name)


class _Selection:
    """The rules that an element has to fulfil."""

    def __init__(self, the_map: Map, tags: list[str], sections: list[str]) -> None:
        found = the_map.settings.get("selection")
        self.settings: Mapping[str, object] = found if isinstance(found, Mapping) else {}
        self.tags = tags or self._listed("selectedTags")
        self.titles = sections or self._listed("selectedSections")
        nested = bool(sections)
        self.sections = {
            inner.id
            for section in the_map.all_sections
            if self.titles and section.title in self.titles
            for inner in ([section, *_below(section)] if nested else [section])
        }
        self.excluded = {
            Claim: self._listed("excludeStatements") or [],
            Argument: self._listed("excludeArguments") or [],
        }

    def holds(self, element: Claim | Argument) -> bool:
        """Return True if the element is selected."""
        hidden = element.data.get("isInMap") not in (None, True) and not self.settings.get("ignoreIsInMap")
        if hidden or element.title in self.excluded[type(element)]:
            return False
        in_section = (
            self.titles is None
            or element.section in self.sections
            or (element.section is None and self.settings.get("selectElementsWithoutSection") is True)
        )
        tagged = (
            self.tags is None
            or any(tag in self.tags for tag in element.tags)
            or (not element.tags and self.settings.get("selectElementsWithoutTag") is True)
        )
        return in_section and tagged

    def shown(self) -> str:
        """Return the rules in words."""
        tags = f" with the tags {', '.join(self.tags)}" if self.tags else ""
        return tags + (f" in the sections {', '.join(self.titles)}" if self.titles else "")

    def _listed(self, key: str) -> list[str] | None:
        found = self.settings.get(key)
        return [str(item) for item in found] if isinstance(found, list) else None


def _below(section: Section) -> Iterable[Section]:
    waiting = list(section.children)
    while waiting:
        inner = waiting.pop()
        yield inner
        waiting.extend(inner.children)


def _within(relation: Relation, known: Callable[[Endpoint], bool]) -> Relation | None:
    if not (known(relation.source) and known(relation.target)):
        return None
    return replace(relation, written=[place for place in relation.written if known(place[0]) and known(place[1])])


def _used(sections: list[Section], used: set[str | None]) -> list[Section]:
    """Return the sections that contain something, at any depth."""
    kept = []
    for section in sections:
        children = _used(section.children, used)
        if children or section.id in used:
            kept.append(replace(section, children=children))
    return kept
