r"""Check that the quotes of a map occur in the files that it links.

A link `[evidence](papers/x.md#L10-L20)` of a claim refers to lines of a file below the map's folder; the claim's block
quotes must occur there. White space, bold and italic marks are ignored, and `(...)` stands for omitted words.

>>> import tempfile
>>> from adapterlab.argmap.model.build import parse
>>> the_map = parse("[Rain]: It rains.\n  [report](report.md)\n  > It rained all day")
>>> with tempfile.TemporaryDirectory() as folder:
...     _ = (Path(folder) / "report.md").write_text("It rained all night.")
...     for finding in check_evidence(the_map, Path(folder)):
...         print(finding.message)
[Rain] quotes words that are not in report.md
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from adapterlab.argmap.model.map import Map, Mention
from adapterlab.argmap.syntax.diagnostics import Diagnostic, Severity

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_LINES = re.compile(r"L([0-9]{1,9})(?:-L?([0-9]{1,9}))?\Z")
_ELISION = re.compile(r"\(\s*(?:\.\.\.|…)\s*\)|\[\s*(?:\.\.\.|…)\s*\]")
_MARKS = str.maketrans("", "", "*_\\")
MAX_BYTES = 20_000_000
"""Size of the largest file that is read."""
MAX_LINKS = 20
"""Links of one mention that are checked."""
MAX_QUOTED = 400
"""Words of a quote that are compared with a file to find the nearest match."""


@dataclass
class _Words:
    """The words of a file, and its text in two forms."""

    words: list[str]
    lines: list[int]
    """Line number of each word, from 1."""
    text: str
    """The words with single spaces between."""
    starts: list[int]
    """Offset of each word in `text`."""
    spelled: list[str]
    """The letters and digits of each word."""
    letters: str
    """The letters and digits of all words, without spaces."""
    letter_starts: list[int]
    """Offset of each word in `letters`."""


def check_evidence(
    the_map: Map, folder: Path, missing: Severity = "warning", moved: Mapping[str, str] | None = None
) -> list[Diagnostic]:
    """Compare every quote with the files that its claim links.

    Args:
        the_map: The map.
        folder: The map's folder; links to files outside it are errors.
        missing: Severity of a link to a file that does not exist.
        moved: Renamed folders: the first part of a link, and the folder on disk, for example `{"docs": "papers"}`.

    Returns:
        Errors and warnings about links and quotes, in the order of claims and arguments.
    """
    checker = _Evidence(the_map, folder, missing, dict(moved or {}))
    found: list[Diagnostic] = []
    for element in (*the_map.claims.values(), *the_map.arguments.values()):
        for mention in element.mentions:
            if mention.links:
                found.extend(checker.mention(element.title, mention))
    return found


class _Evidence:
    def __init__(self, the_map: Map, folder: Path, missing: Severity, moved: dict[str, str]) -> None:
        self.map, self.folder, self.missing, self.moved = the_map, folder, missing, moved
        self.files: dict[Path, _Words] = {}

    def mention(self, title: str, mention: Mention) -> Iterator[Diagnostic]:
        """Yield findings about the links and quotes of one mention."""
        sources: list[tuple[str, Path, tuple[int, int] | None]] = []
        for _, target in mention.links[:MAX_LINKS]:
            if (_SCHEME.match(target) and not target.lower().startswith("file:")) or target.startswith(("#", "//")):
                continue
            name, _, fragment = target.partition("#")
            path, problem = self._path(name)
            if path is None:
                severity: Severity = self.missing if problem == "missing-file" else "error"
                messages = {
                    "missing-file": f"[{title}] links {name}, which does not exist",
                    "outside": f"[{title}] links {name}, which is outside the map's folder",
                    "unreadable": f"[{title}] links {name}, which is not a readable text file",
                }
                yield self._at(mention, target, severity, problem, messages[problem])
                continue
            lines = _LINES.match(fragment)
            span = (int(lines[1]), int(lines[2] or lines[1])) if lines else None
            if span and (span[0] < 1 or span[1] < span[0] or span[0] > self._last_line(path)):
                yield self._at(
                    mention, target, "error", "no-such-lines", f"[{title}] links lines that {name} does not have"
                )
                span = None
            sources.append((target, path, span))
        for quote in mention.quotes if sources else ():
            yield from self._quote(title, mention, quote, sources)

    def _quote(
        self, title: str, mention: Mention, quote: str, sources: list[tuple[str, Path, tuple[int, int] | None]]
    ) -> Iterator[Diagnostic]:
        segments = [s for part in _ELISION.split(quote) if (s := _normal(part))]
        if not segments:
            return
        found: list[tuple[int, Diagnostic]] = []
        for target, path, span in sources:
            words, name = self._words(path), target.partition("#")[0]
            first, last = _between(words, span)
            low, high = _offsets(words.starts, len(words.text), first, last)
            if _first(segments, words.text, low, high) >= 0:
                return
            spelled = [_letters(segment) for segment in segments]
            low, high = _offsets(words.letter_starts, len(words.letters), first, last)
            if _first(spelled, words.letters, low, high) >= 0:
                message = f"[{title}] quotes {target} with other punctuation, spacing or characters"
                where = _nearest(segments, words, first, last, letters=False)
                found.append((0, self._at(mention, quote[:12], "warning", "quote-type", message, where)))
                continue
            at = _first(spelled, words.letters, 0, len(words.letters))
            if at >= 0:
                line = words.lines[bisect_right(words.letter_starts, at) - 1]
                message = f"[{title}] quotes words that are not in {target}"
                where = f"they are in {name}, from line {line} on"
                found.append((1, self._at(mention, quote[:12], "error", "quote-lines", message, where)))
                continue
            message = f"[{title}] quotes words that are not in {name}"
            near = _nearest(segments, words, first, last) or _nearest(segments, words, 0, len(words.words))
            near = near or "the file has no similar words"
            found.append((2, self._at(mention, quote[:12], "error", "quote", message, near)))
        if found:
            yield min(found, key=lambda item: item[0])[1]

    def _at(
        self, mention: Mention, token: str, severity: Severity, code: str, message: str, fix: str = ""
    ) -> Diagnostic:
        start = self.map.source.text.find(token, mention.start, mention.end)
        start = mention.start if start < 0 else start
        return self.map.source.at(severity, code, message, start, start + len(token), fix)

    def _path(self, name: str) -> tuple[Path | None, str]:
        name = unquote(name)
        parts = PurePosixPath(name).parts
        if "\\" in name or "\0" in name or ".." in parts or PurePosixPath(name).is_absolute() or _SCHEME.match(name):
            return None, "outside"
        if parts and parts[0] in self.moved:
            parts = (*PurePosixPath(self.moved[parts[0]]).parts, *parts[1:])
        path = self.folder
        for part in parts:
            path = path / part
            if path.is_symlink():
                return None, "outside"
        if not path.exists():
            return None, "missing-file"
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None, "unreadable"
        try:
            self._words(path)
        except (OSError, UnicodeDecodeError):
            return None, "unreadable"
        return path, ""

    def _last_line(self, path: Path) -> int:
        words = self._words(path)
        return words.lines[-1] if words.lines else 0

    def _words(self, path: Path) -> _Words:
        if path not in self.files:
            words, lines = [], []
            for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
                for word in line.translate(_MARKS).split():
                    words.append(word)
                    lines.append(number)
            spelled = [_letters(word) for word in words]
            starts = [0, *accumulate(len(word) + 1 for word in words)][: len(words)]
            letter_starts = [0, *accumulate(map(len, spelled))][: len(words)]
            self.files[path] = _Words(words, lines, " ".join(words), starts, spelled, "".join(spelled), letter_starts)
        return self.files[path]


def _normal(text: str) -> str:
    return " ".join(text.translate(_MARKS).split())


def _letters(text: str) -> str:
    """Return the letters and digits: hyphenation, stray spaces and typographic variants make no difference."""
    plain = (
        unicodedata.normalize("NFKD", text)
        .replace("\N{INCREMENT}", "delta")
        .replace("\N{GREEK CAPITAL LETTER DELTA}", "delta")
    )
    return "".join(filter(str.isalnum, plain)).lower()


def _between(words: _Words, span: tuple[int, int] | None) -> tuple[int, int]:
    """Return the index of the first word of the lines, and the index behind their last word."""
    if span is None:
        return 0, len(words.words)
    return bisect_left(words.lines, span[0]), bisect_right(words.lines, span[1])


def _offsets(starts: list[int], size: int, first: int, last: int) -> tuple[int, int]:
    low = starts[first] if first < len(starts) else size
    return low, starts[last] if last < len(starts) else size


def _first(segments: list[str], text: str, low: int, high: int) -> int:
    """Return the offset of the first segment if all occur one after the other, else -1."""
    start = -1
    for segment in segments:
        at = text.find(segment, low, high)
        if at < 0:
            return -1
        start = at if start < 0 else start
        low = at + len(segment)
    return start


def _nearest(segments: list[str], words: _Words, first: int, last: int, letters: bool = True) -> str:
    """Return a message with the words of the file at the first difference from the quote; empty if nothing is similar.

    `letters`: compare letters and digits only, see `_letters`.
    """
    text, starts = (words.letters, words.letter_starts) if letters else (words.text, words.starts)
    low, high = _offsets(starts, len(text), first, last)
    searched = [_letters(s) for s in segments] if letters else segments
    segment = next((s for s, key in zip(segments, searched, strict=True) if text.find(key, low, high) < 0), segments[0])
    quoted = segment.split()[:MAX_QUOTED]
    ours = [_letters(word) for word in quoted] if letters else quoted
    theirs = words.spelled[first:last] if letters else words.words[first:last]
    match = SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match()
    if match.size < min(3, len(quoted)):
        return ""
    start = first + match.b
    if match.a + match.size < len(quoted):
        at, stop = match.a + match.size, start + match.size
    else:
        at, stop = max(0, match.a - 1), max(first, start - 1)
    shown = " ".join(words.words[max(first, stop - 4) : stop + 6])
    line = words.lines[min(stop, len(words.lines) - 1)]
    return f"nearest match: line {line} has '... {shown} ...', but the quote has '{' '.join(quoted[at : at + 4])}'"
