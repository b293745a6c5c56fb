"""From a claim to a number: its contest read from the ledger, a Bayes factor, a stated relevance, the credence after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from adapterlab import argmap
from adapterlab.lab.analysis.effects import over_tasks
from adapterlab.lab.analysis.metrics import LOSS, METRICS, Results
from adapterlab.lab.analysis.statistics import Paired, bayes_factor_positive, bayes_factor_within, equivalence
from adapterlab.tasks import task
from adapterlab.verdict.claims import Better, Equivalent, Reaches, Test, read_test

SEMANTICS = ("quadratic-energy", "df-quad", "log-odds")
FEWEST_PAIRS = 2


def relevance(parameters: int) -> float:
    """How far contests on a model of this size speak for what the map is about, from 0 to 1.

    A convention, stated in the open: 0 at a million parameters, 1 at ten thousand million, linear in the logarithm
    between. It is the exponent on the Bayes factor, a power prior (Ibrahim and Chen 2000) for evidence from elsewhere.
    """
    return min(1.0, max(0.0, (math.log10(parameters) - 6) / 4))


@dataclass(frozen=True)
class Pair:
    """One paired difference: positive speaks for the claim."""

    task: str
    seed: int
    difference: float
    trials: tuple[str, ...]
    """The names of the trials that it was computed from."""


@dataclass(frozen=True)
class Verdict:
    """What the contests say of one claim."""

    claim: str
    test: Test
    before: float
    """The credence stated in the map."""
    after: float
    pairs: tuple[Pair, ...] = ()
    effect: Paired | None = None
    """Of the differences; positive speaks for the claim, but for equivalence, where zero does."""
    bayes_factor: float = 1.0
    same: float | None = None
    """Of a claim of equivalence, the p-value of two one-sided tests against a difference as large as its margin."""
    relevance: float = 0.0
    untested: str = ""
    """Why there is no verdict, if there is none."""


@dataclass(frozen=True)
class Judgement:
    """A map before and after the contests."""

    map: argmap.Map
    verdicts: tuple[Verdict, ...]
    before: dict[str, argmap.Scores]
    """By semantics."""
    after: dict[str, argmap.Scores]
    relevance: float
    theses: tuple[str, ...] = field(default=())

    @property
    def credences(self) -> dict[str, float]:
        """The credence after, of every claim that was tested."""
        return {v.claim: v.after for v in self.verdicts if not v.untested}


def judge(the_map: argmap.Map, results: Results, parameters: int) -> Judgement:
    """Read every claim's contest from `results`, move its credence, and score the map again.

    `parameters` is the size of the model that the contests were run on. Raises `AdapterlabError` for a test that says
    nothing that can be read.
    """
    weight = relevance(parameters)
    verdicts = []
    for title, data in the_map.tests.items():
        credence = the_map.claims[title].credence
        if credence is not None:
            verdicts.append(weigh(title, read_test(title, data), credence, results, weight))
    moved = {v.claim: v.after for v in verdicts if not v.untested}
    return Judgement(
        the_map,
        tuple(verdicts),
        {name: argmap.score(the_map, name) for name in SEMANTICS},
        {name: argmap.score(the_map, name, moved) for name in SEMANTICS},
        weight,
        tuple(the_map.theses),
    )


def weigh(claim: str, test: Test, credence: float, results: Results, weight: float) -> Verdict:
    """The verdict on one claim."""
    missing = _missing(test, results)
    pairs = () if missing else _pairs(test, results)
    if not missing and len(pairs) < FEWEST_PAIRS:
        missing = f"only {len(pairs)} pair of runs to compare"
    if missing:
        return Verdict(claim, test, credence, credence, untested=missing)
    numbers = {(pair.task, pair.seed): pair.difference for pair in pairs}
    effect = over_tasks(results, numbers, test.contestants(), test.metric)
    same = None
    if isinstance(test, Equivalent):
        factor, same = bayes_factor_within(effect, test.within), equivalence(effect, test.within)
    else:
        factor = bayes_factor_positive(effect)
    return Verdict(
        claim, test, credence, _updated(credence, factor, weight), pairs, effect, factor, same, relevance=weight
    )


def _updated(credence: float, factor: float, weight: float) -> float:
    if credence in (0.0, 1.0):
        return credence
    odds = credence / (1 - credence) * factor**weight
    return odds / (1 + odds)


def _missing(test: Test, results: Results) -> str:
    absent = [name for name in test.contestants() if name not in results.contestants]
    if absent:
        return f"{' and '.join(absent)} did not run in this study"
    tasks = [task for task in test.tasks if task not in results.study.tasks]
    if tasks:
        return f"{' and '.join(tasks)} was not in this study"
    if METRICS[test.metric].unit == LOSS and len({task(name).unit for name in test.tasks}) > 1:
        return f"the losses of {' and '.join(test.tasks)} have different units"
    measured = any(results.values(name, test.metric, test.tasks) for name in test.contestants())
    return "" if measured else f"this study did not measure {METRICS[test.metric].title}"


def _pairs(test: Test, results: Results) -> tuple[Pair, ...]:
    a, b = test.contestants()
    if isinstance(test, Better):
        differences = {k: d - test.by for k, d in results.differences(a, b, test.metric, test.tasks).items()}
    elif isinstance(test, Reaches):
        mine, theirs = (results.gains(name, test.metric, test.tasks) for name in (a, b))
        differences = {key: mine[key] - test.reaches * theirs[key] for key in mine if key in theirs}
    else:
        differences = results.differences(a, b, test.metric, test.tasks)
    return tuple(
        Pair(task, seed, difference, _trials(results, (a, b), task, seed))
        for (task, seed), difference in sorted(differences.items())
    )


def _trials(results: Results, contestants: Sequence[str], task: str, seed: int) -> tuple[str, ...]:
    """The trials behind a number: the runs of that seed, or the first round where a number is for a whole task."""
    names = []
    for contestant in contestants:
        contest = results.contests[contestant, task]
        runs = [contest.reported[seed]] if seed in contest.reported else list(contest.first.values())
        names += [trial.id for trial, _ in runs]
    return tuple(names)
