"""Notice when the head of a Ray cluster is lost: Ray itself would wait for a minute, and then end the process.

>>> watch = HeadWatch(lambda: True, "127.0.0.1:6379")
>>> watch.check()
>>> HeadWatch(lambda: False, "127.0.0.1:6379").confirm()
Traceback (most recent call last):
    ...
adapterlab.errors.AdapterlabError: the Ray cluster at 127.0.0.1:6379 is lost: ...
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.suspension import TICK, Countdown

PATIENCE = 30.0
"""Seconds that the head may leave a question unanswered. After 60, Ray ends the process."""


class HeadWatch:
    """Asks the head of a cluster again and again, in a thread, since an answer may never come.

    Args:
        ask: Returns True if the head answers and this machine is a node of its cluster. It may raise an error, or block.
        address: Address of the cluster, for the message.
    """

    def __init__(self, ask: Callable[[], bool], address: str) -> None:
        self._ask, self._address = ask, address
        self._ended, self._changed = threading.Event(), threading.Condition()
        self._answers, self._is_lost = 0, False
        self._countdown, self._seen = Countdown(PATIENCE), 0
        threading.Thread(target=self._run, daemon=True, name="ray head").start()

    def check(self) -> None:
        """Count the time since the last answer; call it every `TICK` seconds.

        Raises:
            AdapterlabError: The cluster is lost: there was no answer for `PATIENCE` seconds.
        """
        if self._answers != self._seen:
            self._countdown, self._seen = Countdown(PATIENCE), self._answers
        if self._is_lost or self._countdown.tick(()) <= 0:
            self.end()
            raise AdapterlabError(
                f"the Ray cluster at {self._address} is lost: its head does not answer, or this machine's node has ended; "
                "start it again (ray start --head), then run the same command: all finished trials are kept"
            )

    def confirm(self) -> None:
        """Wait for an answer to a question that is asked from now on.

        Raises:
            AdapterlabError: The cluster is lost.
        """
        with self._changed:
            enough = self._answers + 2  # the next answer may be to a question that was asked before
            while self._answers < enough:
                self.check()
                self._changed.wait(TICK)
        self.check()

    def end(self) -> None:
        """End the thread, once the question that it asks has an answer."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                is_lost = not self._ask()
            except Exception:  # of Ray's many kinds; the next question may have an answer
                self._ended.wait(TICK)
                continue
            with self._changed:
                self._answers, self._is_lost = self._answers + 1, is_lost
                self._changed.notify_all()
            self._ended.wait(TICK)
