"""Finished parts of a measurement, kept in a file of JSON lines, so that a run that was stopped goes on.

>>> from tempfile import mkdtemp
>>> file = Path(mkdtemp()) / "progress.jsonl"
>>> with Record(file, "of these inputs") as record:
...     record.add("layer up", {"norm": 1.0})
>>> Record(file, "of these inputs").get("layer up"), Record(file, "of others").get("layer up")
({'norm': 1.0}, None)
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any, TextIO

from adapterlab.errors import AdapterlabError

INPUTS = "inputs"
"""Key of the file's first line, with the identity of what is measured."""


class Record:
    """Finished parts by name, for several threads. Nothing is written before the first part is finished.

    Args:
        file: The file; None to keep the parts in memory alone. The parts of another identity are dropped, and so is a last
            line that was not written to its end.
        identity: Hash of everything that decides the results.
    """

    def __init__(self, file: Path | None, identity: str) -> None:
        self.file, self._identity = file, identity
        self._parts = {} if file is None else _read(file, identity)
        self._stream: TextIO | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._parts)

    def get(self, name: str) -> Any:
        """Return a finished part as plain data, or None.

        Args:
            name: Its name.
        """
        return self._parts.get(name)

    def add(self, name: str, value: Any) -> None:
        """Keep a finished part.

        Args:
            name: Its name.
            value: Plain data, as of JSON; NaN and infinity are allowed.

        Raises:
            AdapterlabError: The file cannot be written, or another run is writing it.
        """
        with self._lock:
            self._parts[name] = value
            if self.file is None:
                return
            if self._stream is None:
                self._stream = self._started(self.file)
            self._stream.write(json.dumps([name, value]) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Close the file, so that another run may write it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self, file: Path) -> TextIO:
        """Return the file, opened and locked, with the head and all parts so far but the last."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # Not through a link that someone else put there.
            stream = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+", encoding="utf-8")
        except OSError as error:
            raise AdapterlabError(f"cannot write {file} ({error.strerror}): give another --out") from error
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.close()
            raise AdapterlabError(
                f"another run is writing {file}: wait until it has ended, or give another --out"
            ) from error
        stream.truncate(0)
        lines = [[INPUTS, self._identity], *list(map(list, self._parts.items()))[:-1]]
        stream.writelines(json.dumps(line) + "\n" for line in lines)
        stream.flush()
        return stream


def _read(file: Path, identity: str) -> dict[str, Any]:
    try:
        lines = file.read_text("utf-8", errors="replace").split("\n")[:-1]  # what follows the last line's end is torn
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AdapterlabError(f"cannot read {file} ({error.strerror}): give another --out") from error
    parts: dict[str, Any] = {}
    for line in lines:
        try:
            name, value = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            break  # a line that was torn when the machine went down, and what came after it
        if not parts and name != INPUTS:
            return {}
        parts[name] = value
    return parts if parts.pop(INPUTS, None) == identity else {}
