"""What simulated studies find, as a table on the terminal."""

from __future__ import annotations

import itertools
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.calibration import PLANTED, Rates, find
from adapterlab.lab.analysis.noise_model import QUICK, fit
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.study.spec import Study


def show_honesty(study: Study, ledger: Path | None, studies: int, console: Console) -> None:
    """Simulate and print; the noise is that of `ledger`, or the quick study's. Raises `AdapterlabError` for no ledger."""
    if ledger is not None and not ledger.is_file():
        raise AdapterlabError(f"no ledger at {ledger}: give the ledger.sqlite of a finished study")
    noise = QUICK if ledger is None else fit(Ledger(ledger))
    source = "the quick study's" if ledger is None else f"that of {ledger}"
    rows = []
    for correlated, effect in itertools.product((True, False), PLANTED):
        with console.status(f"{studies} studies with {effect:g} planted"):
            rows.append(find(study, noise, effect, correlated=correlated, studies=studies))
    console.print(_answer(rows, study))
    console.print()
    console.print(_table(rows))
    console.print(
        f"[dim]Share of {studies} simulated studies each, on {' and '.join(noise)}; noise: {source}. "
        "planted: nats per byte by which one contestant is better than the reference, whose "
        "adapter all others are. noise shared: a seed's batches move all contestants alike. "
        "interval: its 95 % interval leaves out zero. p: any corrected p below 0.05. "
        f"lead: a lead is called real. like these: the interval for tasks like these. "
        f"same: called the same within {study.report.smallest:g}.[/dim]",
        highlight=False,
    )


def _answer(rows: list[Rates], study: Study) -> str:
    nothing = [row for row in rows if row.effect == 0]
    worst = max(nothing, key=lambda row: row.interval)
    low, high = worst.bounds(worst.interval)
    seen = [row.effect for row in rows if row.effect and row.interval >= 0.8]
    power = (
        f"An effect of {min(seen):g} nats per byte is found in at least 80 %."
        if seen
        else "No planted effect is found in 80 % of them: give more seeds."
    )
    return (
        f"Of an adapter compared with itself, study {study.name} would report a difference in at most "
        f"{worst.interval:.1%} of cases (95 % interval {low:.1%} to {high:.1%}). {power}"
    )


def _table(rows: list[Rates]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("planted", justify="right")
    table.add_column("noise")
    for heading in ("interval", "p", "lead", "like these", "same"):
        table.add_column(heading, justify="right")
    for row in rows:
        shares = (row.interval, row.holm, row.lead, row.across, row.same)
        table.add_row(
            f"{row.effect:g}", "shared" if row.correlated else "own", *(f"{100 * share:.1f} %" for share in shares)
        )
    return table
