"""What a map says: claims, arguments, relations and sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapterlab.argmap.syntax.diagnostics import Diagnostic, Source

RelationKind = Literal["support", "attack", "undercut", "contradictory", "entails", "contrary"]
Role = Literal["thesis", "conclusion", "premise", "claim"]
SUPPORTS = ("support", "entails")
ATTACKS = ("attack", "contrary", "contradictory")


@dataclass
class Mention:
    """One place where a claim or an argument stands in the text."""

    line: int
    start: int
    end: int
    role: str
    """`premise`, `intermediary-conclusion`, `main-conclusion`, `top-level`, `relation`, `description` or `broken`."""
    reference: bool = False
    text: str | None = None
    """The text as the reference implementation gives it: tags, link titles and quotes included."""
    plain: str = ""
    """The text without tags, quotes and lines of links: what the claim says."""
    tags: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    """Titles and targets of links."""
    quotes: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    """Titles that the text names in passing (`@[Title]`), in their brackets."""
    data: dict[str, Any] = field(default_factory=dict)
    data_start: int = -1
    """Offset of the metadata block; -1 where there is none."""
    data_end: int = -1
    section: str | None = None
    argument: str | None = None
    """The argument in whose premise-conclusion structure it stands."""


@dataclass
class _Titled:
    title: str
    mentions: list[Mention] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    section: str | None = None

    @property
    def defined(self) -> Mention | None:
        """The first mention that gives a text."""
        return next((m for m in self.mentions if not m.reference and m.text), None)

    @property
    def text(self) -> str:
        """What it says, without tags, quotes and evidence links; empty where it is only referred to."""
        return self.defined.plain if self.defined else ""

    @property
    def line(self) -> int:
        """The line of its definition, or of its first mention."""
        place = self.defined or (self.mentions[0] if self.mentions else None)
        return place.line if place else 0


@dataclass
class Claim(_Titled):
    """An equivalence class: every mention of `[Title]` is this one claim."""

    role: Role = "claim"

    @property
    def broken(self) -> bool:
        """Whether it is known only from paragraphs that could not be read."""
        return bool(self.mentions) and all(mention.role == "broken" for mention in self.mentions)

    @property
    def credence(self) -> float | None:
        """The credence that its metadata states."""
        return _number(self.data.get("credence"))

    @property
    def prior(self) -> float | None:
        """The `prior:` that its metadata states: where a thesis starts."""
        return _number(self.data.get("prior"))


@dataclass
class Step:
    """One inference of an argument: from premises, and the step before, to a conclusion."""

    premises: list[str]
    conclusion: str
    inference: float | None
    rules: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    """The metadata of the inference line."""
    line: int = 0
    conclusion_index: int = 0
    """Where the conclusion stands among the argument's numbered statements, from 0."""
    data_start: int = -1
    data_end: int = -1


@dataclass
class Argument(_Titled):
    """An argument: a title, perhaps a description, and the steps of its premise-conclusion structure."""

    steps: list[Step] = field(default_factory=list)
    numbered: list[tuple[str, str]] = field(default_factory=list)
    """Role and title of each numbered statement, in order."""
    broken: bool = False

    @property
    def premises(self) -> list[str]:
        """The premises of all steps, in order."""
        return [title for step in self.steps for title in step.premises]

    @property
    def conclusion(self) -> str | None:
        """The main conclusion."""
        return self.steps[-1].conclusion if self.steps else None

    @property
    def inference(self) -> float | None:
        """The strength of the last step."""
        return self.steps[-1].inference if self.steps else None


@dataclass(frozen=True)
class Endpoint:
    """What a relation goes from or to: a claim, an argument, or an argument's inference (by its conclusion's place)."""

    kind: Literal["claim", "argument", "inference"]
    title: str
    index: int = -1

    def __str__(self) -> str:
        return f"[{self.title}]" if self.kind == "claim" else f"<{self.title}>"


@dataclass
class Relation:
    """A relation as it counts, and the places where it was written."""

    kind: RelationKind
    source: Endpoint
    target: Endpoint
    written: list[tuple[Endpoint, Endpoint, int]] = field(default_factory=list)
    """Source, target and line as written: an argument may stand there for its conclusion."""

    @property
    def line(self) -> int:
        """The line where it is first written."""
        return self.written[0][2] if self.written else 0


@dataclass
class Section:
    """A heading and what stands under it."""

    id: str
    title: str
    level: int
    line: int
    tags: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    children: list[Section] = field(default_factory=list)


@dataclass
class Map:
    """An argument map, with whatever was found wrong in reading it."""

    source: Source
    claims: dict[str, Claim] = field(default_factory=dict)
    arguments: dict[str, Argument] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """The front matter."""
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def strict(self) -> bool:
        """Whether relations between claims are logical: support is entailment, attack is contrariness."""
        model = self.settings.get("model")
        return isinstance(model, Mapping) and model.get("mode") == "strict"

    @property
    def theses(self) -> list[str]:
        """Titles of the claims that all else bears on: pointed at or concluded, bearing on nothing themselves."""
        return [title for title, claim in self.claims.items() if claim.role == "thesis"]

    @property
    def all_sections(self) -> list[Section]:
        """Every section, those inside others too, in the order of the text."""
        found: list[Section] = []
        waiting = self.sections[::-1]
        while waiting:
            section = waiting.pop()
            found.append(section)
            waiting.extend(reversed(section.children))
        return found

    @property
    def tests(self) -> dict[str, dict[str, Any]]:
        """The `test:` of every claim that has one: the experiment that would move it."""
        return {
            title: claim.data["test"]
            for title, claim in self.claims.items()
            if isinstance(claim.data.get("test"), dict)
        }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
