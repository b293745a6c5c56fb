r"""Data classes of an argument map: claims, arguments, relations, sections.

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("[Wet]: The street is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> weather.claims["Rain"].text, weather.claims["Rain"].credence, weather.theses
('It rains.', 0.8, ['Wet'])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapterlab.argmap.syntax.diagnostics import Diagnostic, Source
from adapterlab.argmap.syntax.metadata import Metadata

RelationKind = Literal["support", "attack", "undercut", "contradictory", "entails", "contrary"]
Role = Literal["thesis", "conclusion", "premise", "claim"]
SUPPORTS = ("support", "entails")
ATTACKS = ("attack", "contrary", "contradictory")


@dataclass(slots=True)
class Mention:
    """One occurrence of a claim or an argument in the text."""

    line: int
    """Line number, from 1."""
    start: int
    """Offset of its first character."""
    end: int
    """Offset behind its last character, metadata excluded."""
    role: str
    """`premise`, `intermediary-conclusion`, `main-conclusion`, `top-level`, `relation`, `description` or `broken`."""
    reference: bool = False
    """True for a title without a text (`[Title]`)."""
    text: str | None = None
    """The text as the reference implementation gives it: tags, link titles and quotes included."""
    plain: str = ""
    """The text without tags, quotes and lines that consist of links."""
    tags: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    """Title and address of each link."""
    quotes: list[str] = field(default_factory=list)
    """Block quotes (lines that begin with `>`)."""
    named: list[str] = field(default_factory=list)
    """Titles that the text mentions by `@[Title]` or `@<Title>`, in their brackets."""
    data: Metadata = field(default_factory=dict)
    data_start: int = -1
    """Offset of the metadata block; -1 if there is none."""
    data_end: int = -1
    """Offset behind the metadata block; -1 if there is none."""
    section: str | None = None
    """Identifier of the section that contains it."""
    argument: str | None = None
    """Title of the argument whose premise-conclusion structure contains it."""


@dataclass(slots=True)
class _Titled:
    title: str
    mentions: list[Mention] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    data: Metadata = field(default_factory=dict)
    """The metadata of all mentions, merged."""
    section: str | None = None
    """Identifier of its section."""

    @property
    def defined(self) -> Mention | None:
        """The mention whose text is shown, as in the reference: the last with a text, or the last with `isCanonical`."""
        last = None
        for mention in reversed(self.mentions):
            if not mention.reference and mention.text:
                if mention.data.get("isCanonical"):
                    return mention
                last = last or mention
        return last

    @property
    def text(self) -> str:
        """Its text without tags, quotes and lines of links; empty if there are only references to it."""
        return self.defined.plain if self.defined else ""

    @property
    def line(self) -> int:
        """Line number of its definition, or of its first mention; 0 if there is none."""
        place = self.defined or (self.mentions[0] if self.mentions else None)
        return place.line if place else 0


@dataclass(slots=True)
class Claim(_Titled):
    """A claim, with every mention of its title."""

    role: Role = "claim"

    @property
    def broken(self) -> bool:
        """True if it occurs only in paragraphs with errors."""
        return bool(self.mentions) and all(mention.role == "broken" for mention in self.mentions)

    @property
    def credence(self) -> float | None:
        """The `credence:` in its metadata, a probability."""
        return _number(self.data.get("credence"))

    @property
    def prior(self) -> float | None:
        """The `prior:` in its metadata: the credence of a thesis before any support or attack."""
        return _number(self.data.get("prior"))


@dataclass(slots=True)
class Step:
    """One inference of an argument, from premises and the step before to a conclusion."""

    premises: list[str]
    """Titles of the claims that are new in this step."""
    conclusion: str
    """Title of the conclusion."""
    inference: float | None
    """Probability that the conclusion holds if all premises do."""
    rules: list[str] = field(default_factory=list)
    """Names of inference rules on the inference line."""
    data: Metadata = field(default_factory=dict)
    """The metadata of the inference line."""
    line: int = 0
    """Line number of the inference line."""
    conclusion_index: int = 0
    """Position of the conclusion among the argument's numbered statements, from 0."""
    data_start: int = -1
    """Offset of the inference line's metadata; -1 if there is none."""
    data_end: int = -1
    """Offset behind the inference line's metadata; -1 if there is none."""


@dataclass(slots=True)
class Argument(_Titled):
    """An argument: a title, an optional description, and the steps of its premise-conclusion structure."""

    steps: list[Step] = field(default_factory=list)
    numbered: list[tuple[str, str]] = field(default_factory=list)
    """Role and title of each numbered statement, in order."""
    broken: bool = False
    """True if its paragraph or its structure has an error."""

    @property
    def premises(self) -> list[str]:
        """Titles of the premises of all steps, in order."""
        return [title for step in self.steps for title in step.premises]

    @property
    def conclusion(self) -> str | None:
        """Title of the main conclusion."""
        return self.steps[-1].conclusion if self.steps else None

    @property
    def inference(self) -> float | None:
        """The inference of the last step."""
        return self.steps[-1].inference if self.steps else None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Source or target of a relation: a claim, an argument, or an inference of an argument."""

    kind: Literal["claim", "argument", "inference"]
    title: str
    """Title of the claim or argument."""
    index: int = -1
    """For an inference, the position of its conclusion among the argument's numbered statements, from 0."""

    def __str__(self) -> str:
        return f"[{self.title}]" if self.kind == "claim" else f"<{self.title}>"


@dataclass(slots=True)
class Relation:
    """A relation between two endpoints."""

    kind: RelationKind
    source: Endpoint
    target: Endpoint
    written: list[tuple[Endpoint, Endpoint, int]] = field(default_factory=list)
    """Source, target and line of every occurrence in the text. An argument in the text may have been replaced by its
    conclusion in `source` and `target`."""

    @property
    def line(self) -> int:
        """Line number of its first occurrence; 0 if there is none."""
        return self.written[0][2] if self.written else 0


@dataclass(slots=True)
class Section:
    """A heading and the sections under it."""

    id: str
    title: str
    level: int
    """Number of `#` signs."""
    line: int
    tags: list[str] = field(default_factory=list)
    data: Metadata = field(default_factory=dict)
    children: list[Section] = field(default_factory=list)


@dataclass
class Map:
    """An argument map, with the errors and warnings from reading it."""

    source: Source
    claims: dict[str, Claim] = field(default_factory=dict)
    """Claims by title, in the order of the text."""
    arguments: dict[str, Argument] = field(default_factory=dict)
    """Arguments by title, in the order of the text."""
    relations: list[Relation] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    """Top-level sections; `all_sections` has the nested ones too."""
    tags: list[str] = field(default_factory=list)
    """All tags, each once."""
    settings: Metadata = field(default_factory=dict)
    """The front matter."""
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def strict(self) -> bool:
        """True if relations between claims are logical: support means entailment, attack means contrariness."""
        model = self.settings.get("model")
        return isinstance(model, Mapping) and model.get("mode") == "strict"

    @property
    def theses(self) -> list[str]:
        """Titles of the theses: claims that others support, attack or conclude, and that bear on no other claim."""
        return [title for title, claim in self.claims.items() if claim.role == "thesis"]

    @property
    def all_sections(self) -> list[Section]:
        """Every section, nested ones included, in the order of the text."""
        found: list[Section] = []
        waiting = self.sections[::-1]
        while waiting:
            section = waiting.pop()
            found.append(section)
            waiting.extend(reversed(section.children))
        return found

    @property
    def tests(self) -> dict[str, dict[str, Any]]:
        """The `test:` mapping of every claim that has one, by title: the experiment that would change its credence."""
        return {title: test for title, claim in self.claims.items() if isinstance(test := claim.data.get("test"), dict)}

    def element(self, end: Endpoint) -> Claim | Argument:
        """Return a claim or an argument.

        Args:
            end: Its place; for an inference, that of its argument.
        """
        return self.claims[end.title] if end.kind == "claim" else self.arguments[end.title]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
