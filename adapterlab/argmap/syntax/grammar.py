"""The grammar of a paragraph (`argdown.lark`) and the syntax nodes that it yields.

>>> title, text = Token("STATEMENT_DEFINITION", "[Rain]:", 0, 7), Token("TEXT", " It rains.", 7, 17)
>>> node = parse_paragraph([title, text])
>>> node.kind, node.head.form, node.head.content
('statement', 'definition', [TEXT(' It rains.')])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

from lark import Lark, Transformer, v_args
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer as LarkLexer

from adapterlab.argmap.syntax.tokens import Token

Content = list["Token | Content"]
"""Inline tokens; the text between the marks of bold or italic is a nested list."""


@dataclass
class Head:
    """The beginning of a statement or argument: a title, a text, or both."""

    form: Literal["plain", "definition", "reference"]
    """`plain`: a text without title; `definition`: a title with a colon and a text; `reference`: a title alone."""
    title: Token | None = None
    content: Content = field(default_factory=list)


@dataclass
class Element:
    """A statement or an argument in the text, with the relations indented under it."""

    kind: Literal["statement", "argument"]
    head: Head
    data: Token | None = None
    """The metadata block."""
    relations: list[RelationNode] = field(default_factory=list)


@dataclass
class RelationNode:
    """A relation sign and the element behind it."""

    sign: Token
    member: Element


@dataclass
class Inference:
    """An inference line with its rules, its metadata and the undercuts indented under it."""

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
    """A premise-conclusion structure: numbered statements with inference lines between them."""

    items: list[Numbered | Inference]


@dataclass
class Heading:
    """A heading."""

    sign: Token
    """The `#` signs and the space; their number is the heading's level."""
    content: Content
    data: Token | None = None


@dataclass
class ListNode:
    """An ordered or unordered list. Its elements are read like paragraphs; their order has no meaning."""

    elements: list[Element]


@dataclass
class FrontMatter:
    """The YAML block at the start of a file."""

    token: Token


Node = Element | Structure | Heading | ListNode | FrontMatter


@v_args(inline=True)
class _Nodes(Transformer[Token, Node]):
    """Builds a node for each rule of the grammar while the parser runs, so that no parse tree is kept.

    Each method gets the parts of its rule, in order.
    """

    def front_matter(self, token: Token, *_: Token) -> FrontMatter:
        return FrontMatter(token)

    def heading(self, sign: Token, content: Content, *rest: Token) -> Heading:
        return Heading(sign, content, _data(rest))

    def plain(self, content: Content) -> Head:
        return Head("plain", None, content)

    def statement_definition(self, title: Token, content: Content) -> Head:
        return Head("definition", title, content)

    def statement_reference(self, title: Token, *rest: Token) -> Head:
        return Head("reference", title, list(rest))

    argument_definition = statement_definition
    argument_reference = statement_reference

    def statement(self, head: Head, *rest: Token | list[RelationNode]) -> Element:
        return Element("statement", head, _data(rest), _relations(rest))

    def argument(self, head: Head, *rest: Token | list[RelationNode]) -> Element:
        return Element("argument", head, _data(rest), _relations(rest))

    def relations(self, *parts: Token | RelationNode) -> list[RelationNode]:
        return [part for part in parts if isinstance(part, RelationNode)]

    undercuts = relations

    def relation(self, sign: Token, member: Element) -> RelationNode:
        return RelationNode(sign, member)

    def structure(self, *items: Numbered | Inference) -> Structure:
        return Structure(list(items))

    def numbered(self, number: Token, statement: Element) -> Numbered:
        return Numbered(number, statement)

    def inference(self, start: Token, *rest: Token | tuple[Token, ...] | list[RelationNode]) -> Inference:
        rules = next((list(part) for part in rest if isinstance(part, tuple)), [])
        return Inference(start, rules, _data(rest), _relations(rest))

    def rules(self, *parts: Token) -> tuple[Token, ...]:
        return tuple(part for part in parts if part.type == "TEXT")

    def bullets(self, *parts: Token | Element) -> ListNode:
        return ListNode([part for part in parts if isinstance(part, Element)])

    def item(self, _: Token, element: Element) -> Element:
        return element

    def content(self, *parts: Token | Content) -> Content:
        return list(parts)


def _data(parts: Iterable[object]) -> Token | None:
    return next((part for part in parts if isinstance(part, Token) and part.type == "DATA"), None)


def _relations(parts: Iterable[Token | tuple[Token, ...] | list[RelationNode]]) -> list[RelationNode]:
    return next((part for part in parts if isinstance(part, list)), [])


class _TokenList(LarkLexer):
    """Passes the tokens of a paragraph to lark's parser unchanged."""

    def __init__(self, lexer_conf: object) -> None:
        pass

    def lex(self, data: list[Token]) -> Iterator[Token]:  # type: ignore[override]
        return iter(data)


@cache
def _parser() -> Lark:
    grammar = files("adapterlab.argmap.syntax").joinpath("argdown.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer=_TokenList, transformer=_Nodes())


class MisplacedError(Exception):
    """The parser met a token that the grammar does not allow at its place.

    Args:
        token: The token; None if the paragraph ended too soon.
        expected: Kinds of token that the parser would have accepted.
    """

    def __init__(self, token: Token | None, expected: set[str]) -> None:
        super().__init__(f"unexpected {token}")
        self.token, self.expected = token, expected


def parse_paragraph(tokens: list[Token]) -> Node:
    """Parse the tokens of a paragraph.

    Args:
        tokens: The tokens, as `Lexer.read` gives them.

    Returns:
        The syntax node of the whole paragraph.

    Raises:
        MisplacedError: A token does not fit the grammar; the error holds the first one.
    """
    try:
        return _parser().parse(tokens)  # type: ignore[return-value]
    except UnexpectedToken as error:
        token = error.token if isinstance(error.token, Token) else None
        raise MisplacedError(token, set(error.accepts or error.expected)) from None
