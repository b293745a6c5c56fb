"""Combination of several findings about one claim, and about several claims, with shared trials counted once.

A contest and a geometry test of one claim are two findings, and so are tests of two claims. Findings from the same trials
are not independent: each has the weight 1 / (1 + the sum of the shares of trials that it has in common with others), so
that no trial counts twice.

>>> one, two = Finding("C", 4.0, frozenset({"a", "b"})), Finding("C", 9.0, frozenset({"a", "b"}))
>>> together(0.5, [one]), round(together(0.5, [one, two]), 4)  # from the same trials: odds of 6, not of 36
(0.8, 0.8571)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from adapterlab import argmap
from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.pool import Pooled


@dataclass(frozen=True)
class Finding:
    """Evidence of one test on a claim."""

    claim: str
    ratio: float
    """Factor by which it multiplies the odds of the claim."""
    results: frozenset[str]
    """Ids of the results that it was computed from: trials, and cells of tables."""


def finding(verdict: Verdict, pooled: Pooled | None = None) -> Finding | None:
    """Return what a verdict says of its claim.

    Args:
        verdict: The verdict, with its credence after this test and the tables alone.
        pooled: Evidence of tables on the claim that is part of it.

    Returns:
        The finding; None if nothing was found, or the claim is certain.
    """
    results = {trial for pair in verdict.pairs for trial in pair.trials}
    if pooled is not None:
        results |= {f"{e.source} {e.label} {e.task}" for e in pooled.others.effects if e.source in pooled.new}
    if not 0 < verdict.before < 1 or not results:
        return None
    return Finding(verdict.claim, odds(verdict.after) / odds(verdict.before), frozenset(results))


def together(credence: float, findings: Sequence[Finding]) -> float:
    """Return the credence of one claim after several findings.

    Args:
        credence: The credence before.
        findings: Findings about the claim.
    """
    if not 0 < credence < 1 or not findings:
        return credence
    total = sum(weight * math.log(one.ratio) for one, weight in zip(findings, _weights(findings), strict=True))
    ratio = odds(credence) * math.exp(total)
    return ratio / (1 + ratio)


def factors(findings: Iterable[Finding]) -> dict[str, argmap.BayesFactor]:
    """Return the evidence on each claim, for a map that is a Bayesian network.

    Args:
        findings: Findings about all claims.
    """
    known = list(findings)
    by_claim: dict[str, list[argmap.BayesFactor]] = defaultdict(list)
    for one, weight in zip(known, _weights(known), strict=True):
        by_claim[one.claim].append(argmap.BayesFactor(one.ratio, weight))
    return {
        claim: found[0]
        if len(found) == 1
        else argmap.BayesFactor(math.exp(sum(each.weight * math.log(each.ratio) for each in found)))
        for claim, found in by_claim.items()
    }


def _weights(findings: Sequence[Finding]) -> list[float]:
    shared = [
        sum(
            len(one.results & other.results) / len(one.results | other.results)
            for other in findings
            if other is not one
        )
        for one in findings
    ]
    return [1.0 / (1.0 + share) for share in shared]


@dataclass(frozen=True)
class Combined:
    """Verdicts by claim, each with the credence after its own test alone."""

    contests: Mapping[str, Verdict]
    """With what tables say besides."""
    geometry: Mapping[str, Verdict]
    pooled: Mapping[str, Pooled]

    @classmethod
    def of(
        cls, contests: Mapping[str, Verdict], geometry: Mapping[str, Verdict], pooled: Mapping[str, Pooled]
    ) -> Combined:
        """Return verdicts with the claims moved by the tables that are about them.

        Args:
            contests: By claim, the verdict of its contest.
            geometry: By claim, the verdict of its geometry test.
            pooled: By claim, the evidence of tables.

        Returns:
            The verdicts.
        """
        added = {title: pooled[title].added if title in pooled else 1.0 for title in contests}
        moved = {t: replace(verdict, after=_multiplied(verdict.after, added[t])) for t, verdict in contests.items()}
        return cls(moved, geometry, pooled)

    @property
    def findings(self) -> list[Finding]:
        """All findings, those about one claim one after the other."""
        return [one for title in {**self.contests, **self.geometry} for one in self.about(title)]

    def about(self, title: str) -> list[Finding]:
        """Return the findings about a claim.

        Args:
            title: Title of the claim.
        """
        found = [finding(self.contests[title], self.pooled.get(title))] if title in self.contests else []
        found += [finding(self.geometry[title])] if title in self.geometry else []
        return [one for one in found if one is not None]

    def of_claims(self, titles: Iterable[str]) -> tuple[Verdict, ...]:
        """Return one verdict for each claim: that of its contest, or of its geometry test if no contest tested it.

        Args:
            titles: Titles of the claims in order; those without a verdict are left out.
        """
        return tuple(self._settled(self._shown(t)) for t in titles if t in self.contests or t in self.geometry)

    @property
    def of_geometry(self) -> tuple[Verdict, ...]:
        """Verdicts of the geometry tests."""
        return tuple(map(self._settled, self.geometry.values()))

    def _shown(self, title: str) -> Verdict:
        contest, geometry = self.contests.get(title), self.geometry.get(title)
        if contest is None or (geometry is not None and contest.untested and not geometry.untested):
            return self.geometry[title]
        return contest

    def _settled(self, own: Verdict) -> Verdict:
        """Return a verdict with the credence of its claim after all tests."""
        if own.claim not in self.contests or own.claim not in self.geometry:
            return own
        findings = self.about(own.claim)
        return replace(own, after=together(own.before, findings)) if findings else own


def _multiplied(credence: float, factor: float) -> float:
    """Return a credence with its odds multiplied."""
    if not 0 < credence < 1 or factor == 1:
        return credence
    ratio = odds(credence) * factor
    return ratio / (1 + ratio)


def odds(credence: float) -> float:
    """Return the odds of a credence between 0 and 1.

    Args:
        credence: The credence.
    """
    return credence / (1 - credence)
