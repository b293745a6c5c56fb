"""Syntax nodes: the parts of a paragraph that its tokens are grouped into.

>>> Head("definition", Token("STATEMENT_DEFINITION", "[Rain]:", 0, 7), [Token("TEXT", " It rains.", 7, 17)]).content
[TEXT(' It rains.')]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from adapterlab.argmap.syntax.tokens import Token

Content = list["Token | Content"]
"""Inline tokens; the text between the marks of bold or italic is a nested list."""


@dataclass(slots=True)
class Head:
    """The beginning of a statement or argument: a title, a text, or both."""

    form: Literal["plain", "definition", "reference"]
    """`plain`: a text without title; `definition`: a title with a colon and a text; `reference`: a title alone."""
    title: Token | None = None
    content: Content = field(default_factory=list)


@dataclass(slots=True)
class Element:
    """A statement or an argument in the text, with the relations indented under it."""

    kind: Literal["statement", "argument"]
    head: Head
    data: Token | None = None
    """The metadata block."""
    relations: list[RelationNode] = field(default_factory=list)


@dataclass(slots=True)
class RelationNode:
    """A relation sign and the element behind it."""

    sign: Token
    member: Element


@dataclass(slots=True)
class Inference:
    """An inference line with its rules, its metadata and the undercuts indented under it."""

    start: Token
    rules: list[Token] = field(default_factory=list)
    data: Token | None = None
    undercuts: list[RelationNode] = field(default_factory=list)


@dataclass(slots=True)
class Numbered:
    """A statement of a premise-conclusion structure."""

    number: Token
    statement: Element


@dataclass(slots=True)
class Structure:
    """A premise-conclusion structure: numbered statements with inference lines between them."""

    items: list[Numbered | Inference]


@dataclass(slots=True)
class Heading:
    """A heading."""

    sign: Token
    """The `#` signs and the space; their number is the heading's level."""
    content: Content
    data: Token | None = None


@dataclass(slots=True)
class ListNode:
    """An ordered or unordered list. Its elements are read like paragraphs; their order has no meaning."""

    elements: list[Element]


@dataclass(slots=True)
class FrontMatter:
    """The YAML block at the start of a file."""

    token: Token


Node = Element | Structure | Heading | ListNode | FrontMatter
