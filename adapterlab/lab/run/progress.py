"""How far a study has come: what the ledger has of each contest, what it lacks next, and how long the rest may take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.capacity import Cost
from adapterlab.lab.run.contest import Contest, Outcomes, expected_steps, play
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial


@dataclass(frozen=True)
class State:
    """One contest, played as far as a ledger goes."""

    contest: Contest
    seen: Mapping[Trial, Outcome] = field(repr=False)
    """The trials of this contest that the ledger has."""
    missing: Sequence[Trial] = ()
    """Those needed next; none if the contest is finished."""

    @property
    def steps(self) -> int:
        """Training steps done."""
        return sum(trial.steps for trial in self.seen)

    @property
    def steps_left(self) -> int:
        """Training steps to go, unless every rate diverges."""
        if self.contest.finished or self.contest.contestant == FROZEN:
            return 0
        return max(sum(t.steps for t in self.missing), expected_steps(self.contest.study) - self.steps)

    @property
    def phase(self) -> str:
        """Where it is, in a word or two with a count."""
        contest, study = self.contest, self.contest.study
        if contest.finished:
            return "done" if contest.reported else "all diverged"
        if not self.seen:
            return "waits"
        if contest.rate is not None:
            runs = len(study.report.seeds) * (2 if study.report.tenth_of_data else 1)
            return f"report {runs - len(self.missing)}/{runs}"
        return f"tuning {self.steps / study.tuning.budget_steps:.0%}"


def look(contest: Contest, ledger: Ledger) -> State:
    """Play the contest as far as the ledger goes; it is changed by that."""
    playing, seen = play(contest), dict[Trial, Outcome]()
    outcomes: Outcomes | None = None
    while True:
        try:
            trials = playing.send(outcomes) if outcomes is not None else next(playing)
        except StopIteration:
            return State(contest, seen)
        found = {trial: outcome for trial in trials if (outcome := ledger.outcome(trial)) is not None}
        seen |= found
        if missing := [trial for trial in trials if trial not in found]:
            return State(contest, seen, missing)
        outcomes = found


def distinct(states: Iterable[State]) -> list[State]:
    """The states without contests that run the very same trials, such as what cannot be sized at its second budget."""
    return list({(s.contest.task, s.contest.adapter, s.contest.targets): s for s in states}.values())


Costs = Mapping[tuple[str, str], Cost]
"""By contestant and task."""


def known_costs(states: Iterable[State]) -> dict[tuple[str, str], Cost]:
    """The means over the trials that were run, of each contestant and task that has any."""
    runs: dict[tuple[str, str], list[tuple[Trial, Outcome]]] = defaultdict(list)
    for state in states:
        trained = [(t, o) for t, o in state.seen.items() if t.steps and o.status == "ok"]
        runs[state.contest.contestant, state.contest.task] += trained
    return {key: _mean_cost(found) for key, found in runs.items() if found}


def _mean_cost(runs: Sequence[tuple[Trial, Outcome]]) -> Cost:
    seconds, steps = sum(outcome.seconds for _, outcome in runs), sum(trial.steps for trial, _ in runs)
    return Cost(seconds / steps, fmean(outcome.attach_seconds for _, outcome in runs))


def seconds_left(states: Iterable[State], costs: Costs, scoring: Mapping[str, float], workers: int) -> float | None:
    """How long the rest takes on so many workers; None if nothing is known of the time of a step.

    `scoring` is the seconds for one part of each task. A contestant whose cost is not known is taken for the mean one.
    """
    rest = [state for state in distinct(states) if not state.contest.finished]
    if not costs:
        return None if rest else 0.0
    mean = Cost(fmean(cost.step for cost in costs.values()), fmean(cost.attach for cost in costs.values()))
    costed = [(state, costs.get((state.contest.contestant, state.contest.task), mean)) for state in rest]
    return sum(_seconds(state, cost, scoring.get(state.contest.task, 0.0)) for state, cost in costed) / workers


def _seconds(state: State, cost: Cost, score: float) -> float:
    """Of one worker; `score` for one part."""
    contest, study = state.contest, state.contest.study
    tuning, report = study.tuning, study.report
    if contest.contestant == FROZEN:
        return sum(len(trial.parts) for trial in state.missing) * score
    if contest.rate is None:
        choices = max(0, tuning.rates + tuning.keep - sum(trial.seed in tuning.seeds for trial in state.seen))
        runs = len(report.seeds) * (2 if report.tenth_of_data else 1)
    else:
        choices, runs = 0, len(state.missing)
    final = contest.trial(1.0, 0, study.training.steps, reported=True)
    looks = (final.steps - 1) // final.curve_every + len(final.parts) * (1 + len(final.path))
    return state.steps_left * cost.step + (choices + runs) * cost.attach + (choices + runs * looks) * score
