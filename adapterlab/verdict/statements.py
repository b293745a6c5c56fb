"""Results of a study on one statement of a claim: paired numbers, their mean, and the values for which it holds.

>>> from adapterlab.verdict.claims import read_test
>>> test = read_test("C", {"reverses": "antipasto", "on": "steer"})
>>> test.parts[0].sentence()
'antipasto moves the trait the other way at strength -1, by at least 50%: on steer'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapterlab.lab.analysis.contrast import Contrast, Term, difference, share_beyond, value
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import MEASURED, ZERO, Evidence, Region
from adapterlab.lab.analysis.metrics import METRICS, Key, Results, smallest_difference
from adapterlab.lab.statistics import Paired, equivalence
from adapterlab.tasks.steer import Steer
from adapterlab.verdict.forms import Equivalent, Form, Matchable, Rate, Reaches, Reverses, Trend
from adapterlab.verdict.measured import MeasuredStudy
from adapterlab.verdict.rates import rate_ratio
from adapterlab.verdict.slopes import slope

MIN_PAIRS = 2
"""Pairs of runs that a verdict needs."""


@dataclass(frozen=True)
class Pair:
    """One paired difference, without the claim's margin."""

    task: str
    seed: int
    """Seed of both runs; 0 where the metric has one number for a whole task."""
    difference: float
    trials: tuple[str, ...]
    """Ids of the trials that it was computed from."""


@dataclass(frozen=True)
class Statement:
    """Results of a study on one statement of a claim."""

    test: Form
    pairs: tuple[Pair, ...]
    effect: Paired
    """Mean of the pairs; of a claim about a share, the gain beyond that share."""
    region: Region
    """Values for which it holds."""

    @property
    def same(self) -> float | None:
        """For a statement of equivalence, the p-value of two one-sided tests against its margin; else None."""
        bound = self.test.bound
        return None if bound is None else equivalence(self.effect, bound)


def state(test: Form, study: MeasuredStudy) -> Statement | str:
    """Return what a study measured of a statement, or why it cannot be tested.

    Args:
        test: Its test, with the names that its contestants have in the study.
        study: The study's effects.
    """
    if isinstance(test, Trend):
        return _trend(test, study)
    if isinstance(test, Rate):
        return _rate(test, study)
    if isinstance(test, Reverses):
        return _reversal(test, study.effects)
    if isinstance(test, Matchable) and test.at is not None:
        return _at_equal_learning(test, study)
    return _compared(test, region(test, study.effects), study.effects)


def region(test: Form, effects: Effects) -> Region:
    """Return the values of contestants for which a statement holds.

    Args:
        test: The test of a statement that compares two contestants.
        effects: Effects estimated from finished contests.
    """
    a, b = test.contestants()
    if isinstance(test, Reaches):
        return Region(share_beyond((a, test.metric), (b, test.metric), test.reaches), test.tasks)
    contrast = difference(a, b, test.metric)
    if isinstance(test, Equivalent):
        return Region(contrast, test.tasks, test.within)
    return Region(contrast.beyond(_margin(test, effects.results)), test.tasks)


def _compared(test: Form, where: Region, effects: Effects) -> Statement | str:
    """Compare two contestants by their values of one metric."""
    contrast = replace(where.contrast, minus=0.0)
    numbers = effects.numbers(contrast, test.tasks)
    if not any(effects.values(name, test.metric, test.tasks) for name in test.contestants()):
        return f"this study did not measure {METRICS[test.metric].title}"
    if len(numbers) < MIN_PAIRS:
        return _too_few(test, effects.results, len(numbers))
    return Statement(test, _pairs(test, numbers, [effects.results]), effects.estimate(contrast, test.tasks), where)


def _reversal(test: Reverses, effects: Effects) -> Statement | str:
    results = effects.results
    if wrong := [name for name in test.tasks if not isinstance(results.resolved.tasks[name], Steer)]:
        return f"{' and '.join(wrong)} cannot show a reversal, since its loss rises at strength -1 whatever the method"
    unscored = [name for name in test.contestants() if not effects.values(name, test.metric, test.tasks)]
    if unscored:
        return f"no run of {' and '.join(unscored)} was scored at strength -1 (report.path)"
    if test.before is not None:
        return _compared(test, region(test, effects), effects)
    alone = value(test.reverses, test.metric)
    numbers = effects.numbers(alone, test.tasks)
    if len(numbers) < MIN_PAIRS:
        return _too_few(test, results, len(numbers))
    by_task = effects.by_task(alone.beyond(test.share), test.tasks)
    smallest = smallest_difference(METRICS[test.metric], results)
    own = _of_number(f"reversal by {test.share:g}", test, by_task, smallest, 0.0)
    return Statement(test, _pairs(test, numbers, [results]), effects.estimate(alone, test.tasks), own)


def _at_equal_learning(test: Matchable, study: MeasuredStudy) -> Statement | str:
    effects, (a, b) = study.effects, test.contestants()
    matched = study.matched(test.metric)
    numbers = {key: d for key, d in matched.numbers[a, b].items() if key[0] in test.tasks}
    without = [name for name in (a, b) if not any(who == name and key[0] in test.tasks for who, key in matched.paths)]
    if without:
        return f"{' and '.join(without)} has no strength path with {METRICS[test.metric].title} (report.path)"
    by_task = {task: found for task, found in matched.by_task(a, b).items() if task in test.tasks}
    if len(by_task) < len(set(test.tasks)):
        return f"fewer than {MIN_PAIRS} pairs of runs of {a} and {b} learned something on each task"
    margin = 0.0 if isinstance(test, Equivalent) else _margin(test, effects.results)
    smallest = smallest_difference(METRICS[test.metric], effects.results)
    own = _of_number(f"{test.metric} at equal learning", test, by_task, smallest, margin)
    return Statement(test, _pairs(test, numbers, [effects.results]), matched.compare(a, b, test.tasks), own)


def _trend(test: Trend, study: MeasuredStudy) -> Statement | str:
    found = slope(test, study)
    if isinstance(found, str):
        return found
    if len(found.numbers) < MIN_PAIRS:
        return _too_few(test, study.effects.results, len(found.numbers))
    results = study.effects.results
    margin = 0.0 if test.within is not None else _margin(test, results)
    smallest = smallest_difference(METRICS[test.metric], results)
    own = _of_number(found.topic, test, found.by_task, smallest, margin)
    return Statement(test, _pairs(test, found.numbers, found.results), found.effect, own)


def _rate(test: Rate, study: MeasuredStudy) -> Statement | str:
    found = rate_ratio(test, study)
    if isinstance(found, str):
        return found
    own = _of_number(found.topic, test, found.by_task, found.smallest, 0.0)
    results = found.results
    pairs = _pairs(test, {(task, 0): effect.mean for task, effect in found.by_task.items()}, results)
    return Statement(test, pairs, found.effect, own)


def _of_number(topic: str, test: Form, by_task: Mapping[str, Paired], smallest: float, margin: float) -> Region:
    """Return where a number with evidence of its own is larger than a margin, or within the test's margin of zero.

    The number of the same contestants in the other order, or of a trend that falls, is the same one with the other sign, and
    has the same draws, so that claims that exclude each other do so here.
    """
    names = test.contestants()
    turned = (names != tuple(sorted(names))) != (isinstance(test, Trend) and test.falls)
    topic = f"{topic} of {' and '.join(sorted(names))} on {' and '.join(by_task)}"
    found = {task: replace(effect, mean=-effect.mean if turned else effect.mean) for task, effect in by_task.items()}
    ends = (ZERO, MEASURED) if turned else (MEASURED, ZERO)
    sign = METRICS[test.metric].sign if test.metric in METRICS else 1
    contrast = Contrast((Term(ends[0], test.metric, sign), Term(ends[1], test.metric, -sign))).beyond(margin)
    return Region(contrast, tuple(by_task), test.bound, Evidence.on_number(topic, found, smallest))


def _margin(test: Form, results: Results) -> float:
    by: float | None = getattr(test, "by", None)
    return smallest_difference(METRICS[test.metric], results) if by is None else by


def _too_few(test: Form, results: Results, pairs: int) -> str:
    if METRICS[test.metric].censored:
        reference = results.study.reference
        names = [name for name in test.contestants() if name != reference]
        return f"{' and '.join(names)} reached {reference}'s score before the last step in too few runs"
    return f"only {pairs} pair{'s' * (pairs != 1)} of runs to compare"


def _pairs(test: Form, numbers: Mapping[Key, float], cells: Sequence[Results]) -> tuple[Pair, ...]:
    return tuple(
        Pair(task, seed, number, _trials(cells, test, task, seed)) for (task, seed), number in sorted(numbers.items())
    )


def _trials(cells: Sequence[Results], test: Form, task: str, seed: int) -> tuple[str, ...]:
    """Return the ids of the trials behind a number: the runs of its seed, or the first rung for a whole task's number."""
    ids = []
    tenth = isinstance(test, Trend) and test.along == "data"
    for results in cells:
        for contestant in test.contestants():
            contest = results.contests[contestant, task]
            runs = [contest.reported[seed]] if seed in contest.reported else list(contest.first.values())
            ids += [trial.id for trial, _ in (*runs, *([contest.tenth[seed]] if tenth else []))]
    return tuple(dict.fromkeys(ids))
