r"""Contents of the cards of an HTML page: one for each claim and argument.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> from adapterlab.argmap.tools.anchors import anchors_of
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> card = Cards(weather, score(weather), anchors_of(weather)).claim(weather.claims["Rain"])
>>> card.relations
[('supports', [Link(text='[Wet]', href='#claim-Wet')])]
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from markupsafe import Markup, escape

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, RelationKind, Step
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.anchors import is_untitled
from adapterlab.argmap.tools.colours import Colours

_NAMED = re.compile(r"@(\[[^\]]+\]|&lt;.+?&gt;)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_NUMBERS = ("credence", "prior", "inference", "color", "isInGroup", "isInMap")
"""Metadata that is not listed under a card."""
VERBS: dict[RelationKind, tuple[str, str]] = {
    "support": ("supports", "supported by"),
    "attack": ("attacks", "attacked by"),
    "undercut": ("undercuts", "undercut by"),
    "contradictory": ("contradicts", "contradicts"),
    "entails": ("entails", "entailed by"),
    "contrary": ("is contrary to", "contrary to"),
}
"""Words for each relation: of its source, and of its target."""


class Link(NamedTuple):
    """A link; without an address it is shown as text."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class Line:
    """A line of an argument's structure: a numbered statement, or an inference."""

    number: int = 0
    """Number of a statement; 0 for an inference."""
    role: str = ""
    """`premise`, `intermediary-conclusion`, `main-conclusion`, or empty for an inference."""
    title: Link | None = None
    """Link to the card of the statement; None for an inference."""
    text: str = ""
    """The statement's text, or the names of the inference's rules."""
    value: float | None = None
    """Credence of the statement, or the stated inference."""
    data: list[tuple[str, str]] = field(default_factory=list)
    """Metadata of the inference."""


@dataclass(frozen=True)
class Card:
    """A claim or an argument as the page shows it."""

    kind: str
    id: str
    colour: str | None
    title: str
    """The title in its brackets; empty for an element without title."""
    text: Markup
    value: float | None
    """Credence of a claim or strength of an argument."""
    stated: str
    """The stated number, with its name; empty if there is none."""
    role: str
    tags: list[str]
    quotes: list[str]
    links: list[Link]
    data: list[tuple[str, str]]
    """Other metadata: keys and values."""
    relations: list[tuple[str, list[Link]]]
    """Verbs, and the claims or arguments that they lead to."""
    structure: list[Line]
    """Premises, inferences and conclusions in order; empty for a claim."""


class Cards:
    """The cards of one map.

    Args:
        the_map: The map.
        scores: Its scores.
        anchors: Ids of claims and arguments in the page.
        folder: Way from the page to the map's folder, for relative links; empty if they are the same.
    """

    def __init__(self, the_map: Map, scores: Scores, anchors: Mapping[Endpoint, str], folder: str = "") -> None:
        self.map, self.scores, self.anchors, self.folder = the_map, scores, anchors, folder
        self.colours = Colours(the_map)
        self.stated: dict[tuple[str, str], dict[str, object]] = {}
        """Metadata of each claim in each structure, by the titles of argument and claim."""
        for claim in the_map.claims.values():
            for mention in claim.mentions:
                if mention.argument is not None and mention.data:
                    known = self.stated.get((mention.argument, claim.title), {})
                    self.stated[mention.argument, claim.title] = known | mention.data
        self.relations: dict[Endpoint, dict[str, dict[Endpoint, None]]] = defaultdict(lambda: defaultdict(dict))
        for relation in the_map.relations:
            out, into = VERBS[relation.kind]
            ends = [(relation.source, relation.target), *((s, t) for s, t, _ in relation.written)]
            for source, target in ends:
                source, target = _whole(source), _whole(target)
                self.relations[source][out][target] = None
                self.relations[target][into][source] = None
        for argument in the_map.arguments.values():
            own = Endpoint("argument", argument.title)
            for role, title in argument.numbered:
                verb = "premise of" if role == "premise" else "concluded by"
                self.relations[Endpoint("claim", title)][verb][own] = None

    def claim(self, claim: Claim) -> Card:
        """Return the card of a claim.

        Args:
            claim: The claim.
        """
        found = self.scores.claims.get(claim.title)
        stated = [
            f"{key} {value:g} stated" for key in ("credence", "prior") if (value := getattr(claim, key)) is not None
        ]
        role = claim.role if claim.role != "claim" or is_untitled(claim) else ""
        return self._card(claim, "claim", found.credence if found else None, ", ".join(stated), role, [])

    def argument(self, argument: Argument) -> Card:
        """Return the card of an argument.

        Args:
            argument: The argument.
        """
        found = self.scores.arguments.get(argument.title)
        credence = argument.data.get("credence")
        stated = f"credence {credence:g} stated" if isinstance(credence, int | float) else ""
        return self._card(
            argument, "argument", found.strength if found else None, stated, "argument", self._structure(argument)
        )

    def _card(
        self,
        element: Claim | Argument,
        kind: str,
        value: float | None,
        stated: str,
        role: str,
        structure: list[Line],
    ) -> Card:
        end = Endpoint("claim" if kind == "claim" else "argument", element.title)
        places = [m for m in element.mentions if m.role != "structure"]
        links = dict.fromkeys(self._address(text, url) for m in places for text, url in m.links)
        quotes = dict.fromkeys(quoted for m in places for quoted in m.quotes)
        relations = [
            (verb, [self._to(other) for other in others]) for verb, others in self.relations.get(end, {}).items()
        ]
        return Card(
            kind,
            self.anchors[end],
            self.colours.drawn(end),
            "" if is_untitled(element) and element.text else str(end),
            self._text(element.text),
            value,
            stated,
            role,
            element.tags,
            list(quotes),
            list(links),
            _own_data(element),
            relations,
            structure,
        )

    def _structure(self, argument: Argument) -> list[Line]:
        steps = {step.conclusion_index: step for step in argument.steps}
        lines: list[Line] = []
        for index, (role, title) in enumerate(argument.numbered):
            if index in steps:
                lines.append(self._inference(steps[index], argument))
            claim, found = self.map.claims[title], self.scores.claims.get(title)
            lines.append(
                Line(
                    index + 1,
                    role,
                    self._to(Endpoint("claim", title)),
                    "" if is_untitled(claim) else claim.text,
                    found.credence if found else None,
                )
            )
        return lines

    def _inference(self, step: Step, argument: Argument) -> Line:
        data = step.data | self.stated.get((argument.title, step.conclusion), {})
        return Line(text=", ".join(step.rules), value=step.inference, data=_shown(data))

    def _to(self, end: Endpoint) -> Link:
        element = self.map.claims[end.title] if end.kind == "claim" else self.map.arguments[end.title]
        shown = element.text if is_untitled(element) and element.text else str(end)
        anchor = self.anchors.get(end)
        return Link(shown, f"#{quote(anchor)}" if anchor else "")

    def _address(self, text: str, url: str) -> Link:
        if url.lower().startswith(("https://", "http://")):
            return Link(text, url)
        if _SCHEME.match(url) or url.startswith(("/", "#")):
            return Link(f"{text} ({url})")
        return Link(text, f"{self.folder}/{url}" if self.folder else url)

    def _text(self, text: str) -> Markup:
        """Return a text with links for the titles that it mentions."""

        def link(match: re.Match[str]) -> str:
            name = str(Markup(match[1]).unescape())
            end = Endpoint("claim" if name[0] == "[" else "argument", name[1:-1])
            anchor = self.anchors.get(end)
            return f'<a href="#{escape(quote(anchor))}">{match[1]}</a>' if anchor else match[0]

        return Markup(_NAMED.sub(link, str(escape(text))))


def _whole(end: Endpoint) -> Endpoint:
    return Endpoint("argument", end.title) if end.kind == "inference" else end


def _own_data(element: Claim | Argument) -> list[tuple[str, str]]:
    """Return the metadata of an element, without what is about an inference that concludes it."""
    own: dict[str, object] = {}
    for mention in element.mentions:
        if "inference" not in mention.data:
            own |= mention.data
    return _shown(own)


def _shown(data: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in data.items()
        if key not in _NUMBERS
    ]
