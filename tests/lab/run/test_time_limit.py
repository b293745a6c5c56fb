"""Time limits of trials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapterlab.lab.run.time_limit import TimeLimit
from tests.lab.unplayed import prepared_of, study_of

PROSE = next(c for c in prepared_of(study_of()).contests() if c.contestant == "lora").trial(1e-3, 1, 10, reported=True)
FROZEN = replace(PROSE, steps=0)


@pytest.mark.parametrize(("steps", "seconds"), [(1, 3600), (60, 3600), (61, 3660), (100, 6000)])
def test_the_first_trials_may_take_a_minute_a_step_and_at_least_an_hour(steps, seconds):
    assert TimeLimit().of(replace(PROSE, steps=steps)) == seconds
    assert TimeLimit().of(FROZEN) == 3600


def test_a_step_may_take_twenty_times_the_slowest_so_far():
    limit = TimeLimit()
    limit.learn(PROSE, 10.0)
    assert limit.of(PROSE) == 20 * 10
    assert limit.of(replace(PROSE, steps=30)) == 20 * 30
    limit.learn(replace(PROSE, steps=5), 10.0)
    limit.learn(PROSE, 1.0)
    assert limit.of(PROSE) == 20 * 20


def test_every_trial_may_take_two_minutes():
    limit = TimeLimit()
    limit.learn(PROSE, 0.1)
    assert limit.of(PROSE) == 120
    assert limit.of(replace(PROSE, steps=601)) == pytest.approx(20 * 0.01 * 601)


def test_a_trial_without_steps_may_take_twenty_times_the_longest_so_far():
    limit = TimeLimit()
    limit.learn(FROZEN, 30.0)
    assert limit.of(PROSE) == 3600  # no step was measured
    limit.learn(PROSE, 7.0)
    assert limit.of(FROZEN) == 20 * 30
    limit.learn(PROSE, 50.0)
    assert limit.of(FROZEN) == 20 * 50
    assert limit.of(replace(PROSE, steps=1)) == 120


def test_a_fixed_limit_applies_to_every_trial():
    limit = TimeLimit(5.0)
    limit.learn(PROSE, 1000.0)
    assert limit.of(PROSE) == limit.of(FROZEN) == 5.0


def test_a_trial_that_generates_answers_may_take_twenty_times_the_longest_so_far():
    limit = TimeLimit()
    limit.learn(FROZEN, 300.0)  # it answered, and trained nothing
    limit.learn(PROSE, 0.1)
    assert limit.of(PROSE) == 120
    assert limit.of(replace(PROSE, metric="f1")) == 20 * 300
