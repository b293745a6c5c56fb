"""Run a study: play every contest, hand its trials to workers, and record each outcome as soon as it is known."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapterlab.lab.ledger.store import LIMITS, Ledger
from adapterlab.lab.run.contest import Contest, distinct
from adapterlab.lab.run.executors import Executor, executor_for
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.progress import replay, steps_ahead
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.run.study_play import Request, StudyPlay
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.spec import Finished, Outcome, Trial


@dataclass(frozen=True)
class Progress:
    """Progress of a running study, in training steps.

    >>> Progress(done=40, expected=100, trials=3, last="lora on prose").done
    40
    """

    done: int
    """Steps of finished trials."""
    expected: int
    """Steps of the whole study, if no search grows or is extended any more."""
    trials: int
    """Trials in the ledger."""
    last: str
    """Method and task of the trial that ended last; empty at the start."""


Watch = Callable[[Progress], None]
StartExecutor = Callable[[Limits, ResolvedStudy, TimeLimit], Executor]
"""Starts an executor, as `executor_for` does."""


def run_study(
    prepared: PreparedStudy,
    ledger: Ledger,
    *,
    wait: Callable[[], None] | None = None,
    watch: Watch = lambda _: None,
    start: StartExecutor | None = None,
) -> list[Contest]:
    """Run the trials of a study that its ledger lacks.

    An interruption (Ctrl-C, kill -9, a full disk) loses only the trials that are running; the next call resumes the study.

    Args:
        prepared: The study.
        ledger: Where trials are recorded.
        wait: Called if another run is writing the ledger, before waiting for its end; None to refuse instead.
        watch: Called with the progress at the start and after each trial.
        start: Starts the executor, which the caller closes; None for one that ends with the study.

    Returns:
        All contests of the study, finished.

    Raises:
        AdapterlabError: If another run is writing the ledger and `wait` is None, if a trial cannot be recorded, or if a
            device or cluster that the study asks for is not there.
    """
    with ledger.sole_writer(wait):
        ledger.reopen(prepared.study.limits.model_dump())
        contests = prepared.contests()
        if all(state.contest.finished for state in replay(contests, ledger)):
            return contests
        study, contests = prepared.study, prepared.contests()
        limit = TimeLimit(study.limits.trial_seconds)
        executor = (start or executor_for)(study.limits, prepared.resolved, limit)
        try:
            _Schedule(contests, ledger, executor, limit, study.limits.model_dump(), watch).run()
        finally:
            if start is None:
                executor.close()
    return contests


class _Schedule:
    """The contests of a running study, the trials that each waits for, and the executor that runs them."""

    def __init__(
        self,
        contests: list[Contest],
        ledger: Ledger,
        executor: Executor,
        limit: TimeLimit,
        limits: Mapping[str, object],
        watch: Watch,
    ) -> None:
        self._contests, self._ledger, self._executor = contests, ledger, executor
        self._limit, self._limits, self._watch = limit, limits, watch
        self._playing = StudyPlay(contests)
        self._waiting: dict[int, dict[Trial, Outcome | None]] = {}
        """By contest, the trials that it waits for, with the outcomes known so far."""
        self._owners: dict[Trial, list[int]] = {}
        """By running trial, the contests that wait for it."""
        self._counted: set[Trial] = set()

    def run(self) -> None:
        """Play every contest to its end."""
        self._request(self._playing.start())
        self._report("")
        for finished in self._executor:
            self._ledger.record(self._with_limits(finished))
            trial, outcome = finished.trial, finished.outcome
            if finished.wall_seconds is not None:
                self._limit.learn(trial, finished.wall_seconds)
            self._counted.add(trial)
            for i in self._owners.pop(trial):
                self._waiting[i][trial] = outcome
                self._request(self._complete(i))
            self._report(f"{trial.method} on {trial.task}")

    def _with_limits(self, finished: Finished) -> Finished:
        """Return a failed trial with the limits that it ran under: under others it may succeed."""
        if finished.outcome.status != "failed":
            return finished
        return finished._replace(environment={**finished.environment, LIMITS: json.dumps(self._limits)})

    def _request(self, requests: list[Request]) -> None:
        """Record what contests wait for; submit the trials that are neither in the ledger nor running."""
        queue = deque(requests)
        while queue:
            i, trials = queue.popleft()
            self._waiting[i] = {trial: self._ledger.outcome(trial) for trial in trials}
            new = []
            for trial, outcome in self._waiting[i].items():
                if outcome is not None:
                    self._counted.add(trial)
                    if (seconds := self._ledger.wall_seconds(trial)) is not None:
                        self._limit.learn(trial, seconds)
                elif trial in self._owners:
                    self._owners[trial].append(i)
                else:
                    self._owners[trial] = [i]
                    new.append(trial)
            self._executor.submit(new)
            queue.extend(self._complete(i))

    def _complete(self, i: int) -> list[Request]:
        """Send contest `i` its outcomes if it has all that it waits for; return what is needed then."""
        known = {trial: outcome for trial, outcome in self._waiting[i].items() if outcome is not None}
        if len(known) < len(self._waiting[i]):
            return []
        self._waiting[i] = {}
        return self._playing.send(i, known)

    def _report(self, last: str) -> None:
        self._ledger.note_running(self._executor.running())
        done = sum(trial.steps for trial in self._counted)
        self._watch(Progress(done, max(done, self._expected_steps()), len(self._ledger), last))

    def _expected_steps(self) -> int:
        trained = distinct(self._contests)
        asked = {trial for contest in trained for trial in contest.trials}
        asked |= {trial for waiting in self._waiting.values() for trial in waiting}
        return sum(trial.steps for trial in asked) + sum(map(steps_ahead, trained))
