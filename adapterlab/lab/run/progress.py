"""Progress of a study: for each contest, the trials done and those needed next, and the time that the rest may take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest, Outcomes, expected_steps, play
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial


@dataclass(frozen=True)
class Cost:
    """Time of a contestant's training on one task, in seconds of one worker.

    >>> Cost(step=0.2, attach=1.0).step
    0.2
    """

    step: float
    """One training step."""
    attach: float
    """Attaching the adapter."""


Costs = Mapping[tuple[str, str], Cost]
"""Costs by contestant and task."""


@dataclass(frozen=True)
class ContestState:
    """A contest, with the outcomes of a ledger replayed into it."""

    contest: Contest
    done: Mapping[Trial, Outcome] = field(repr=False)
    """Trials of this contest that are in the ledger."""
    missing: Sequence[Trial] = ()
    """Trials needed next; none if the contest is finished."""

    @property
    def steps(self) -> int:
        """Training steps done."""
        return sum(trial.steps for trial in self.done)

    @property
    def steps_left(self) -> int:
        """Training steps to go, if not every rate diverges."""
        if self.contest.finished or self.contest.contestant == FROZEN:
            return 0
        return max(sum(t.steps for t in self.missing), expected_steps(self.contest.study) - self.steps)

    @property
    def phase(self) -> str:
        """Phase of the contest in a word or two, with a count."""
        contest, study = self.contest, self.contest.study
        if contest.finished:
            return "done" if contest.reported else "all diverged"
        if not self.done:
            return "waiting"
        if contest.rate is not None:
            return f"report {study.report.runs - len(self.missing)}/{study.report.runs}"
        return f"tuning {self.steps / study.tuning.budget_steps:.0%}"


def replay(contest: Contest, ledger: Ledger | None) -> ContestState:
    """Replay a contest with the outcomes in a ledger, until one is missing.

    Args:
        contest: A contest that was not played; it is filled in.
        ledger: The ledger; None for an empty one.

    Returns:
        The contest with its trials done and those needed next.
    """
    playing, done = play(contest), dict[Trial, Outcome]()
    outcomes: Outcomes | None = None
    if ledger is None:
        return ContestState(contest, {}, next(playing))
    while True:
        try:
            trials = playing.send(outcomes) if outcomes is not None else next(playing)
        except StopIteration:
            return ContestState(contest, done)
        known = {trial: outcome for trial in trials if (outcome := ledger.outcome(trial)) is not None}
        done |= known
        if missing := [trial for trial in trials if trial not in known]:
            return ContestState(contest, done, missing)
        outcomes = known


def distinct_states(states: Iterable[ContestState]) -> list[ContestState]:
    """Return the states without contests that run the same trials as another.

    Args:
        states: States of one study's contests.
    """
    return list({state.contest.key: state for state in states}.values())


def known_costs(states: Iterable[ContestState]) -> dict[tuple[str, str], Cost]:
    """Return the mean cost of each contestant and task with finished trials.

    Args:
        states: States of one study's contests.
    """
    runs: dict[tuple[str, str], list[tuple[Trial, Outcome]]] = defaultdict(list)
    for state in states:
        trained = [(t, o) for t, o in state.done.items() if t.steps and o.status == "ok"]
        runs[state.contest.contestant, state.contest.task] += trained
    return {key: _mean_cost(trained) for key, trained in runs.items() if trained}


def _mean_cost(runs: Sequence[tuple[Trial, Outcome]]) -> Cost:
    seconds, steps = sum(outcome.seconds for _, outcome in runs), sum(trial.steps for trial, _ in runs)
    return Cost(seconds / steps, fmean(outcome.attach_seconds for _, outcome in runs))


def known_scoring(states: Iterable[ContestState]) -> dict[str, float]:
    """Return the seconds to score one part of each task, from the trials of the frozen model that are done.

    Args:
        states: States of one study's contests.
    """
    return {
        trial.task: outcome.scoring_seconds / _scorings(trial)
        for state in states
        for trial, outcome in state.done.items()
        if trial.method == FROZEN and outcome.scoring_seconds
    }


def _scorings(trial: Trial) -> float:
    """Return the work to score a trial, in times that one part is scored with all windows."""
    strengths = 1 if trial.method == FROZEN else len(trial.path) + 1
    along_path = strengths * trial.path_windows / trial.windows if trial.path else 0.0
    curve = (trial.steps - 1) // trial.curve_every if trial.curve_every else 0
    return curve + len(trial.parts) * (1 + along_path)


def seconds_left(
    states: Iterable[ContestState], costs: Costs, scoring: Mapping[str, float], workers: int
) -> float | None:
    """Estimate the time that the rest of a study takes.

    Args:
        states: States of the study's contests.
        costs: Known costs; a contestant without any is given the mean cost.
        scoring: By task, the seconds to score one part.
        workers: Number of workers.

    Returns:
        Seconds; None if the time of no step is known.
    """
    rest = [state for state in distinct_states(states) if not state.contest.finished]
    if not costs:
        return None if rest else 0.0
    mean = Cost(fmean(cost.step for cost in costs.values()), fmean(cost.attach for cost in costs.values()))
    costed = [(state, costs.get((state.contest.contestant, state.contest.task), mean)) for state in rest]
    return sum(_seconds(state, cost, scoring.get(state.contest.task, 0.0)) for state, cost in costed) / workers


def _seconds(state: ContestState, cost: Cost, score: float) -> float:
    """Return the seconds of one worker for the rest of a contest; `score` is the time for one part."""
    contest, study = state.contest, state.contest.study
    tuning = study.tuning
    if contest.contestant == FROZEN:
        return sum(map(_scorings, state.missing)) * score
    if contest.rate is None:
        searches = max(0, tuning.rates + tuning.keep - sum(trial.seed in tuning.seeds for trial in state.done))
        runs = study.report.runs
    else:
        searches, runs = 0, len(state.missing)
    final = contest.trial(1.0, 0, study.training.steps, reported=True)
    scorings = searches + runs * _scorings(final)
    return state.steps_left * cost.step + (searches + runs) * cost.attach + scorings * score
