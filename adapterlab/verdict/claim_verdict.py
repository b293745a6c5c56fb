"""Paired differences that test one claim.

>>> from adapterlab.verdict.claims import read_test
>>> test = read_test("DoRA Beats LoRA", {"better": "dora", "than": "lora", "in": "in_domain", "on": "prose"})
>>> Verdict("DoRA Beats LoRA", test, before=0.5, after=0.5, untested="dora did not run in this study").pairs
()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapterlab.lab.analysis.contrast import difference, share_beyond
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import Region
from adapterlab.lab.analysis.metrics import ANSWERS, LOSS, METRICS, Results, smallest_difference
from adapterlab.lab.statistics import Paired, equivalence
from adapterlab.verdict.claims import Equivalent, Reaches, Test
from adapterlab.verdict.wanted import Wanted

SLACK = 0.1
"""Share by which a contestant may exceed the size that a claim allows it: sizes come in steps."""
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
class Verdict:
    """Result of testing one claim."""

    claim: str
    test: Test
    before: float
    """Credence stated in the map."""
    after: float
    """Credence after the contests; the same if untested."""
    pairs: tuple[Pair, ...] = ()
    effect: Paired | None = None
    """Mean paired difference, without the claim's margin; of a claim about a share, the gain beyond that share."""
    bayes_factor: float = 1.0
    """Posterior over prior odds of the claim by the results alone, at full relevance, for tasks like these."""
    same: float | None = None
    """For a claim of equivalence, the p-value of two one-sided tests against its margin; else None."""
    relevance: float = 0.0
    """Correlation of the contests' results with what claims are about."""
    untested: str = ""
    """Reason why the claim was not tested; empty if it was."""


def judge_claim(claim: str, test: Test, credence: float, effects: Effects) -> Verdict:
    """Return the paired differences that test one claim and their mean, before any update.

    Args:
        claim: Title of the claim.
        test: Its test.
        credence: Its credence stated in the map.
        effects: Effects estimated from finished contests.
    """
    test, missing = _placed(test, effects.results)
    missing = missing or _missing(test, effects.results)
    if missing:
        return Verdict(claim, test, credence, credence, untested=missing)
    contrast = replace(region(test, effects).contrast, minus=0.0)
    numbers = effects.numbers(contrast, test.tasks)
    effect = effects.estimate(contrast, test.tasks) if numbers else None
    if not any(effects.values(name, test.metric, test.tasks) for name in test.contestants()):
        missing = f"this study did not measure {METRICS[test.metric].title}"
    elif len(numbers) < MIN_PAIRS:
        missing = _too_few(test, effects.results, len(numbers))
    if missing or effect is None:
        return Verdict(claim, test, credence, credence, untested=missing)
    pairs = tuple(
        Pair(task, seed, number, _trials(effects.results, test.contestants(), task, seed))
        for (task, seed), number in sorted(numbers.items())
    )
    same = equivalence(effect, test.within) if isinstance(test, Equivalent) else None
    return Verdict(claim, test, credence, credence, pairs, effect, same=same)


def _placed(test: Test, results: Results) -> tuple[Test, str]:
    """Return the test with the names that its contestants have in a study, and the reason why it has none for them."""
    wanted = [Wanted.parse(text) for text in test.contestants()]
    found = [one.find(results) for one in wanted]
    absent = [str(one) for one, names in zip(wanted, found, strict=True) if not names]
    if absent:
        return test, f"{' and '.join(absent)} did not run in this study"
    for one, names in zip(wanted, found, strict=True):
        if one.settings and len(names) > 1:
            return test, f"{' and '.join(names)} are both {one}: name one by its label"
    second = found[1][0]
    first = found[0][0] if test.size is None else _largest_within(found[0], second, test.size, test.tasks, results)
    return test.naming(first, second), ""


def _largest_within(names: Sequence[str], other: str, size: float, tasks: Sequence[str], results: Results) -> str:
    """Return the contestant with the most parameters that has at most a share of another's; the first if none has."""
    limit = (1 + SLACK) * size * _parameters(other, tasks, results)
    counts = {name: _parameters(name, tasks, results) for name in names}
    within = [name for name in names if counts[name] <= limit]
    return max(within, key=counts.__getitem__) if within else names[0]


def _too_few(test: Test, results: Results, pairs: int) -> str:
    if METRICS[test.metric].censored:
        reference = results.study.reference
        names = [name for name in test.contestants() if name != reference]
        return f"{' and '.join(names)} reached {reference}'s score before the last step in too few runs"
    return f"only {pairs} pair{'s' * (pairs != 1)} of runs to compare"


def region(test: Test, effects: Effects) -> Region:
    """Return the values for which a claim holds.

    Args:
        test: The claim's test.
        effects: Effects estimated from finished contests.
    """
    a, b = test.contestants()
    if isinstance(test, Reaches):
        return Region(share_beyond((a, test.metric), (b, test.metric), test.reaches), test.tasks)
    contrast = difference(a, b, test.metric)
    if isinstance(test, Equivalent):
        return Region(contrast, test.tasks, test.within)
    margin = smallest_difference(METRICS[test.metric], effects.results) if test.by is None else test.by
    return Region(contrast.beyond(margin), test.tasks)


def _missing(test: Test, results: Results) -> str:
    """Return why the study cannot test a claim, or an empty string."""
    tasks = [task for task in test.tasks if task not in results.study.tasks]
    if tasks:
        return f"this study does not include {' and '.join(tasks)}"
    if METRICS[test.metric].unit == LOSS and len({results.resolved.unit(name) for name in test.tasks}) > 1:
        return f"the losses of {' and '.join(test.tasks)} have different units"
    if METRICS[test.metric].unit == ANSWERS and len({results.resolved.tasks[name].metric for name in test.tasks}) > 1:
        return f"the answers of {' and '.join(test.tasks)} have different metrics"
    return _too_large(test, results)


def _too_large(test: Test, results: Results) -> str:
    """Return a sentence if the first contestant has more parameters than the claim allows it, or an empty string."""
    if test.size is None:
        return ""
    first, second = (_parameters(name, test.tasks, results) for name in test.contestants())
    if not first or not second or first <= (1 + SLACK) * test.size * second:
        return ""
    names = test.contestants()
    return (
        f"{names[0]} trains {first / second:.2g} times the parameters of {names[1]}, but the claim is about at most "
        f"{test.size:.2g} of them"
    )


def _parameters(contestant: str, tasks: Sequence[str], results: Results) -> float:
    """Return the mean number of trained parameters of a contestant's reported runs; 0 without any."""
    counts = [
        outcome.parameters
        for task in tasks
        if (contestant, task) in results.contests
        for _, outcome in results.contests[contestant, task].reported.values()
        if outcome.status == "ok"
    ]
    return sum(counts) / len(counts) if counts else 0.0


def _trials(results: Results, contestants: Sequence[str], task: str, seed: int) -> tuple[str, ...]:
    """Return the ids of the trials behind a number: the runs of its seed, or the first rung for a whole task's number."""
    ids = []
    for contestant in contestants:
        contest = results.contests[contestant, task]
        runs = [contest.reported[seed]] if seed in contest.reported else list(contest.first.values())
        ids += [trial.id for trial, _ in runs]
    return tuple(ids)
