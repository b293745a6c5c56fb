"""The commands that read the results of a study: status, compare, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

StudyName = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]", help="A study's file or name, or the folder of its results.", show_default="quick"
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; runs/NAME if not given.")]


class Format(StrEnum):
    """A kind of table file."""

    PARQUET = "parquet"
    CSV = "csv"


def status(
    study: StudyName = None,
    out: Out = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers that the rest is estimated for.")] = None,
) -> None:
    """Show how far a study is: done, running, diverged or failed, and the time that is left."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.report.progress import show_status

    show_status(api.status(study, out=out, workers=workers), Console())


def compare(
    first: Annotated[str, typer.Argument(help="A contestant.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another.", show_default=False)],
    task: Annotated[list[str] | None, typer.Option(help="On this task only; may be given again.")] = None,
    study: Annotated[
        str | None, typer.Option(help="A study's file or name, or the folder of its results.", show_default="quick")
    ] = None,
    metric: Annotated[str, typer.Option(help="The metric to compare.")] = "in_domain",
    budget: Annotated[int | None, typer.Option(help="One of the study's budgets; the largest if not given.")] = None,
    out: Out = None,
) -> None:
    """Compare two contestants: their paired difference, its interval, and whether it is real."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.report.pairwise import show_comparison

    found = api.compare(first, second, study=study, tasks=task or (), metric=metric, budget=budget, out=out)
    show_comparison(found, Console())


def export(
    study: StudyName = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="The kind of file; by the end of its name if not given, else parquet."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file; trials.FORMAT beside the ledger if not given.")] = None,
) -> None:
    """Write a study's trials as a table, one row a trial, for pandas, R or a spreadsheet."""
    from adapterlab import api
    from adapterlab.lab.analysis.trial_table import write_table
    from adapterlab.lab.run.locate import open_study

    _, folder = open_study(study)
    frame = api.trials(study)
    kind = form or (Format.CSV if out is not None and out.suffix == ".csv" else Format.PARQUET)
    path = out or folder / f"trials.{kind}"
    write_table(frame, path, kind.value)
    print(f"{frame['trial'].nunique():,} trials in {len(frame):,} rows, {len(frame.columns)} columns: {path}")
