"""The grammar of a paragraph (`argdown.lark`) and the nodes that it yields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Transformer
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer as LarkLexer

from adapterlab.argmap.syntax.tokens import Token

Content = list["Token | Content"]
"""Inline tokens; what stands in bold or italic is a list of its own between its marks."""


@dataclass
class Head:
    """What a statement or argument begins with: a title, a text, or both."""

    form: str
    """`plain`, `definition` or `reference`."""
    title: Token | None = None
    content: Content = field(default_factory=list)


@dataclass
class Element:
    """A statement or an argument as it stands in the text, with the relations under it."""

    kind: str
    """`statement` or `argument`."""
    head: Head
    data: Token | None = None
    relations: list[RelationNode] = field(default_factory=list)


@dataclass
class RelationNode:
    """A relation symbol and what follows it."""

    sign: Token
    member: Element


@dataclass
class Inference:
    """An inference line with its rules, its data and the undercuts below it."""

    start: Token
    rules: list[Token] = field(default_factory=list)
    data: Token | None = None
    undercuts: list[RelationNode] = field(default_factory=list)


@dataclass
class Numbered:
    """A statement of a premise-conclusion structure."""

    number: Token
    statement: Element


@dataclass
class Structure:
    """A premise-conclusion structure: statements with inferences between."""

    items: list[Numbered | Inference]


@dataclass
class Heading:
    """A heading with its level (the number of `#`)."""

    sign: Token
    content: Content
    data: Token | None = None


@dataclass
class ListNode:
    """An ordered or unordered list: its elements are read, its order is not."""

    elements: list[Element]


@dataclass
class FrontMatter:
    """The YAML block that may open a file."""

    token: Token


Node = Element | Structure | Heading | ListNode | FrontMatter


class _Nodes(Transformer[Token, Node]):
    """Builds nodes as the parser reduces, so that no parse tree is kept and nothing recurses."""

    def front_matter(self, children: list[Any]) -> FrontMatter:
        return FrontMatter(children[0])

    def heading(self, children: list[Any]) -> Heading:
        return Heading(children[0], children[1], _data(children))

    def plain(self, children: list[Any]) -> Head:
        return Head("plain", None, children[0])

    def statement_definition(self, children: list[Any]) -> Head:
        return Head("definition", children[0], children[1])

    def statement_reference(self, children: list[Any]) -> Head:
        return Head("reference", children[0], children[1:])

    argument_definition = statement_definition
    argument_reference = statement_reference

    def statement(self, children: list[Any]) -> Element:
        return _element("statement", children)

    def argument(self, children: list[Any]) -> Element:
        return _element("argument", children)

    def relations(self, children: list[Any]) -> list[Any]:
        return children[1:-1]

    undercuts = relations

    def relation(self, children: list[Any]) -> RelationNode:
        return RelationNode(children[0], children[1])

    def structure(self, children: list[Any]) -> Structure:
        return Structure(children)

    def numbered(self, children: list[Any]) -> Numbered:
        return Numbered(children[0], children[1])

    def inference(self, children: list[Any]) -> Inference:
        node = Inference(children[0], data=_data(children))
        for child in children:
            if isinstance(child, tuple):
                node.rules = list(child)
            elif isinstance(child, list):
                node.undercuts = child
        return node

    def rules(self, children: list[Any]) -> tuple[Token, ...]:
        return tuple(token for token in children if token.type == "TEXT")

    def bullets(self, children: list[Any]) -> ListNode:
        return ListNode(children[1:-1])

    def item(self, children: list[Any]) -> Element:
        element: Element = children[1]
        return element

    def content(self, children: list[Any]) -> Content:
        return children


def _data(children: list[Any]) -> Token | None:
    return next((child for child in children if isinstance(child, Token) and child.type == "DATA"), None)


def _element(kind: str, children: list[Any]) -> Element:
    relations = children[-1] if isinstance(children[-1], list) else []
    return Element(kind, children[0], _data(children), relations)


class _Given(LarkLexer):
    """Hands the parser the tokens of a paragraph."""

    def __init__(self, lexer_conf: object) -> None:
        pass

    def lex(self, data: list[Token]) -> Iterator[Token]:  # type: ignore[override]
        return iter(data)


@cache
def _parser() -> Lark:
    grammar = files("adapterlab.argmap.syntax").joinpath("argdown.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer=_Given, transformer=_Nodes())


class MisplacedError(Exception):
    """The parser met a token that cannot stand where it does (`None`: the paragraph ended too soon)."""

    def __init__(self, token: Token | None, expected: set[str]) -> None:
        super().__init__(f"unexpected {token}")
        self.token, self.expected = token, expected


def parse_paragraph(tokens: list[Token]) -> Node:
    """The node that a paragraph's tokens make.

    Raises:
        MisplacedError: with the first token that does not fit.
    """
    try:
        return _parser().parse(tokens)  # type: ignore[return-value]
    except UnexpectedToken as error:
        token = error.token if isinstance(error.token, Token) else None
        raise MisplacedError(token, set(error.accepts or error.expected)) from None
