"""Status of a study that runs, has stopped or is complete: what is done, running, next, diverged and failed.

>>> TrialLabel("lora", "prose", 1e-3, 101, 16).contestant
'lora'
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adapterlab.lab.ledger.origins import mixed_origins
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.progress import (
    ContestState,
    distinct_states,
    known_costs,
    known_generating,
    known_geometry,
    known_scoring,
    replay,
    seconds_left,
)
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial


@dataclass(frozen=True)
class TrialLabel:
    """A trial, as status lists it."""

    contestant: str
    task: str
    lr: float
    seed: int
    steps: int
    seconds: float | None = None
    """Time since it started, if it is running and that is known."""
    note: str = ""
    """Reason of a failure."""


@dataclass(frozen=True)
class StudyStatus:
    """Status of a study."""

    study: Study
    command: str
    """Command that continues the study."""
    phases: Mapping[Cell, Mapping[str, Mapping[str, str]]]
    """By cell, contestant and task, the phase of the contest."""
    steps_done: int
    steps_left: int
    """Training steps to go, if no search grows or is extended any more."""
    trials: int
    """Trials done."""
    finished: bool
    seconds_left: float | None
    """Estimated time for the rest; None if no trial has been timed."""
    workers: int
    """Workers that the time is estimated for."""
    being_written: bool
    """True if a run is writing the ledger."""
    knows_running: bool
    """True if the run tells which trials are running; a cluster does not."""
    running: tuple[TrialLabel, ...]
    next: tuple[TrialLabel, ...]
    """Trials needed next that are not known to be running."""
    diverged: tuple[TrialLabel, ...]
    failed: tuple[TrialLabel, ...]
    remarks: tuple[str, ...] = ()
    """Sentences about a precision that is slow here, trials of mixed origins, and trials that the study does not use."""

    @property
    def is_incomplete(self) -> bool:
        """True if trials of the frozen model or the reference failed."""
        return any(label.contestant in (FROZEN, self.study.reference) for label in self.failed)

    @property
    def share(self) -> float:
        """Share of the training steps done; 1 only for a finished study."""
        if self.finished:
            return 1.0
        return min(0.99, self.steps_done / max(1, self.steps_done + self.steps_left))


def study_status(prepared: PreparedStudy, ledger: Ledger, command: str, workers: int | None = None) -> StudyStatus:
    """Return the status of a study.

    Args:
        prepared: The study.
        ledger: Its ledger.
        command: Command that continues the study.
        workers: Number of workers that the remaining time is estimated for; the study's on this machine if None.

    Raises:
        AdapterlabError: If a device that the study asks for is not there.
    """
    study = prepared.study
    states = replay(prepared.contests(), ledger)
    count = len(crews(study.limited(workers=workers).limits, prepared.resolved.worker_config()))
    distinct = distinct_states(states)
    done = {trial: (state, outcome) for state in states for trial, outcome in state.done.items()}
    needed = {trial: state for state in states for trial in state.missing}
    started, now = ledger.running(), time.time()
    return StudyStatus(
        study,
        command,
        _phases(states),
        sum(state.steps for state in distinct),
        sum(state.steps_left for state in distinct),
        len(done),
        all(state.contest.finished for state in states),
        seconds_left(
            states,
            known_costs(states),
            known_scoring(states),
            count,
            known_generating(states),
            known_geometry(states),
        ),
        count,
        ledger.is_locked(),
        bool(started),
        tuple(_label(s, t, seconds=now - started[t.id]) for t, s in needed.items() if t.id in started),
        tuple(_label(state, trial) for trial, state in needed.items() if trial.id not in started),
        _with_status(done, "diverged"),
        _with_status(done, "failed"),
        tuple(
            text
            for text in (
                prepared.resolved.precision.here,
                mixed_origins(ledger.origins(done)),
                str(ledger.unused([*done, *needed])),
            )
            if text
        ),
    )


def _phases(states: Iterable[ContestState]) -> dict[Cell, dict[str, dict[str, str]]]:
    phases: dict[Cell, dict[str, dict[str, str]]] = {}
    for state in states:
        contest = state.contest
        phases.setdefault(contest.resolved.cell, {}).setdefault(contest.contestant, {})[contest.task] = state.phase
    return phases


def _with_status(done: Mapping[Trial, tuple[ContestState, Outcome]], status: str) -> tuple[TrialLabel, ...]:
    return tuple(
        _label(state, trial, note=outcome.note) for trial, (state, outcome) in done.items() if outcome.status == status
    )


def _label(state: ContestState, trial: Trial, *, seconds: float | None = None, note: str = "") -> TrialLabel:
    return TrialLabel(state.contest.contestant, trial.task, trial.lr, trial.seed, trial.steps, seconds, note)
