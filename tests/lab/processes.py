"""`adapterlab run` in processes of its own, to be stopped and killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from adapterlab.lab.ledger.store import Ledger


def start_run(study_file: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Begin a study in a process of its own."""
    command = [sys.executable, "-m", "adapterlab", "run", str(study_file), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_trials(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the ledger holds so many; raises `AssertionError` if the process ends before, or nothing comes."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if trials_in(out) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{count} trials never came: {process.communicate()[0] if process.poll() is not None else ''}")


def trials_in(out: Path) -> int:
    """How many trials the ledger in this folder holds."""
    return len(Ledger(out / "ledger.sqlite")) if (out / "ledger.sqlite").exists() else 0


def descendants(pid: int) -> list[int]:
    """The processes that this one has started, and theirs."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, line_of = [], [pid]
    while line_of:
        below = children.get(line_of.pop(), [])
        found += below
        line_of += below
    return found


def command_of(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
