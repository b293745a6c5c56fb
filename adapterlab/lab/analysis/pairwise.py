"""Pairs of contestants: all pairs of a scoreboard corrected together, and two contestants compared in detail.

>>> from adapterlab.lab.statistics import paired
>>> pairs = PairTable(("lora", "oft"), {("lora", "oft"): paired([0.02, 0.021, 0.019])}, {("lora", "oft"): 0.0008}, 0.005)
>>> Lead.of(pairs).behind
('oft',)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapterlab.adapters import all_adapters
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis.contrast import difference
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import Evidence, Region
from adapterlab.lab.analysis.failures import Failure, failures_of
from adapterlab.lab.analysis.metrics import ANSWERS, LOSS, METRICS, Metric, Results, smallest_difference
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest, make_contests
from adapterlab.lab.run.lr_search import Flag
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.progress import replay
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.run.sizing import budget_flag
from adapterlab.lab.statistics import Paired, equivalence, holm
from adapterlab.lab.study.sweep import Cell, level_name
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.tasks.answer_metrics import title_of

SIGNIFICANT = 0.05
"""P-values below this are called significant."""
NAMED = 5
"""Most contestants that a sentence names."""


@dataclass(frozen=True)
class PairTable:
    """In-domain differences of all pairs of ranked contestants, corrected together."""

    names: tuple[str, ...]
    """Contestants, best first."""
    effects: Mapping[tuple[str, str], Paired]
    """By pair, better one first, the paired difference; positive if the first is better."""
    adjusted: Mapping[tuple[str, str], float]
    """By pair, the p-value adjusted over all pairs (Holm)."""
    smallest: float
    """Smallest difference that matters, in the unit of the differences."""
    correction: str = "Holm"
    """Correction of the p-values for several tests."""

    @classmethod
    def of(
        cls, effects: Effects, names: Sequence[str], metric: str = "in_domain", tasks: Sequence[str] | None = None
    ) -> PairTable:
        """Compare all pairs of contestants.

        Args:
            effects: Effects estimated from the results.
            names: Contestants, best first.
            metric: Name of the metric.
            tasks: Tasks; all of the results if None.

        Returns:
            The differences, with p-values adjusted over all pairs.
        """
        pairs = {(a, b): effects.compare(a, b, metric, tasks) for a, b in itertools.combinations(names, 2)}
        adjusted = effects.adjust({pair: effect.p for pair, effect in pairs.items()})
        smallest = smallest_difference(METRICS[metric], effects.results)
        return cls(tuple(names), pairs, adjusted, smallest, effects.correction)

    def p(self, a: str, b: str) -> float:
        """Return the adjusted p-value of a pair in either order; 1 if it was not compared.

        Args:
            a: Name of a contestant.
            b: Name of another.
        """
        return self.adjusted.get((a, b), self.adjusted.get((b, a), 1.0))


@dataclass(frozen=True)
class Lead:
    """Comparison of the best contestant with all others, with p-values adjusted over all pairs of contestants."""

    behind: tuple[str, ...] = ()
    """Contestants that it is significantly ahead of."""
    same: tuple[str, ...] = ()
    """Contestants that are equivalent to it."""
    unknown: tuple[str, ...] = ()
    """Contestants that are neither."""
    correction: str = "Holm"
    """Correction of the p-values for several tests."""

    @classmethod
    def of(cls, pairs: PairTable) -> Lead:
        """Sort the other contestants by how they compare with the first.

        Args:
            pairs: All pairs of a ranking.

        Returns:
            The groups of contestants.
        """
        groups: dict[str, list[str]] = {"behind": [], "same": [], "unknown": []}
        for name in pairs.names[1:]:
            pair = pairs.names[0], name
            # The ranking uses all runs, a pair only those with the same seeds: it may have the opposite sign.
            if pairs.adjusted[pair] < SIGNIFICANT and pairs.effects[pair].mean > 0:
                groups["behind"].append(name)
            elif equivalence(pairs.effects[pair], pairs.smallest) < SIGNIFICANT:
                groups["same"].append(name)
            else:
                groups["unknown"].append(name)
        return cls(**{key: tuple(names) for key, names in groups.items()}, correction=pairs.correction)

    def clause(self, smallest: float) -> str:
        """Return the lead as a clause that continues a sentence.

        Args:
            smallest: Smallest difference that matters.
        """
        equal = f"as good as {listed(self.same, NAMED)} (within {smallest:g})" if self.same else ""
        open_ = f"{listed(self.unknown, NAMED)}, which cannot be told from it" if self.unknown else ""
        if not self.behind:
            if not self.unknown:
                return f", {equal}" if equal else ""
            none = "no lead over another adapter can be told from chance"
            return f", but {equal}; {none}" if equal else f", but {none}"
        if not self.same and not self.unknown:
            real = f"real (p < {SIGNIFICANT:g}, {self.correction} over all pairs)"
            return f", and its lead over each of the other {len(self.behind)} is {real}"
        if not self.same:
            return f", ahead of all but {open_}"
        return f", {equal}, and ahead of all others" + (f" but {open_}" if open_ else "")


def listed(names: Sequence[str], most: int | None = None) -> str:
    """Return names as an enumeration in English: "dora, oft and ia3".

    Args:
        names: At least one name.
        most: Names that are written out; of more, all but one of these, and the number of the others. None for all.

    >>> listed(["lora", "oft", "dora", "ia3"], 3)
    'lora, oft and 2 others'
    """
    shown = list(names)
    if most is not None and len(names) > most:
        shown = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


@dataclass(frozen=True)
class Side:
    """One of the two contestants."""

    contestant: str
    rates: dict[str, float | None]
    """By task, the selected learning rate."""
    parameters: int
    flag: str
    """`above` or `below` if its size is not near the budget; else empty."""
    search_flags: dict[str, Flag] = field(default_factory=dict)
    """By task, a reason to doubt that the selected rate is near the best one; only tasks with such a reason."""


@dataclass(frozen=True)
class Comparison:
    """Paired difference of two contestants on the same tasks, seeds and batches."""

    metric: Metric
    tasks: tuple[str, ...]
    budget: int | None
    """Trained parameters that the contestants were sized to."""
    sides: tuple[Side, Side]
    by_task: dict[str, Paired]
    """By task, the difference; positive if the first is better."""
    effect: Paired
    """Difference over all tasks; positive if the first is better."""
    same: float
    """P-value of the equivalence test against the study's smallest difference that matters."""
    bayes_factor: float
    """Bayes factor for "the first is better on tasks like these, by a difference that matters" against its opposite."""
    cell: Cell = field(default_factory=Cell)
    """Levels of the factors that the study sweeps."""
    failures: tuple[Failure, ...] = ()
    """Trials of the two, of the frozen model and of the reference that failed."""

    @property
    def is_incomplete(self) -> bool:
        """True if trials of the frozen model or the reference failed."""
        return any(failure.decisive for failure in self.failures)

    @property
    def sentence(self) -> str:
        """Conclusion in one sentence."""
        first, second = (side.contestant for side in self.sides)
        where = " and ".join(self.tasks)
        if self.effect.n < 2:
            ahead, lead = first if self.effect.mean > 0 else second, abs(self.effect.mean)
            return (
                f"In the one pair of runs {ahead} is ahead by {lead:.3g} {self.metric.unit}; "
                "one pair cannot tell that from chance."
            )
        ahead, behind = (first, second) if self.effect.mean > 0 else (second, first)
        low, high = sorted(abs(bound) for bound in (self.effect.low, self.effect.high))
        if self.effect.p < SIGNIFICANT and self.effect.real:
            return (
                f"{ahead} is better than {behind} on {where}, by {low:.3g} to {high:.3g} {self.metric.unit} "
                f"({self.metric.title}): the difference is real (p = {self.effect.p:.2g})."
            )
        if self.same < SIGNIFICANT and self.metric.unit == LOSS:
            even = f"{first} and {second} are as good as each other on {where}"
            return (
                f"{even}: they differ by less than the smallest difference that matters (p = {self.same:.2g})."
                + self._apart()
            )
        between = (
            f"Between {first} and {second} no difference can be told from chance on {where} (p = {self.effect.p:.2f}); "
            f"the 95 % interval reaches {high:.3g} {self.metric.unit} from zero ({self.metric.title})."
        )
        return between + self._apart()

    def _apart(self) -> str:
        """Return a sentence about tasks on which there is a difference though there is none over all tasks."""
        adjusted = holm({task: effect.p for task, effect in self.by_task.items()})
        real = [task for task, p in adjusted.items() if p < SIGNIFICANT] if len(adjusted) > 1 else []
        names = [side.contestant for side in self.sides]
        parts = [f"{names[0] if self.by_task[task].mean > 0 else names[1]} is better on {task}" for task in real]
        return f" Task by task, {' and '.join(parts)}." if parts else ""


def compare(
    prepared: PreparedStudy,
    ledger: Ledger,
    names: tuple[str, str],
    *,
    tasks: Sequence[str] = (),
    metric: str = "in_domain",
    at: Mapping[str, object] | None = None,
    command: str = "adapterlab run",
) -> Comparison:
    """Compare two contestants over the finished trials of a study.

    Args:
        prepared: The study.
        ledger: Its ledger.
        names: Two contestants.
        tasks: Tasks to compare on; all of the study if empty.
        metric: Name of the metric.
        at: By factor that the study sweeps, the level; that of the main cell for factors that are left out.
        command: Command that continues the study, for error messages.

    Returns:
        The difference over all tasks and on each task.

    Raises:
        AdapterlabError: For a level that is not in the study, the same name twice, or an unfinished contest.
        UnknownNameError: If there is no such contestant, task or metric.
    """
    resolved = _at(prepared.resolved, at or {})
    study = resolved.study
    wanted = tuple(dict.fromkeys(tasks)) or study.tasks
    known = [entry.name for entry in study.entrants]
    for name in names:
        if name not in known and name in all_adapters():
            raise AdapterlabError(
                f"{name} did not run in study {study.name}, only {', '.join(known)}: "
                f'add it to the study (adapter = "{name}" under [[contestants]]) and run the study again'
            )
        if name not in known:
            raise UnknownNameError("contestant", name, known, where=f"study {study.name}")
    if names[0] == names[1]:
        raise AdapterlabError(f"{names[0]} cannot be compared with itself: name two of {', '.join(known)}")
    for name in wanted:
        if name not in study.tasks:
            raise UnknownNameError("task", name, study.tasks, where=f"study {study.name}")
    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    contests = make_contests(resolved, prepared.adapters(resolved.cell))
    for state in sorted(replay(contests, ledger), key=lambda state: state.contest.contestant == FROZEN):
        contest = state.contest
        if not contest.finished and contest.contestant in {*names, FROZEN} and contest.task in wanted:
            raise AdapterlabError(
                f"{contest.contestant} on {contest.task} is not finished ({state.phase}): `{command}` continues it"
            )
    failures = tuple(f for f in failures_of(contests) if f.decisive or f.contestant in names)
    return _compare(Results.of([c for c in contests if c.finished]), names, wanted, METRICS[metric], failures)


def _at(resolved: ResolvedStudy, at: Mapping[str, object]) -> ResolvedStudy:
    """Return the study at the cell with these levels, and those of the main cell for other factors."""
    wanted, where = dict(resolved.main.cell.levels), f"study {resolved.study.name}"
    for factor, level in at.items():
        levels = resolved.study.sweep.factors.get(factor, ())
        if not levels:
            known = listed(list(wanted)) if wanted else "none"
            raise AdapterlabError(f"{where} does not sweep {factor}: its factors are {known}")
        found = [known for known in levels if str(level).replace(",", "+") in (str(known), level_name(known))]
        if not found:
            names = ", ".join(map(level_name, levels))
            raise AdapterlabError(f"{where} has no {factor} of {level}: its levels are {names}")
        wanted[factor] = found[0]
    for part in resolved.cells:
        if part.cell.by_factor == wanted:
            return part
    cells = "; ".join(part.cell.words for part in resolved.cells)
    raise AdapterlabError(f"{where} does not combine these levels: its cells are {cells}")


def _compare(
    results: Results,
    names: tuple[str, str],
    tasks: tuple[str, ...],
    metric: Metric,
    failures: tuple[Failure, ...],
) -> Comparison:
    units = {_unit(metric, results, name) for name in tasks}
    if len(units) > 1:
        raise AdapterlabError(
            f"{' and '.join(tasks)} are scored in {' and '.join(sorted(units))}: compare on one, with --task"
        )
    effects = Effects.of(results)
    if not effects.numbers(difference(*names, metric.name), tasks):
        diverged = [c for c in results.contests.values() if c.contestant in names and c.rate is None]
        how = "no rate worked" if failures else "every rate diverged"
        why = f": {how} for {_listed_contests(diverged)}" if diverged else f" in {metric.title}"
        why += "".join(f"; {failure}" for failure in failures if failure.task in tasks)
        raise AdapterlabError(f"{names[0]} and {names[1]} have no pair of runs to compare{why}")
    overall = effects.compare(*names, metric.name, tasks)
    first, second = (_side(results, name, tasks) for name in names)
    return Comparison(
        replace(metric, unit=units.pop()),
        tasks,
        results.study.budget,
        (first, second),
        {name: effects.compare(*names, metric.name, [name]) for name in tasks},
        overall,
        equivalence(overall, results.study.report.smallest),
        _bayes_factor(effects, names, metric, tasks),
        results.resolved.cell,
        failures,
    )


def _unit(metric: Metric, results: Results, task: str) -> str:
    """Return the unit of a metric on a task."""
    if metric.unit == ANSWERS:
        return title_of(results.resolved.tasks[task].metric) or metric.unit
    return results.resolved.unit(task) if metric.unit == LOSS else metric.unit


def _bayes_factor(effects: Effects, names: tuple[str, str], metric: Metric, tasks: tuple[str, ...]) -> float:
    margin = smallest_difference(metric, effects.results)
    region = Region(difference(*names, metric.name).beyond(margin), tasks)
    return Evidence.of(effects, metric.name, [region]).bayes_factor(region)


def _side(results: Results, name: str, tasks: Sequence[str]) -> Side:
    contests = [results.contests[name, task] for task in tasks]
    parameters = max((contest.parameters for contest in contests), default=0)
    return Side(
        name,
        {c.task: c.rate for c in contests},
        parameters,
        budget_flag(parameters, results.study.budget),
        {c.task: c.search_flag for c in contests if c.search_flag},
    )


def _listed_contests(contests: list[Contest]) -> str:
    return " and ".join(f"{c.contestant} on {c.task}" for c in contests)
