"""Scores of forecasts: Brier and log score with standard errors, skill, and calibration.

All means are weighted by `Outcome.weight`, so that a contest that decides several claims counts once; the sum of the
weights is the effective number of claims, by which errors are computed.

>>> from adapterlab.verdict.resolution import Outcome
>>> outcomes = [Outcome("C", True, 0.8, None, frozenset("a")), Outcome("D", False, 0.4, None, frozenset("b"))]
>>> found = score_forecasts({"C": 0.8, "D": 0.4}, outcomes)
>>> round(found.brier.mean, 3), round(found.brier.error, 3), round(found.skill, 2)
(0.1, 0.06, 0.6)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from adapterlab.verdict.resolution import Forecaster, Outcome, forecasters, headlines, papers, weighted

BINS = 5
"""Bins of equal width between 0 and 1 in the calibration table."""
FEW = 10
"""Effective number of claims below which scores say little."""


@dataclass(frozen=True)
class Mean:
    """A weighted mean with its standard error."""

    mean: float
    error: float
    """Not a number for an effective number of one or less."""


@dataclass(frozen=True)
class Bin:
    """Forecasts of about one size."""

    low: float
    high: float
    claims: int
    effective: float
    """Effective number of claims."""
    forecast: float
    """Mean forecast."""
    true: float
    """Share of claims that turned out true."""
    interval: tuple[float, float]
    """95 % interval of that share (Clopper and Pearson 1934), by the effective number."""


@dataclass(frozen=True)
class Scores:
    """Scores of one forecaster."""

    claims: int
    effective: float
    """Effective number of claims."""
    brier: Mean
    """Mean squared difference of forecast and truth (Brier 1950): 0 is best, a forecast of one half has 0.25."""
    log: Mean
    """Mean negative logarithm of the probability of what turned out, in nats; a forecast of one half has 0.69."""
    base_rate: float
    """Share of these claims that turned out true."""
    skill: float
    """1 - Brier score / that of a constant forecast of the base rate; not a number if all turned out true, or all false."""
    bins: tuple[Bin, ...]
    """Calibration; bins without forecasts are left out."""


@dataclass(frozen=True)
class Row:
    """One forecaster beside the first."""

    forecaster: Forecaster
    scores: Scores
    versus: Mean | None
    """Brier score less that of the first forecaster on the same claims; None for the first."""


@dataclass(frozen=True)
class Paper:
    """Headline of one paper."""

    name: str
    """Identifier on arXiv."""
    claims: tuple[str, ...]
    """Resolved claims that it is about."""
    true: int
    """Number of them that turned out as it says."""


def compare_forecasters(outcomes: Sequence[Outcome]) -> list[Row]:
    """Score the forecasters of resolved claims.

    Args:
        outcomes: Resolved claims.

    Returns:
        A row for each forecaster that has a forecast of any of them, the map itself first.
    """
    found = forecasters(outcomes)
    rows = [Row(one, score_forecasts(one.forecasts, outcomes), None) for one in found]
    return rows[:1] + [
        Row(row.forecaster, row.scores, _difference(row.forecaster, found[0], outcomes)) for row in rows[1:]
    ]


def score_forecasts(forecasts: Mapping[str, float], outcomes: Sequence[Outcome]) -> Scores:
    """Score forecasts of claims.

    Args:
        forecasts: By title of the claim, its probability.
        outcomes: Resolved claims; those without a forecast are left out. At least one must have a forecast.

    Returns:
        The scores.
    """
    kept = weighted([outcome for outcome in outcomes if outcome.claim in forecasts])
    p = np.array([forecasts[outcome.claim] for outcome in kept])
    true = np.array([float(outcome.true) for outcome in kept])
    weights = np.array([outcome.weight for outcome in kept])
    brier = _mean((p - true) ** 2, weights)
    with np.errstate(divide="ignore"):
        log = _mean(-np.log(np.where(true == 1, p, 1 - p)), weights)
    base = float(np.average(true, weights=weights))
    constant = base * (1 - base)
    skill = 1 - brier.mean / constant if constant > 0 else math.nan
    return Scores(len(kept), float(weights.sum()), brier, log, base, skill, tuple(_bins(p, true, weights)))


def by_paper(outcomes: Sequence[Outcome]) -> list[Paper]:
    """Return the papers whose headlines are about resolved claims.

    Args:
        outcomes: Resolved claims.

    Returns:
        The papers, those with the most claims first.
    """
    grouped: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.claim in papers():
            grouped.setdefault(papers()[outcome.claim], []).append(outcome)
    found = [
        Paper(name, tuple(o.claim for o in some), sum(o.true == (headlines()[o.claim] > 0.5) for o in some))
        for name, some in grouped.items()
    ]
    return sorted(found, key=lambda paper: (-len(paper.claims), paper.name))


def _difference(one: Forecaster, other: Forecaster, outcomes: Sequence[Outcome]) -> Mean:
    kept = weighted([o for o in outcomes if o.claim in one.forecasts and o.claim in other.forecasts])
    squares = [(one.forecasts[o.claim] - o.true) ** 2 - (other.forecasts[o.claim] - o.true) ** 2 for o in kept]
    return _mean(np.array(squares), np.array([o.weight for o in kept]))


def _mean(values: np.ndarray, weights: np.ndarray) -> Mean:
    count = float(weights.sum())
    mean = float(np.average(values, weights=weights))
    if count <= 1 + 1e-9 or not math.isfinite(mean):
        return Mean(mean, math.nan)
    return Mean(mean, math.sqrt(float(weights @ (values - mean) ** 2) / (count - 1) / count))


def _bins(p: np.ndarray, true: np.ndarray, weights: np.ndarray) -> list[Bin]:
    at = np.minimum((p * BINS).astype(int), BINS - 1)
    found = []
    for i in sorted(set(at.tolist())):
        some = at == i
        count = float(weights[some].sum())
        successes = float(weights[some] @ true[some])
        low, high = proportion_confint(successes, count, alpha=0.05, method="beta")
        found.append(
            Bin(
                i / BINS,
                (i + 1) / BINS,
                int(some.sum()),
                count,
                float(np.average(p[some], weights=weights[some])),
                successes / count,
                (float(low), float(high)),
            )
        )
    return found
