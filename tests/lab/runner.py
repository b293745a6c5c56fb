"""One runner of trials for all tests of a process, so that models and data are loaded once."""

from __future__ import annotations

from adapterlab.lab.trial.runner import Runner

RUNNER = Runner()
