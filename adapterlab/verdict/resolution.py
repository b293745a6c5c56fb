"""Claims that contests have resolved, and forecasts of them by several forecasters.

A claim is resolved by the contest alone, without its credence: as true if the Bayes factor, at full relevance, is at least
`RESOLVED`, as false if it is at most one over that. Other claims are open.

Claims that share runs are not independent. Each counts 1 / (1 + the sum of its dependences on the others), where the
dependence of two claims is the share of their runs that they have in common, or 1 for the same claim in two studies. The
sum of these weights is the effective number of claims: a contest that decides three claims counts as one.

>>> data = {"claim": "C", "bayes_factor": 40.0, "before": 0.3, "pairs": [{"trials": ["a", "b"]}]}
>>> one, two = outcomes_of([data, {**data, "claim": "D", "bayes_factor": 0.01}])
>>> one.true, two.true, one.weight
(True, False, 0.5)
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError

RESOLVED = 10.0
"""Bayes factor of a claim that counts as resolved: strong evidence in the words of Jeffreys (1961)."""
HEADLINE = 0.9
"""Credence that a paper's own headline stands for, a stated convention."""


@dataclass(frozen=True)
class Outcome:
    """A claim that a contest has resolved."""

    claim: str
    true: bool
    stated: float
    """Credence stated in the map."""
    inferred: float | None
    """Credence that the whole map gave it before the contests; None if the map is not scored by `bayes`."""
    runs: frozenset[str]
    """Ids of the trials that decided it."""
    weight: float = field(default=1.0, compare=False)
    """Its share of the effective number of claims."""


@dataclass(frozen=True)
class Resolution:
    """Resolved claims of one or more studies."""

    outcomes: tuple[Outcome, ...]
    open: tuple[str, ...]
    """Claims that were tested and are not resolved."""
    unlocked: tuple[str, ...] = ()
    """Studies whose claims were not locked before their first trial, or changed since."""

    @property
    def effective(self) -> float:
        """Effective number of resolved claims."""
        return sum(outcome.weight for outcome in self.outcomes)


def resolution_of(claims: Sequence[Mapping[str, Any]], unlocked: Sequence[str] = ()) -> Resolution:
    """Return the resolved and the open claims.

    Args:
        claims: Tested and other claims, as `verdict.json` has them.
        unlocked: Studies among theirs whose claims were not locked.
    """
    factors = [(claim["claim"], claim.get("bayes_factor")) for claim in claims]
    still = tuple(title for title, factor in factors if factor is not None and not is_resolved(factor))
    return Resolution(tuple(outcomes_of(claims)), still, tuple(unlocked))


def outcomes_of(claims: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """Return the claims that contests have resolved.

    Args:
        claims: Tested and other claims, as `verdict.json` has them.

    Returns:
        The resolved ones, with their weights.
    """
    found = [
        Outcome(
            claim["claim"],
            claim["bayes_factor"] > 1,
            float(claim["before"]),
            claim.get("inferred"),
            frozenset(
                trial for part in claim.get("parts", [claim]) for pair in part["pairs"] for trial in pair["trials"]
            ),
        )
        for claim in claims
        if is_resolved(claim.get("bayes_factor"))
    ]
    return weighted(found)


def is_resolved(factor: float | None) -> bool:
    """Return True if a Bayes factor resolves a claim.

    Args:
        factor: The Bayes factor; None for a claim that was not tested.
    """
    return factor is not None and (factor >= RESOLVED or factor <= 1 / RESOLVED)


def weighted(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes with weights by what they share.

    Args:
        outcomes: Outcomes of one or more studies.
    """
    return [
        replace(one, weight=1 / (1 + sum(_dependence(one, other) for other in outcomes if other is not one)))
        for one in outcomes
    ]


def _dependence(one: Outcome, other: Outcome) -> float:
    if one.claim == other.claim:
        return 1.0
    together = one.runs | other.runs
    return len(one.runs & other.runs) / len(together) if together else 0.0


def read_resolution(paths: Sequence[Path]) -> Resolution:
    """Read the resolved claims of studies.

    Args:
        paths: Files `verdict.json`, or the folders that hold one.

    Returns:
        All of them, with weights over all studies.

    Raises:
        AdapterlabError: If a file cannot be read, or its study tested no map.
    """
    claims: list[Mapping[str, Any]] = []
    unlocked = []
    for path in paths:
        file = path / "verdict.json" if path.is_dir() else path
        try:
            data = json.loads(file.read_text("utf-8"))
            found = data["claims"]
            outcomes_of(found)
            kept, study = data.get("lock", {}).get("kept", False), str(data["study"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AdapterlabError(f"{path} is not the verdict.json of a study with a map: {error}") from error
        claims += found
        unlocked += [] if kept else [study]
    return resolution_of(claims, unlocked)


@dataclass(frozen=True)
class Forecaster:
    """Someone who said beforehand how likely claims are."""

    name: str
    source: str
    """Origin of the numbers, in words."""
    forecasts: Mapping[str, float]
    """By title of the claim."""


def forecasters(outcomes: Sequence[Outcome]) -> list[Forecaster]:
    """Return the forecasters that are compared.

    Args:
        outcomes: Resolved claims, whose forecasts in the map they carry.

    Returns:
        The map by its stated credences; the map by all that it states; the survey's map; and the papers' headlines.
    """
    inferred = {outcome.claim: outcome.inferred for outcome in outcomes if outcome.inferred is not None}
    found = [
        Forecaster("map", "credences stated in the map", {outcome.claim: outcome.stated for outcome in outcomes}),
        Forecaster("map, inferred", "the map's credences given all that it states", inferred),
        Forecaster("survey", "credences of the survey's map", survey()),
        Forecaster("headlines", f"each paper's own headline, at {HEADLINE:g}", headlines()),
    ]
    return [forecaster for forecaster in found if any(o.claim in forecaster.forecasts for o in outcomes)]


@cache
def survey() -> dict[str, float]:
    """Return the credences of the survey's map for the claims of the built-in map, by title."""
    return {row["claim"]: _meant(float(row["credence"]), row) for row in _rows("survey.csv")}


@cache
def headlines() -> dict[str, float]:
    """Return the credence that each claim has if the headline of the paper behind it is taken as a forecast, by title."""
    return {row["claim"]: _meant(HEADLINE, row) for row in _rows("headlines.csv")}


@cache
def papers() -> dict[str, str]:
    """Return the paper whose headline is about each claim, by title: its identifier on arXiv."""
    return {row["claim"]: row["paper"] for row in _rows("headlines.csv")}


def _meant(credence: float, row: Mapping[str, str]) -> float:
    return round(1 - credence if row["says"] == "not" else credence, 10)


def _rows(name: str) -> list[dict[str, str]]:
    text = files("adapterlab.verdict").joinpath("forecasts", name).read_text("utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
