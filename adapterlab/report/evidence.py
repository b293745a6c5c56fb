"""Evidence of tables on a terminal of 80 columns.

>>> from adapterlab.evidence import Store
>>> show_tables(Store().tables, Console(width=80))  # doctest: +ELLIPSIS
table...rows...
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table as Grid

from adapterlab.evidence.fit_carry import CarryFit, Predicted
from adapterlab.evidence.table import Table
from adapterlab.evidence.tuning import TuningLoss
from adapterlab.report.plain import add_plain_row, plain
from adapterlab.verdict.other_evidence import OtherEvidence

COVERED = 1.6449
"""Half of a 90 percent interval, in standard deviations."""


def _grid(columns: Sequence[str], left: int = 1) -> Grid:
    grid = Grid(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for i, heading in enumerate(columns):
        grid.add_column(heading, justify="left" if i < left else "right", no_wrap=i > 0, overflow="fold")
    return grid


def show_tables(tables: Sequence[Table], console: Console) -> None:
    """Print the tables with their flaws.

    Args:
        tables: The tables.
        console: Where to print.
    """
    grid = _grid(("table", "rows", "models", "methods", "metrics", "date"))
    for table in tables:
        counts = [len({getattr(s, name) for s in table.scores}) for name in ("model", "method", "metric")]
        add_plain_row(grid, table.source, f"{len(table.scores):,}", *map(str, counts), table.about.get("date", ""))
    console.print(grid, highlight=False)
    for table in tables:
        text = "; ".join(table.about[key] for key in ("title", "flaws", "licence", "link") if key in table.about)
        console.print(plain(f"\n{table.source}: {text or 'not described'}"), highlight=False)


def show_evidence(first: str, second: str, metric: str, found: OtherEvidence, console: Console) -> None:
    """Print the published differences of two methods, and what they say together.

    Args:
        first: A method.
        second: Another one.
        metric: Name of the metric.
        found: The evidence.
        console: Where to print.
    """
    if found.meta is None:
        console.print(plain(f"No table has {first} and {second} in one setting, for {metric}."), highlight=False)
        return
    meta = found.meta
    low, high = meta.interval
    between = f", 95 % interval {low:+.2f} to {high:+.2f}" if math.isfinite(low) else ", of one source: no interval"
    console.print(
        plain(f"{first} against {second}, {metric}: {meta.mean:+.2f}{between}"), style="bold", highlight=False
    )
    console.print("in units of the smallest difference that matters; positive if the first is better\n", style="dim")
    grid = _grid(("source", "model, setting", "difference", "error"), 2)
    for effect in found.effects:
        error = math.sqrt(effect.variance)
        add_plain_row(
            grid, effect.source or "", f"{effect.label}, {effect.task}", f"{effect.value:+.2f}", f"{error:.2f}"
        )
    console.print(grid, highlight=False)
    low, high = meta.prediction
    lines = [
        f"{meta.studies} studies of {meta.sources} source{'s' * (meta.sources != 1)}; I2 {meta.i2:.0%}, "
        f"Q {meta.heterogeneity:.1f} (p {meta.p_heterogeneity:.2g}); standard deviation between studies "
        f"{math.sqrt(meta.between_studies):.2f}, between sources {math.sqrt(meta.between_sources):.2f}",
        f"a new study of a new source: {low:+.2f} to {high:+.2f}" if math.isfinite(low) else "",
        f"odds that {first} is better by a difference that matters, for large models: multiplied by {found.factor:.2g}",
    ]
    for line in filter(None, lines):
        console.print(plain(line), highlight=False)


def show_carry(fit: CarryFit, predictions: Sequence[Predicted], console: Console) -> None:
    """Print how differences carry between model sizes, and how well this predicts models that were held out.

    Args:
        fit: The fit.
        predictions: Predictions of models without their own results.
        console: Where to print.
    """
    rows = (("model size", fit.carry.size, fit.size_interval), ("examples", fit.carry.examples, fit.examples_interval))
    grid = _grid(("correlation falls to 1/e at", "decades", "90 % interval"))
    for name, length, (low, high) in rows:
        add_plain_row(grid, name, f"{length:.1f}", f"{low:.1f} to {high:.1f}")
    console.print(grid, highlight=False)
    console.print(
        plain(
            f"from {fit.values} values in {fit.cells} settings; standard deviation of a method {fit.contestant:.1f}, on a "
            f"task {fit.task:.1f}, in a source {fit.source:.1f}, in units of the smallest difference that matters"
        ),
        highlight=False,
    )
    if not predictions:
        return
    console.print("\nModels predicted from the results with all others:")
    grid = _grid(("model", "differences", "error", "error of 0", "in 90 %"))
    for model, group in groupby(predictions, key=lambda p: p.held_out):
        add_plain_row(grid, model, *_summary(list(group)))
    add_plain_row(grid, "all", *_summary(list(predictions)))
    console.print(grid, highlight=False)
    console.print("error: root mean square; error of 0: that of predicting no difference", style="dim")


def _summary(found: Sequence[Predicted]) -> tuple[str, str, str, str]:
    error = _root_mean(p.predicted - p.measured for p in found)
    within = sum(abs(p.predicted - p.measured) <= COVERED * p.error for p in found)
    return f"{len(found)}", f"{error:.2f}", f"{_root_mean(p.measured for p in found):.2f}", f"{within} of {len(found)}"


def _root_mean(values: Iterable[float]) -> float:
    squares = [value**2 for value in values]
    return math.sqrt(sum(squares) / len(squares))


def show_tuning(loss: TuningLoss, console: Console) -> None:
    """Print what methods lose at the learning rate that is best for another one.

    Args:
        loss: The loss.
        console: Where to print.
    """
    grid = _grid(("method", "at the best rate of", "loses", "sd", "settings"), 2)
    for own, other, mean, sd, count in sorted(loss.by_pair, key=lambda row: -row[2]):
        add_plain_row(grid, own, other, f"{mean:.2f}", f"{sd:.2f}", str(count))
    console.print(grid, highlight=False)
    console.print(
        plain(
            f"mean {loss.mean:.2f}, sd {loss.sd:.2f} over {loss.pairs} pairs, in units of the smallest difference that "
            "matters: by this a value whose rate was not tuned is corrected"
        ),
        highlight=False,
    )
