"""Error messages for paragraphs that do not parse, and the statements that can be kept of them.

>>> from adapterlab.argmap.syntax.lexer import Lexer
>>> source = Source("[Rain] falls")
>>> [paragraph] = Lexer(source).read()
>>> try:
...     parse_paragraph(paragraph.tokens)
... except MisplacedError as error:
...     print(explain(source, paragraph, error, None).message)
text follows a title without a colon
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from adapterlab.argmap.syntax.descent import MisplacedError, parse_paragraph
from adapterlab.argmap.syntax.diagnostics import Diagnostic, Source
from adapterlab.argmap.syntax.nodes import Element
from adapterlab.argmap.syntax.tokens import Paragraph, Token

_RELATIONS = ("RELATION", "UNDERCUT", "CONTRADICTION")
_TITLES = ("STATEMENT_REFERENCE", "STATEMENT_DEFINITION", "ARGUMENT_REFERENCE", "ARGUMENT_DEFINITION")
_MENTION_INSTEAD = "to mention it inside a text, write @[Title] or @<Title>"


def explain(source: Source, paragraph: Paragraph, misplaced: MisplacedError, argument: str | None) -> Diagnostic:
    """Explain the first mistake in a paragraph.

    Args:
        source: The text of the map.
        paragraph: The paragraph that does not parse.
        misplaced: The parser's error.
        argument: Title of the argument in the paragraph before, which a premise-conclusion structure belongs to.

    Returns:
        One error with the problem, its place and how to fix it.
    """
    tokens, token = paragraph.tokens, misplaced.token
    name = f"<{argument}>" if argument else "the argument"
    stop = _Stop(source, tokens, token, token.type if token else "", _before(tokens, token), misplaced.expected, name)
    in_structure = tokens[0].type == "NUMBER" and not stop.kind.endswith("_END")
    rules = _STRUCTURE_RULES if in_structure else _PARAGRAPH_RULES
    code, message, fix, where = next(found for rule in rules if (found := rule(stop)))
    start, end = (where.start, where.end) if where else (tokens[-1].end, None)
    return source.at("error", code, message, start, end, fix)


class _Stop(NamedTuple):
    """The token at which the parser stopped, and its context."""

    source: Source
    tokens: list[Token]
    token: Token | None
    """The token that does not fit; None if the paragraph ended too soon."""
    kind: str
    """The kind of that token; empty if there is none."""
    before: Token | None
    """The token before it."""
    expected: set[str]
    """Kinds of token that the parser would have accepted."""
    name: str
    """The argument that a premise-conclusion structure belongs to, as it appears in messages."""

    @property
    def follows(self) -> str:
        """The kind of the token before; empty if there is none."""
        return self.before.type if self.before else ""

    @property
    def unclosed(self) -> Token | None:
        """The opening mark of bold or italic text, if a closing mark could follow."""
        closes = any(name.endswith("_END") for name in self.expected)
        return _open_emphasis(self.tokens, self.token) if closes else None


class _Mistake(NamedTuple):
    code: str
    message: str
    fix: str
    where: Token | None
    """The token to underline; None for the end of the paragraph."""


_Rule = Callable[[_Stop], _Mistake | None]

# Rules for paragraphs


def _misplaced_relation(stop: _Stop) -> _Mistake | None:
    if stop.kind != "INDENT" and stop.kind not in _RELATIONS:
        return None
    if stop.follows in ("", "INDENT"):
        fix = "put it below a statement or argument"
        return _Mistake("no-parent", "a paragraph begins with a relation", fix, stop.token)
    if stop.kind != "INDENT":
        message = "a relation is not indented further than its parent"
        return _Mistake("indentation", message, "indent it further", stop.token)
    message, fix = "no statement or argument here can have relations", "indent relations below a statement or argument"
    return _Mistake("indentation", message, fix, stop.token)


def _relation_without_member(stop: _Stop) -> _Mistake | None:
    if stop.follows not in _RELATIONS:
        return None
    fix = "write a [Statement], an <Argument> or a text after it"
    return _Mistake("no-member", "a relation sign has no statement or argument after it", fix, stop.before)


def _misplaced_metadata(stop: _Stop) -> _Mistake | None:
    if "DATA" not in (stop.kind, stop.follows):
        return None
    fix = "move {...} to the end of the text; for a brace in the text, write \\{"
    return _Mistake("metadata-place", "metadata is in the middle of a text", fix, stop.token or stop.before)


def _misplaced_block(stop: _Stop) -> _Mistake | None:
    if stop.kind == "HEADING":
        fix = "put an empty line before it"
        return _Mistake("heading-place", "a heading is inside a paragraph", fix, stop.token)
    if stop.kind == "NUMBER":
        message, fix = "a premise-conclusion structure is inside a paragraph", "put an empty line before it"
        return _Mistake("structure-place", message, fix, stop.token)
    if stop.kind == "INFERENCE_START":
        message = "an inference line is outside a premise-conclusion structure"
        return _Mistake("inference-place", message, "number the statements around it: (1), (2)", stop.token)
    return None


def _misplaced_element(stop: _Stop) -> _Mistake | None:
    if stop.token is None or stop.kind not in _TITLES:
        return None
    fix = f"move it to the start of a line or paragraph; {_MENTION_INSTEAD}"
    return _Mistake("element-place", f"{stop.token.text} is inside a text", fix, stop.token)


def _definition_without_text(stop: _Stop) -> _Mistake | None:
    if stop.before is None or not stop.follows.endswith("_DEFINITION"):
        return None
    fix = "write the text after the colon, or delete the colon to refer to it"
    return _Mistake("no-text", f"{stop.before.text} has a colon but no text", fix, stop.before)


def _open_text(stop: _Stop) -> _Mistake | None:
    opening = stop.unclosed
    if opening is None:
        return None
    fix = f"close it, or write \\{opening.text[0]} for the character itself"
    return _Mistake("open-emphasis", f"{opening.text} is opened but not closed", fix, opening)


def _late_front_matter(stop: _Stop) -> _Mistake | None:
    if stop.kind != "FRONT_MATTER":
        return None
    message, fix = "front matter (===) is only allowed at the start of a file", "move it to the top, or escape \\="
    return _Mistake("misplaced-front-matter", message, fix, stop.token)


def _text_after_title(stop: _Stop) -> _Mistake | None:
    if not stop.follows.endswith("_REFERENCE") and stop.kind != "TEXT":
        return None
    fix = f"write [Title]: text to define it; {_MENTION_INSTEAD}"
    return _Mistake("text-place", "text follows a title without a colon", fix, stop.token)


def _any_other(stop: _Stop) -> _Mistake:
    message = f"{stop.token.text!r} is not allowed here" if stop.token else "the paragraph ends too soon"
    return _Mistake("syntax", message, "", stop.token)


_PARAGRAPH_RULES: tuple[_Rule, ...] = (
    _misplaced_relation,
    _relation_without_member,
    _misplaced_metadata,
    _misplaced_block,
    _misplaced_element,
    _definition_without_text,
    _open_text,
    _late_front_matter,
    _text_after_title,
    _any_other,
)

# Rules for premise-conclusion structures


def _missing_inference(stop: _Stop) -> _Mistake | None:
    numbers, inference = _all(stop, "NUMBER"), _last(stop, "INFERENCE_START")
    if stop.token is not None or not numbers or (inference and numbers[-1].start < inference.start):
        return None
    last = numbers[-1]
    if len(numbers) == 1:
        message = f"{stop.name} has a single statement and no inference"
        return _Mistake("missing-inference", message, "add `----` and a conclusion below it", last)
    message = f"{stop.name} has no conclusion: there is no inference line before {last.text}"
    fix = f"insert a line `----` before line {stop.source.place(last.start)[0]}"
    return _Mistake("missing-inference", message, fix, last)


def _open_inference(stop: _Stop) -> _Mistake | None:
    start, end = _last(stop, "INFERENCE_START"), _last(stop, "INFERENCE_END")
    if start is None or (end and end.start >= start.start):
        return None
    message = f"{stop.name}: an inference line is not closed"
    return _Mistake("open-inference", message, "end it with --, or write ----", start)


def _missing_conclusion(stop: _Stop) -> _Mistake | None:
    inference = _last(stop, "INFERENCE_START")
    if stop.token is not None or inference is None:
        return None
    message = f"{stop.name} ends with an inference line"
    return _Mistake("missing-conclusion", message, "write the numbered conclusion below it", inference)


def _argument_as_statement(stop: _Stop) -> _Mistake | None:
    if stop.kind not in ("ARGUMENT_REFERENCE", "ARGUMENT_DEFINITION"):
        return None
    message = f"{stop.name}: an argument cannot be a premise or conclusion"
    return _Mistake("structure", message, "write a [Statement] there", stop.token)


def _malformed_inference(stop: _Stop) -> _Mistake | None:
    if stop.kind == "INFERENCE_START":
        message = f"{stop.name}: two inference lines follow each other"
        return _Mistake("structure", message, "put a numbered conclusion between them", stop.token)
    if stop.follows == "INFERENCE_START" or stop.kind == "INFERENCE_END":
        fix = "write ---- or -- Rule one, Rule two {key: value} --"
        return _Mistake(
            "structure", f"{stop.name}: the inference line is malformed", fix, stop.token or stop.tokens[-1]
        )
    return None


def _number_without_statement(stop: _Stop) -> _Mistake | None:
    if stop.before is None or stop.follows != "NUMBER":
        return None
    message = f"{stop.name}: {stop.before.text} has no statement"
    return _Mistake("structure", message, "write a statement after the number", stop.before)


def _misplaced_indent(stop: _Stop) -> _Mistake | None:
    if stop.kind != "INDENT":
        return None
    message = f"{stop.name}: no statement here can have relations"
    return _Mistake("structure", message, "indent relations below a statement", stop.token)


def _open_statement(stop: _Stop) -> _Mistake | None:
    opening = stop.unclosed
    if opening is None:
        return None
    message = f"{stop.name}: {opening.text} is opened but not closed"
    fix = f"close it, or write \\{opening.text[0]} for the character itself"
    return _Mistake("structure", message, fix, opening)


def _any_other_in_structure(stop: _Stop) -> _Mistake:
    where = stop.token or stop.tokens[-1]
    if stop.kind == "DATA":
        message, fix = f"{stop.name}: metadata is in the middle of a text", "move {...} to the end of the text"
    else:
        message = f"{stop.name}: {where.text.strip()!r} is not allowed here"
        fix = "an empty line ends a premise-conclusion structure; every statement in it begins with a number"
    return _Mistake("structure", message, fix, where)


_STRUCTURE_RULES: tuple[_Rule, ...] = (
    _missing_inference,
    _open_inference,
    _missing_conclusion,
    _argument_as_statement,
    _malformed_inference,
    _number_without_statement,
    _misplaced_indent,
    _open_statement,
    _any_other_in_structure,
)


def _all(stop: _Stop, kind: str) -> list[Token]:
    return [token for token in stop.tokens if token.type == kind]


def _last(stop: _Stop, kind: str) -> Token | None:
    return next((token for token in reversed(stop.tokens) if token.type == kind), None)


def _before(tokens: list[Token], token: Token | None) -> Token | None:
    if token is None:
        return tokens[-1] if tokens else None
    index = next((i for i, t in enumerate(tokens) if t is token), 0)
    return tokens[index - 1] if index else None


def _open_emphasis(tokens: list[Token], token: Token | None) -> Token | None:
    opened: list[Token] = []
    for t in tokens:
        if t is token:
            break
        if t.type.endswith(("BOLD_START", "ITALIC_START")):
            opened.append(t)
        elif t.type.endswith(("BOLD_END", "ITALIC_END")) and opened:
            opened.pop()
    return opened[-1] if opened else None


def statements_of(paragraph: Paragraph) -> list[Element]:
    """Return the numbered statements of a broken premise-conclusion structure that can be parsed on their own.

    Args:
        paragraph: The paragraph that does not parse as a whole.
    """
    groups: list[list[Token]] = []
    for token in paragraph.tokens:
        if token.type == "NUMBER" or (token.type == "INFERENCE_START" and groups):
            groups.append([])
        elif groups:
            groups[-1].append(token)
    elements = []
    for group in groups:
        if group and group[0].type in ("STATEMENT_DEFINITION", "STATEMENT_REFERENCE"):
            try:
                node = parse_paragraph(group)
            except MisplacedError:
                continue
            if isinstance(node, Element) and node.kind == "statement":
                elements.append(node)
    return elements
