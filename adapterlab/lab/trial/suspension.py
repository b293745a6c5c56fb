"""Times that do not count what a process or its machine was suspended for: by a signal, or a laptop that sleeps.

On Linux and macOS `time.monotonic` stands still while the machine sleeps. It goes on while a process is stopped by a signal,
and in some virtual machines that are paused. So times are added up in short ticks, and of a longer one only `MOST` counts.

>>> started = running_seconds()
>>> 0 <= running_seconds() - started < 1
True

As a program (`python suspension.py PID SECONDS`), this file kills a process after some seconds, unless its own standard
input is closed before. It can kill a process that is stuck in a call that holds Python's lock.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

TICK = 1.0
"""Seconds between two ticks."""
MOST = 5.0
"""Seconds that a tick counts at most, unless the process was busy: if more have passed, it or the machine was suspended."""


class Countdown:
    """Seconds left for other processes, without those that they or this process are suspended for.

    >>> Countdown(60.0).seconds_left
    60.0

    Args:
        seconds: Seconds at the start.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds_left = seconds
        """Seconds left at the last tick."""
        self._seen = time.monotonic()

    def tick(self, pids: Iterable[int]) -> float:
        """Count the time since the last tick, unless a process is suspended; call it every `TICK` seconds.

        Args:
            pids: Ids of the processes.

        Returns:
            Seconds left; negative if there are none.
        """
        now = time.monotonic()
        if not any(map(_is_suspended, pids)):
            self.seconds_left -= min(now - self._seen, MOST)
        self._seen = now
        return self.seconds_left


class _RunningClock:
    """Adds up the seconds that this process ran, in ticks of a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds, self._seen, self._busy = 0.0, time.monotonic(), time.process_time()
        self._thread: threading.Thread | None = None

    def seconds(self) -> float:
        """Return the seconds so far; start the thread if this process has none."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, daemon=True, name="running seconds")
            self._thread.start()
        return self._tick()

    def _tick(self) -> float:
        with self._lock:
            now, busy = time.monotonic(), time.process_time()
            # A long call that holds Python's lock delays the ticks too, but takes the time of a processor.
            self._seconds += min(now - self._seen, max(MOST, busy - self._busy))
            self._seen, self._busy = now, busy
            return self._seconds

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            self._tick()


_clock = _RunningClock()


def _renew() -> None:
    global _clock
    _clock = _RunningClock()


os.register_at_fork(after_in_child=_renew)  # the thread is not copied, and its lock may be held


def running_seconds() -> float:
    """Return the seconds that this process ran, from some moment on; only differences have a meaning.

    Up to `MOST` seconds of each suspension are counted.
    """
    return _clock.seconds()


def _is_suspended(pid: int) -> bool:
    """Return True if a process is stopped by a signal; where the system does not tell, False."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"


def _kill_after(pid: int, seconds: float) -> None:
    """Kill a process after some seconds, or return when standard input is closed."""
    countdown = Countdown(seconds)
    while countdown.tick([pid]) > 0:
        if select.select([0], [], [], min(TICK, countdown.seconds_left))[0]:
            return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _kill_after(int(sys.argv[1]), float(sys.argv[2]))
