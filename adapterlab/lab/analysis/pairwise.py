"""Two contestants side by side: their paired difference, and whether it is real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapterlab.adapters import all_adapters
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis import effects
from adapterlab.lab.analysis.metrics import LOSS, METRICS, Metric, Results
from adapterlab.lab.analysis.scoreboard import SIGNIFICANT
from adapterlab.lab.analysis.statistics import Paired, bayes_factor_positive, equivalence, holm
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.progress import look
from adapterlab.lab.run.scheduler import prepare
from adapterlab.lab.run.sizing import flag
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.tasks import task


@dataclass(frozen=True)
class Side:
    """One of the two."""

    contestant: str
    rates: dict[str, float | None]
    """By task, the learning rate that was chosen."""
    parameters: int
    flag: str
    """`above` or `below` if it is not near the budget."""


@dataclass(frozen=True)
class Comparison:
    """How much better the first is than the second where both were run: the same task, seed and batches."""

    metric: Metric
    tasks: tuple[str, ...]
    budget: int | None
    sides: tuple[Side, Side]
    by_task: dict[str, Paired]
    effect: Paired
    """Over all tasks; positive if the first is better."""
    same: float
    """The p-value of a difference of no more than the study's smallest that counts."""
    bayes_factor: float
    """How much better "the first is better" foretells the differences than "it is not"."""

    @property
    def sentence(self) -> str:
        """What is to be made of it."""
        first, second = (side.contestant for side in self.sides)
        where = " and ".join(self.tasks)
        if self.effect.n < 2:
            said = f"by {abs(self.effect.mean):.3g} {self.metric.unit}"
            ahead = first if self.effect.mean > 0 else second
            return f"In the one pair of runs {ahead} is ahead {said}; one pair cannot tell that from chance."
        ahead, behind = (first, second) if self.effect.mean > 0 else (second, first)
        low, high = sorted(abs(bound) for bound in (self.effect.low, self.effect.high))
        if self.effect.p < SIGNIFICANT and self.effect.real:
            return (
                f"{ahead} is better than {behind} on {where}, by {low:.3g} to {high:.3g} {self.metric.unit} "
                f"({self.metric.title}): the difference is real (p = {self.effect.p:.2g})."
            )
        if self.same < SIGNIFICANT and self.metric.unit == LOSS:
            even = f"{first} and {second} are as good as each other on {where}"
            return f"{even}: they differ by less than counts (p = {self.same:.2g})." + self._apart()
        between = (
            f"Between {first} and {second} no difference can be told from chance on {where} (p = {self.effect.p:.2f}); "
            f"the interval ends {high:.3g} {self.metric.unit} from none ({self.metric.title})."
        )
        return between + self._apart()

    def _apart(self) -> str:
        """What the tasks say by themselves where together they say nothing."""
        adjusted = holm({task: effect.p for task, effect in self.by_task.items()})
        real = [task for task, p in adjusted.items() if p < SIGNIFICANT] if len(adjusted) > 1 else []
        names = [side.contestant for side in self.sides]
        said = [f"{names[0] if self.by_task[task].mean > 0 else names[1]} is better on {task}" for task in real]
        return f" Task by task, {' and '.join(said)}." if said else ""


def compare(
    study: Study,
    ledger: Ledger,
    names: tuple[str, str],
    *,
    tasks: Sequence[str] = (),
    metric: str = "in_domain",
    budget: int | None = None,
    command: str = "adapterlab run",
) -> Comparison:
    """Compare two contestants over what the ledger has; the largest budget if the study has several and none is given.

    Raises `AdapterlabError` for a name that is not in the study, the same name twice, a budget that is none of the study's,
    and for a contest that is not finished, with the `command` that goes on.
    """
    part = _at(study, budget)
    wanted = tuple(dict.fromkeys(tasks)) or part.tasks
    known = [entry.name for entry in part.entrants]
    for name in names:
        if name not in known and name in all_adapters():
            raise AdapterlabError(
                f"{name} did not run in study {study.name}, only {', '.join(known)}: "
                f'add it to the study (adapter = "{name}" under [[contestants]]) and run that'
            )
        if name not in known:
            raise UnknownNameError("contestant", name, known, where=f"study {study.name}")
    if names[0] == names[1]:
        raise AdapterlabError(f"{names[0]} is compared with itself: name two contestants of {', '.join(known)}")
    for name in wanted:
        if name not in part.tasks:
            raise UnknownNameError("task", name, part.tasks, where=f"study {study.name}")
    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    contests = prepare(part)
    for contest in sorted(contests, key=lambda c: c.contestant == FROZEN):
        state = look(contest, ledger)
        if not contest.finished and contest.contestant in {*names, FROZEN} and contest.task in wanted:
            raise AdapterlabError(
                f"{contest.contestant} on {contest.task} is not finished ({state.phase}): `{command}` goes on with it"
            )
    return _compared(Results([c for c in contests if c.finished]), names, wanted, METRICS[metric])


def _at(study: Study, budget: int | None) -> Study:
    parts = {part.budget: part for part in study.at_each_budget}
    if budget is None:
        return study.at_each_budget[-1]
    if budget not in parts:
        held = ", ".join(f"{b:,}" for b in parts if b is not None) or "none"
        raise AdapterlabError(f"study {study.name} was not held at a budget of {budget:,}; its budgets: {held}")
    return parts[budget]


def _compared(results: Results, names: tuple[str, str], tasks: tuple[str, ...], metric: Metric) -> Comparison:
    units = {task(name).unit for name in tasks} if metric.unit == LOSS else {metric.unit}
    if len(units) > 1:
        raise AdapterlabError(
            f"{' and '.join(tasks)} are scored in {' and '.join(sorted(units))}: compare on one, with --task"
        )
    if not results.differences(*names, metric.name, tasks):
        lost = [c for c in results.contests.values() if c.contestant in names and c.rate is None]
        why = f": every rate diverged for {_where(lost)}" if lost else f" in {metric.title}"
        raise AdapterlabError(f"there is no pair of runs of {names[0]} and {names[1]} to compare{why}")
    over_all = effects.compare(results, *names, metric.name, tasks)
    first, second = (_side(results, name, tasks) for name in names)
    return Comparison(
        replace(metric, unit=units.pop()),
        tasks,
        results.study.budget,
        (first, second),
        {name: effects.compare(results, *names, metric.name, [name]) for name in tasks},
        over_all,
        equivalence(over_all, results.study.report.smallest),
        bayes_factor_positive(over_all),
    )


def _side(results: Results, name: str, tasks: Sequence[str]) -> Side:
    contests = [results.contests[name, task] for task in tasks]
    counts = [o.parameters for c in contests for rung in (c.first, c.reported) for _, o in rung.values()]
    parameters = max(counts, default=0)
    return Side(name, {c.task: c.rate for c in contests}, parameters, flag(parameters, results.study.budget))


def _where(contests: list[Contest]) -> str:
    return " and ".join(f"{c.contestant} on {c.task}" for c in contests)
