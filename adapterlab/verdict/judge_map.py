"""Update the credences of a map's claims from the results of contests, and score the map again.

>>> round(odds(0.75), 3)
3.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapterlab import argmap
from adapterlab.argmap.scoring.semantics import BAYES, DEFAULT, default_semantics
from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.claim_verdict import Verdict, judge_claim
from adapterlab.verdict.joint_update import update_together
from adapterlab.verdict.measured import MeasuredStudy
from adapterlab.verdict.relevance import relevance

GRADUAL = ("quadratic-energy", "df-quad", "log-odds")
"""Semantics by which a map is scored besides `bayes`, for comparison."""


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


def judge(the_map: argmap.Map, effects: Effects, parameters: int, cells: Cells | None = None) -> Judgement:
    """Test every claim that states a test, update all credences together, and score the map again.

    Args:
        the_map: The map.
        effects: Effects estimated from finished contests.
        parameters: Number of parameters of the model that the contests were run on.
        cells: Effects at all cells of the study's sweep, for claims about a trend; None if they are not known.

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
    study = MeasuredStudy(effects, cells)
    found = {title: judge_claim(title, tests[title], credence, study) for title, credence in stated.items()}
    regions = {title: verdict.regions for title, verdict in found.items() if not verdict.untested}
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
