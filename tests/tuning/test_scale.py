"""The study that is planned fits in the time, by a clock that is made up; what is given up for it, and in which order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.progress import Cost
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import FULL_FT, Contestant, Study
from adapterlab.lab.study.sweep import Sweep
from adapterlab.tasks.base import Part
from adapterlab.tuning.clock import Clock
from adapterlab.tuning.row_lengths import RowLengths
from adapterlab.tuning.scale import (
    MIN_ROWS,
    MIN_STEPS,
    PLANNED_SHARE,
    SCORING_SHARE,
    fit,
    least_seconds,
    rows_for,
)

SHORTLIST = ("lora", "dora", "pissa", "hra", "miss")


def study_of(*names: str, **fields: object) -> Study:
    entries = tuple(Contestant(adapter=name) for name in names or SHORTLIST)
    return Study(name="mine", tasks=("prose",), contestants=entries, budget=20_000, **fields)


def clock_of(study: Study, step: float, token: float, rows: int = 400, length: int = 50, workers: int = 2) -> Clock:
    """Every contestant's step takes `step` seconds, dora's twice that."""
    resolved = resolve(study)
    contests = [
        contest
        for part in resolved.cells
        for contest in make_contests(part, {entry.name: entry.build() for entry in part.study.entrants})
    ]
    costs = {entry.name: Cost(step * (2 if entry.name == "dora" else 1), step / 10) for entry in study.entrants}
    parts = (Part.TRAIN, Part.VALIDATION, Part.TEST, Part.BASE)
    lengths = RowLengths({part: torch.full((rows,), length) for part in parts})
    return Clock(contests, costs, token, lengths, workers)


@settings(max_examples=12, deadline=None)
@given(
    seconds=st.floats(60, 7200),
    step=st.floats(0.01, 20),
    share=st.floats(0.05, 1),
    rows=st.integers(4, 2000),
    most=st.integers(60, 3000),
)
def test_what_is_planned_keeps_the_time_and_the_share_of_scoring(seconds, step, share, rows, most):
    study = study_of()
    clock = clock_of(study, step, share * step / 400, rows)  # scoring a token takes less than training on it
    found = fit(study, clock, seconds, most=most, chosen=False)
    if found is None:
        assert least_seconds(study, clock, chosen=False) > seconds
        return
    chosen = found.study
    assert clock.seconds(chosen) <= seconds * PLANNED_SHARE
    assert clock.scoring_share(chosen) <= SCORING_SHARE
    assert MIN_STEPS <= chosen.training.steps <= most
    assert len(chosen.report.seeds) >= 2
    assert chosen.report.windows <= rows_for(10, max(rows, MIN_ROWS))


@pytest.mark.parametrize("step", [0.1, 2.0, 30.0])
def test_the_least_time_is_enough_and_a_little_less_is_not(step):
    study = study_of()
    clock = clock_of(study, step, step / 800)
    least = least_seconds(study, clock, chosen=False)
    assert fit(study, clock, least * 1.01, most=3000, chosen=False) is not None
    assert fit(study, clock, least * 0.95, most=3000, chosen=False) is None


def test_with_less_time_contestants_go_last():
    study = study_of()
    clock = clock_of(study, 1.0, 1e-3)
    found = [fit(study, clock, minutes * 60, most=3000, chosen=False) for minutes in (600, 150, 60, 20, 5)]
    assert all(found)
    studies = [each.study for each in found]
    assert (len(studies[0].report.seeds), studies[0].full_ft, studies[0].tuning.keep) == (5, True, 2)
    counts = [len(study.contestants) for study in studies]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 5 > counts[-1], counts
    assert found[-1].left_out == SHORTLIST[counts[-1] :]
    for study in studies:
        if len(study.contestants) < 5:
            assert not study.full_ft
            assert study.tuning.regret_sample == 0


def test_contestants_that_the_user_chose_are_never_left_out():
    study = study_of()
    clock = clock_of(study, 1.0, 1e-3)
    seconds = least_seconds(study, clock)
    assert seconds > least_seconds(study, clock, chosen=False)
    assert fit(study, clock, seconds * 0.9, most=3000) is None
    assert len(fit(study, clock, seconds * 1.05, most=3000).study.contestants) == 5


def test_seeds_that_the_user_chose_are_kept():
    study = study_of("lora", "dora")
    clock = clock_of(study, 0.5, 1e-4)
    assert len(fit(study, clock, 3600, most=300, seeds=4).study.report.seeds) == 4


def test_time_that_is_left_after_the_most_steps_goes_to_seeds():
    study = study_of("lora", "dora")
    clock = clock_of(study, 0.01, 1e-5)
    found = fit(study, clock, 3600, most=100).study
    assert (found.training.steps, len(found.report.seeds)) == (100, 10)


def test_levels_of_a_sweep_are_all_paid_for():
    alone = study_of("lora")
    swept = Study(
        name="mine",
        tasks=("prose",),
        contestants=(Contestant(adapter="lora"),),
        sweep=Sweep(rank=(2, 4, 8)),
        full_ft=False,
        full_ft_reason="none",
    )
    without = alone.model_copy(update={"full_ft": False, "full_ft_reason": "none"})
    one, three = clock_of(without, 1.0, 1e-3, workers=1), clock_of(swept, 1.0, 1e-3, workers=1)
    assert least_seconds(swept, three) > 2 * least_seconds(without, one)


def test_full_fine_tuning_is_not_planned_where_it_has_no_cost():
    study = study_of("lora", "dora")
    clock = clock_of(study, 0.01, 1e-5)
    costs = {name: cost for name, cost in clock.costs.items() if name != FULL_FT}
    without = Clock(clock.contests, costs, clock.token, clock.lengths, clock.workers)
    assert not fit(study, without, 3600, most=100).study.full_ft
