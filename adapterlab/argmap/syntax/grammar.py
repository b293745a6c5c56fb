"""The parser that lark makes of the grammar (`argdown.lark`). It is slow, but it knows which tokens could follow.

>>> title, text = Token("STATEMENT_DEFINITION", "[Rain]:", 0, 7), Token("TEXT", " It rains.", 7, 17)
>>> node = parse_with_grammar([title, text])
>>> node.kind, node.head.form, node.head.content
('statement', 'definition', [TEXT(' It rains.')])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

from lark import Lark, Transformer, v_args
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer as LarkLexer

from adapterlab.argmap.syntax.descent import MisplacedError
from adapterlab.argmap.syntax.nodes import (
    Content,
    Element,
    FrontMatter,
    Head,
    Heading,
    Inference,
    ListNode,
    Node,
    Numbered,
    RelationNode,
    Structure,
)
from adapterlab.argmap.syntax.tokens import Token


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


def parse_with_grammar(tokens: list[Token]) -> Node:
    """Parse the tokens of a paragraph with the parser that lark makes of `argdown.lark`.

    Args:
        tokens: As in `descent.parse_paragraph`.

    Returns:
        As in `descent.parse_paragraph`.

    Raises:
        MisplacedError: As in `descent.parse_paragraph`.
    """
    try:
        return _parser().parse(tokens)  # type: ignore[return-value]
    except UnexpectedToken as error:
        token = error.token if isinstance(error.token, Token) else None
        raise MisplacedError(token, set(error.accepts or error.expected)) from None
