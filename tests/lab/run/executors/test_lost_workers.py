"""Number of workers that a trial may lose, and the grouping of trials into jobs."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.executors.base import MAX_LOSSES, LostWorkers, jobs
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Study
from adapterlab.lab.trial.spec import Trial

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    study = Study(name="mine", tasks=("prose",), contestants=(Contestant(adapter="lora"),))
    contest = make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})[1]
    return [contest.trial(1e-3, seed, 4, reported=True) for seed in range(5)]


def test_a_trial_fails_with_its_third_lost_worker(trials):
    losses, (trial, other, *_) = LostWorkers(), trials
    assert MAX_LOSSES == 3
    assert losses.attempts(trial) == 1
    assert losses.add(trial, "it hung", CPU) is None
    assert losses.attempts(trial) == 2
    assert losses.add(other, "it hung", CPU) is None
    assert losses.add(trial, "it hung", CPU) is None
    assert losses.attempts(trial) == 3
    failure = losses.add(trial, "it was killed", CPU)
    assert failure.trial == trial
    assert failure.attempts == 3
    assert (failure.outcome.status, failure.outcome.note) == ("failed", "3 times it was killed")
    assert failure.outcome.scores == {}
    assert failure.environment["device"]
    assert losses.attempts(other) == 2


def test_jobs_are_as_large_as_there_are_lanes(trials):
    assert [len(job) for job in jobs(trials, {}, 1)] == [1] * 5
    tasks = resolve(Study(name="mine", tasks=("prose",), contestants=(Contestant(adapter="lora"),))).tasks
    assert [len(job) for job in jobs(trials, tasks, 2)] == [2, 2, 1]
    assert [len(job) for job in jobs(trials, tasks, 5)] == [5]
    apart = [*trials[:2], dataclasses.replace(trials[2], steps=9)]
    assert jobs(apart, tasks, 4) == [tuple(trials[:2]), (apart[2],)]
