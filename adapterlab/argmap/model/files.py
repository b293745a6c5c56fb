r"""Reading and writing of map files.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "weather.argdown"
...     write_text(path, "[Rain]: It rains.\n")
...     list(load(path).claims)
['Rain']
"""

from __future__ import annotations

from pathlib import Path

from adapterlab.argmap.model.build import parse
from adapterlab.argmap.model.map import Map
from adapterlab.argmap.syntax.diagnostics import errors
from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text as replace_text

SHOWN = 5
"""Errors shown in the message of `load`."""


def load(path: str | Path) -> Map:
    """Read a map that must have no errors.

    Args:
        path: A file in Argdown, UTF-8.

    Returns:
        The map; its diagnostics are warnings only.

    Raises:
        AdapterlabError: The file cannot be read, or the map has errors; the message shows the first of them.
    """
    the_map = read(path)
    found = errors(the_map.diagnostics)
    if found:
        shown = "\n".join(d.render(the_map.source) for d in found[:SHOWN])
        more = f"\n... and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise AdapterlabError(f"{path} has {len(found)} error{'s' * (len(found) > 1)}\n{shown}{more}")
    return the_map


def read(path: str | Path) -> Map:
    """Read a map with its errors, and the files that it includes.

    Args:
        path: A file in Argdown, UTF-8.

    Returns:
        The map; errors and warnings are in its `diagnostics`, and a byte order mark is kept in its source.

    Raises:
        AdapterlabError: The file cannot be read.
    """
    return parse(_decoded(path, "utf-8"), str(path), Path(path).parent)


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8; a byte order mark is left out.

    Args:
        path: The file.

    Returns:
        The text, with its line ends unchanged.

    Raises:
        AdapterlabError: The file cannot be read.
    """
    return _decoded(path, "utf-8-sig")


def _decoded(path: str | Path, encoding: str) -> str:
    try:
        return Path(path).read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise AdapterlabError(f"{path} is not UTF-8 text: byte {error.start} ({error.reason})") from None
    except OSError as error:
        raise AdapterlabError(f"{path} cannot be read: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part.

    Args:
        path: The file.
        text: Its new content.

    Raises:
        AdapterlabError: The file cannot be written.
    """
    try:
        replace_text(path, text)
    except OSError as error:
        raise AdapterlabError(f"{path} cannot be written: {error.strerror}") from None
