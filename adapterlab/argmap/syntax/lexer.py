r"""Lexer: splits a text into paragraphs of tokens.

Argdown's tokens depend on their context: the meaning of a `-` depends on the token before it, and indentation opens and
closes levels. The rules, their order and their quirks are those of the reference implementation (`@argdown/core`
1.7.5), so that both give the same tokens.

>>> [paragraph] = Lexer(Source("[Rain]: It rains.\n  +> [Wet]")).read()
>>> [token.type for token in paragraph.tokens]
['STATEMENT_DEFINITION', 'TEXT', 'NEWLINE', 'INDENT', 'RELATION', 'STATEMENT_REFERENCE', 'DEDENT']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import ClassVar

from adapterlab.argmap.syntax.diagnostics import Diagnostic, Source
from adapterlab.argmap.syntax.finder import Finder, link_parts
from adapterlab.argmap.syntax.metadata import MetadataError, read_front_matter
from adapterlab.argmap.syntax.shortcodes import SHORTCODES, with_own
from adapterlab.argmap.syntax.tokens import RELATIONS, Paragraph, Token

MAX_INDENT_LEVELS = 100
MAX_EMPHASIS_LEVELS = 40

_LINE_START = (
    r"(?P<indent>[' \t]*)(?:{infer}(?P<relation>\+>|->|<?\+|<?-|><|_>|<_|_(?=\s))|(?P<number>\([0-9]+\))"
    r"|(?P<ordered>[0-9]+\.(?=\s))|(?P<unordered>\*(?=\s)))|(?P<heading>#+ )"
)
_AFTER_NEWLINE = re.compile(_LINE_START.format(infer="(?P<infer>--)|"))
_AFTER_EMPTY_LINE = re.compile(_LINE_START.format(infer=""))
_NEWLINE = re.compile(r"[ \t]*(?:\r\n|\n|\r)")
_BREAK = re.compile(r"(?P<empty>(?:[ \t]*(?:\r\n|\n)){2,})|[ \t]*(?:\r\n|\n|\r)")
_SPACES = re.compile(r"[ \t]+")
_PLAIN = r"(?:[^\\@#*_\[\],.:;</>\-\r\n(){}]++|[@#*_\[\],.:;</>\-(){}][ \t]?)"
_TEXT = re.compile(_PLAIN)
# Further text that no other token can begin in: a dot or colon begins a shortcode only if it is not before white space.
_LONG_TEXT = re.compile(
    _PLAIN + r"(?:(?![ \t]|===)[^\\@#*_\[\],.:;</>\-\r\n(){}]++|[\],;>\-()}][ \t]?|[.:](?=[ \t\r\n])[ \t]?)*+"
)
_ESCAPED = re.compile(r"\\[^\r\n\u2028\u2029] *")
_SPECIAL = re.compile(r"(?:\.\S+?\.[ \t]?)|(?::\S+?:[ \t]?)")
_BREAKS_AFTER_EMPTY_LINE = re.compile(r"(?:[ \t]*\r\n|\n|\r)*")
_BREAK_AFTER_NEWLINE = re.compile(r"(?:[ \t]*(?:\r\n|\n|\r)(?![ \t]*(?:\r\n|\n|\r)))?")
_EMPHASIS_END = re.compile(r"[ \t]|(?=[\n\r)}_.,!?;:\-*]|\Z)")
_DASHES = re.compile(r"-{2,}")
_EMPHASIS = {"**": "STAR_BOLD", "__": "UNDERSCORE_BOLD", "*": "STAR_ITALIC", "_": "UNDERSCORE_ITALIC"}

_Readers = Mapping[str, Callable[["Lexer", int], int]]


class Lexer:
    """A lexer for one text.

    Args:
        source: The text.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.text = source, source.text
        self.diagnostics: list[Diagnostic] = []
        """Errors and warnings found so far."""
        self.comments: list[tuple[int, int]] = []
        """Start and end of every comment, without the line breaks that are dropped with it."""
        self.paragraphs: list[Paragraph] = []
        self.paragraph = Paragraph()
        self.tokens = self.paragraph.tokens
        self.text_token: Token | None = None
        self.pieces: list[str] = []
        self.at_start = True
        """True if the paragraph has no token yet."""
        self.after_newline = False
        self.indents = [0]
        self.emphases: list[str] = []
        self.in_inference = False
        self.opened = False
        """True if a token or an empty line has been read."""
        self.find = Finder(self.text)
        self.shortcodes = SHORTCODES

    def read(self) -> list[Paragraph]:
        """Return the paragraphs that are not empty, in order. Never raises: errors are in `diagnostics`."""
        at, text, size = len(self.source.byte_order_mark), self.text, len(self.text)
        anywhere, within_a_line, in_inference = self._ANYWHERE, self._WITHIN_A_LINE, self._IN_INFERENCE
        # The order of the attempts is the reference's. An attempt that returns `at` has found no token.
        while at < size:
            char, start = text[at], at
            if self.in_inference:
                if read := in_inference.get(char):
                    at = read(self, at)
            else:
                if read := anywhere.get(char):
                    at = read(self, at)
                if at == start and (self.after_newline or self.at_start):
                    at = self._line_start(at)
                if at == start and (read := within_a_line.get(char)):
                    at = read(self, at)
            if at == start:
                at = self._plain(at)
        self._end_paragraph(size)
        return self.paragraphs

    # Paragraphs, indentation, and the list of tokens

    def _emit(self, kind: str, start: int, end: int, text: str | None = None) -> int:
        shown = self.text[start:end] if text is None else text
        if kind != "TEXT":
            if self.text_token:
                self._join()
            self.tokens.append(Token(kind, shown, start, end))
        elif self.text_token:
            self.pieces.append(shown)
            self.text_token.end = end
        else:
            self.text_token, self.pieces = Token(kind, shown, start, end), [shown]
            self.tokens.append(self.text_token)
        self.after_newline = kind == "NEWLINE"
        self.at_start = False
        self.opened = True
        return end

    def _join(self) -> None:
        """Join the pieces of the last text token. Joining them one by one would take quadratic time."""
        if self.text_token and len(self.pieces) > 1:
            self.text_token.text = "".join(self.pieces)
        self.text_token = None

    def _end_paragraph(self, at: int) -> None:
        self._join()
        self._close_indents(at)
        if self.tokens:
            self.paragraphs.append(self.paragraph)
        self.paragraph = Paragraph(start=at)
        self.tokens = self.paragraph.tokens
        self.emphases.clear()
        self.in_inference = False
        self.at_start, self.after_newline = True, False

    def _close_indents(self, at: int) -> None:
        while len(self.indents) > 1:
            self.indents.pop()
            self.tokens.append(Token("DEDENT", "", at, at))

    def _indent(self, width: int, at: int) -> None:
        if width > self.indents[-1]:
            if len(self.indents) > MAX_INDENT_LEVELS:
                self._fail(at, "too-deep", f"relations are nested more than {MAX_INDENT_LEVELS} levels deep")
                return
            self.indents.append(width)
            self.tokens.append(Token("INDENT", "", at, at))
            return
        while len(self.indents) > 1 and width < self.indents[-1]:
            self.indents.pop()
            self.tokens.append(Token("DEDENT", "", at, at))

    def _fail(self, at: int, code: str, message: str, fix: str = "") -> None:
        if not self.paragraph.failed:
            self.paragraph.failed = True
            self.diagnostics.append(self.source.at("error", code, message, at, fix=fix))

    # Each method below reads one kind of token and returns the offset behind it, or `at` if none begins there.

    def _plain(self, at: int) -> int:
        match = (_TEXT if self.in_inference else _LONG_TEXT).match(self.text, at)
        if match:
            return self._emit("TEXT", at, match.end())
        # No other pattern matches a backslash at the end of a line.
        self._fail(at, "stray-backslash", "a backslash at the end of a line escapes nothing", "delete it or write \\\\")
        return at + 1

    def _break(self, at: int) -> int:
        if self.at_start and self.opened:
            match = _NEWLINE.match(self.text, at)
        else:
            match = _BREAK.match(self.text, at)
            if match and match.lastgroup:
                self._end_paragraph(at)
                self.opened = True
                return match.end()
        return self._emit("NEWLINE", at, match.end()) if match else at

    def _comment(self, at: int) -> int:
        text, end = self.text, self.find.comment_end(at)
        if end is None:
            if text.startswith("//", at):
                message = "this // is text, not a comment, because the last line has no line break"
                self._warn(at, "open-comment", message, "add a line break at the end of the file")
            return at
        if text.startswith("://", at - 1):
            message = "the rest of this line, from // on, is a comment"
            self._warn(at, "cut-by-comment", message, "write web addresses as [title](address)")
        self.comments.append((at, end))
        if self.at_start and self.opened:
            match = _BREAKS_AFTER_EMPTY_LINE.match(text, end)
        elif self.after_newline:
            match = _BREAK_AFTER_NEWLINE.match(text, end)
        else:
            return end
        return match.end() if match else end

    def _warn(self, at: int, code: str, message: str, fix: str) -> None:
        self.diagnostics.append(self.source.at("warning", code, message, at, at + 2, fix))

    def _data(self, at: int) -> int:
        found = self.find.data(at)
        return self._emit(found[0], at, found[1]) if found else at

    def _front_matter(self, at: int) -> int:
        found = self.find.front_matter(at) if self.text.startswith("===", at) else None
        if not found:
            return at
        block = self.text[at : found[1]]
        if "shortcodes" in block and not self.paragraphs and all(token.type == "NEWLINE" for token in self.tokens):
            with suppress(MetadataError):  # the reader of the map reports it
                self.shortcodes = with_own(read_front_matter(block))
        return self._emit(found[0], at, found[1])

    def _element(self, at: int) -> int:
        found = self.find.element(at)
        if found is None:
            return at
        if found[0] == "LINK" and not link_parts(self.text[at : found[1]]):
            self._fail(at, "link", "a link's title or address runs over a line break", "write each on one line")
        return self._emit(found[0], at, found[1])

    def _spaces(self, at: int) -> int:
        match = _SPACES.match(self.text, at)
        return match.end() if match else at + 1

    def _escaped_or_special(self, at: int) -> int:
        match = _ESCAPED.match(self.text, at)
        if match:
            return self._emit("TEXT", at, match.end(), match.group()[1:])
        match = _SPECIAL.match(self.text, at)
        if not match:
            return at
        code = match.group().strip()
        sign = self.shortcodes.get(code)
        if sign is None:
            return self._emit("TEXT", at, match.end())
        return self._emit("TEXT", at, match.end(), sign + (" " if match.group().endswith(" ") else ""))

    def _line_start(self, at: int) -> int:
        match = (_AFTER_NEWLINE if self.after_newline else _AFTER_EMPTY_LINE).match(self.text, at)
        if not match:
            return at
        end, kind = match.end(), match.lastgroup
        if kind == "heading":
            return self._emit("HEADING", at, end)
        start = match.end("indent")
        width = start - at
        if kind == "infer":
            self._close_indents(at)
            self.in_inference = True
            return self._emit("INFERENCE_START", start, end)
        if kind == "number":
            self._close_indents(at)
            return self._emit("NUMBER", start, end)
        if kind == "relation":
            self._indent(width, start)
            return self._emit(RELATIONS[match.group("relation")], start, end)
        self._indent(width + 1, start)
        return self._emit("ORDERED" if kind == "ordered" else "UNORDERED", start, end)

    def _emphasis(self, at: int) -> int:
        text, char = self.text, self.text[at]
        top = self.emphases[-1] if self.emphases else ""
        if top and top[0] == char and text.startswith(top, at):
            match = _EMPHASIS_END.match(text, at + len(top))
            if match:
                self.emphases.pop()
                return self._emit(f"{_EMPHASIS[top]}_END", at, match.end())
        for mark in (char * 2, char):
            after = at + len(mark)
            if text.startswith(mark, at) and not text[after : after + 1].isspace():
                if len(self.emphases) >= MAX_EMPHASIS_LEVELS:
                    self._fail(
                        at, "too-deep", f"bold and italic are nested more than {MAX_EMPHASIS_LEVELS} levels deep"
                    )
                    break
                self.emphases.append(mark)
                return self._emit(f"{_EMPHASIS[mark]}_START", at, after)
        return self._plain(at)

    # Tokens inside an inference line

    def _inference_break(self, at: int) -> int:
        match = _BREAK.match(self.text, at)
        if match and match.lastgroup:  # the reference reads on and loses the next paragraph too
            self._end_paragraph(at)
            return match.end()
        return self._emit("NEWLINE", at, match.end()) if match else self._spaces(at)

    def _inference_end(self, at: int) -> int:
        match = _DASHES.match(self.text, at)
        if not match:
            return at
        self.in_inference = False
        return self._emit("INFERENCE_END", at, match.end())

    def _comma(self, at: int) -> int:
        return self._emit("COMMA", at, at + 1)

    # Methods by the first character of the tokens that they read. The tables hold functions because bound methods
    # would put every lexer into a reference cycle.

    _ANYWHERE: ClassVar[_Readers] = (
        dict.fromkeys("/<", _comment)
        | dict.fromkeys(" \t\r\n", _break)
        | dict.fromkeys("\\.:", _escaped_or_special)
        | {"{": _data, "=": _front_matter}
    )
    _WITHIN_A_LINE: ClassVar[_Readers] = (
        dict.fromkeys("*_", _emphasis) | dict.fromkeys("[@<#", _element) | dict.fromkeys(" \t", _spaces)
    )
    _IN_INFERENCE: ClassVar[_Readers] = (
        dict.fromkeys("/<", _comment)
        | dict.fromkeys(" \t\r\n", _inference_break)
        | dict.fromkeys("\\.:", _escaped_or_special)
        | {"-": _inference_end, "{": _data, ",": _comma}
    )
