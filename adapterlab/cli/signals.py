"""TERM and HUP end the program as Ctrl-C does: what is running is stopped, and what is recorded is kept.

>>> Stopped(signal.SIGTERM).status
143
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The program was asked to end by a signal.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number
        """Exit status, as a shell reports it."""


def stop_on_signals() -> None:
    """Raise `Stopped` at the first TERM or HUP, unless it is ignored, as under nohup; later ones are ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def status_of(stop: BaseException | None) -> int:
    """Return the exit status for what ended the program, or for the stop that it was raised from; 141 for neither.

    Args:
        stop: The exception.
    """
    while stop is not None:
        if isinstance(stop, Stopped):
            return stop.status
        if isinstance(stop, KeyboardInterrupt):
            return 128 + signal.SIGINT
        stop = stop.__context__
    return 128 + signal.SIGPIPE


def drop_output() -> None:
    """Send what is still to be printed nowhere: the terminal or the pipe that took it is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def _stop(number: int, frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)
