"""A time limit for Python code of others, such as a chat template, in whatever thread it runs.

>>> with time_limit(5.0):
...     sum(range(10))
45
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfTimeError(BaseException):
    """The code ran for too long; not an `Exception`, so that the code cannot catch it by accident."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Yield, and interrupt the block if it runs for too long.

    The interpreter raises the error between two instructions, so a single call into C code is not interrupted.

    Args:
        seconds: The limit.

    Raises:
        OutOfTimeError: The block took longer.
    """
    thread = threading.get_ident()
    lock, done = threading.Lock(), False

    def interrupt() -> None:
        with lock:
            if not done:
                _raise_in(thread, OutOfTimeError)

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            done = True
        timer.cancel()


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
