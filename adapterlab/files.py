"""Write files whole or not at all, without following links that someone else put there.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     write_text(Path(folder) / "a.txt", "whole")
...     sorted(path.name for path in Path(folder).iterdir())
['a.txt']
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def cache_folder() -> Path:
    """Return `$ADAPTERLAB_CACHE`, or `~/.cache/adapterlab` if that is not set."""
    return Path(os.environ.get("ADAPTERLAB_CACHE") or Path.home() / ".cache" / "adapterlab")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a new empty file beside `path`, which takes its place if the `with` block ends without an error.

    The file has a random name and is created exclusively, so it is never a link or the file of another process.

    Args:
        path: The file to write; replaced if it exists, a link by the file itself.

    Yields:
        The file to write to in the meantime.

    Raises:
        OSError: The file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8.

    Args:
        path: The file; replaced if it exists.
        text: Its new content.

    Raises:
        OSError: The file cannot be written.
    """
    with writing(path) as partial:
        partial.write_bytes(text.encode())
