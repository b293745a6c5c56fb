"""The two parsers of paragraphs: the fast one, and the one that lark makes of the grammar."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapterlab.argmap.syntax import descent, grammar
from adapterlab.argmap.syntax.diagnostics import Source
from adapterlab.argmap.syntax.lexer import Lexer
from adapterlab.argmap.syntax.nodes import Node
from adapterlab.argmap.syntax.tokens import Token
from tests.argmap import strategies
from tests.argmap.reference import corpus

HEAD = ["STATEMENT_DEFINITION", "STATEMENT_REFERENCE", "ARGUMENT_DEFINITION", "ARGUMENT_REFERENCE"]
WORDS = ["TEXT", "TEXT", "TEXT", "LINK", "TAG", "MENTION", "NEWLINE", "NEWLINE"]
MARKS = [f"{mark}_{end}" for mark in ("STAR_BOLD", "UNDERSCORE_ITALIC") for end in ("START", "END")]
SIGNS = ["INDENT", "DEDENT", "RELATION", "UNDERCUT", "CONTRADICTION", "ORDERED", "UNORDERED", "NUMBER", "DATA", "COMMA"]
OTHERS = ["INFERENCE_START", "INFERENCE_END", "HEADING", "FRONT_MATTER"]
kinds = st.sampled_from([*HEAD, *WORDS, *MARKS, *SIGNS, *OTHERS])


def tokens(names: list[str]) -> list[Token]:
    return [Token(name, name, index, index + 1) for index, name in enumerate(names)]


def outcome(read: object, found: list[Token]) -> Node | None:
    assert callable(read)
    try:
        node: Node = read(found)
    except descent.MisplacedError:
        return None
    return node


def fast(found: list[Token]) -> Node | None:
    try:
        return descent._Parser(found).paragraph()
    except descent._MismatchError:
        return None


@settings(max_examples=500, deadline=None)
@given(st.lists(kinds, min_size=1, max_size=12))
@example(["NUMBER", "TEXT", "INFERENCE_START", "NEWLINE", "INFERENCE_END", "NEWLINE", "NUMBER", "TEXT"])
@example(["NUMBER", "TEXT", "INFERENCE_START", "NEWLINE", "NEWLINE", "INFERENCE_END", "NEWLINE", "NUMBER", "TEXT"])
@example(["STAR_BOLD_START", "STAR_BOLD_END"])
@example(["INDENT", "ORDERED", "TEXT", "UNORDERED", "TEXT", "DEDENT"])
def test_both_accept_the_same_tokens_and_give_the_same_nodes(names: list[str]) -> None:
    found = tokens(names)
    assert fast(found) == outcome(grammar.parse_with_grammar, found)


@settings(max_examples=200, deadline=None)
@given(strategies.argument_map(), st.data())
def test_both_agree_on_maps_and_on_maps_with_one_wrong_token(text: str, data: st.DataObject) -> None:
    for paragraph in Lexer(Source(text)).read():
        found = paragraph.tokens
        assert fast(found) == outcome(grammar.parse_with_grammar, found)
        at = data.draw(st.integers(0, len(found) - 1))
        other = [*found[:at], *tokens(data.draw(st.lists(kinds, max_size=1))), *found[at + 1 :]]
        assert not other or fast(other) == outcome(grammar.parse_with_grammar, other)


def test_both_agree_on_the_corpus() -> None:
    for text in (corpus.written() | corpus.generated()).values():
        for paragraph in Lexer(Source(text)).read():
            assert fast(paragraph.tokens) == outcome(grammar.parse_with_grammar, paragraph.tokens)
