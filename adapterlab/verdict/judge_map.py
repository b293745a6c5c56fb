"""Update the credences of a map's claims from the results of contests, and score the map again.

>>> round(odds(0.75), 3)
3.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapterlab import argmap
from adapterlab.argmap.scoring.semantics import BAYES, DEFAULT, default_semantics
from adapterlab.evidence.cells import Cell
from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.claim_verdict import Verdict, judge_claim
from adapterlab.verdict.counted import counted_sources
from adapterlab.verdict.joint_update import update_together
from adapterlab.verdict.measured import MeasuredStudy
from adapterlab.verdict.pool import Pooled, pool

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
    """Correlation of the contests' results with what claims are about."""
    theses: tuple[str, ...] = field(default=())
    """Titles of the map's theses."""
    semantics: str = DEFAULT
    """Semantics of the headline number: `bayes` if the map states what its claims predict."""
    pooled: Mapping[str, Pooled] = field(default_factory=dict)
    """By claim, the evidence of other studies and published tables; claims without any are left out."""
    curve: tuple[tuple[float, argmap.Scores], ...] = ()
    """Relevances, and the scores that the map would have with them under `bayes`."""

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


def judge(
    the_map: argmap.Map,
    effects: Effects,
    relevance: float,
    cells: Cells | None = None,
    elsewhere: Sequence[Cell] = (),
    grid: Sequence[float] = (),
) -> Judgement:
    """Test every claim that states a test, update all credences together, and score the map again.

    Args:
        the_map: The map.
        effects: Effects estimated from finished contests.
        relevance: Correlation of the contests' results with what claims are about, from 0 to 1.
        cells: Effects at all cells of the study's sweep, for claims about a trend; None if they are not known.
        elsewhere: Results of other studies and published tables. Those whose source the map's settings name in `counted` (if
            they do not, the tables of the package) are in its credences already: they are shown, and move nothing.
        grid: Relevances for which the thesis is scored besides, for a map that is a Bayesian network.

    Returns:
        The verdicts, and the map's scores before and after.

    Raises:
        AdapterlabError: If a claim's test cannot be read.
        ValueError: If the relevance is not between 0 and 1.
    """
    if not 0 <= relevance <= 1:
        raise ValueError(f"a relevance is a correlation from 0 to 1, and not {relevance}")
    tasks = effects.results.study.tasks
    read = read_tests(the_map, effects.results.contestants)
    tests = {title: test.in_study(tasks) for title, test in read.items()}
    stated = {title: credence for title in tests if (credence := the_map.claims[title].credence) is not None}
    study = MeasuredStudy(effects, cells)
    found = {title: judge_claim(title, tests[title], credence, study) for title, credence in stated.items()}
    regions = {title: verdict.regions for title, verdict in found.items() if not verdict.untested}
    updated, *others = update_together(regions, stated, effects, [relevance, *grid])
    counted = counted_sources(the_map)
    pooled = {
        title: one
        for title in stated
        if (one := pool(title, tests[title], found[title], effects, elsewhere, counted, relevance)) is not None
    }
    for title, change in updated.items():
        found[title] = replace(found[title], after=change.after, bayes_factor=change.factor, relevance=relevance)
    for title, one in pooled.items():
        found[title] = replace(found[title], after=_multiplied(found[title].after, one.added))
    verdicts = tuple(found.values())
    moved = {verdict.claim: verdict.after for verdict in verdicts if verdict.after != verdict.before}
    before = {name: argmap.score(the_map, name) for name in GRADUAL}
    after = {name: argmap.score(the_map, name, moved) for name in GRADUAL}
    semantics, curve = default_semantics(the_map), []
    if semantics == BAYES:
        scored = argmap.score(the_map, BAYES), argmap.score(the_map, BAYES, factors=_factors(verdicts, pooled))
        if scored[0].semantics == BAYES:
            before, after = {BAYES: scored[0], **before}, {BAYES: scored[1], **after}
            for at, changes in zip(grid, others, strict=True):
                moves = {t: _multiplied(c.after, pooled[t].added if t in pooled else 1.0) for t, c in changes.items()}
                there = [replace(v, after=moves.get(v.claim, v.after)) for v in verdicts]
                curve.append((at, argmap.score(the_map, BAYES, factors=_factors(there, pooled))))
    return Judgement(
        the_map,
        verdicts,
        before,
        after,
        relevance,
        tuple(the_map.theses),
        semantics if semantics in before else DEFAULT,
        pooled,
        tuple(curve),
    )


def _multiplied(credence: float, factor: float) -> float:
    """Return a credence with its odds multiplied."""
    if not 0 < credence < 1 or factor == 1:
        return credence
    ratio = odds(credence) * factor
    return ratio / (1 + ratio)


def _factors(verdicts: Sequence[Verdict], pooled: Mapping[str, Pooled]) -> dict[str, argmap.BayesFactor]:
    """Return what the contests and new tables say of each claim, as evidence for a map that is a Bayesian network.

    Claims that share results depend on each other by the share of the results that they have in common, so that none counts
    twice: each has the weight 1 / (1 + the sum of these shares).
    """
    used = {verdict.claim: _results(verdict, pooled.get(verdict.claim)) for verdict in verdicts}
    found = {}
    for verdict in verdicts:
        own = used[verdict.claim]
        if not 0 < verdict.before < 1 or not own:
            continue
        shared = sum(len(own & other) / len(own | other) for other in used.values() if other) - 1.0  # without itself
        ratio = odds(verdict.after) / odds(verdict.before)
        found[verdict.claim] = argmap.BayesFactor(ratio, 1.0 / (1.0 + shared))
    return found


def _results(verdict: Verdict, pooled: Pooled | None) -> frozenset[str]:
    """Return ids of the results that moved a claim: trials, and cells of tables."""
    runs = {trial for pair in verdict.pairs for trial in pair.trials}
    if pooled is not None:
        runs |= {f"{e.source} {e.label} {e.task}" for e in pooled.others.effects if e.source in pooled.new}
    return frozenset(runs)


def odds(credence: float) -> float:
    """Return the odds of a credence between 0 and 1.

    Args:
        credence: The credence.
    """
    return credence / (1 - credence)
