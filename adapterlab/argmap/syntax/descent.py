"""The parser of paragraphs: recursive descent, in a tenth of the time that the parser made of `argdown.lark` takes.

Both accept the same paragraphs and give the same nodes. A paragraph with a mistake goes to the other parser
(`grammar.py`), whose error lists the tokens that could follow.

>>> title, text = Token("STATEMENT_DEFINITION", "[Rain]:", 0, 7), Token("TEXT", " It rains.", 7, 17)
>>> node = parse_paragraph([title, text])
>>> node.kind, node.head.form, node.head.content
('statement', 'definition', [TEXT(' It rains.')])
"""

from __future__ import annotations

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

_INLINE = frozenset(("TEXT", "LINK", "TAG", "MENTION", "NEWLINE"))
_ENDS = {
    f"{mark}_START": f"{mark}_END" for mark in ("STAR_BOLD", "STAR_ITALIC", "UNDERSCORE_BOLD", "UNDERSCORE_ITALIC")
}
_CONTENT = _INLINE | _ENDS.keys()
_END = ""
"""The kind behind the last token."""


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
        return _Parser(tokens).paragraph()
    except _MismatchError:
        from adapterlab.argmap.syntax.grammar import parse_with_grammar

        return parse_with_grammar(tokens)


class _MismatchError(Exception):
    """The paragraph has a mistake."""


class _Parser:
    """Each method reads one rule of the grammar from `at` on, and moves `at` behind it."""

    __slots__ = ("at", "kinds", "tokens")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.kinds = [token.type for token in tokens]
        self.kinds.append(_END)
        self.at = 0

    def paragraph(self) -> Node:
        node: Node
        kind = self.kinds[0]
        if kind == "NUMBER":
            node = self._structure()
        elif kind == "HEADING":
            sign = self._take("HEADING")
            content = self._content()
            node = Heading(sign, content, self._data())
        elif kind == "INDENT":
            node = self._bullets()
        elif kind == "FRONT_MATTER":
            node = FrontMatter(self._take("FRONT_MATTER"))
            self._skip_newline()
        else:
            node = self._element()
        if self.kinds[self.at] != _END:
            raise _MismatchError
        return node

    def _take(self, kind: str) -> Token:
        if self.kinds[self.at] != kind:
            raise _MismatchError
        self.at += 1
        return self.tokens[self.at - 1]

    def _skip_newline(self) -> None:
        if self.kinds[self.at] == "NEWLINE":
            self.at += 1

    def _data(self) -> Token | None:
        if self.kinds[self.at] != "DATA":
            return None
        data = self._take("DATA")
        self._skip_newline()
        return data

    def _content(self) -> Content:
        kinds, tokens, at = self.kinds, self.tokens, self.at
        content: Content = []
        while (kind := kinds[at]) in _CONTENT:
            content.append(tokens[at])
            at += 1
            if kind in _ENDS:
                self.at = at
                if kinds[at] in _CONTENT:
                    content.append(self._content())
                content.append(self._take(_ENDS[kind]))
                at = self.at
        if not content:
            raise _MismatchError
        self.at = at
        return content

    def _element(self, statement: bool = False) -> Element:
        """Read a statement or an argument; `statement`: arguments are not allowed."""
        kinds, at = self.kinds, self.at
        first = kinds[at]
        of_argument = first in ("ARGUMENT_DEFINITION", "ARGUMENT_REFERENCE")
        if of_argument and statement:
            raise _MismatchError
        if first in ("STATEMENT_REFERENCE", "ARGUMENT_REFERENCE"):
            head = Head("reference", self.tokens[at], self._rest_of_reference())
        elif first in ("STATEMENT_DEFINITION", "ARGUMENT_DEFINITION"):
            self.at += 1
            head = Head("definition", self.tokens[at], self._content())
        else:
            head = Head("plain", None, self._content())
        data = self._data() if kinds[self.at] == "DATA" else None
        relations = self._relations() if kinds[self.at] == "INDENT" else []
        return Element("argument" if of_argument else "statement", head, data, relations)

    def _rest_of_reference(self) -> Content:
        kinds, start = self.kinds, self.at + 1
        end = start
        while kinds[end] == "TAG":
            end += 1
        if kinds[end] == "NEWLINE":
            end += 1
        self.at = end
        return list(self.tokens[start:end])

    def _relations(self, undercuts: bool = False) -> list[RelationNode]:
        """Read the relations below an element; `undercuts`: only undercuts are allowed, as below an inference."""
        self._take("INDENT")
        found: list[RelationNode] = []
        while (kind := self.kinds[self.at]) != "DEDENT":
            if kind != "UNDERCUT" and (undercuts or kind not in ("RELATION", "CONTRADICTION")):
                raise _MismatchError
            sign = self._take(kind)
            found.append(RelationNode(sign, self._element(statement=kind == "CONTRADICTION")))
        self.at += 1
        if not found:
            raise _MismatchError
        return found

    def _structure(self) -> Structure:
        items: list[Numbered | Inference] = [self._numbered()]
        while self.kinds[self.at] != _END:
            while self.kinds[self.at] == "NUMBER":
                items.append(self._numbered())
            items.append(self._inference())
            items.append(self._numbered())
        if len(items) == 1:
            raise _MismatchError
        return Structure(items)

    def _numbered(self) -> Numbered:
        number = self._take("NUMBER")
        return Numbered(number, self._element(statement=True))

    def _inference(self) -> Inference:
        start = self._take("INFERENCE_START")
        rules: list[Token] = []
        self._skip_newline()
        if self.kinds[self.at] == "TEXT":
            rules.append(self._take("TEXT"))
            while self.kinds[self.at] == "COMMA":
                self.at += 1
                rules.append(self._take("TEXT"))
            self._skip_newline()
        data = self._data()
        self._take("INFERENCE_END")
        self._take("NEWLINE")
        undercuts = self._relations(undercuts=True) if self.kinds[self.at] == "INDENT" else []
        return Inference(start, rules, data, undercuts)

    def _bullets(self) -> ListNode:
        self._take("INDENT")
        kind = self.kinds[self.at]
        elements: list[Element] = []
        while kind in ("ORDERED", "UNORDERED") and self.kinds[self.at] == kind:
            self.at += 1
            elements.append(self._element())
        self._take("DEDENT")
        if not elements:
            raise _MismatchError
        return ListNode(elements)
