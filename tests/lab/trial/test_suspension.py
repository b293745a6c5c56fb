"""Times do not count what a process or its machine was suspended for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from adapterlab.lab.trial import suspension
from adapterlab.lab.trial.context import Stopwatch
from adapterlab.lab.trial.suspension import Countdown, running_seconds

SLEEPS = [sys.executable, "-I", "-c", "import time; time.sleep(60)"]
STUCK = [sys.executable, "-I", "-c", r"import re; re.match(r'(a+)+$', 'a' * 60 + 'b')"]  # holds Python's lock for years


@pytest.fixture
def skip(monkeypatch):
    """Sets the clock forward by some seconds, as if the machine had been suspended."""
    skipped, now = [0.0], time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: now() + skipped[0])
    return lambda seconds: skipped.__setitem__(0, skipped[0] + seconds)


def start(command):
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def killer(process, seconds):
    return start([sys.executable, "-I", suspension.__file__, str(process.pid), str(seconds)])


def test_an_hour_of_sleep_does_not_count_as_running(skip):
    started = running_seconds()
    skip(3600)
    assert 0 <= running_seconds() - started <= suspension.MOST + 2


def test_an_hour_of_sleep_is_no_training_time(skip):
    watch = Stopwatch()
    with watch:
        skip(3600)
    assert watch.seconds <= suspension.MOST + 2


def test_a_long_call_that_keeps_the_processor_busy_counts(skip, monkeypatch):
    busy = time.process_time
    started = running_seconds()
    skip(60)
    monkeypatch.setattr("time.process_time", lambda: busy() + 60)
    assert running_seconds() - started >= 60


def test_usual_time_counts():
    started, clock = running_seconds(), time.monotonic()
    time.sleep(0.2)
    assert abs((running_seconds() - started) - (time.monotonic() - clock)) < 0.05


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_the_clock_of_a_forked_process_runs():
    running_seconds()
    pid = os.fork()
    if pid == 0:
        started = running_seconds()
        time.sleep(0.1)
        os._exit(0 if 0.1 <= running_seconds() - started < 5 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_countdown_stands_still_while_a_process_is_stopped(skip):
    with start(SLEEPS) as process:
        countdown = Countdown(10.0)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        skip(4)
        assert countdown.tick([process.pid]) == 10.0
        process.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        skip(4)
        assert 5.9 < countdown.tick([process.pid]) <= 6.0
        process.kill()


@pytest.mark.parametrize("command", [SLEEPS, STUCK], ids=["sleeps", "holds Python's lock"])
def test_a_process_is_killed_after_its_seconds(command):
    with start(command) as process, killer(process, 0.2):
        assert process.wait(20) == -signal.SIGKILL


def test_a_process_is_spared_once_the_input_is_closed():
    with start(SLEEPS) as process:
        with killer(process, 60.0) as keeper:
            pass
        assert keeper.returncode == 0
        assert process.poll() is None
        process.kill()


def test_a_stopped_process_is_not_killed():
    with start(SLEEPS) as process, killer(process, 0.3) as keeper:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.8)
        assert process.poll() is None
        assert keeper.poll() is None
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == -signal.SIGKILL
