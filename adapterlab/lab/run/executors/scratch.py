"""Temporary folders that are removed even if their process is killed: the next one to start removes what it finds.

>>> folder = scratch_folder()
>>> Path(folder.name).name.startswith(f"adapterlab-{os.getpid()}-")
True
>>> folder.cleanup()
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

PREFIX = "adapterlab-"
_NAME = re.compile(rf"{PREFIX}(\d+)-(\d+)-")


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new temporary folder that this process owns, and remove those of processes that are dead."""
    remove_orphans()
    pid = os.getpid()
    return tempfile.TemporaryDirectory(prefix=f"{PREFIX}{pid}-{_started(pid)}-")


def remove_orphans() -> None:
    """Remove this user's temporary folders whose process has ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = _NAME.match(folder.name)
        if owner is None or folder.is_symlink() or not folder.is_dir():
            continue
        pid, started = int(owner[1]), int(owner[2])
        if _started(pid) != started and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


def _started(pid: int) -> int | None:
    """Return the time at which a process started, in clock ticks since the boot, or None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0 if _is_alive(pid) else None
    return int(stat.rpartition(")")[2].split()[19])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
