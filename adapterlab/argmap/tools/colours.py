r"""Colours of claims, arguments and sections from the `color:` settings of a map's front matter.

The settings and their defaults are those of the reference implementation: `colorScheme`, `tagColors`, `statementColors`,
`argumentColors`, `groupColors`, `groupColorScheme`, `colorizeByTag`, `colorizeGroupsByTag`, `ignoreColorData`, and
`color:` in the metadata of an element. A colour is `#rrggbb`, `#rgb`, or the position of a colour in the scheme.

>>> from adapterlab.argmap.model.build import parse
>>> front = "===\ncolor: {tagColors: {seen: '#ff0000'}}\n===\n\n"
>>> colours = Colours(parse(front + "[Wet]: It is wet. #seen"))
>>> colours.of(Endpoint("claim", "Wet"))
'#ff0000'
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, Section
from adapterlab.argmap.tools.palettes import SCHEMES

_COLOUR = re.compile(r"#(?:[0-9A-Fa-f]{6}|[0-9A-Fa-f]{3})\Z")
_GROUPS = ("#DADADA", "#BABABA", "#AAAAAA")


class Colours:
    """The colours of one map.

    Args:
        the_map: The map.
    """

    def __init__(self, the_map: Map) -> None:
        self.map = the_map
        settings = the_map.settings.get("color")
        self.configured = isinstance(settings, Mapping)
        """True if the front matter has colour settings."""
        self.settings: Mapping[str, object] = settings if isinstance(settings, Mapping) else {}
        self.scheme = self._scheme()
        groups = self.settings.get("groupColorScheme")
        self.groups: Sequence[object] = groups if isinstance(groups, list) else _GROUPS
        self.tag_colours = self._of_tags(self.scheme)
        """Colour of each tag."""
        self._group_tags = self._of_tags(self.groups)
        self._sections = {section.id: section for section in the_map.all_sections}

    def of(self, end: Endpoint, default: bool = True) -> str | None:
        """Return the colour of a claim or argument.

        Args:
            end: The claim or argument.
            default: Give elements without a colour of their own the first colour of the scheme, as the reference does.
        """
        element: Claim | Argument = (self.map.claims if end.kind == "claim" else self.map.arguments)[end.title]
        named = self._named("statementColors" if end.kind == "claim" else "argumentColors")
        if "color" in element.data and not self.settings.get("ignoreColorData"):
            return _colour(element.data["color"], self.scheme)
        if end.title in named:
            return _colour(named[end.title], self.scheme)
        if self.settings.get("colorizeByTag", True) and element.tags:
            return _colour(self.tag_colours.get(self._first(element.tags)), self.scheme)
        return _colour(0, self.scheme) if default else None

    def of_section(self, section: Section, default: bool = True) -> str | None:
        """Return the colour of a section.

        Args:
            section: The section.
            default: Give sections without a colour of their own one by their level, as the reference does.
        """
        named = self._named("groupColors")
        if "color" in section.data and not self.settings.get("ignoreColorData"):
            return _colour(section.data["color"], self.groups)
        if section.title in named:
            return _colour(named[section.title], self.groups)
        if self.settings.get("colorizeGroupsByTag") and section.tags:
            return _colour(self._group_tags.get(self._first(section.tags)), self.groups)
        return _colour(min(len(self.groups), section.level) - 1, self.groups) if default else None

    def font(self, key: str) -> str:
        """Return a font colour from the settings, black by default.

        Args:
            key: `statementFontColor`, `argumentFontColor` or `groupFontColor`.
        """
        return _colour(self.settings.get(key), ()) or "#000000"

    def drawn(self, end: Endpoint) -> str | None:
        """Return the colour in which a drawing marks a claim or argument: its own, or that of its section.

        Args:
            end: The claim or argument.

        Returns:
            The colour; None for an element without a colour. Without colour settings in the front matter, only
            `color:` in the metadata of elements and sections counts.
        """
        element: Claim | Argument = (self.map.claims if end.kind == "claim" else self.map.arguments)[end.title]
        own = self.of(end, default=False) if self.configured or "color" in element.data else None
        section = self._sections.get(element.section or "")
        return own or (self.of_section(section, default=False) if section else None)

    def _scheme(self) -> Sequence[object]:
        chosen = self.settings.get("colorScheme", "default")
        if isinstance(chosen, list):
            return chosen
        return SCHEMES.get(str(chosen), SCHEMES["default"])

    def _named(self, key: str) -> Mapping[str, object]:
        named = self.settings.get(key)
        return named if isinstance(named, Mapping) else {}

    def _of_tags(self, scheme: Sequence[object]) -> dict[str, str]:
        if not (self.settings.get("colorizeByTag", True) or self.settings.get("colorizeGroupsByTag")):
            return {}
        named, found = self._named("tagColors"), {}
        for position, tag in enumerate(self.map.tags, start=1):
            found[tag] = _colour(named.get(tag, position), scheme)
        return {tag: colour for tag, colour in found.items() if colour}

    def _first(self, tags: list[str]) -> str:
        """Return the tag with the highest priority; of equal ones the first."""
        named = self._named("tagColors")

        def priority(tag: str) -> float:
            entry = named.get(tag)
            value = entry.get("priority") if isinstance(entry, Mapping) else 0
            return float(value) if isinstance(value, int | float) else 0.0

        return max(tags, key=priority)


def _colour(value: object, scheme: Sequence[object]) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("color")
    if isinstance(value, int | float) and not isinstance(value, bool) and value in range(len(scheme)):
        value = scheme[int(value)]
    return value if isinstance(value, str) and _COLOUR.match(value) else None
