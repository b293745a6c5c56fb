"""The head of a Ray cluster that is lost is noticed, and one that is slow is waited for."""

from __future__ import annotations

import threading
import time

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.executors import ray_head
from adapterlab.lab.run.executors.ray_head import HeadWatch

LOST = r"the Ray cluster at here:1 is lost: .*start it again .*the same command: all finished trials are kept"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ray_head, "PATIENCE", 0.3)
    monkeypatch.setattr(ray_head, "TICK", 0.02)


def looked_at(watch, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watch.check()
        time.sleep(0.02)


def unreachable():
    raise ConnectionError


def test_a_head_that_answers_is_not_lost():
    watch = HeadWatch(lambda: True, "here:1")
    looked_at(watch, 0.5)
    watch.confirm()
    watch.end()


@pytest.mark.parametrize("ask", [unreachable, threading.Event().wait, lambda: False], ids=["raises", "hangs", "ended"])
def test_a_lost_head_is_said_in_one_line(ask):
    for looked in (lambda watch: looked_at(watch, 5.0), HeadWatch.confirm):
        with pytest.raises(AdapterlabError, match=LOST) as found:
            looked(HeadWatch(ask, "here:1"))
        assert "\n" not in str(found.value)


def test_a_head_that_is_away_for_a_short_time_is_not_lost():
    begun = time.monotonic()

    def answers_late():
        if time.monotonic() < begun + 0.15:
            raise ConnectionError
        return True

    watch = HeadWatch(answers_late, "here:1")
    looked_at(watch, 0.6)
    watch.confirm()
    watch.end()


def test_an_answer_from_before_the_loss_does_not_confirm():
    """A worker ends with its head: the answer to a question of before must not blame the trial."""
    asked = []

    def dies_after_one():
        asked.append(True)
        if len(asked) > 1:
            raise ConnectionError
        return True

    watch = HeadWatch(dies_after_one, "here:1")
    time.sleep(0.1)
    with pytest.raises(AdapterlabError, match=LOST):
        watch.confirm()
