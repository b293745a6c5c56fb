"""The lab's calibration as a table on the terminal.

>>> show_calibration.__name__
'show_calibration'
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from adapterlab.lab.analysis.calibration import Calibration, DetectionRates


def show_calibration(calibration: Calibration, console: Console) -> None:
    """Print how often simulated studies find something.

    Args:
        calibration: Detection rates of simulated studies.
        console: Where to print.
    """
    rows, study = list(calibration.rates), calibration.study
    console.print(_answer(rows, study.name))
    console.print()
    console.print(_table(rows))
    console.print(
        f"[dim]Share of {rows[0].studies} simulated studies each, on {' and '.join(calibration.tasks)}; noise: "
        f"{calibration.noise_source}. "
        "planted: nats per byte by which one contestant is better than the reference, whose "
        "adapter all others are. noise shared: a seed's batches move all contestants together. "
        "interval: its 95 % interval leaves out zero. p: any corrected p below 0.05. "
        f"lead: a lead is called real. like these: the interval for tasks like these. "
        f"same: called the same within {study.report.smallest:g}.[/dim]",
        highlight=False,
    )


def _answer(rows: list[DetectionRates], study: str) -> str:
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
        f"Of an adapter compared with itself, study {study} would report a difference in at most "
        f"{worst.interval:.1%} of cases (95 % interval {low:.1%} to {high:.1%}). {power}"
    )


def _table(rows: list[DetectionRates]) -> Table:
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
