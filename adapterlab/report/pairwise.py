"""Comparison of two contestants on a terminal of 80 columns, the conclusion first.

>>> from adapterlab.lab.analysis.metrics import METRICS
>>> from adapterlab.lab.statistics import paired
>>> effect, sides = paired([0.02, 0.021, 0.019]), (Side("lora", {}, 52_000, ""), Side("oft", {}, 51_000, ""))
>>> found = Comparison(METRICS["in_domain"], ("prose",), None, sides, {"prose": effect}, effect, 0.99, 75.5)
>>> show_comparison(found, Console(width=80))  # doctest: +ELLIPSIS
lora is better than oft on prose, by 0.0175 to 0.0225 nats per byte ...
"""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from adapterlab.lab.analysis.pairwise import Comparison, Side
from adapterlab.lab.statistics import Paired
from adapterlab.report.counts import thousands
from adapterlab.report.plain import add_plain_row, plain


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print the conclusion, the difference on each task, and the size and learning rates of both contestants.

    Args:
        comparison: The comparison.
        console: Where to print.
    """
    first, metric = comparison.sides[0].contestant, comparison.metric
    for failure in comparison.failures:
        console.print(plain(str(failure)), style="red", highlight=False)
    console.print(f"[bold]{plain(comparison.sentence)}[/bold]\n", highlight=False)
    if comparison.cell.levels:
        console.print(f"[dim]at {plain(comparison.cell.words)}[/dim]", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("on", f"{first} better by", "95% interval", "p", "pairs"):
        table.add_column(plain(heading), justify="left" if heading == "on" else "right", no_wrap=True)
    rows = dict(comparison.by_task)
    if len(rows) > 1:
        rows["all"] = comparison.effect
    for name, effect in rows.items():
        p = "-" if effect.n < 2 else "<0.001" if effect.p < 0.001 else f"{effect.p:.3f}"
        add_plain_row(table, name, f"{effect.mean:+.4f}", _interval(effect), p, str(effect.n))
    console.print(table, highlight=False)
    console.print(
        f"[dim]{plain(metric.title)}, {plain(metric.unit)}, {metric.better} is better; pairs share task, seed, batches[/dim]"
    )
    if comparison.effect.n > 1:
        console.print(
            f"\nBayes factor: {_factor(comparison.bayes_factor)} {plain(first)} being better", highlight=False
        )
    console.print()
    for side in comparison.sides:
        console.print(_described(side, comparison.budget), highlight=False)


def _described(side: Side, budget: int | None) -> str:
    doubts = {task: f" ({plain(flag.text)})" for task, flag in side.search_flags.items()}
    rates = ", ".join(
        f"{plain(task)} {'no rate worked' if rate is None else f'{rate:.2g}'}{doubts.get(task, '')}"
        for task, rate in side.rates.items()
    )
    near = f" ([yellow]{plain(side.flag)} the budget of {budget:,}[/yellow])" if side.flag else ""
    return f"{plain(side.contestant)}: {thousands(side.parameters)} trained parameters{near}; learning rate: {rates}"


def _interval(effect: Paired) -> str:
    return f"{effect.low:+.4f} to {effect.high:+.4f}" if math.isfinite(effect.low) else "-"


def _factor(value: float) -> str:
    odds, side = (value, "for") if value >= 1 else (1 / value, "against")
    return f"{odds:,.1f} to 1 {side}" if odds < 100 else f"{odds:,.0f} to 1 {side}"
