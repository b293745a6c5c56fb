"""Threads, batched trials and passes of a few examples are not part of a trial's id: they change less than the seeds do.

They add the same numbers in another order. At the usual rates, the losses move by less than a tenth of their standard
deviation over the seeds.
"""

from __future__ import annotations

import dataclasses
import statistics

import pytest
import torch

from adapterlab.lab.run.contest import Contest, make_contests
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Outcome, Trial
from tests.lab.tiny import save_study

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented")
OF_THE_NOISE = 0.1
PARTS = ("validation", "test")


def contest_of(method: str, steps: int, windows: int) -> Contest:
    """A contest on the embedded model at the method's prior rate."""
    study = Study(
        name="same",
        tasks=("prose",),
        contestants=(Contestant(adapter=method),),
        reference=method,
        training=Training(steps=steps, precision="float32"),
        report=Reporting(windows=windows),
        full_ft=False,
        full_ft_reason="not asked",
    )
    contests = make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})
    return next(contest for contest in contests if contest.adapter is not None)


def losses(outcome: Outcome) -> list[float]:
    assert outcome.status == "ok"
    return [outcome.scores[part][0] for part in PARTS]


def trials_at(contest: Contest, factor: float, seeds: int) -> list[Trial]:
    steps = contest.study.training.steps
    trials = [contest.trial(factor * contest.start, seed, steps, reported=False) for seed in range(1, seeds + 1)]
    return [dataclasses.replace(trial, parts=PARTS) for trial in trials]


def largest_changes(runner: Runner, trials: list[Trial]) -> dict[str, float]:
    """Return by setting the largest change of a loss, as a multiple of the standard deviation over the seeds."""
    alone = [losses(runner.run(trial)) for trial in trials]
    noise = [statistics.stdev(each[i] for each in alone) for i in range(len(PARTS))]
    try:
        found = {
            "threads": losses(runner.with_settings(threads=2).run(trials[0])),
            "micro_batch": losses(runner.with_settings(micro_batch=1).run(trials[0])),
            "uneven passes": losses(runner.with_settings(micro_batch=3).run(trials[0])),
            "lanes": losses(runner.run_batched(trials)[0]),
        }
    finally:
        torch.set_num_threads(1)
    return {
        name: max(abs(a - b) / sd for a, b, sd in zip(changed, alone[0], noise, strict=True))
        for name, changed in found.items()
    }


def test_a_short_run_of_a_tiny_model_at_the_usual_rate(tmp_path):
    contests = prepare(load_study(save_study(tmp_path, steps=12))).contests()
    lora = next(contest for contest in contests if contest.contestant == "lora")
    changes = largest_changes(Runner(), trials_at(lora, 1.0, seeds=2))
    assert max(changes.values()) < OF_THE_NOISE, changes


@pytest.mark.soak
@pytest.mark.parametrize("method", ["lora", "ia3", "oft", "dora"])
def test_a_whole_run_at_the_usual_rate(method):
    changes = largest_changes(Runner(), trials_at(contest_of(method, steps=60, windows=24), 1.0, seeds=3))
    assert max(changes.values()) < OF_THE_NOISE, changes


@pytest.mark.soak
def test_a_whole_run_at_the_highest_rate_that_a_search_begins_with():
    """Training is less stable there, and so the seeds differ more."""
    changes = largest_changes(Runner(), trials_at(contest_of("lora", steps=60, windows=24), 10**0.5, seeds=3))
    assert max(changes.values()) < 0.5, changes
