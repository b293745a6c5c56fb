"""Update the credences of claims from the results of contests, with a stated relevance.

>>> relevance(10**6), relevance(10**8), relevance(10**10)
(0.0, 0.5, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapterlab import argmap
from adapterlab.argmap.scoring.semantics import BAYES, DEFAULT, default_semantics
from adapterlab.lab.analysis.contrast import difference, share_beyond
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import Region
from adapterlab.lab.analysis.metrics import ANSWERS, LOSS, METRICS, Results, smallest_difference
from adapterlab.lab.statistics import Paired, equivalence
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.claims import Equivalent, Reaches, Test
from adapterlab.verdict.joint_update import update_together
from adapterlab.verdict.wanted import Wanted

GRADUAL = ("quadratic-energy", "df-quad", "log-odds")
"""Semantics by which a map is scored besides `bayes`, for comparison."""
SLACK = 0.1
"""Share by which a contestant may exceed the size that a claim allows it: sizes come in steps."""
MIN_PAIRS = 2
"""Pairs of runs that a verdict needs."""


def relevance(parameters: int) -> float:
    """Return the weight of contests on a model of this size for claims about larger ones, from 0 to 1.

    A stated convention: 0 at a million parameters, 1 at ten thousand million, linear in the logarithm between. It is the
    exponent on the likelihood, as in a power prior (Ibrahim and Chen 2000).

    Args:
        parameters: Number of parameters of the model that the contests were run on.
    """
    return min(1.0, max(0.0, (math.log10(parameters) - 6) / 4))


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
    """Exponent with which the likelihood counts."""
    untested: str = ""
    """Reason why the claim was not tested; empty if it was."""


@dataclass(frozen=True)
class Judgement:
    """A map before and after the contests."""

    map: argmap.Map
    verdicts: tuple[Verdict, ...]
    before: Mapping[str, argmap.Scores]
    """By semantics, the scores with the stated credences."""
    after: Mapping[str, argmap.Scores]
    """By semantics, the scores with the updated credences."""
    relevance: float
    """Exponent with which the likelihood counts."""
    theses: tuple[str, ...] = field(default=())
    """Titles of the map's theses."""
    semantics: str = DEFAULT
    """Semantics of the headline number: `bayes` if the map states what its claims predict."""

    @property
    def credences(self) -> dict[str, float]:
        """Updated credence of every claim that was tested."""
        return {verdict.claim: verdict.after for verdict in self.tested}

    @property
    def tested(self) -> list[Verdict]:
        """Verdicts on the claims that were tested."""
        return [verdict for verdict in self.verdicts if not verdict.untested]

    def thesis(self, title: str, semantics: str | None = None) -> tuple[float, float]:
        """Return the credence of a thesis before and after.

        Args:
            title: Title of the thesis.
            semantics: A key of `before`; that of the headline if None.
        """
        name = semantics or self.semantics
        before, after = (scores[name].claims[title].credence for scores in (self.before, self.after))
        return before, after


def judge(the_map: argmap.Map, effects: Effects, parameters: int) -> Judgement:
    """Test every claim that states a test, update all credences together, and score the map again.

    Args:
        the_map: The map.
        effects: Effects estimated from finished contests.
        parameters: Number of parameters of the model that the contests were run on.

    Returns:
        The verdicts, and the map's scores before and after.

    Raises:
        AdapterlabError: If a claim's test cannot be read.
    """
    weight = relevance(parameters)
    tasks = effects.results.study.tasks
    read = read_tests(the_map, effects.results.contestants)
    tests = {title: test.in_study(tasks) for title, test in read.items()}
    stated = {title: credence for title in tests if (credence := the_map.claims[title].credence) is not None}
    found = {title: judge_claim(title, tests[title], credence, effects) for title, credence in stated.items()}
    regions = {title: _region(verdict.test, effects) for title, verdict in found.items() if not verdict.untested}
    updated = update_together(regions, stated, effects, weight)
    for title, change in updated.items():
        found[title] = replace(found[title], after=change.after, bayes_factor=change.factor, relevance=weight)
    moved = {title: change.after for title, change in updated.items()}
    before = {name: argmap.score(the_map, name) for name in GRADUAL}
    after = {name: argmap.score(the_map, name, moved) for name in GRADUAL}
    semantics = default_semantics(the_map)
    if semantics == BAYES:
        factors = _factors([found[title] for title in moved])
        scored = argmap.score(the_map, BAYES), argmap.score(the_map, BAYES, factors=factors)
        if scored[0].semantics == BAYES:
            before, after = {BAYES: scored[0], **before}, {BAYES: scored[1], **after}
    return Judgement(
        the_map,
        tuple(found.values()),
        before,
        after,
        weight,
        tuple(the_map.theses),
        semantics if semantics in before else DEFAULT,
    )


def _factors(verdicts: Sequence[Verdict]) -> dict[str, argmap.BayesFactor]:
    """Return what the contests say of each claim, as evidence for a map that is a Bayesian network.

    Claims that share runs depend on each other by the share of the runs that they have in common, so that no run counts
    twice: each has the weight 1 / (1 + the sum of these shares).
    """
    runs = [frozenset(trial for pair in verdict.pairs for trial in pair.trials) for verdict in verdicts]
    found = {}
    for own, verdict in zip(runs, verdicts, strict=True):
        if not 0 < verdict.before < 1:
            continue
        shared = sum(len(own & other) / len(own | other) for other in runs) - 1.0  # without itself
        ratio = odds(verdict.after) / odds(verdict.before)
        found[verdict.claim] = argmap.BayesFactor(ratio, 1.0 / (1.0 + shared))
    return found


def odds(credence: float) -> float:
    """Return the odds of a credence between 0 and 1.

    Args:
        credence: The credence.
    """
    return credence / (1 - credence)


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
    contrast = replace(_region(test, effects).contrast, minus=0.0)
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


def _region(test: Test, effects: Effects) -> Region:
    """Return the values for which a claim holds."""
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
