r"""Formatter: one empty line between paragraphs, two spaces per level, short relation signs, statements renumbered.

Line breaks inside texts, metadata and comments are kept, and so are a byte order mark and line ends of two characters.

>>> print(format_map("[Wet]: It is wet.\n      <+   [Rain]: It rains.\n\n\n"), end="")
[Wet]: It is wet.
  + [Rain]: It rains.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from adapterlab.argmap.model.build import parse
from adapterlab.argmap.model.map import Map
from adapterlab.argmap.syntax.diagnostics import Source, errors
from adapterlab.argmap.syntax.lexer import Lexer
from adapterlab.argmap.syntax.tokens import Paragraph, Token
from adapterlab.errors import AdapterlabError

_SHORT = {"<+": "+", "<-": "-", "<_": "_"}
_RELATIONS = ("RELATION", "UNDERCUT", "CONTRADICTION")
_ZERO_WIDTH = ("INDENT", "DEDENT")


def format_map(text: str, name: str = "<map>", folder: Path | None = None) -> str:
    """Format a map without changing its content. The files that it includes stay as they are.

    Args:
        text: A map in Argdown.
        name: Name of the text in messages, for example its path.
        folder: Folder of the files that the map includes, as in `parse`.

    Returns:
        The formatted text.

    Raises:
        AdapterlabError: The map has errors; they must be fixed first.
    """
    before = parse(text, name, folder)
    found = errors(before.diagnostics)
    if found:
        raise AdapterlabError(f"{name} has errors; fix them first\n{found[0].render(before.source)}")
    mark = Source(text).byte_order_mark
    after = mark + _Formatter(text[len(mark) :], name).format()
    breaks = text.count("\n")
    if breaks and text.count("\r\n") == breaks:
        after = after.replace("\r\n", "\n").replace("\n", "\r\n")
    if meaning(parse(after, name, folder)) != meaning(before):
        raise AdapterlabError(f"{name} cannot be formatted without changing its content; please report this map")
    return after


def meaning(the_map: Map) -> tuple[object, ...]:
    """Return the content of a map without places and without white space in its texts, to compare two maps.

    Args:
        the_map: The map.
    """
    elements = [
        (
            type(element).__name__,
            title,
            tuple(" ".join((m.text or "").split()) for m in element.mentions),
            tuple(element.tags),
            repr(element.data),
            element.section,
        )
        for element in (*the_map.claims.values(), *the_map.arguments.values())
        for title in [element.title]
    ]
    steps = [
        (a.title, tuple(a.numbered), tuple((s.inference, tuple(s.rules), repr(s.data)) for s in a.steps))
        for a in the_map.arguments.values()
    ]
    relations = [(r.kind, r.source, r.target) for r in the_map.relations]
    sections = [(s.id, " ".join(s.title.split()), s.level, repr(s.data), tuple(s.tags)) for s in the_map.all_sections]
    return elements, steps, relations, sections, repr(the_map.settings)


@dataclass
class _Line:
    """A line of a paragraph."""

    start: int
    """Offset of its first character."""
    end: int
    """Offset of its line break."""
    tokens: list[Token]


@dataclass
class _State:
    """Position of the next line within its paragraph."""

    listed: bool
    """True if the paragraph is a list."""
    depth: int = 0
    """Levels of indentation that are open."""
    number: int = 0
    """Number of the last statement of a premise-conclusion structure."""
    hanging: int = 2
    """Indentation of lines that continue an element."""
    in_inference: bool = False


class _Formatter:
    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.lexer = Lexer(Source(text, name))
        self.paragraphs = self.lexer.read()
        self.out: list[str] = []
        self.comment_starts = [start for start, _ in self.lexer.comments]

    def format(self) -> str:
        at = 0
        for paragraph in self.paragraphs:
            solid = _solid(paragraph.tokens)
            if not solid:
                continue
            self._gap(at, solid[0].start)
            self._paragraph(paragraph, solid[0].start, solid[-1].end)
            at = solid[-1].end
        self._gap(at, len(self.text), last=True)
        while self.out and not self.out[-1]:
            self.out.pop()
        # A line break at the end would turn the text after such a // into a comment.
        open_comment = any(found.code == "open-comment" for found in self.lexer.diagnostics)
        return "\n".join(self.out) + ("" if open_comment else "\n")

    def _gap(self, start: int, end: int, last: bool = False) -> None:
        """Add the comments between two paragraphs, and one empty line wherever the text has at least one."""
        at = start
        for comment_start, comment_end in self._comments(start, end):
            between = self.text[at:comment_start]
            shown = self.text[comment_start:comment_end].rstrip()
            if "\n" not in between and at != 0 and self.out:
                self.out[-1] += f" {shown}"
            else:
                self._space(between)
                self.out.append(shown)
            at = comment_end
        if not last:
            self._space(self.text[at:end] if at else "")

    def _space(self, between: str) -> None:
        if between.count("\n") > 1 and self.out and self.out[-1]:
            self.out.append("")

    def _comments(self, start: int, end: int) -> list[tuple[int, int]]:
        low, high = bisect_right(self.comment_starts, start - 1), bisect_right(self.comment_starts, end - 1)
        return self.lexer.comments[low:high]

    def _paragraph(self, paragraph: Paragraph, start: int, end: int) -> None:
        tokens = paragraph.tokens
        state = _State(listed=any(t.type in ("ORDERED", "UNORDERED") and t.start == start for t in tokens))
        comments: list[str] = []
        for line in self._lines(tokens, start, end):
            for token in takewhile(lambda t: t.type in _ZERO_WIDTH, line.tokens):
                state.depth += 1 if token.type == "INDENT" else -1
            solid = _solid(line.tokens)
            if not solid:
                comments.append(self._shown(line.start, line.end))
                continue
            indent, shown = self._line(line, solid, state, opens=solid[0].start == start)
            self.out.extend(" " * indent + comment for comment in comments)
            comments = []
            self.out.append(" " * indent + shown)
        self.out.extend(comments)

    def _line(self, line: _Line, solid: list[Token], state: _State, opens: bool) -> tuple[int, str]:
        """Return a line's indentation and text; `opens`: it is the first line of its paragraph."""
        first, shown, indent = solid[0], self._shown(line.start, line.end), state.hanging
        if state.in_inference:
            indent = 0
        elif first.type in _RELATIONS:
            indent = 2 * (state.depth - state.listed)
            state.hanging = indent + 2
            shown = _joined(_SHORT.get(first.text, first.text), self._shown(first.end, line.end))
        elif first.type == "NUMBER":
            state.number += 1
            indent, state.hanging = 0, 4
            shown = _joined(f"({state.number})", self._shown(first.end, line.end))
        elif first.type in ("ORDERED", "UNORDERED"):
            indent, state.hanging = 0, 2
            shown = self._shown(first.start, line.end)
        elif first.type == "INFERENCE_START":
            indent, state.in_inference = 0, True
            if len(solid) > 1 and solid[1].type == "INFERENCE_END":
                shown = _joined("----", self._shown(solid[1].end, line.end))
        elif first.type == "HEADING":
            indent, shown = 0, first.text + self._shown(first.end, line.end)
        elif opens:
            indent = 0
        if shown.startswith("@include("):  # white space before it would be the first of the included file
            indent = solid[0].start - line.start
        if any(t.type == "INFERENCE_END" for t in solid):
            state.in_inference = False
        return indent, shown

    def _shown(self, start: int, end: int) -> str:
        shown = self.text[start:end].strip(" \t\r")
        escapes = (len(shown) - len(shown.rstrip("\\"))) % 2 == 1
        # Keep a space that a backslash escapes, or that prevents a bracket from opening a title across the line break.
        return shown + " " if escapes or shown.endswith(("<", "[")) else shown

    def _lines(self, tokens: list[Token], start: int, end: int) -> list[_Line]:
        """Return the paragraph's lines; a line break inside a token or a comment does not end a line."""
        spans = [(t.start, t.end) for t in _solid(tokens)]
        spans = sorted([*spans, *self._comments(start, end)])
        lines: list[_Line] = []
        at, begun = start, start
        for span_start, span_end in [*spans, (end, end)]:
            while (cut := self.text.find("\n", at, span_start)) >= 0:
                lines.append(_Line(begun, cut, []))
                at = begun = cut + 1
            at = max(at, span_end)
        lines.append(_Line(begun, end, []))
        starts = [line.start for line in lines]
        for token in tokens:
            if token.type != "NEWLINE" and start <= token.start <= end:
                lines[bisect_right(starts, token.start) - 1].tokens.append(token)
        return [line for line in lines if line.tokens or self.text[line.start : line.end].strip()]


def _solid(tokens: list[Token]) -> list[Token]:
    """Return the tokens that show on a line."""
    return [t for t in tokens if t.type not in (*_ZERO_WIDTH, "NEWLINE")]


def _joined(sign: str, rest: str) -> str:
    return f"{sign} {rest}" if rest else sign
