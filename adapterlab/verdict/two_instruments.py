"""Contest and geometry test of a claim side by side, and what their disagreement means.

A contest mixes what an adapter can represent with what an optimizer reaches; a projection measures the first alone. So a
hypothesis that expresses a trained change well and wins no contest fails by optimization.

>>> read(Says.FALSE, Says.TRUE)
'It projects well and trains badly: the bet is about optimization, not representation.'
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.judge_map import Judgement

SUBSTANTIAL = 3.0
"""Bayes factor from which an instrument says something, substantial evidence in the words of Jeffreys (1961)."""


class Says(StrEnum):
    """Statement of an instrument about a claim."""

    TRUE = "holds"
    FALSE = "does not hold"
    OPEN = "open"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Beside:
    """A claim with its geometry test, and its contest if it has one."""

    claim: str
    contest: Verdict | None
    """Verdict of the contest; None if it has none that was tested."""
    geometry: Verdict

    @property
    def contest_says(self) -> Says:
        """Statement of the contest."""
        return _says(self.contest)

    @property
    def geometry_says(self) -> Says:
        """Statement of the geometry test."""
        return _says(self.geometry)

    @property
    def sentence(self) -> str:
        """Both in words."""
        return read(self.contest_says, self.geometry_says)

    @property
    def disagrees(self) -> bool:
        """True if one says that the claim holds, and the other that it does not."""
        return {self.contest_says, self.geometry_says} == {Says.TRUE, Says.FALSE}


def read(contest: Says, geometry: Says) -> str:
    """Return what the verdicts of both instruments mean together.

    Args:
        contest: What the contest says.
        geometry: What the geometry test says.
    """
    if (contest, geometry) == (Says.FALSE, Says.TRUE):
        return "It projects well and trains badly: the bet is about optimization, not representation."
    if (contest, geometry) == (Says.TRUE, Says.FALSE):
        return "It trains well and projects badly: the contest was won by optimization, not representation."
    if contest == geometry and contest in (Says.TRUE, Says.FALSE):
        return f"Both agree that it {geometry}."
    if geometry == Says.UNTESTED:
        return "The geometry was not tested."
    if contest == Says.UNTESTED:
        return "The geometry leaves it open." if geometry == Says.OPEN else f"By geometry alone it {geometry}."
    if geometry == Says.OPEN:
        return (
            "Both leave it open."
            if contest == Says.OPEN
            else f"By the contest it {contest}; the geometry leaves it open."
        )
    return f"By geometry it {geometry}; the contest leaves it open."


def beside(judgement: Judgement) -> tuple[Beside, ...]:
    """Return each claim that has a geometry test, with both verdicts.

    Args:
        judgement: The verdicts on a map.

    Returns:
        Claims that both instruments tested first, those that neither tested left out.
    """
    contests = {v.claim: v for v in judgement.verdicts if not v.untested}
    found = []
    for geometry in judgement.geometry:
        shown = contests.get(geometry.claim)
        contest = None if shown is None or shown.test == geometry.test else shown
        if contest is not None or not geometry.untested:
            found.append(Beside(geometry.claim, contest, geometry))
    return tuple(sorted(found, key=lambda each: (each.contest is None, bool(each.geometry.untested))))


def disagreements(judgement: Judgement) -> tuple[str, ...]:
    """Return a sentence for each claim on which contest and geometry disagree.

    Args:
        judgement: The verdicts on a map.
    """
    return tuple(f"[{each.claim}] {each.sentence}" for each in beside(judgement) if each.disagrees)


def _says(verdict: Verdict | None) -> Says:
    if verdict is None or verdict.untested:
        return Says.UNTESTED
    if verdict.bayes_factor >= SUBSTANTIAL:
        return Says.TRUE
    return Says.FALSE if verdict.bayes_factor <= 1 / SUBSTANTIAL else Says.OPEN
