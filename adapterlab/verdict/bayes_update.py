"""Update the credences of claims from the results of contests, by Bayes factors with a stated relevance.

>>> round(update(0.5, factor=9.0, weight=1.0), 2), round(update(0.5, factor=9.0, weight=0.5), 2), update(1.0, 9.0, 1.0)
(0.9, 0.75, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapterlab import argmap
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import LOSS, METRICS, Key, Results
from adapterlab.lab.analysis.statistics import Paired, bayes_factor_positive, bayes_factor_within, equivalence
from adapterlab.verdict.claims import Better, Equivalent, Reaches, Test, read_test

SEMANTICS = ("quadratic-energy", "df-quad", "log-odds")
"""Semantics by which a map is scored."""
DEFAULT_SEMANTICS = SEMANTICS[0]
"""Semantics of the headline number."""
MIN_PAIRS = 2
"""Pairs of runs that a verdict needs."""


def relevance(parameters: int) -> float:
    """Return the weight of contests on a model of this size for claims about larger ones, from 0 to 1.

    A stated convention: 0 at a million parameters, 1 at ten thousand million, linear in the logarithm between. It is the
    exponent on the Bayes factor, as in a power prior (Ibrahim and Chen 2000).

    Args:
        parameters: Number of parameters of the model that the contests were run on.
    """
    return min(1.0, max(0.0, (math.log10(parameters) - 6) / 4))


@dataclass(frozen=True)
class Pair:
    """One paired difference; positive supports the claim."""

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
    """Mean paired difference; positive supports the claim, except for a claim of equivalence, which zero supports."""
    bayes_factor: float = 1.0
    """Bayes factor for the claim against its opposite."""
    same: float | None = None
    """For a claim of equivalence, the p-value of two one-sided tests against its margin; else None."""
    relevance: float = 0.0
    """Exponent with which the Bayes factor counts."""
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
    """Exponent with which the Bayes factors count."""
    theses: tuple[str, ...] = field(default=())
    """Titles of the map's theses."""

    @property
    def credences(self) -> dict[str, float]:
        """Updated credence of every claim that was tested."""
        return {verdict.claim: verdict.after for verdict in self.tested}

    @property
    def tested(self) -> list[Verdict]:
        """Verdicts on the claims that were tested."""
        return [verdict for verdict in self.verdicts if not verdict.untested]

    def thesis(self, title: str, semantics: str = DEFAULT_SEMANTICS) -> tuple[float, float]:
        """Return the credence of a thesis before and after.

        Args:
            title: Title of the thesis.
            semantics: One of `SEMANTICS`.
        """
        before, after = (scores[semantics].claims[title].credence for scores in (self.before, self.after))
        return before, after


def judge(the_map: argmap.Map, effects: Effects, parameters: int) -> Judgement:
    """Test every claim that states a test, update its credence, and score the map again.

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
    verdicts = []
    for title, data in the_map.tests.items():
        credence = the_map.claims[title].credence
        if credence is not None:
            verdicts.append(judge_claim(title, read_test(title, data), credence, effects, weight))
    moved = {verdict.claim: verdict.after for verdict in verdicts if not verdict.untested}
    return Judgement(
        the_map,
        tuple(verdicts),
        {name: argmap.score(the_map, name) for name in SEMANTICS},
        {name: argmap.score(the_map, name, moved) for name in SEMANTICS},
        weight,
        tuple(the_map.theses),
    )


def judge_claim(claim: str, test: Test, credence: float, effects: Effects, weight: float) -> Verdict:
    """Return the verdict on one claim.

    Args:
        claim: Title of the claim.
        test: Its test.
        credence: Its credence stated in the map.
        effects: Effects estimated from finished contests.
        weight: Exponent on the Bayes factor, from 0 to 1.
    """
    missing = _missing(test, effects.results)
    differences, effect = ({}, None) if missing else _test_effect(test, effects)
    if effect is None:
        missing = missing or f"this study did not measure {METRICS[test.metric].title}"
    elif len(differences) < MIN_PAIRS:
        missing = f"only {len(differences)} pair of runs to compare"
    if missing or effect is None:
        return Verdict(claim, test, credence, credence, untested=missing)
    same = None
    if isinstance(test, Equivalent):
        factor, same = bayes_factor_within(effect, test.within), equivalence(effect, test.within)
    else:
        factor = bayes_factor_positive(effect)
    pairs = tuple(
        Pair(task, seed, difference, _trials(effects.results, test.contestants(), task, seed))
        for (task, seed), difference in sorted(differences.items())
    )
    return Verdict(
        claim, test, credence, update(credence, factor, weight), pairs, effect, factor, same, relevance=weight
    )


def update(credence: float, factor: float, weight: float) -> float:
    """Return a credence after evidence; a credence of exactly 0 or 1 does not move.

    Args:
        credence: Credence before, from 0 to 1.
        factor: Bayes factor of the evidence.
        weight: Exponent on the Bayes factor, from 0 to 1.
    """
    if credence in (0.0, 1.0):
        return credence
    odds: float = credence / (1 - credence) * factor**weight
    return odds / (1 + odds)


def _missing(test: Test, results: Results) -> str:
    """Return why the study cannot test a claim, or an empty string."""
    absent = [name for name in test.contestants() if name not in results.contestants]
    if absent:
        return f"{' and '.join(absent)} did not run in this study"
    tasks = [task for task in test.tasks if task not in results.study.tasks]
    if tasks:
        return f"this study does not include {' and '.join(tasks)}"
    if METRICS[test.metric].unit == LOSS and len({results.resolved.unit(name) for name in test.tasks}) > 1:
        return f"the losses of {' and '.join(test.tasks)} have different units"
    return ""


def _test_effect(test: Test, effects: Effects) -> tuple[Mapping[Key, float], Paired | None]:
    """Return the differences that a test is about, and their mean; None for a metric that was not measured."""
    a, b = test.contestants()
    if isinstance(test, Better):
        differences = {k: d - test.by for k, d in effects.differences(a, b, test.metric, test.tasks).items()}
    elif isinstance(test, Reaches):
        differences = effects.surplus((a, test.metric), (b, test.metric), test.reaches, test.tasks)
    else:
        differences = effects.differences(a, b, test.metric, test.tasks)
    measured = any(effects.values(name, test.metric, test.tasks) for name in (a, b))
    return differences, effects.over_tasks(differences, (a, b), test.metric) if measured else None


def _trials(results: Results, contestants: Sequence[str], task: str, seed: int) -> tuple[str, ...]:
    """Return the ids of the trials behind a number: the runs of its seed, or the first rung for a whole task's number."""
    ids = []
    for contestant in contestants:
        contest = results.contests[contestant, task]
        runs = [contest.reported[seed]] if seed in contest.reported else list(contest.first.values())
        ids += [trial.id for trial, _ in runs]
    return tuple(ids)
