"""Update the credences of a map's claims from contests and geometry tests, and score the map again.

>>> geometry_key("DoRA Beats LoRA")
'DoRA Beats LoRA, by geometry'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapterlab import argmap
from adapterlab.argmap.scoring.semantics import BAYES, DEFAULT, default_semantics
from adapterlab.evidence.cells import Cell
from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.claim_verdict import Verdict, judge_claim
from adapterlab.verdict.claims import BY_GEOMETRY
from adapterlab.verdict.combine import Combined, factors
from adapterlab.verdict.counted import counted_sources
from adapterlab.verdict.geometry_statements import judge_geometry
from adapterlab.verdict.joint_update import Updated, update_together
from adapterlab.verdict.measured import MeasuredStudy
from adapterlab.verdict.pool import Pooled, pool

GRADUAL = ("quadratic-energy", "df-quad", "log-odds")
"""Semantics by which a map is scored besides `bayes`, for comparison."""


@dataclass(frozen=True)
class Judgement:
    """A map before and after the contests."""

    map: argmap.Map
    verdicts: tuple[Verdict, ...]
    """One for each claim with a test: that of its contest, or of its geometry test if no contest tested it."""
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
    geometry: tuple[Verdict, ...] = ()
    """Verdicts of the geometry tests, with the credence that each claim has after all of its tests."""

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

    A claim with a contest and a geometry test is moved by both, as far as they do not share trials.

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
    study, contestants = MeasuredStudy(effects, cells), effects.results.contestants
    tasks = effects.results.study.tasks
    tests = {title: test.in_study(tasks) for title, test in read_tests(the_map, contestants).items()}
    by_geometry = {title: test.in_study(tasks) for title, test in read_tests(the_map, contestants, BY_GEOMETRY).items()}
    titles = [title for title in the_map.claims if title in tests or title in by_geometry]
    stated = {title: credence for title in titles if (credence := the_map.claims[title].credence) is not None}
    found = {title: judge_claim(title, tests[title], stated[title], study) for title in stated if title in tests}
    seen = {
        title: judge_geometry(title, by_geometry[title], stated[title], study)
        for title in stated
        if title in by_geometry
    }
    keyed = found | {geometry_key(title): verdict for title, verdict in seen.items()}
    regions = {key: verdict.regions for key, verdict in keyed.items() if not verdict.untested}
    credences = {key: verdict.before for key, verdict in keyed.items()}
    updated, *others = update_together(regions, credences, effects, [relevance, *grid])
    counted = counted_sources(the_map)
    pooled = {
        title: one
        for title in found
        if (one := pool(title, tests[title], found[title], effects, elsewhere, counted, relevance)) is not None
    }

    def at(changes: Mapping[str, Updated]) -> Combined:
        contests, tests = _moved(found, changes, str, relevance), _moved(seen, changes, geometry_key, relevance)
        return Combined.of(contests, tests, pooled)

    here = at(updated)
    verdicts = here.of_claims(titles)
    moved = {verdict.claim: verdict.after for verdict in verdicts if verdict.after != verdict.before}
    before = {name: argmap.score(the_map, name) for name in GRADUAL}
    after = {name: argmap.score(the_map, name, moved) for name in GRADUAL}
    semantics, curve = default_semantics(the_map), []
    if semantics == BAYES:
        scored = argmap.score(the_map, BAYES), argmap.score(the_map, BAYES, factors=factors(here.findings))
        if scored[0].semantics == BAYES:
            before, after = {BAYES: scored[0], **before}, {BAYES: scored[1], **after}
            curve = [
                (place, argmap.score(the_map, BAYES, factors=factors(at(changes).findings)))
                for place, changes in zip(grid, others, strict=True)
            ]
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
        here.of_geometry,
    )


def geometry_key(title: str) -> str:
    """Return the name under which the geometry test of a claim is updated together with all contests.

    Args:
        title: Title of the claim.
    """
    return f"{title}, by geometry"


def _moved(
    verdicts: Mapping[str, Verdict], changes: Mapping[str, Updated], key: Callable[[str], str], relevance: float
) -> dict[str, Verdict]:
    """Return verdicts with the credence and the Bayes factor of the joint update, those of untested claims as they are."""
    found = dict(verdicts)
    for title, verdict in verdicts.items():
        change = changes.get(key(title))
        if change is not None:
            found[title] = replace(verdict, after=change.after, bayes_factor=change.factor, relevance=relevance)
    return found
