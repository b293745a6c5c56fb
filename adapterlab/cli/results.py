"""The commands that read what a study has so far: status, compare, export."""

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
Out = Annotated[Path | None, typer.Option(help="Where the results are; runs/NAME if not given.")]


class Format(StrEnum):
    """A kind of table file."""

    PARQUET = "parquet"
    CSV = "csv"


def status(
    study: StudyName = None,
    out: Out = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that the rest is reckoned for.")] = None,
) -> None:
    """Show how far a study is: what is done, under way, diverged or failed, and how long the rest may take."""
    from rich.console import Console

    from adapterlab.lab.run.executors import crews
    from adapterlab.lab.run.locate import existing_ledger, open_study, run_command
    from adapterlab.lab.run.progress import known_costs, look, seconds_left
    from adapterlab.lab.run.scheduler import prepare, worker_config
    from adapterlab.report.progress import show_status

    plan, folder = open_study(study, out)
    ledger = existing_ledger(folder, study or plan.name)
    states = [look(contest, ledger) for contest in prepare(plan)]
    count = len(crews(plan.limited(workers=workers).limits, worker_config(plan)))
    seconds = seconds_left(states, known_costs(states), {}, count)
    command = run_command(_named(study, plan.name), folder)
    show_status(states, seconds, count, ledger.is_held(), ledger.in_hand(), command, Console())


def compare(
    first: Annotated[str, typer.Argument(help="A contestant.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another.", show_default=False)],
    task: Annotated[list[str] | None, typer.Option(help="On this task only; may be given again.")] = None,
    study: Annotated[
        str | None, typer.Option(help="A study's file or name, or the folder of its results.", show_default="quick")
    ] = None,
    metric: Annotated[str, typer.Option(help="What is compared.")] = "in_domain",
    budget: Annotated[int | None, typer.Option(help="Of a study with several; the largest if not given.")] = None,
    out: Out = None,
) -> None:
    """Compare two contestants: their paired difference, its interval, and whether it is real."""
    from rich.console import Console

    from adapterlab.lab.analysis.pairwise import compare as compare_in
    from adapterlab.lab.run.locate import existing_ledger, open_study, run_command
    from adapterlab.report.pairwise import show_comparison

    plan, folder = open_study(study, out)
    name = _named(study, plan.name)
    command = run_command(name, folder)
    comparison = compare_in(
        plan,
        existing_ledger(folder, name),
        (first, second),
        tasks=task or (),
        metric=metric,
        budget=budget,
        command=command,
    )
    show_comparison(comparison, Console())


def export(
    study: StudyName = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="The kind of file; by the end of its name if not given, else parquet."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file; trials.FORMAT beside the ledger if not given.")] = None,
) -> None:
    """Write a study's trials as a table, one row a trial, for pandas, R or a spreadsheet."""
    from adapterlab.lab.analysis.trial_table import table, write_table
    from adapterlab.lab.run.locate import existing_ledger, open_study

    plan, folder = open_study(study, None)
    frame = table(plan, existing_ledger(folder, _named(study, plan.name)))
    kind = form or (Format.CSV if out is not None and out.suffix == ".csv" else Format.PARQUET)
    path = out or folder / f"trials.{kind}"
    write_table(frame, path, kind.value)
    print(f"{frame['trial'].nunique():,} trials in {len(frame):,} rows, {len(frame.columns)} columns: {path}")


def _named(given: str | None, name: str) -> str:
    """What `adapterlab run` takes for the study: what was given, or its name."""
    return given or name
