"""Contests that extend their searches together, and studies that are stopped anywhere and resumed."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import Stage, position_of, rate_at
from adapterlab.lab.run.progress import replay
from adapterlab.lab.run.regret import regret_of
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.run.study_play import StudyPlay, play_study
from adapterlab.lab.study.spec import Contestant, Reporting, Tuning
from adapterlab.lab.study.sweep import Sweep
from adapterlab.lab.trial.spec import FROZEN, Finished, Trial
from tests.lab.in_process import ENVIRONMENT, InProcess, use
from tests.lab.tiny import what_counts
from tests.lab.unplayed import RUN_STEPS, outcome_of, prepared_of, study_of

START = 1e-2
NAMES = ("lora", "oft", "ia3")


def study(names: tuple[str, ...] = NAMES, *, smallest: float = 0.005, seeds: int = 2, **changes):
    """The regret of LoRA and OFT is measured; all searches start at the same rate."""
    tuning = Tuning(regret_contestants=tuple(n for n in ("oft",) if n in names), **changes.pop("tuning", {}))
    report = Reporting(seeds=tuple(range(1, seeds + 1)), windows=16, curve_every=5, smallest=smallest)
    entries = tuple(Contestant(adapter=name, start=START) for name in names)
    return prepared_of(study_of(contestants=entries, tuning=tuning, report=report, **changes))


def world(moved: dict[str, int], scale: float = 0.2, noise: float = 0.0):
    """Losses whose best rate is the start in short runs and `moved` steps of the lattice away from it in long ones."""

    def loss(contest: Contest, trial: Trial) -> float:
        if contest.contestant == FROZEN:
            return 2.0
        best = position_of(START) + (moved.get(contest.contestant, 0) if trial.steps == RUN_STEPS else 0)
        drawn = np.random.default_rng([trial.seed, position_of(trial.lr) + 100, len(trial.method)]).normal(0, noise)
        return 1 + scale * ((position_of(trial.lr) - best) / 4) ** 2 + float(drawn)

    return loss


def played(prepared, loss) -> dict[str, Contest]:
    contests = play_study(prepared.contests(), lambda contest, trial: outcome_of(trial, loss(contest, trial)))
    assert all(contest.finished for contest in contests)
    return {contest.contestant: contest for contest in contests}


def test_where_the_regret_is_small_no_search_is_extended():
    contests = played(study(), world({}))
    assert {contest.extensions for contest in contests.values()} == {0}
    assert {name: len(contest.measured) for name, contest in contests.items()} == {
        FROZEN: 0,
        "lora": 6,
        "oft": 6,
        "ia3": 0,
    }
    assert {contest.rate for name, contest in contests.items() if name != FROZEN} == {START}


def test_a_regret_above_the_smallest_difference_extends_every_search():
    """Long runs of OFT prefer a rate two steps up, which short runs do not show; each extension goes one step."""
    contests = played(study(), world({"oft": 2}))
    oft = contests["oft"]
    assert oft.rate == rate_at(position_of(START) + 2)
    assert {contest.extensions for name, contest in contests.items() if name != FROZEN} == {2}
    for name in ("lora", "ia3"):
        assert {5.6e-3, 1e-2, 1.8e-2} <= set(contests[name].second), "its rate was compared with both neighbours"
        assert contests[name].rate == START
    assert {t.lr for t, _ in oft.reported.values()} == {oft.rate}
    assert regret_of([oft]).mean == 0


def test_contestants_outside_the_sample_are_extended_but_do_not_decide():
    contests = played(study(), world({"ia3": 2}))
    assert {contest.extensions for contest in contests.values()} == {0}
    contests = played(study(), world({"ia3": 2, "oft": 2}))
    assert contests["ia3"].extensions == 2
    assert contests["ia3"].rate == rate_at(position_of(START) + 2)
    assert contests["ia3"].measured == []


def test_extensions_are_limited():
    contests = played(study(tuning={"extensions": 1}), world({"oft": 4}))
    assert contests["oft"].extensions == 1
    assert regret_of([contests["oft"]]).mean > 0.005
    contests = played(study(tuning={"extensions": 0}), world({"oft": 4}))
    assert contests["oft"].extensions == 0
    assert contests["ia3"].finished


def test_the_smallest_difference_that_matters_is_the_threshold():
    regret = 0.2 / 16 * (2**2 - 1**2)  # the best rate is two steps away, and a neighbour one step
    for smallest, extended in ((0.9 * regret, 1), (1.1 * regret, 0)):
        contests = played(study(smallest=smallest), world({"oft": 2}))
        assert contests["oft"].extensions == extended


def test_each_budget_and_each_unit_of_loss_decides_for_itself():
    prepared = study(tasks=("prose", "steer"), sweep=Sweep(budgets=(800, 2000)))

    def loss(contest: Contest, trial: Trial) -> float:
        moved = (contest.contestant, contest.task, contest.study.budget) == ("lora", "prose", 800)
        return world({"lora": 3} if moved else {})(contest, trial)

    contests = play_study(prepared.contests(), lambda contest, trial: outcome_of(trial, loss(contest, trial)))
    extended = {(c.task, c.study.budget) for c in contests if c.extensions}
    assert extended == {("prose", 800)}


def test_a_sampled_contest_without_any_rate_holds_nobody_up():
    contests = played(study(), lambda c, t: math.inf if c.contestant == "oft" else world({})(c, t))
    assert contests["oft"].rate is None
    assert contests["ia3"].reported
    contests = played(study(), lambda c, t: math.inf if c.contestant in ("oft", "lora") else world({})(c, t))
    assert contests["ia3"].reported


def test_without_a_sample_nothing_is_measured_and_nobody_waits():
    tuning = Tuning(regret_sample=0)
    entries = tuple(Contestant(adapter=name, start=START) for name in NAMES)
    contests = played(prepared_of(study_of(contestants=entries, tuning=tuning)), world({"oft": 3}))
    assert {len(contest.measured) for contest in contests.values()} == {0}
    assert {contest.extensions for contest in contests.values()} == {0}


def test_a_contest_waits_until_the_sample_has_been_measured():
    prepared = study()
    playing = StudyPlay(prepared.contests())
    names = [contest.contestant for contest in playing.contests]
    waiting = dict(playing.start())
    while Stage.REGRET not in {playing.contests[i].stage for i in waiting if names[i] == "oft"}:
        i = next(
            i for i in sorted(waiting, key=lambda i: names[i] == "oft") if playing.contests[i].stage != Stage.REGRET
        )
        outcomes = {t: outcome_of(t, world({})(playing.contests[i], t)) for t in waiting.pop(i)}
        waiting |= dict(playing.send(i, outcomes))
    ia3 = playing.contests[names.index("ia3")]
    assert ia3.waiting
    assert names.index("ia3") not in waiting
    for name in ("lora", "oft"):
        i = names.index(name)
        assert not ia3.reported
        waiting |= dict(playing.send(i, {t: outcome_of(t, 1.0) for t in waiting.pop(i)}))
    assert not ia3.waiting
    assert ia3.stage == Stage.REPORT
    assert {t.seed for t in waiting[names.index("ia3")]} == {1, 2}


@pytest.fixture
def everything(tmp_path):
    """A study with an extension, and all of its trials in the order in which they were run."""
    prepared, loss = study(), world({"oft": 3}, noise=0.001)
    outcomes = {}

    def run(contest, trial):
        return outcomes.setdefault(trial, outcome_of(trial, loss(contest, trial)))

    contests = play_study(prepared.contests(), run)
    assert {contest.extensions for contest in contests if contest.contestant != FROZEN} == {2}
    return prepared, outcomes, [(c.rate, c.search_flag, sorted(t.id for t in c.trials)) for c in contests]


@pytest.mark.parametrize("order", range(5))
def test_trials_may_end_in_any_order(everything, order):
    prepared, outcomes, expected = everything
    playing, rng = StudyPlay(prepared.contests()), random.Random(order)
    requests = playing.start()
    while requests:
        i, trials = requests.pop(rng.randrange(len(requests)))
        requests += playing.send(i, {trial: outcomes[trial] for trial in trials})
    assert [(c.rate, c.search_flag, sorted(t.id for t in c.trials)) for c in playing.contests] == expected


def test_a_study_that_is_stopped_anywhere_is_resumed_to_the_same_end(everything, monkeypatch, tmp_path):
    prepared, outcomes, expected = everything
    trials, rng = list(outcomes), random.Random(0)
    cuts = [trials[:n] for n in range(0, len(trials) + 1, 3)] + [rng.sample(trials, len(trials) // 2) for _ in range(5)]
    whole = Ledger(tmp_path / "whole.sqlite")
    for n, known in enumerate(cuts):
        ledger = Ledger(tmp_path / f"{n}.sqlite")
        for trial in known:
            ledger.record(Finished(trial, outcomes[trial], ENVIRONMENT, 2.5))
        states = replay(prepared.contests(), ledger)
        assert all(state.missing or state.contest.finished or state.contest.waiting for state in states)
        assert not {trial for state in states for trial in state.missing} & set(known)
        executor = InProcess(outcomes.__getitem__)
        use(monkeypatch, executor)
        contests = run_study(prepared, ledger)
        assert [(c.rate, c.search_flag, sorted(t.id for t in c.trials)) for c in contests] == expected
        assert Counter(executor.submitted) == Counter(set(trials) - set(known))
        if n == 0:
            whole = ledger
        assert what_counts(ledger) == what_counts(whole)


def test_the_steps_left_fall_to_nothing_as_a_study_goes_on(everything, tmp_path):
    """They may rise only where a search grows or is extended, which no plan can know."""
    prepared, outcomes, _ = everything
    ledger, left = Ledger(tmp_path / "ledger.sqlite"), []
    for trial, outcome in outcomes.items():
        left.append(sum(state.steps_left for state in replay(prepared.contests(), ledger)))
        ledger.record(Finished(trial, outcome, ENVIRONMENT, 2.5))
    states = replay(prepared.contests(), ledger)
    assert sum(state.steps_left for state in states) == 0
    planned = 3 * (5 * RUN_STEPS // 2 + 2 * RUN_STEPS + 2 * RUN_STEPS) + 2 * 6 * RUN_STEPS
    assert left[0] == planned
    assert {state.phase for state in states} == {"done"}
    rises = [after - before for before, after in pairwise(left) if after > before]
    assert len(rises) <= 2 * 2, "for each extension, when it begins and when its regret is measured"
