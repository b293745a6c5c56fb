"""Estimate a study before it runs: its trials and steps, the time, the device. A few steps are run to time them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from adapterlab.adapters.base import Adapter
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.data_notes import data_notes
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.lr_search import Stage
from adapterlab.lab.run.precision_choice import PrecisionChoice
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.progress import (
    Cost,
    CostKey,
    Costs,
    Scoring,
    cost_key,
    distinct_states,
    known_costs,
    known_generating,
    known_geometry,
    known_scoring,
    planned,
    replay,
    seconds_left,
)
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.run.sizing import budget_flag
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.score import ANSWERED
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.tasks.base import Part

PROBE_STEPS = 4
"""Training steps timed of each contestant."""
PROBE_WINDOWS = 8
"""Examples scored to time the scoring."""
PROBE_ANSWERS = 16
"""Answers generated to time the generating, at most."""


@dataclass(frozen=True)
class Entry:
    """A contestant at one cell, as it would run.

    >>> Entry("lora", Cell(), "r = 4", 158_208, "", ranked=True, cost=None).parameters
    158208
    """

    contestant: str
    cell: Cell
    settings: str
    """Size of the adapter, and its settings that differ from the defaults."""
    parameters: int
    """Number of trained parameters."""
    flag: str
    """`above` or `below` if the size is not near the budget."""
    ranked: bool
    cost: Cost | None
    """Cost on the study's first task; None if nothing was timed."""
    note: str = ""
    """Remark if it has a smaller rank than the sweep asks for."""


@dataclass(frozen=True)
class Estimate:
    """A study before it is run."""

    study: Study
    entries: tuple[Entry, ...]
    model_parameters: int
    least: int
    """Fewest trials, such as when every rate of a contest diverges."""
    likely: int
    """Trials if no search grows or is extended."""
    most: int
    """Most trials: every search grows and is extended as often as it may be."""
    steps: int
    """Training steps if no search grows or is extended any more."""
    trials_done: int
    steps_done: int
    seconds: float | None
    """Seconds for what is left, on this number of workers; None if no contestant was timed."""
    workers: int
    device: str
    precision: PrecisionChoice
    notes: tuple[str, ...] = ()
    """Notes on the study's own data."""


def estimate_study(
    prepared: PreparedStudy,
    ledger: Ledger | None,
    *,
    measure: bool = True,
    watch: Callable[[str], None] = lambda _: None,
) -> Estimate:
    """Estimate the rest of a study.

    Args:
        prepared: The study.
        ledger: Trials done so far, whose times are used; None for none.
        measure: True to train every contestant without a known time for a few steps in this process.
        watch: Called with the name of each contestant before it is timed.

    Returns:
        The estimate; without measuring, its time covers only contestants with known times.

    Raises:
        AdapterlabError: If a device that the study asks for is not there.
    """
    study, resolved = prepared.study, prepared.resolved
    crew, *others = crews(study.limits, resolved.worker_config())
    workers = 1 + len(others)
    states = replay(prepared.contests(), ledger)
    trained = [state for state in distinct_states(states) if state.contest.contestant != FROZEN]
    costs = known_costs(states)
    scoring, generating, geometry = known_scoring(states), known_generating(states), known_geometry(states)
    if measure and not all(state.contest.finished for state in states):
        runner, contests = Runner(crew[0]), [state.contest for state in states]
        frozen = {(c.study.model, c.task): c for c in contests if c.contestant == FROZEN}
        scoring |= {key: _time_scoring(c, runner, watch) for key, c in frozen.items() if key not in scoring}
        generating |= {key: _time_answers(c, runner) for key, c in frozen.items() if key not in generating}
        # Of equal keys the last is kept: of each model, the cell nearest to the main one.
        largest = {cost_key(c): c for c in contests if c.contestant != FROZEN}
        costs |= _measure_costs(largest.values(), costs, scoring, runner, watch)
        geometry |= _measure_geometry(contests, geometry, scoring, runner, watch)
    counts = [trial_counts(state.contest) for state in trained]
    scored = len(study.tasks) * len(resolved.models)
    least, likely, most = (sum(count) + scored for count in zip(*counts, strict=True))
    return Estimate(
        study,
        tuple(_entry(prepared, part, name, costs) for part in resolved.cells for name in prepared.sized[part.cell]),
        prepared.model_parameters,
        least,
        likely,
        most,
        sum(state.steps + state.steps_left for state in trained),
        len({trial for state in states for trial in state.done}),
        sum(state.steps for state in trained),
        seconds_left(states, costs, scoring, workers, generating, geometry),
        workers,
        "a Ray cluster" if study.limits.cluster else crew[0].device,
        resolved.precision,
        data_notes(study),
    )


def _entry(prepared: PreparedStudy, part: ResolvedStudy, name: str, costs: Costs) -> Entry:
    adapter, count, note = prepared.sized[part.cell][name]
    return Entry(
        name,
        part.cell,
        _settings(adapter),
        count,
        budget_flag(count, part.study.budget),
        part.study.competes(name),
        costs.get((part.study.model, name, part.study.tasks[0])),
        note,
    )


def _settings(adapter: Adapter) -> str:
    defaults = {f.name: f.default for f in dataclasses.fields(adapter)}
    shown = {
        key: getattr(adapter, key)
        for key, default in defaults.items()
        if key == adapter.size_knob or getattr(adapter, key) != default
    }
    return ", ".join(f"{key} = {value!r}" for key, value in shown.items())


def _measure_costs(
    contests: Iterable[Contest],
    known: Costs,
    scoring: Scoring,
    runner: Runner,
    watch: Callable[[str], None],
) -> dict[CostKey, Cost]:
    """Time each contestant whose cost is unknown on its first task; scale the cost by scoring time for other tasks."""
    costs: dict[CostKey, Cost] = {}
    timed: dict[tuple[str, str], tuple[str, Cost]] = {}
    for contest in contests:
        model, name, task = key = cost_key(contest)
        if key in known:
            continue
        if (model, name) not in timed:
            watch(name)
            timed[model, name] = task, _time_training(contest, runner)
        base, cost = timed[model, name]
        costs[key] = Cost(cost.step * scoring[model, task] / scoring[model, base], cost.attach)
    return costs


def _time_training(contest: Contest, runner: Runner) -> Cost:
    probe = contest.trial(contest.start, contest.study.tuning.seeds[0], PROBE_STEPS, reported=False)
    outcome = runner.run(replace(probe, windows=PROBE_WINDOWS))
    return Cost(outcome.seconds / PROBE_STEPS, outcome.attach_seconds)


def _measure_geometry(
    contests: Iterable[Contest],
    known: Mapping[CostKey, float],
    scoring: Scoring,
    runner: Runner,
    watch: Callable[[str], None],
) -> dict[CostKey, float]:
    """Time the geometry of one reported trial with each model, and take it for all others with that model.

    The projected models are scored on few examples; the rest of their time follows from that of the base.
    """
    found: dict[CostKey, float] = {}
    timed: dict[str, float] = {}
    for contest in contests:
        model, name, task = key = cost_key(contest)
        if key in known or not contest.resolved.geometry_of(name):
            continue
        if model not in timed:
            watch(f"the geometry of {name}")
            probe = contest.trial(contest.start, contest.study.report.seeds[0], PROBE_STEPS, reported=True)
            windows = min(PROBE_WINDOWS, probe.windows)
            outcome = runner.run(replace(probe, windows=windows, path=(), path_windows=0, curve_every=0, metric=""))
            scored = sum(name.startswith("loss(") for name in outcome.geometry)
            rest = scored * scoring[model, task] * (1 - windows / probe.windows)
            timed[model] = outcome.geometry_seconds + rest
        found[key] = timed[model]
    return found


def _time_answers(frozen: Contest, runner: Runner) -> float:
    """Return the seconds to generate the answers of a reported trial; 0 for a task without a metric."""
    trial = frozen.frozen_trial()
    if not trial.metric:
        return 0.0
    probe = replace(
        trial, parts=(Part.TEST.value,), path=(), windows=1, metric_rows=min(PROBE_ANSWERS, trial.metric_rows)
    )
    parts = sum(part in trial.parts for part in ANSWERED)
    return runner.run(probe).generating_seconds * parts * trial.metric_rows / probe.metric_rows


def _time_scoring(frozen: Contest, runner: Runner, watch: Callable[[str], None]) -> float:
    """Return the seconds to score one part of the task with all windows of the study."""
    watch(FROZEN)
    probe = replace(frozen.frozen_trial(), parts=(Part.VALIDATION.value,), path=())
    runner.run(replace(probe, windows=2))  # what is slow only the first time
    few = runner.run(replace(probe, windows=PROBE_WINDOWS))
    return few.scoring_seconds * frozen.study.report.windows / PROBE_WINDOWS


def trial_counts(contest: Contest) -> tuple[int, int, int]:
    """Count the trials of one contest that is not the frozen model's.

    Args:
        contest: The contest, not yet played.

    Returns:
        The fewest trials, those if its search neither grows nor is extended and its race ends at once, the most.
    """
    tuning, report = contest.study.tuning, contest.study.report
    likely = sum(count for count, _ in planned(contest).values())
    least, refined, second = _ends_of_search(contest)
    # The first extension trains the neighbours of the chosen rate, and the rate itself without a second rung; later ones
    # train a neighbour of a rate that has moved by one. The regret of that rate needs one neighbour more, too. Without
    # growth the best two about a trusted prediction are neighbours of each other.
    beside = 2 if not second else 0 if contest.narrow and not tuning.growth else 1
    extended = tuning.extensions + beside if tuning.extensions and contest.study.regret_sample else 0
    moved = tuning.extensions * len(tuning.regret_seeds) if contest.sampled else 0
    raced = report.runs - len(report.rounds[0]) * report.runs_of_seed
    more = refined + second - sum(planned(contest)[stage][0] for stage in (Stage.REFINE, Stage.FINALS))
    return min(least, likely), likely, likely + tuning.growth + more + extended + moved + raced


def _ends_of_search(contest: Contest) -> tuple[int, int, int]:
    """Return the fewest trials of a search after which nothing is reported, and the most of refinement and second rung.

    The fewest: every rate of the first rung diverges, or all that the second rung has.
    """
    tuning = contest.study.tuning
    diverging, second = tuning.bracket + tuning.growth, tuning.keep if tuning.keep > 1 else 0
    if not contest.narrow:
        return min(diverging, tuning.bracket + 2 + 1) if second else diverging, 2, second
    # The bracket misses the best rate by one step, a rate beyond that one shows it, and the best two diverge at full length.
    missed = tuning.bracket + 2 + 2
    # Both neighbours of the best rate are new if it lies a decade below a bracket that diverged.
    return min(diverging, missed) if second else diverging, 2 if tuning.growth else 1, second
