"""Reuse of recorded trials when the study, the code, a library or the machine has changed, and how it is reported."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from datetime import date

import pytest

from adapterlab.lab.ledger.origins import Unused, group_by_environment, mixed_origins
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run import resolve as resolving
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.progress import replay
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training, Tuning
from adapterlab.lab.trial.spec import Finished, Outcome, Trial

OLD = {
    "adapterlab": "0.1.0", "python": "3.12.1", "torch": "2.12.0", "transformers": "5.1.0", "system": "Linux",
    "machine": "x86_64", "device": "cpu",
}  # fmt: skip
START = 1e-2
EACH = 5 + 2 + 2
"""Trials of a contest: two rungs of the search and the reported runs."""
STUDY = Study(
    name="made-up",
    tasks=("prose",),
    contestants=(Contestant(adapter="lora", start=START), Contestant(adapter="ia3", start=START)),
    full_ft=False,
    full_ft_reason="seconds count in a test",
    training=Training(steps=60),
    tuning=Tuning(regret_sample=0),
    report=Reporting(seeds=(1, 2)),
)


def outcome(trial: Trial) -> Outcome:
    """The best rate is the one at which the searches start, so that none of them grows."""
    loss = 1 + (math.log10(trial.lr / START) ** 2 if trial.lr else 1)
    return Outcome("ok", dict.fromkeys(trial.parts, (loss, 0.5)), (), 1, 1.0, 0.0)


def run(study: Study, ledger: Ledger, environment: dict[str, str] = OLD) -> tuple[int, set[Trial]]:
    """Run what the ledger lacks of a study, with outcomes that the test makes up.

    Returns the number of trials that were run, and all that the study uses.
    """
    ran = 0
    while True:
        contests = make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})
        states = replay(contests, ledger)
        missing = {trial for state in states for trial in state.missing}
        if not missing:
            return ran, {trial for state in states for trial in state.done}
        for trial in missing:
            ledger.record(Finished(trial, outcome(trial), environment))
        ran += len(missing)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_a_finished_study_runs_nothing_and_uses_all(ledger):
    ran, used = run(STUDY, ledger)
    assert ran == len(used) == len(ledger) == 1 + 2 * EACH
    assert run(STUDY, ledger) == (0, used)
    assert ledger.unused(used) == Unused(0, 0)
    assert str(ledger.unused(used)) == ""


def test_a_study_with_more_seeds_and_contestants_runs_only_those(ledger):
    before = run(STUDY, ledger)[0]
    more_seeds = STUDY.model_copy(update={"report": Reporting(seeds=(1, 2, 3))})
    assert run(more_seeds, ledger)[0] == 2
    more = more_seeds.model_copy(update={"contestants": (*STUDY.contestants, Contestant(adapter="vera", start=START))})
    ran, used = run(more, ledger)
    assert ran == EACH + 1
    assert len(used) == len(ledger) == before + 2 + ran


def test_a_contestant_or_a_seed_that_is_taken_out_stays_in_the_ledger_unused(ledger):
    everything = run(STUDY, ledger)[0]
    fewer = STUDY.model_copy(update={"contestants": STUDY.contestants[:1], "report": Reporting(seeds=(1,))})
    ran, used = run(fewer, ledger)
    assert ran == 0
    assert len(ledger) == everything
    unused = ledger.unused(used)
    assert unused == Unused(other_code=0, other_settings=EACH + 1)
    assert str(unused) == (
        "10 trials in the ledger are not used by this study: 10 have settings that the study does not ask for. They are "
        "kept."
    )
    assert run(STUDY, ledger)[0] == 0


def test_other_training_steps_are_other_trials_in_the_search_too(ledger):
    everything = run(STUDY, ledger)[0]
    ran, used = run(STUDY.model_copy(update={"training": Training(steps=80)}), ledger)
    assert ran == 2 * EACH
    assert ledger.unused(used) == Unused(other_code=0, other_settings=2 * EACH)
    assert len(ledger) == everything + 2 * EACH


def test_other_code_runs_the_trials_that_it_decides_again(ledger, monkeypatch):
    run(STUDY, ledger)
    code_version = resolving.code_version
    monkeypatch.setattr(
        resolving, "code_version", lambda adapter, task: "changed" if adapter == "lora" else code_version(adapter, task)
    )
    ran, used = run(STUDY, ledger)
    assert ran == EACH
    assert ledger.unused(used) == Unused(other_code=EACH, other_settings=0)
    assert "9 ran with code that has changed since" in str(ledger.unused(used))


def test_one_trial_and_both_reasons_are_written_in_good_english():
    assert str(Unused(1, 0)) == (
        "1 trial in the ledger is not used by this study: 1 ran with code that has changed since. It is kept."
    )
    assert str(Unused(2, 1)) == (
        "3 trials in the ledger are not used by this study: 2 ran with code that has changed since, 1 has settings that "
        "the study does not ask for. They are kept."
    )


def test_trials_of_another_torch_are_reused_and_reported(ledger):
    before = run(STUDY, ledger)[0]
    more = STUDY.model_copy(update={"contestants": (*STUDY.contestants, Contestant(adapter="vera", start=START))})
    ran, used = run(more, ledger, OLD | {"torch": "2.13.0"})
    assert ran == EACH
    assert [(origin.torch, origin.trials) for origin in ledger.origins(used)] == [("2.12.0", before), ("2.13.0", ran)]
    assert mixed_origins(ledger.origins(used)) == (
        "28 trials come from 2 environments: 19 with torch 2.12.0, 9 with torch 2.13.0; differences between contestants "
        "whose trials ran in different environments may partly be differences between versions."
    )


def test_origins_count_only_the_trials_that_are_asked_for(ledger):
    _, used = run(STUDY, ledger)
    run(STUDY.model_copy(update={"training": Training(steps=80)}), ledger, OLD | {"torch": "2.13.0"})
    assert len(ledger.origins()) == 2
    (only,) = ledger.origins(used)
    assert (only.trials, only.torch, only.device) == (len(used), "2.12.0", "cpu")
    assert only.first == only.last
    assert abs((date.today() - only.first).days) <= 1
    assert mixed_origins([only]) == ""


def test_the_first_and_the_last_day_are_those_of_the_trials(ledger):
    run(STUDY, ledger)
    with closing(sqlite3.connect(ledger.path)) as db, db:
        names = [name for (name,) in db.execute("SELECT id FROM trials").fetchall()]
        for day, name in enumerate(names, 1):
            db.execute("UPDATE trials SET finished = ? WHERE id = ?", (f"2026-05-{day:02}T23:59:59Z", name))
    (origin,) = ledger.origins()
    assert (origin.first, origin.last) == (date(2026, 5, 1), date(2026, 5, len(names)))


def origins(*changes: dict[str, str]):
    return group_by_environment([(OLD | change, "2026-05-01T00:00:00Z") for change in changes])


def test_nothing_is_said_of_one_environment_or_of_two_versions_of_this_package():
    """The code that decides an outcome is part of a trial's name."""
    assert mixed_origins([]) == ""
    assert mixed_origins(origins({}, {})) == ""
    versions = origins({}, {"adapterlab": "0.2.0"})
    assert [origin.adapterlab for origin in versions] == ["0.1.0", "0.2.0"]
    assert mixed_origins(versions) == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            ({}, {}, {"device": "NVIDIA H100"}),
            "3 trials come from 2 environments: 2 on cpu, 1 on NVIDIA H100; * between machines.",
        ),
        (
            ({}, {}, {"device": "NVIDIA H100", "torch": "2.13.0", "machine": "aarch64"}),
            "3 trials come from 2 environments: 2 with torch 2.12.0 on x86_64 and cpu, "
            "1 with torch 2.13.0 on aarch64 and NVIDIA H100; * between versions or machines.",
        ),
        (
            ({}, {}, {"python": "3.13.0", "transformers": "5.2.0", "adapterlab": "0.2.0"}),
            "3 trials come from 2 environments: 2 with Python 3.12.1 and transformers 5.1.0, "
            "1 with Python 3.13.0 and transformers 5.2.0; * between versions.",
        ),
        (
            [{"torch": f"2.{minor}"} for minor in (1, 1, 1, 2, 2, 3, 4, 5, 6)],
            "9 trials come from 6 environments: 3 with torch 2.1, 2 with torch 2.2, 1 with torch 2.3, 1 with torch 2.4, "
            "2 in 2 others; * between versions.",
        ),
    ],
)
def test_a_sentence_names_what_differs_and_nothing_else(changes, says):
    rest = "differences between contestants whose trials ran in different environments may partly be differences"
    assert mixed_origins(origins(*changes)) == says.replace("*", rest)


def test_an_old_ledger_that_does_not_record_everything_is_unknown():
    old = [({"python": "3.12.1"}, "2026-05-01T00:00:00Z"), (OLD, "2026-05-02T00:00:00Z")]
    first, second = group_by_environment(old)
    assert {first.torch, second.torch} == {"unknown", "2.12.0"}
    assert "1 with torch of unknown version" in mixed_origins([first, second])
    assert "an unknown device" in mixed_origins([first, second])
