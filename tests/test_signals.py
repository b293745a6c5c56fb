"""The end of a terminal or of a pipe ends the program without a traceback; a run is tested in tests/lab/run."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from adapterlab.cli.signals import Stopped, status_of


def test_a_reader_that_has_left_is_no_traceback():
    command = [sys.executable, "-m", "adapterlab", "adapters"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() != 0
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


@pytest.mark.parametrize(("signals", "status"), [([signal.SIGTERM], 143), ([signal.SIGHUP], 129), ([], 141)])
def test_the_status_names_the_signal_behind_an_error(signals, status):
    error = BrokenPipeError()
    for number in signals:
        error.__context__ = Stopped(number)
    assert status_of(error) == status
    assert status_of(KeyboardInterrupt()) == 130
