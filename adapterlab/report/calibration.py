"""Calibration of a study as a table on the terminal.

>>> from adapterlab.lab.study.spec import Contestant, Study
>>> study = Study(name="mine", tasks=("prose",), contestants=(Contestant(adapter="lora"),))
>>> rates = DetectionRates(0.0, True, 200, interval=0.05, holm=0.04, lead=0.02, across=0.03, same=0.9)
>>> show_calibration(Calibration(study, ("prose",), "made up", (rates,)), Console(width=80))  # doctest: +ELLIPSIS
If an adapter is compared with itself, study mine reports a difference in at
most 5.0% of cases (95 % interval 2.4% to 9.0%). ...
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from adapterlab.lab.analysis.calibration import Calibration, DetectionRates
from adapterlab.report.plain import plain


def show_calibration(calibration: Calibration, console: Console) -> None:
    """Print how often simulated studies find something.

    Args:
        calibration: Detection rates of simulated studies.
        console: Where to print.
    """
    rows, study = list(calibration.rates), calibration.study
    console.print(plain(_answer(rows, study.name)))
    console.print()
    console.print(_table(rows))
    console.print(
        f"[dim]Shares of {rows[0].studies} simulated studies each, on {plain(' and '.join(calibration.tasks))}; noise: "
        f"{plain(calibration.noise_source)}. "
        "planted: effect given to one contestant, in nats per byte; all others equal the reference. "
        "noise shared: the batches of a seed affect all contestants together. "
        "interval: the 95 % interval of that contestant excludes zero. p: any adjusted p is below 0.05. "
        f"lead: a lead is called real. like these: the interval for tasks like these excludes zero. "
        f"same: that contestant is equivalent to the reference within {study.report.smallest:g}.[/dim]",
        highlight=False,
    )


def _answer(rows: list[DetectionRates], study: str) -> str:
    without_effect = [row for row in rows if row.effect == 0]
    worst = max(without_effect, key=lambda row: row.interval)
    low, high = worst.bounds(worst.interval)
    detected = [row.effect for row in rows if row.effect and row.interval >= 0.8]
    power = (
        f"It finds an effect of {min(detected):g} nats per byte in at least 80 % of cases."
        if detected
        else "It finds none of the planted effects in 80 % of cases: give more seeds."
    )
    return (
        f"If an adapter is compared with itself, study {study} reports a difference in at most "
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
