"""What a study would run, how long it would take, and on what; nothing of it is run, but for a few steps to time them."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from adapterlab.adapters.base import Adapter
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.capacity import Cost
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.lr_search import search
from adapterlab.lab.run.progress import Costs, State, distinct, known_costs, look, seconds_left
from adapterlab.lab.run.scheduler import prepare, worker_config
from adapterlab.lab.run.sizing import flag
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.lab.trial.train import run
from adapterlab.models.loading import load
from adapterlab.surgery import parameter_count
from adapterlab.tasks import task
from adapterlab.tasks.base import Part

PROBE_STEPS = 4
PROBE_WINDOWS = 8


@dataclass(frozen=True)
class Entry:
    """A contestant at one budget, as it would run."""

    contestant: str
    budget: int | None
    settings: str
    """The adapter's size, and what else differs from its defaults."""
    parameters: int
    flag: str
    """`above` or `below` if it is not near the budget."""
    ranked: bool
    cost: Cost | None
    """On the study's first task; None if nothing was timed."""


@dataclass(frozen=True)
class Plan:
    """A whole study before it is run."""

    study: Study
    entries: tuple[Entry, ...]
    model_parameters: int
    least: int
    """Trials if every rate diverges, or the least of it."""
    likely: int
    """Trials if none does."""
    most: int
    steps: int
    """Training steps if none diverges."""
    trials_done: int
    steps_done: int
    seconds: float | None
    """For what is left, on so many workers."""
    workers: int
    device: str


def make_plan(
    study: Study,
    ledger: Ledger | None,
    *,
    measure: bool = True,
    watch: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Lay out the study; what `ledger` has of it counts as done, and its times as measured.

    With `measure`, every contestant without a time there is trained for a few steps in this process; `watch` is told whom.
    Raises `AdapterlabError` for a contestant that cannot run on the model.
    """
    contests = prepare(study)
    crew, *others = crews(study.limits, worker_config(study))
    workers = 1 + len(others)
    states = [look(c, ledger) if ledger is not None else State(c, {}) for c in contests]
    unlike = [state for state in distinct(states) if state.contest.contestant != FROZEN]
    costs = known_costs(states)
    scoring: dict[str, float] = {}
    if measure and not all(state.contest.finished for state in states):
        crew[0].enter()
        scoring = {task: _time_scoring(next(c for c in contests if c.task == task), watch) for task in study.tasks}
        largest = [c for c in contests if c.contestant != FROZEN and c.study == study.at_each_budget[-1]]
        costs |= _measured(largest, costs, scoring, watch)
    least, likely, most = _counts(study)
    model = load(study.model, task(study.tasks[0]).head).model
    return Plan(
        study,
        tuple(_entry(c, costs, model) for c in contests if c.contestant != FROZEN and c.task == study.tasks[0]),
        sum(p.numel() for p in model.parameters()),
        least * len(unlike) + len(study.tasks),
        likely * len(unlike) + len(study.tasks),
        most * len(unlike) + len(study.tasks),
        sum(state.steps + state.steps_left for state in unlike),
        len({trial for state in states for trial in state.seen}),
        sum(state.steps for state in unlike),
        seconds_left(states, costs, scoring, workers),
        workers,
        "a Ray cluster" if study.limits.cluster else crew[0].device,
    )


def _entry(contest: Contest, costs: dict[tuple[str, str], Cost], model: object) -> Entry:
    assert contest.adapter is not None
    count = parameter_count(model, contest.adapter, contest.targets)  # type: ignore[arg-type]
    study, name = contest.study, contest.contestant
    return Entry(
        name,
        study.budget,
        _settings(contest.adapter),
        count,
        flag(count, study.budget),
        study.competes(name),
        costs.get((name, contest.task)),
    )


def _settings(adapter: Adapter) -> str:
    usual = {f.name: f.default for f in dataclasses.fields(adapter)}
    said = {
        key: getattr(adapter, key) for key in usual if key == adapter.size_knob or getattr(adapter, key) != usual[key]
    }
    return ", ".join(f"{key} = {value!r}" for key, value in said.items())


def _measured(
    contests: Iterable[Contest], known: Costs, scoring: Mapping[str, float], watch: Callable[[str], None]
) -> dict[tuple[str, str], Cost]:
    """The costs that are not known: each contestant is timed on its first task, and for others as they take to score."""
    found: dict[tuple[str, str], Cost] = {}
    timed: dict[str, tuple[str, Cost]] = {}
    for contest in contests:
        name, task = contest.contestant, contest.task
        if (name, task) in known:
            continue
        if name not in timed:
            watch(name)
            timed[name] = task, _time_training(contest)
        base, cost = timed[name]
        found[name, task] = Cost(cost.step * scoring[task] / scoring[base], cost.attach)
    return found


def _time_training(contest: Contest) -> Cost:
    probe = contest.trial(contest.study.tuning.start[0], contest.study.tuning.seeds[0], PROBE_STEPS, reported=False)
    outcome = run(replace(probe, windows=PROBE_WINDOWS))
    return Cost(outcome.seconds / PROBE_STEPS, outcome.attach_seconds)


def _time_scoring(frozen: Contest, watch: Callable[[str], None]) -> float:
    """Seconds to score one part of the task with all the windows of the study."""
    watch(FROZEN)
    probe = replace(frozen.trial(0.0, 0, 0, reported=True), curve_every=0, path=(), parts=(Part.VALIDATION.value,))
    run(replace(probe, windows=2))  # loads the model
    few = replace(probe, windows=PROBE_WINDOWS)
    run(few)  # prepares the data
    started = time.monotonic()
    run(few)
    return (time.monotonic() - started) * frozen.study.report.windows / PROBE_WINDOWS


def _counts(study: Study) -> tuple[int, int, int]:
    """The trials of one contest: the least, those if nothing diverges, the most."""
    reported = len(study.report.seeds) * (2 if study.report.tenth_of_data else 1)

    def trials(diverging: int, second: float) -> int:
        """If the first so many rates diverge, and the second round ends at this loss."""
        searching, losses, count = search(study.tuning), None, 0
        while True:
            try:
                number, wanted = searching.send(losses) if losses is not None else next(searching)
            except StopIteration as end:
                return count + (reported if end.value is not None else 0)
            first = (math.inf if count + i < diverging else 1.0 for i in range(len(wanted)))
            losses = dict.fromkeys(wanted, second) if number == 2 else dict(zip(wanted, first, strict=True))
            count += len(wanted)

    longest = study.tuning.budget_steps // study.tuning.first_steps
    ways = [trials(k, second) for k in range(longest + 1) for second in (1.0, math.inf)]
    return min(ways), trials(0, 1.0), max(ways)
