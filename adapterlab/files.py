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
def writing(path: Path, mode: int = 0o666, *, replace: bool = True) -> Iterator[Path]:
    """Yield a new empty file beside `path`, which takes its place if the `with` block ends without an error.

    The file has a random name and is created exclusively, so it is never a link or the file of another process.

    Args:
        path: The file to write; a link is replaced by the file itself.
        mode: Permissions of the file, less those that the umask takes away.
        replace: False to raise an error if `path` exists at the end of the block.

    Yields:
        The file to write to in the meantime.

    Raises:
        FileExistsError: `path` exists and is not to be replaced.
        OSError: The file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode))
    try:
        yield partial
        if replace:
            partial.replace(path)
        else:
            os.link(partial, path)  # fails if there is a file, where a rename would replace it
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, mode: int = 0o666, *, replace: bool = True) -> None:
    """Write a text file in UTF-8.

    Args:
        path: The file; replaced if it exists.
        text: Its new content.
        mode: Permissions of the file, less those that the umask takes away.
        replace: False to raise an error if the file exists.

    Raises:
        FileExistsError: The file exists and is not to be replaced.
        OSError: The file cannot be written.
    """
    with writing(path, mode, replace=replace) as partial:
        partial.write_bytes(text.encode())
