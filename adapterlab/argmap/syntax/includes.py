r"""Include directives: `@include(file.argdown)` is replaced by the text of the file, as in the reference.

The path is relative to the file with the directive. Each file is included once; further directives for it are left out.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     _ = Path(folder, "rain.argdown").write_text("[Rain]: It rains.\n")
...     source, found = expand("[Wet]: It is wet.\n\n@include(rain.argdown)", "main.argdown", Path(folder))
>>> source.text, found
('[Wet]: It is wet.\n\n[Rain]: It rains.\n', [])
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from adapterlab.argmap.syntax.diagnostics import Diagnostic, Segment, Severity, Source

_DIRECTIVE = re.compile(r"@include\(([^)]+)\)")
_LEFT_OUT = "<!-- not included -->"
MAX_CHARACTERS = 20_000_000
"""Characters of a map, included files among them."""
MAX_LEVELS = 50
"""Files that include each other in a chain."""


def directives(text: str) -> list[tuple[int, int]]:
    """Return start and end of all include directives of a text.

    Args:
        text: A map in Argdown.
    """
    return [match.span() for match in _DIRECTIVE.finditer(text)] if "@include(" in text else []


def expand(text: str, name: str, folder: Path) -> tuple[Source, list[Diagnostic]]:
    """Replace the include directives of a text. Never raises: a file that cannot be included is left out with an error.

    Args:
        text: A map in Argdown.
        name: Name of the text in messages, usually its path.
        folder: Folder of the text; paths in its directives are relative to it.

    Returns:
        The text with all included files, and the errors and warnings about directives.
    """
    main = Source(text, name)
    if not _DIRECTIVE.search(text):
        return main, []
    expansion = _Expansion()
    path = folder / Path(name).name
    expansion.add(main, folder, (_real(path),))
    return Source("".join(expansion.pieces), name, expansion.segments), expansion.diagnostics


@dataclass(frozen=True)
class _IncludeError(Exception):
    code: str
    message: str
    fix: str = ""


def _real(path: Path) -> str:
    """Return the path without symbolic links; as it is if it cannot be a path."""
    try:
        return os.path.realpath(path)
    except ValueError:  # it contains a null character
        return str(path)


class _Expansion:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.segments: list[Segment] = []
        self.diagnostics: list[Diagnostic] = []
        self.size = 0
        self.included: dict[str, str] = {}
        """For each included file, the place of its directive."""

    def add(self, source: Source, folder: Path, chain: tuple[str, ...]) -> None:
        """Append a text with the files that it includes; `chain` holds the paths from the main file to this one."""
        at = len(source.byte_order_mark) if len(chain) > 1 else 0
        for match in _DIRECTIVE.finditer(source.text):
            self._append(source, at, match.start())
            at = match.end()
            path = folder / match[1]
            line, _ = source.place(match.start())
            try:
                included = self._read(path, os.path.normpath(Path(source.name).parent / match[1]), chain)
            except _IncludeError as error:
                severity: Severity = "warning" if error.code == "included-twice" else "error"
                found = source.at(severity, error.code, error.message, match.start(), match.end(), error.fix)
                self.diagnostics.append(replace(found, file=source.name if len(chain) > 1 else ""))
                self._append(source, match.start(), match.end(), _LEFT_OUT)
                continue
            self.included[_real(path)] = f"{source.name}:{line}"
            self.add(included, path.parent, (*chain, _real(path)))
        self._append(source, at, len(source.text))

    def _append(self, source: Source, start: int, end: int, instead: str | None = None) -> None:
        shown = source.text[start:end] if instead is None else instead
        self.segments.append(Segment(self.size, source, start, fixed=instead is not None))
        self.pieces.append(shown)
        self.size += len(shown)

    def _read(self, path: Path, name: str, chain: tuple[str, ...]) -> Source:
        real = _real(path)
        if real in chain:
            raise _IncludeError(
                "include-circle", f"{name} includes itself, directly or through other files", "remove it"
            )
        if real in self.included:
            raise _IncludeError(
                "included-twice", f"{name} is already included, in {self.included[real]}: it is left out"
            )
        if len(chain) > MAX_LEVELS:
            raise _IncludeError("include", f"{name} is not included: more than {MAX_LEVELS} files include each other")
        try:
            if not path.is_file():
                raise _IncludeError(
                    "include", f"the included file {name} does not exist", "paths are relative to this file"
                )
            if self.size + path.stat().st_size > MAX_CHARACTERS:
                raise _IncludeError("too-large", f"with {name}, the map has more than {MAX_CHARACTERS:,} characters")
            return Source(path.read_bytes().decode(), name)
        except UnicodeDecodeError as error:
            raise _IncludeError("include", f"{name} is not UTF-8 text: byte {error.start} ({error.reason})") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise _IncludeError("include", f"the included file {name} cannot be read: {reason}") from None
