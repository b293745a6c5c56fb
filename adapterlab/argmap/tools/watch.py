r"""Repetition of a command whenever a file changes.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     before = stamp(Path(folder) / "map.argdown")
>>> before is None
True
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.names import printable

INTERVAL = 0.3
"""Seconds between two looks at the file."""


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return the time of the last change, the size and the number of a file; None if it is not there.

    Args:
        path: The file.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def watch(path: Path, build: Callable[[], str]) -> None:
    """Build now and after each change of a file, and print one line each time; ends with Ctrl-C.

    An error of the user is the line of its build, and the next change builds again.

    Args:
        path: The file.
        build: Builds and returns a line about the result.

    Raises:
        UnknownNameError: The first build met an unknown name, such as a format: no change of the file would help.
    """
    print(printable(f"watching {path}; Ctrl-C ends this"), flush=True)
    seen: object = ()
    while True:
        now = stamp(path)
        if now != seen:
            first, seen = seen == (), now
            try:
                line = build() if now else f"{path} is not there"
            except AdapterlabError as error:
                if first and isinstance(error, UnknownNameError):
                    raise
                line = str(error)
            print(printable(f"{datetime.now():%H:%M:%S} {line}"), flush=True)
        time.sleep(INTERVAL)
