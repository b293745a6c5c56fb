"""Files that a computation reads, with what they were when it read them, to notice that one has changed since.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     file = Path(folder) / "rows.jsonl"
...     _ = file.write_text("one")
...     stamp = stamp_of(file)
...     before = stamp.is_current()
...     _ = file.write_text("two")
...     before, stamp.is_current()
(True, False)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapterlab.errors import ChangedInputError

Digest = Callable[[Path], str]
"""Function of a module that hashes what counts of a file."""


@dataclass(frozen=True)
class FileStamp:
    """A file or folder as it was when it was read."""

    path: str
    size: int
    """Bytes."""
    mtime_ns: int
    """Time of its last change, in nanoseconds."""
    digest: str
    """Hash of what counts of its content."""
    measure: Digest
    """Computes `digest`."""

    @property
    def is_untouched(self) -> bool:
        """True if size and time of the last change are still the same, which costs microseconds to find out."""
        try:
            return (self.size, self.mtime_ns) == _seen(Path(self.path))
        except OSError:
            return False

    def is_current(self) -> bool:
        """Return True if what counts of the content is the same; it is only read if the size or the time differs."""
        return self.is_untouched or self.renewed() is not None

    def renewed(self) -> FileStamp | None:
        """Return the stamp with the present size and time, or None if what counts has changed or cannot be read."""
        try:
            now = stamp_of(Path(self.path), self.measure)
        except (OSError, SyntaxError, ValueError):
            return None
        return now if now.digest == self.digest else None


class InputFiles:
    """Files that must not change while a study runs, since its trials are named by their content.

    Args:
        stamps: The files as they were when the names were made.
    """

    def __init__(self, stamps: Iterable[FileStamp]) -> None:
        self._stamps = {stamp.path: stamp for stamp in stamps}

    def check(self) -> None:
        """Compare every file with its stamp; content is read only where the size or the time of the last change differs.

        Raises:
            ChangedInputError: If one has changed or is gone; the message names it.
        """
        for path, stamp in self._stamps.items():
            if not stamp.is_untouched:
                now = stamp.renewed()
                if now is None:
                    raise ChangedInputError(
                        f"{path} {'has changed' if Path(path).exists() else 'is gone'} since this study read it, and trials "
                        "are named by its content: put it back, or start the study again (from Python, in a new process) to "
                        "run the trials that depend on it with the new content"
                    )
                self._stamps[path] = now


def stamp_of(path: Path, measure: Digest | None = None) -> FileStamp:
    """Return the stamp of a file or folder.

    Args:
        path: The file or folder.
        measure: Computes the hash; by default of a file's bytes, and of the names in a folder.

    Raises:
        OSError: If it cannot be read.
    """
    size, mtime_ns = _seen(path)  # before the content: a change in between is noticed later
    measure = measure or (hash_names if path.is_dir() else hash_bytes)
    return FileStamp(str(path), size, mtime_ns, measure(path), measure)


def stamps_below(paths: Sequence[Path]) -> tuple[FileStamp, ...]:
    """Return the stamps of files, and of folders with everything in them.

    Args:
        paths: Files and folders.

    Raises:
        OSError: If one cannot be read.
    """
    return tuple(stamp_of(path) for path in _below(paths))


def hash_bytes(path: Path) -> str:
    """Return a hash of a file's bytes.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def hash_names(folder: Path) -> str:
    """Return a hash of the names in a folder, without empty folders.

    Args:
        folder: The folder.

    Raises:
        OSError: If it cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() or any(path.iterdir()))
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _below(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield path
        if path.is_dir():
            yield from sorted(path.rglob("*"))


def _seen(path: Path) -> tuple[int, int]:
    found = path.stat()
    # A folder's size depends on the file system and says nothing.
    return (0 if path.is_dir() else found.st_size), found.st_mtime_ns
