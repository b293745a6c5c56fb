"""A study's evidence on one claim beside that of other studies and published tables, apart and together.

>>> Pooled("A", OtherEvidence((), None, 1.0), None, 3.0, 3.0, ("lr-matters",), "").new
()
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from adapterlab.evidence.cells import Cell
from adapterlab.evidence.fit_carry import shipped_carry
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import METRICS, smallest_difference
from adapterlab.lab.statistics import Paired
from adapterlab.lab.statistics.carry import Place
from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.forms import Test
from adapterlab.verdict.other_evidence import (
    Effect,
    OtherEvidence,
    bayes_factor,
    is_about_a_difference,
    other_evidence,
)
from adapterlab.verdict.relevance import TARGET
from adapterlab.verdict.statements import region


@dataclass(frozen=True)
class Pooled:
    """Evidence on one claim from a study and from tables."""

    claim: str
    others: OtherEvidence
    """The tables' evidence, of all sources."""
    own: float | None
    """Bayes factor of the study alone, for the models that claims are about; None if it did not test the claim."""
    together: float
    """Bayes factor of the study and all tables."""
    added: float
    """Factor by which sources that the map's credences do not count yet multiply the odds, besides the study."""
    counted: tuple[str, ...]
    """Sources of the tables' evidence that the map's credences count already."""
    contradiction: str
    """Sentence about a contradiction between the study and the tables; empty without one."""
    mine: tuple[Effect, ...] = ()
    """The study's effect on each task, in units of the smallest difference that matters; none if it tested nothing."""

    @property
    def new(self) -> tuple[str, ...]:
        """Sources whose evidence is added."""
        return tuple(source for source in self.others.sources if source not in self.counted)


def pool(
    claim: str,
    test: Test,
    verdict: Verdict,
    effects: Effects,
    cells: Sequence[Cell],
    counted: Collection[str],
    relevance: float,
) -> Pooled | None:
    """Pool what a study and tables say of one claim.

    Args:
        claim: Title of the claim.
        test: Its test, with its contestants as the map names them.
        verdict: The verdict of the study alone.
        effects: Effects estimated from the study's contests.
        cells: Cells of tables of other studies.
        counted: Sources that the map's credences count already.
        relevance: Correlation of the study's results with what claims are about.

    Returns:
        The pooled evidence; None if no table has both contestants, or the claim is not about their difference.
    """
    if not is_about_a_difference(test):
        return None
    smallest = smallest_difference(METRICS[test.metric], effects.results)
    found = other_evidence(test, cells, smallest)
    if not found.effects:
        return None
    place = shipped_carry().at_correlation(relevance, TARGET)
    own = [] if verdict.untested else _own(verdict, effects, place, smallest)
    fresh = [effect for effect in found.effects if effect.source not in counted]
    alone = bayes_factor(test, own, smallest)
    return Pooled(
        claim,
        found,
        alone if own else None,
        bayes_factor(test, [*own, *found.effects], smallest),
        bayes_factor(test, [*own, *fresh], smallest) / alone if fresh else 1.0,
        tuple(source for source in found.sources if source in counted),
        _contradiction(verdict, found),
        tuple(own),
    )


def _own(verdict: Verdict, effects: Effects, place: Place, smallest: float) -> list[Effect]:
    """Return the study's effect on each task."""
    test = verdict.parts[0].test
    contrast = replace(region(test, effects).contrast, minus=0.0)
    by_task = effects.by_task(contrast, list(test.tasks))
    return [Effect(None, task, place, e.mean / smallest, _variance(e, smallest)) for task, e in by_task.items()]


def _variance(effect: Paired, smallest: float) -> float:
    if effect.df <= 0:
        return 1.0  # as in the joint posterior, an unknown error is the smallest difference that matters
    freedom = effect.df / (effect.df - 2) if effect.df > 2 else 3.0
    return max(effect.error**2 * freedom / smallest**2, 1 / 50**2)


def _contradiction(verdict: Verdict, others: OtherEvidence) -> str:
    if verdict.untested or verdict.effect is None or others.meta is None:
        return ""
    (low, high), own = others.meta.interval, verdict.effect
    first, second = verdict.test.contestants()
    if own.low > 0 > high:
        better, worse = first, second
    elif own.high < 0 < low:
        better, worse = second, first
    else:
        return ""
    return (
        f"they contradict each other: {better} is better than {worse} in this study, and worse in "
        f"{others.meta.studies} published comparisons of {' and '.join(others.sources)}"
    )
