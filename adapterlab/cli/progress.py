"""Progress of a command: a bar or a spinner on a terminal; elsewhere a line at each stage and every half minute.

>>> from rich.console import Console
>>> with Stages(Console()) as stages:
...     stages("reading the model")
[   0 s] reading the model
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapterlab.report.plain import plain

if TYPE_CHECKING:
    from rich.console import Console

    from adapterlab.lab.run.scheduler import Progress, Watch

EVERY = 30.0
"""Seconds without a line after which the state is written again."""


class Log:
    """Lines with the time since the start; after `every` seconds without one, the current state is written.

    Args:
        console: Where to print.
        every: Seconds between two lines, at most.
    """

    def __init__(self, console: Console, every: float = EVERY) -> None:
        self._console, self._every = console, every
        self._started = time.monotonic()
        self._state: Callable[[], str] = str
        self._said, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def say(self, text: str) -> None:
        """Write a line, which is the state from then on.

        Args:
            text: The line.
        """
        self.show(lambda: text)
        self._write()

    def show(self, state: Callable[[], str]) -> None:
        """Set the state that is written from time to time.

        Args:
            state: Returns the state in words; empty to write nothing.
        """
        self._state = state
        if self._thread is None:
            self._thread = threading.Thread(target=self._repeat, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write no more lines."""
        self._ended.set()
        self._said.set()

    def _write(self) -> None:
        if text := self._state():
            seconds = time.monotonic() - self._started
            self._console.print(plain(f"[{seconds:4.0f} s] {text}"), highlight=False, soft_wrap=True)
        self._said.set()

    def _repeat(self) -> None:
        while not self._ended.is_set():
            self._said.clear()
            if not self._said.wait(self._every):
                self._write()


class Stages:
    """Display of what a command is doing.

    Args:
        console: Where to print.
    """

    def __init__(self, console: Console) -> None:
        self._status = console.status("") if console.is_terminal else None
        self.log = None if console.is_terminal else Log(console)
        """The log; None on a terminal."""

    def __call__(self, stage: str) -> None:
        """Show what is being done.

        Args:
            stage: The stage, in words.
        """
        if self.log is not None:
            self.log.say(stage)
        elif self._status is not None:
            self._status.update(plain(stage))
            self._status.start()

    def show(self, stage: str) -> None:
        """Show what is being done: at once on a terminal, elsewhere with the next line that is due.

        Args:
            stage: The stage, in words.
        """
        if self.log is not None:
            self.log.show(lambda: stage)
        else:
            self(stage)

    def pause(self) -> None:
        """Show nothing until the next stage."""
        if self.log is not None:
            self.log.show(str)
        elif self._status is not None:
            self._status.stop()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()
        if self.log is not None:
            self.log.close()


@contextmanager
def study_progress(name: str, ledger: Path, console: Console, log: Log | None = None) -> Iterator[Watch]:
    """Show the progress of a study while it runs; print a message if there is nothing to run.

    Args:
        name: Name of the study.
        ledger: File of the ledger.
        console: Where to print.
        log: The command's log, if there is one already.

    Yields:
        The function to call with the progress.
    """
    from adapterlab.lab.ledger.store import Ledger

    ran = False
    with _bar(name, console) if console.is_terminal else _lines(name, console, log) as show:

        def watch(progress: Progress) -> None:
            nonlocal ran
            ran = True
            show(progress)

        yield watch
    if not ran:
        console.print(f"All {len(Ledger(ledger))} trials are done; nothing to run.")


@contextmanager
def _bar(name: str, console: Console) -> Iterator[Watch]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[trials]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Bar(*columns, console=console, transient=True, speed_estimate_period=180) as display:
        bar = display.add_task(plain(name), total=None, trials="starting")
        yield lambda progress: display.update(
            bar, completed=progress.done, total=progress.expected, trials=f"{progress.trials} trials"
        )


@contextmanager
def _lines(name: str, console: Console, log: Log | None) -> Iterator[Watch]:
    own = log or Log(console)
    first: list[tuple[float, int]] = []

    def watch(progress: Progress) -> None:
        now = time.monotonic()
        if not first:
            own.say(f"{name}: running, {progress.expected:,} training steps")
            first.append((now, progress.done))
        own.show(lambda: _state(progress, *first[0]))

    try:
        yield watch
    finally:
        own.show(str)
        if log is None:
            own.close()


def _state(progress: Progress, started: float, before: int) -> str:
    """Return the progress in words, with the time left at the speed so far."""
    share = f"{progress.done / max(1, progress.expected):.0%} of {progress.expected:,} steps, {progress.trials} trials"
    last = f", last {progress.last}" if progress.last else ""
    done = progress.done - before
    if not done:
        return share + last
    left = (time.monotonic() - started) / done * (progress.expected - progress.done)
    return f"{share}{last}, about {left / 60:.0f} min left" if left >= 90 else f"{share}{last}, about {left:.0f} s left"
