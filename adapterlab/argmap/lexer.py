"""From text to tokens, paragraph by paragraph.

Argdown's lexer depends on its own past: what a `-` means hangs on the token before it, and indentation opens and
closes levels. The rules, their order and their quirks are those of the reference implementation (`@argdown/core`
1.7.5), so that both read a text alike. Every search that may run on to the end of the text remembers its result,
which keeps the lexer linear on any input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from adapterlab.argmap.diagnostics import Diagnostic, Source

MAX_INDENT_LEVELS = 100
MAX_EMPHASIS_LEVELS = 40


class Token:
    """A terminal of the grammar: its kind, its text and where it stands."""

    __slots__ = ("end", "start", "text", "type")

    # lark copies these to its own end token; offsets say all that they would.
    start_pos = line = column = end_line = end_column = end_pos = None

    def __init__(self, kind: str, text: str, start: int, end: int) -> None:
        self.type, self.text, self.start, self.end = kind, text, start, end

    def __repr__(self) -> str:
        return f"{self.type}({self.text!r})"


@dataclass
class Paragraph:
    """The tokens between two empty lines, and what went wrong in reading them."""

    tokens: list[Token] = field(default_factory=list)
    start: int = 0
    failed: bool = False


RELATIONS = {
    "+>": "RELATION",
    "->": "RELATION",
    "+": "RELATION",
    "<+": "RELATION",
    "-": "RELATION",
    "<-": "RELATION",
    "_>": "RELATION",
    "_": "UNDERCUT",
    "<_": "UNDERCUT",
    "><": "CONTRADICTION",
}

_LINE_START = (
    r"(?P<indent>[' \t]*)(?:{infer}(?P<relation>\+>|->|<?\+|<?-|><|_>|<_|_(?=\s))|(?P<number>\([0-9]+\))"
    r"|(?P<ordered>[0-9]+\.(?=\s))|(?P<unordered>\*(?=\s)))|(?P<heading>#+ )"
)
_AFTER_NEWLINE = re.compile(_LINE_START.format(infer="(?P<infer>--)|"))
_AFTER_EMPTY_LINE = re.compile(_LINE_START.format(infer=""))
_EMPTY_LINE = re.compile(r"(?:[ \t]*(?:\r\n|\n)){2,}")
_NEWLINE = re.compile(r"[ \t]*(?:\r\n|\n|\r)")
_SPACES = re.compile(r"[ \t]+")
_FREESTYLE = re.compile(r"[^\\@#*_\[\],.:;</>\-\r\n(){}]+")
_UNUSED_CONTROL = re.compile(r"[@#*_\[\],.:;</>\-(){}][ \t]?")
_ESCAPED = re.compile(r"\\[^\r\n\u2028\u2029] *")
_SPECIAL = re.compile(r"(?:\.\S+?\.[ \t]?)|(?::\S+?:[ \t]?)")
_BREAKS_AFTER_EMPTY_LINE = re.compile(r"(?:[ \t]*\r\n|\n|\r)*")
_BREAK_AFTER_NEWLINE = re.compile(r"(?:[ \t]*(?:\r\n|\n|\r)(?![ \t]*(?:\r\n|\n|\r)))?")
_TAG = re.compile(r"#[a-zA-z0-9\-\u00A0-\uD7FF\uF900-\uFDCF\uFDF0-\uFFEF]+[ \t]?")
_EMPHASIS_END = re.compile(r"[ \t]|(?=[\n\r)}_.,!?;:\-*]|\Z)")
_DATA_STOP = re.compile(r"\}\s[^,}]|[\r\u2028\u2029]")
_DATA_CONTINUES = re.compile(r"\s*[,}]")
_DASHES = re.compile(r"-{2,}")
_LINE_BREAK = re.compile(r"[\n\r\u2028\u2029]")
_EMPHASIS = {"**": "STAR_BOLD", "__": "UNDERSCORE_BOLD", "*": "STAR_ITALIC", "_": "UNDERSCORE_ITALIC"}
_SHORTCODES: dict[str, str] = {}


class _Next:
    """Where a string or pattern occurs next; a search never runs over the same text twice."""

    def __init__(self, text: str, needle: str | re.Pattern[str]) -> None:
        self.text, self.needle = text, needle
        self.asked, self.found = 0, -2

    def after(self, start: int) -> int:
        """Offset of the first occurrence at or after `start`; the text's length where there is none."""
        if self.found == -2 or start > self.found or start < self.asked:
            if isinstance(self.needle, str):
                at = self.text.find(self.needle, start)
                self.found = len(self.text) if at < 0 else at
            else:
                match = self.needle.search(self.text, start)
                self.found = match.start() if match else len(self.text)
            self.asked = start
        return self.found


class Lexer:
    """Reads one text into paragraphs of tokens."""

    def __init__(self, source: Source) -> None:
        self.source, self.text = source, source.text
        self.diagnostics: list[Diagnostic] = []
        self.comments: list[tuple[int, int]] = []
        """Where comments stand, without the line breaks that they swallow."""
        self.paragraphs: list[Paragraph] = []
        self.paragraph = Paragraph()
        self.tokens = self.paragraph.tokens
        self.text_token: Token | None = None
        self.pieces: list[str] = []
        self.at_start = True
        """No token but an empty line, or nothing, stands before."""
        self.after_newline = False
        self.indents = [0]
        self.emphases: list[str] = []
        self.in_inference = False
        self.opened = False
        """Something, be it an empty line, has been read."""
        find = {name: _Next(self.text, name) for name in ("]", ")", "]:", ">", ">:", "===", "*/", "-->")}
        self.next = find
        self.line_end = _Next(self.text, _LINE_BREAK)
        self.data_stop = _Next(self.text, _DATA_STOP)
        self._data_end: tuple[int, int] = (-1, -1)

    def read(self) -> list[Paragraph]:
        """All paragraphs, in order. Never raises."""
        at, size = 0, len(self.text)
        while at < size:
            at = self._inference_token(at) if self.in_inference else self._token(at)
        self._end_paragraph(size)
        return self.paragraphs

    # What happens around a token

    def _emit(self, kind: str, start: int, end: int, text: str | None = None) -> int:
        shown = self.text[start:end] if text is None else text
        if kind == "TEXT" and self.tokens and self.tokens[-1] is self.text_token:
            self.pieces.append(shown)
            self.tokens[-1].end = end
        else:
            token = Token(kind, shown, start, end)
            self.tokens.append(token)
            self._join()
            if kind == "TEXT":
                self.text_token, self.pieces = token, [shown]
        self.after_newline = kind == "NEWLINE"
        self.at_start = False
        self.opened = True
        return end

    def _join(self) -> None:
        """Give the last text token its text: pieces are joined once, not one by one."""
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

    # One token, outside an inference line

    def _token(self, at: int) -> int:
        text, char = self.text, self.text[at]
        if char in "/<":
            end = self._comment(at)
            if end > at:
                return end
        elif char in " \t\r\n":
            end = self._break(at)
            if end > at:
                return end
        elif char == "{":
            end = self._data(at)
            if end > at:
                return self._emit("DATA", at, end)
        elif char == "=" and text.startswith("===", at):
            end = self._front_matter(at)
            if end > at:
                return self._emit("FRONT_MATTER", at, end)
        elif char in "\\.:":
            end = self._escaped_or_special(at)
            if end > at:
                return end
        if self.after_newline or self.at_start:
            end = self._line_start(at)
            if end > at:
                return end
        if char in "*_":
            return self._emphasis(at, char)
        if char in "[@<#":
            end = self._element(at, char)
            if end > at:
                return end
        if char in " \t":
            match = _SPACES.match(text, at)
            return match.end() if match else at + 1
        return self._plain(at)

    def _plain(self, at: int) -> int:
        match = _FREESTYLE.match(self.text, at) or _UNUSED_CONTROL.match(self.text, at)
        if match:
            return self._emit("TEXT", at, match.end())
        # Only a backslash with nothing on its line to escape comes here.
        self._fail(at, "stray-backslash", "a backslash at the end of a line escapes nothing", "delete it or write \\\\")
        return at + 1

    def _break(self, at: int) -> int:
        if not self.at_start or not self.opened:
            match = _EMPTY_LINE.match(self.text, at)
            if match:
                self._end_paragraph(at)
                self.opened = True
                return match.end()
        match = _NEWLINE.match(self.text, at)
        return self._emit("NEWLINE", at, match.end()) if match else at

    def _comment(self, at: int) -> int:
        text = self.text
        if text.startswith("//", at):
            end = self.line_end.after(at)
            if end == len(text):
                self.diagnostics.append(
                    self.source.at(
                        "warning", "open-comment", "a // comment on the last line is text", at, fix="end the line"
                    )
                )
                return at
        elif text.startswith("/*", at):
            end = self.next["*/"].after(at + 2) + 2
        elif text.startswith("<!--", at):
            end = self.next["-->"].after(at + 4) + 3
        else:
            return at
        if end > len(text):
            return at
        self.comments.append((at, end))
        if self.at_start and self.opened:
            match = _BREAKS_AFTER_EMPTY_LINE.match(text, end)
        elif self.after_newline:
            match = _BREAK_AFTER_NEWLINE.match(text, end)
        else:
            match = None
        return match.end() if match else end

    def _front_matter(self, at: int) -> int:
        text, end = self.text, at
        while end < len(text) and text[end] == "=":
            end += 1
        close = self.next["==="].after(end)
        if close == len(text):
            return end if end - at >= 6 else at
        while close < len(text) and text[close] == "=":
            close += 1
        return close

    def _data(self, at: int) -> int:
        stop = self.data_stop.after(at)
        if self._data_end[0] != stop:
            self._data_end = (stop, self._last_brace(at, stop))
        return self._data_end[1] if self._data_end[1] > at + 1 else at

    def _last_brace(self, at: int, stop: int) -> int:
        close = self.text.rfind("}", at, stop + 1)
        while close > at and _DATA_CONTINUES.match(self.text, close + 1):
            close = self.text.rfind("}", at, close)
        return close + 1

    def _escaped_or_special(self, at: int) -> int:
        match = _ESCAPED.match(self.text, at)
        if match:
            return self._emit("TEXT", at, match.end(), match.group()[1:])
        match = _SPECIAL.match(self.text, at)
        if not match:
            return at
        code = match.group().strip()
        sign = _shortcodes().get(code) or _shortcodes().get(code[1:-1])
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

    def _emphasis(self, at: int, char: str) -> int:
        text, top = self.text, self.emphases[-1] if self.emphases else ""
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

    def _element(self, at: int, char: str) -> int:
        if char == "[":
            return self._link(at) or self._titled(at, "[", "]", "STATEMENT")
        if char == "<":
            return self._titled(at, "<", ">", "ARGUMENT")
        if char == "#":
            return self._tag(at)
        opener = self.text[at + 1 : at + 2]
        if opener in ("[", "<"):
            close = self.next["]" if opener == "[" else ">"].after(at + 3)
            if close < self.line_end.after(at + 2):
                end = close + 1
                return self._emit("MENTION", at, end + (self.text[end : end + 1] in (" ", "\t")))
        return at

    def _titled(self, at: int, opener: str, closer: str, kind: str) -> int:
        line_end = self.line_end.after(at + 1)
        close = self.next[closer + ":"].after(at + 2)
        if close < line_end:
            return self._emit(f"{kind}_DEFINITION", at, close + 2)
        if self.text[at + 1 : at + 2] in ("-", ""):
            return at
        close = self.next[closer].after(at + 2)
        if close < self.line_end.after(at + 2):
            return self._emit(f"{kind}_REFERENCE", at, close + 1)
        return at

    def _link(self, at: int) -> int:
        text = self.text
        close = self.next["]"].after(at + 1)
        if close == at + 1 or text[close + 1 : close + 2] != "(":
            return 0
        end = self.next[")"].after(close + 2)
        if end == close + 2 or end == len(text):
            return 0
        end += 1
        return self._emit("LINK", at, end + (text[end : end + 1] in (" ", "\t")))

    def _tag(self, at: int) -> int:
        text = self.text
        if text.startswith("#(", at):
            end = self.next[")"].after(at + 2)
            if end == at + 2 or end == len(text):
                return at
            end += 1
            return self._emit("TAG", at, end + (text[end : end + 1] in (" ", "\t")))
        match = _TAG.match(text, at)
        return self._emit("TAG", at, match.end()) if match else at

    # One token, inside an inference line

    def _inference_token(self, at: int) -> int:
        text, char = self.text, self.text[at]
        if char in "/<":
            end = self._comment(at)
            if end > at:
                return end
        elif char in " \t\r\n":
            match = _EMPTY_LINE.match(text, at)
            if match:  # the reference reads on; the inference is lost either way, the next paragraph need not be
                self._end_paragraph(at)
                return match.end()
            match = _NEWLINE.match(text, at)
            if match:
                return self._emit("NEWLINE", at, match.end())
            return at + 1
        elif char in "\\.:":
            end = self._escaped_or_special(at)
            if end > at:
                return end
        elif char == "-":
            match = _DASHES.match(text, at)
            if match:
                self.in_inference = False
                return self._emit("INFERENCE_END", at, match.end())
        elif char == "{":
            end = self._data(at)
            if end > at:
                return self._emit("DATA", at, end)
        elif char == ",":
            return self._emit("COMMA", at, at + 1)
        return self._plain(at)


def _shortcodes() -> dict[str, str]:
    if not _SHORTCODES:
        from adapterlab.argmap.shortcodes import SHORTCODES

        _SHORTCODES.update(SHORTCODES)
    return _SHORTCODES
