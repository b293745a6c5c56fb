"""Progress of a study: for each contest, the trials done and those needed next, and the time that the rest may take."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import Stage
from adapterlab.lab.run.study_play import StudyPlay
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


CostKey = tuple[str, str, str]
"""Model, contestant and task."""
Costs = Mapping[CostKey, Cost]
Scoring = Mapping[tuple[str, str], float]
"""By model and task, the seconds to score one part."""


def cost_key(contest: Contest) -> CostKey:
    """Return the key of a contest's costs; they are known as a mean over the sizes and targets that a study sweeps.

    Args:
        contest: The contest.
    """
    return contest.study.model, contest.contestant, contest.task


def planned(contest: Contest) -> dict[Stage, tuple[int, int]]:
    """Return the number and the length of the trials of each stage, if its search does not grow and its race ends at once.

    A search that starts at a trusted prediction is planned to confirm it.

    Args:
        contest: A contest, at any stage.

    Returns:
        By stage in their order, the number of trials and the training steps of each.
    """
    if contest.contestant == FROZEN:
        return {}
    study, tuning = contest.study, contest.study.tuning
    steps = study.training.steps
    short = tuning.first_steps(steps)
    return {
        Stage.BRACKET: (tuning.bracket, short),
        Stage.REFINE: (0 if contest.narrow else 2, short),
        Stage.FINALS: (tuning.keep if tuning.keep > 1 and not contest.narrow else 0, steps),
        Stage.REGRET: (3 * len(tuning.regret_seeds) if contest.sampled else 0, steps),
        Stage.REPORT: (len(study.report.rounds[0]) * study.report.runs_of_seed, steps),
    }


def ahead(contest: Contest) -> dict[Stage, tuple[int, int]]:
    """Return what `planned` does for the stages after the one whose trials were asked for last.

    Args:
        contest: A contest, at any stage.
    """
    if contest.finished:
        return {}
    order = list(Stage)
    reached = -1 if contest.stage is None else order.index(contest.stage)
    if contest.beside:
        reached = max(reached, order.index(Stage.REGRET))
    return {stage: trials for stage, trials in planned(contest).items() if order.index(stage) > reached}


def steps_ahead(contest: Contest) -> int:
    """Return the training steps of the stages after the one whose trials were asked for last.

    Args:
        contest: A contest, at any stage.
    """
    return sum(count * steps for count, steps in ahead(contest).values())


@dataclass(frozen=True)
class ContestState:
    """A contest, with the outcomes of a ledger replayed into it."""

    contest: Contest
    done: Mapping[Trial, Outcome] = field(repr=False)
    """Trials of this contest that are in the ledger."""
    missing: Sequence[Trial] = ()
    """Trials needed next; none if the contest is finished, or waits for others."""

    @property
    def steps(self) -> int:
        """Training steps done."""
        return sum(trial.steps for trial in self.done)

    @property
    def steps_left(self) -> int:
        """Training steps to go, if its search neither grows nor is extended any more."""
        return sum(trial.steps for trial in self.missing) + steps_ahead(self.contest)

    @property
    def phase(self) -> str:
        """Phase of the contest in a word or two, with a count."""
        contest, study = self.contest, self.contest.study
        if contest.finished:
            failed = any(outcome.status == "failed" for _, outcome in contest.runs)
            if any(outcome.status == "ok" for _, outcome in contest.reported.values()):
                return "done, some failed" if failed else "done"
            return "failed" if failed else "all diverged"
        if not self.done:
            return "waiting"
        if contest.stage == Stage.REPORT:
            return f"report {sum(trial.rows for trial in self.done)}/{study.report.runs}"
        if contest.waiting:
            return "waiting for regret"
        if contest.stage == Stage.REGRET:
            return "measuring regret"
        count, steps = planned(contest)[Stage.REPORT]
        return f"tuning {self.steps / (self.steps + self.steps_left - count * steps):.0%}"


def replay(contests: Iterable[Contest], ledger: Ledger | None) -> list[ContestState]:
    """Replay the contests of a study with the outcomes in a ledger, each until one is missing.

    Args:
        contests: All contests of a study, none of them played; they are filled in.
        ledger: The ledger; None for an empty one.

    Returns:
        Each contest with its trials done and those needed next.
    """
    playing = StudyPlay(contests)
    done: list[dict[Trial, Outcome]] = [{} for _ in playing.contests]
    missing: list[Sequence[Trial]] = [() for _ in playing.contests]
    requests = deque(playing.start())
    while requests:
        i, trials = requests.popleft()
        found = {} if ledger is None else {trial: ledger.outcome(trial) for trial in trials}
        known = {trial: outcome for trial, outcome in found.items() if outcome is not None}
        done[i] |= known
        missing[i] = [trial for trial in trials if trial not in known]
        if not missing[i]:
            requests.extend(playing.send(i, known))
    return [ContestState(*state) for state in zip(playing.contests, done, missing, strict=True)]


def distinct_states(states: Iterable[ContestState]) -> list[ContestState]:
    """Return the states without contests that run the same trials as another.

    Args:
        states: States of one study's contests.
    """
    return list({state.contest.key: state for state in states}.values())


def known_costs(states: Iterable[ContestState]) -> dict[CostKey, Cost]:
    """Return the mean cost of each model, contestant and task with finished trials.

    Args:
        states: States of one study's contests.
    """
    runs: dict[CostKey, list[tuple[Trial, Outcome]]] = defaultdict(list)
    for state in states:
        trained = [(t, o) for t, o in state.done.items() if t.steps and o.status == "ok"]
        runs[cost_key(state.contest)] += trained
    return {key: _mean_cost(trained) for key, trained in runs.items() if trained}


def _mean_cost(runs: Sequence[tuple[Trial, Outcome]]) -> Cost:
    seconds, steps = sum(outcome.seconds for _, outcome in runs), sum(trial.steps for trial, _ in runs)
    return Cost(seconds / steps, fmean(outcome.attach_seconds for _, outcome in runs))


def known_scoring(states: Iterable[ContestState]) -> dict[tuple[str, str], float]:
    """Return the seconds to score one part of each task with each model, from the trials of the frozen model that are done.

    Args:
        states: States of one study's contests.
    """
    return {
        (trial.model, trial.task): outcome.scoring_seconds / _scorings(trial)
        for state in states
        for trial, outcome in state.done.items()
        if trial.method == FROZEN and outcome.scoring_seconds
    }


def known_generating(states: Iterable[ContestState]) -> dict[tuple[str, str], float]:
    """Return the seconds to generate the answers of a reported trial, by model and task, from the frozen model's trials.

    The frozen model seldom ends an answer early, so trained models take less.

    Args:
        states: States of one study's contests.
    """
    return {
        (trial.model, trial.task): outcome.generating_seconds
        for state in states
        for trial, outcome in state.done.items()
        if trial.method == FROZEN and outcome.generating_seconds
    }


def known_geometry(states: Iterable[ContestState]) -> dict[CostKey, float]:
    """Return the mean seconds to measure the geometry of a reported trial, by model, contestant and task.

    Args:
        states: States of one study's contests.
    """
    found: dict[CostKey, list[float]] = defaultdict(list)
    for state in states:
        found[cost_key(state.contest)] += [o.geometry_seconds for o in state.done.values() if o.geometry_seconds]
    return {key: fmean(seconds) for key, seconds in found.items() if seconds}


def _scorings(trial: Trial) -> float:
    """Return the work to score a trial, in times that one part is scored with all windows."""
    strengths = 1 if trial.method == FROZEN else len(trial.path) + 1
    share = trial.path_windows / trial.windows if trial.path else 0.0
    curve = (trial.steps - 1) // trial.curve_every if trial.curve_every else 0
    return curve * (1 + (len(trial.parts) - 1) * share) + len(trial.parts) * (1 + strengths * share)


def seconds_left(
    states: Iterable[ContestState],
    costs: Costs,
    scoring: Scoring,
    workers: int,
    generating: Scoring | None = None,
    geometry: Mapping[CostKey, float] | None = None,
) -> float | None:
    """Estimate the time that the rest of a study takes.

    Args:
        states: States of the study's contests.
        costs: Known costs; a contestant without any is given the mean cost.
        scoring: By model and task, the seconds to score one part.
        workers: Number of workers.
        generating: By model and task, the seconds to generate the answers of a reported trial; none if None.
        geometry: By model, contestant and task, the seconds to measure the geometry of a reported trial; a contestant
            without any is given the mean, or none if None.

    Returns:
        Seconds; None if the time of no step is known.
    """
    rest = [state for state in distinct_states(states) if not state.contest.finished]
    if not costs:
        return None if rest else 0.0
    mean = Cost(fmean(cost.step for cost in costs.values()), fmean(cost.attach for cost in costs.values()))
    costed = [(state, state.contest, costs.get(cost_key(state.contest), mean)) for state in rest]
    known, measured = generating or {}, geometry or {}
    usual = fmean(measured.values()) if measured else 0.0
    each = [
        _seconds(state, cost, scoring.get((own.study.model, own.task), 0.0))
        + _to_go(state, lambda trial: bool(trial.metric)) * known.get((own.study.model, own.task), 0.0)
        + _to_go(state, lambda trial: bool(trial.geometry)) * measured.get(cost_key(own), usual)
        for state, own, cost in costed
    ]
    return sum(each) / workers


def _to_go(state: ContestState, does: Callable[[Trial], bool]) -> int:
    """Return the number of trials to go that do something that only reported trials do, such as generate answers."""
    count, _ = ahead(state.contest).get(Stage.REPORT, (0, 0))
    final = state.contest.trial(1.0, 0, state.contest.study.training.steps, reported=True)
    later = count // state.contest.study.report.runs_of_seed if does(final) else 0
    return later + sum(does(trial) for trial in state.missing)


def _seconds(state: ContestState, cost: Cost, score: float) -> float:
    """Return the seconds of one worker for the rest of a contest; `score` is the time for one part."""
    contest, study = state.contest, state.contest.study
    if contest.contestant == FROZEN:
        return sum(map(_scorings, state.missing)) * score
    final = contest.trial(1.0, 0, study.training.steps, reported=True)
    whole = float(len(final.parts))
    works = {Stage.FINALS: whole, Stage.REGRET: whole, Stage.REPORT: _scorings(final)}
    counts = {stage: count for stage, (count, _) in ahead(contest).items()}
    runs = len(state.missing) + sum(counts.values())
    scorings = sum(map(_scorings, state.missing)) + sum(n * works.get(stage, 1.0) for stage, n in counts.items())
    return state.steps_left * cost.step + runs * cost.attach + scorings * score
