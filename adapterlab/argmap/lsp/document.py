r"""Open documents: their texts, the edits of an editor, and what is known about each text.

>>> document = Document("file:///weather.argdown", "[Wet]: It is wet.", 1)
>>> document.change([Edit("Rain", 0, 1, 0, 4)], 2)
>>> document.analysis.text.text
'[Rain]: It is wet.'
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from adapterlab.argmap.lint.checks import check
from adapterlab.argmap.lint.evidence import check_evidence
from adapterlab.argmap.lsp.occurrences import Kind, Occurrence, occurrences
from adapterlab.argmap.lsp.positions import Text
from adapterlab.argmap.model.build import parse
from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.scores import Scores, score
from adapterlab.argmap.syntax.diagnostics import Diagnostic
from adapterlab.errors import AdapterlabError

_SURROGATE = re.compile("[\ud800-\udfff]")


class Edit(NamedTuple):
    """A replacement of a range, or of the whole text if it has no range."""

    text: str
    line: int = -1
    """First line of the range, from 0; -1 for the whole text."""
    column: int = 0
    end_line: int = 0
    end_column: int = 0


class Analysis:
    """Findings about one state of a text, each computed when it is first needed.

    Args:
        text: The text.
        path: The file, for links to evidence; None for a document that is not saved.
    """

    def __init__(self, text: Text, path: Path | None) -> None:
        self.text, self.path = text, path

    @cached_property
    def map(self) -> Map:
        """The map; its diagnostics are those of the parser."""
        return parse(self.text.text, self.path.name if self.path else "<map>", self.path.parent if self.path else None)

    @cached_property
    def diagnostics(self) -> list[Diagnostic]:
        """Findings of the parser, of the checks and of the comparison of quotes with their sources."""
        found = check(self.map)
        if self.path is not None:
            found.extend(check_evidence(self.map, self.path.parent))
        return sorted(found, key=lambda d: (d.severity, d.line, d.column))

    @cached_property
    def scores(self) -> Scores | None:
        """Scores under the default semantics, without the parts that have errors; None if there are none."""
        try:
            return score(self.map, skip_broken=True)
        except AdapterlabError:
            return None

    @cached_property
    def occurrences(self) -> list[Occurrence]:
        """Every title and tag in the text, in order."""
        return occurrences(self.map.source)

    @cached_property
    def by_name(self) -> dict[tuple[Kind, str], list[Occurrence]]:
        """The occurrences of each title and tag."""
        found: dict[tuple[Kind, str], list[Occurrence]] = defaultdict(list)
        for occurrence in self.occurrences:
            found[occurrence.kind, occurrence.name].append(occurrence)
        return found

    def at(self, line: int, column: int) -> Occurrence | None:
        """Return the title or tag at a position, or None.

        Args:
            line: Line, from 0.
            column: Column, from 0, in the units of the text.
        """
        offset = self.text.offset(line, column)
        index = bisect_right(self._starts, offset) - 1
        found = self.occurrences[index] if index >= 0 else None
        return found if found and offset <= found.end else None

    @cached_property
    def _starts(self) -> list[int]:
        return [found.start for found in self.occurrences]


class Document:
    """An open document.

    Args:
        uri: Its address.
        text: Its text.
        version: Version number from the editor.
        encoding: Unit of columns.
    """

    def __init__(self, uri: str, text: str, version: int, encoding: str = "utf-16") -> None:
        self.uri, self.version, self.encoding = uri, version, encoding
        parts = urlsplit(uri)
        self.path = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self.analysis = Analysis(Text(_whole(text), encoding), self.path)
        self.latest: Analysis | None = None
        """The last state of the text whose map was read; completion uses it while the user types."""

    def change(self, edits: Sequence[Edit], version: int) -> None:
        """Apply edits, each to the text that the one before it leaves.

        Args:
            edits: The edits.
            version: Version number of the result.
        """
        text = self.analysis.text
        for edit in edits:
            if edit.line < 0:
                text = Text(_whole(edit.text), self.encoding)
                continue
            start, end = text.offset(edit.line, edit.column), text.offset(edit.end_line, edit.end_column)
            text = Text(text.text[:start] + _whole(edit.text) + text.text[max(start, end) :], self.encoding)
        if "map" in self.analysis.__dict__:
            self.latest = self.analysis
        self.analysis, self.version = Analysis(text, self.path), version

    @property
    def read(self) -> Analysis:
        """A state of the text whose map was read: the last such, or else the present one."""
        return self.analysis if "map" in self.analysis.__dict__ or self.latest is None else self.latest


def _whole(text: str) -> str:
    """Return a text without halves of surrogate pairs, which no answer could hold."""
    return _SURROGATE.sub("\ufffd", text)
