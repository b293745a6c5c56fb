"""Scores of forecasts as tables on a terminal of 80 columns, and as plain data.

>>> from adapterlab.verdict.resolution import Outcome, Resolution
>>> outcomes = (Outcome("C", True, 0.8, None, frozenset("a")), Outcome("D", False, 0.4, None, frozenset("b")))
>>> print(summary(Resolution(outcomes, ("E",))))
2 claims are resolved, 1 as true; 1 was tested and is open. Claims that share runs count as 2.0 independent ones: so few
that the scores say little; ± is a standard error.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from adapterlab.report.plain import add_plain_row, plain
from adapterlab.verdict.forecast_scores import FEW, Mean, Row, by_paper, compare_forecasters
from adapterlab.verdict.resolution import HEADLINE, RESOLVED, Resolution

RULE = (
    f"Resolved: the contest alone, at full relevance, has a Bayes factor of at least {RESOLVED:g} for the claim (true) or "
    "against it (false). It speaks of models of this size."
)
"""Definition of a resolved claim, in words."""
LEGEND = (
    "Brier: mean squared error, 0 is best, always saying one half has 0.25. log: nats, one half has 0.69. skill: 1 - Brier "
    "score / that of the base rate, known afterwards. vs map: Brier score less the map's, on the same claims. "
    f"headlines: each paper's own claim, read as a forecast of {HEADLINE:g} (a convention)."
)
"""Explanation of the table of scores."""


def show_forecasts(resolution: Resolution, console: Console) -> None:
    """Print the scores of all forecasters and the calibration of each.

    Args:
        resolution: The resolved claims.
        console: Where to print.
    """
    console.print(plain(f"{summary(resolution)} {RULE}"), highlight=False)
    for text in warnings(resolution):
        console.print(plain(text), style="yellow", highlight=False)
    if not resolution.outcomes:
        return
    rows = compare_forecasters(resolution.outcomes)
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("forecaster", no_wrap=True)
    for heading in ("claims", "Brier", "skill", "log", "vs map"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        add_plain_row(table, row.forecaster.name, *cells(row))
    console.print()
    console.print(table)
    console.print(plain(LEGEND), style="dim", highlight=False)
    for row in rows:
        console.print()
        console.print(_calibration(row))
    console.print("[dim]effective: claims that share runs counted once; interval: 95 %, exact binomial[/dim]")
    papers = [f"{paper.name} {paper.true} of {len(paper.claims)}" for paper in by_paper(resolution.outcomes)]
    if papers:
        console.print(plain(f"\nHeadlines that held, by paper on arXiv: {', '.join(papers)}."), highlight=False)


def summary(resolution: Resolution) -> str:
    """Return the number of resolved claims in words.

    Args:
        resolution: The resolved claims.
    """
    outcomes, left = resolution.outcomes, len(resolution.open)
    waiting = f"{left} {'was' if left == 1 else 'were'} tested and {'is' if left == 1 else 'are'} open."
    if not outcomes:
        return f"No claim is resolved; {waiting}"
    true = sum(outcome.true for outcome in outcomes)
    verb = "claim is" if len(outcomes) == 1 else "claims are"
    few = ": so few that the scores say little; ± is a standard error" if resolution.effective < FEW else ""
    return (
        f"{len(outcomes)} {verb} resolved, {true} as true; {waiting} Claims that share runs count as "
        f"{resolution.effective:.1f} independent ones{few}."
    )


def warnings(resolution: Resolution) -> list[str]:
    """Return sentences about studies whose claims were not locked, and claims that were resolved both ways.

    Args:
        resolution: The resolved claims.
    """
    ways: dict[str, set[bool]] = {}
    for outcome in resolution.outcomes:
        ways.setdefault(outcome.claim, set()).add(outcome.true)
    both = [f"[{claim}]" for claim, found in ways.items() if len(found) > 1]
    unlocked = ", ".join(dict.fromkeys(resolution.unlocked))
    return [
        *(
            [f"Not locked before the first trial, or changed since: {unlocked}. These are no forecasts."]
            * bool(unlocked)
        ),
        *([f"Studies disagree, so both outcomes count: {', '.join(both)}."] * bool(both)),
    ]


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """Return claims, Brier score, skill, log score and difference from the map, as text.

    Args:
        row: A forecaster.
    """
    scores = row.scores
    skill = f"{scores.skill:+.2f}" if math.isfinite(scores.skill) else "-"
    return (
        str(scores.claims),
        _mean(scores.brier),
        skill,
        _mean(scores.log),
        "" if row.versus is None else _mean(row.versus, "+"),
    )


def forecasts_to_json(resolution: Resolution) -> dict[str, Any]:
    """Return resolved claims and scores as plain data; numbers that are not finite are null.

    Args:
        resolution: The resolved claims.

    Returns:
        `rule`, `resolved`, `open`, `unlocked`, `effective`, `forecasters` and `papers`.
    """
    rows = compare_forecasters(resolution.outcomes) if resolution.outcomes else []
    found: dict[str, Any] = _finite(
        {
            "rule": RULE,
            "resolved": [
                {
                    "claim": o.claim,
                    "true": o.true,
                    "weight": o.weight,
                    "forecasts": {
                        row.forecaster.name: row.forecaster.forecasts[o.claim]
                        for row in rows
                        if o.claim in row.forecaster.forecasts
                    },
                }
                for o in resolution.outcomes
            ],
            "open": list(resolution.open),
            "unlocked": list(resolution.unlocked),
            "effective": resolution.effective,
            "forecasters": [
                {
                    "name": row.forecaster.name,
                    "source": row.forecaster.source,
                    **asdict(row.scores),
                    "versus_map": None if row.versus is None else asdict(row.versus),
                }
                for row in rows
            ],
            "papers": [asdict(paper) for paper in by_paper(resolution.outcomes)],
        }
    )
    return found


def _calibration(row: Row) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column(f"{row.forecaster.name}: forecasts", no_wrap=True, min_width=26)
    for heading in ("claims", "effective", "mean", "true", "interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in row.scores.bins:
        low, high = part.interval
        numbers = (f"{part.effective:.1f}", f"{part.forecast:.2f}", f"{part.true:.2f}", f"{low:.2f} to {high:.2f}")
        add_plain_row(table, f"{part.low:.1f} to {part.high:.1f}", str(part.claims), *numbers)
    return table


def _mean(found: Mean, sign: str = "") -> str:
    error = f" ± {found.error:.3f}" if math.isfinite(found.error) else ""
    return f"{found.mean:{sign}.3f}{error}" if math.isfinite(found.mean) else "infinite"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
