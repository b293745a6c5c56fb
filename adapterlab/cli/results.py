"""Commands on the results of a study: status, compare, export, import-trials, retry.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["compare", "lora", "ia3", "--study", "qick"]).exception)
"unknown study 'qick': did you mean quick?"
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adapterlab.cli.studies import exit_if_incomplete
from adapterlab.errors import AdapterlabError

StudyName = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]", help="File or name of a study, or the folder of its results.", show_default="quick"
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; runs/NAME if not given.")]


class Format(StrEnum):
    """Format of a table."""

    PARQUET = "parquet"
    CSV = "csv"


def status(
    study: StudyName = None,
    out: Out = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers that the time left is estimated for.")] = None,
) -> None:
    """Show the progress of a study: what is done, running, diverged or failed, and the time left."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.lab.run.locate import planning_stage, results_folder
    from adapterlab.report.plain import plain
    from adapterlab.report.progress import show_status

    console = Console()
    if study is not None and (planning := planning_stage(Path(study))):
        stage, seconds = planning
        console.print(plain(f"{study}: planning for {seconds:.0f} s: {stage}"), highlight=False)
        return
    found = api.status(study, out=out, workers=workers)
    show_status(found, console)
    exit_if_incomplete(found.is_incomplete, results_folder(study, out), console)


def compare(
    first: Annotated[str, typer.Argument(help="Adapter or label in the study.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another adapter or label.", show_default=False)],
    task: Annotated[list[str] | None, typer.Option(help="Compare on this task only; may be repeated.")] = None,
    study: Annotated[
        str | None, typer.Option(help="File or name of a study, or the folder of its results.", show_default="quick")
    ] = None,
    metric: Annotated[str, typer.Option(help="Metric to compare.")] = "in_domain",
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACTOR=LEVEL", help="Level of a swept factor, such as rank=8; the main one if not given."
        ),
    ] = None,
    out: Out = None,
) -> None:
    """Compare two contestants of a study: their paired difference, its interval, and whether it is real."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.lab.run.locate import results_folder
    from adapterlab.report.pairwise import show_comparison

    wrong = [text for text in at or () if "=" not in text]
    if wrong:
        raise AdapterlabError(f"--at {wrong[0]} has no level: give FACTOR=LEVEL, such as rank=8")
    levels = dict(text.split("=", 1) for text in at or ())
    comparison = api.compare(first, second, study=study, tasks=task or (), metric=metric, at=levels, out=out)
    console = Console()
    show_comparison(comparison, console)
    exit_if_incomplete(comparison.is_incomplete, results_folder(study, out), console)


def retry(
    study: StudyName = None,
    failed: Annotated[bool, typer.Option("--failed", help="Trials that failed; the default.")] = False,
    diverged: Annotated[bool, typer.Option("--diverged", help="Trials that diverged.")] = False,
    trial: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="One trial, by its id or the first digits; may be repeated.")
    ] = None,
    out: Out = None,
) -> None:
    """Take trials that failed or diverged out of the results, so that the next run trains them again."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.lab.run.locate import DEFAULT, results_folder, run_command
    from adapterlab.report.plain import plain

    count = api.retry(study, failed=failed, diverged=diverged, trials=trial or (), out=out)
    what = "1 trial is" if count == 1 else f"{count:,} trials are"
    ran = run_command(study or DEFAULT, results_folder(study, out))
    Console().print(plain(f"{what} open again: `{ran}` runs them."), highlight=False, soft_wrap=True)


def export(
    study: StudyName = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Format; by the name of the file if not given, else parquet."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; trials.FORMAT beside the ledger if not given.")
    ] = None,
) -> None:
    """Write the trials of a study as a table for pandas, R or a spreadsheet; `import-trials` reads Parquet back."""
    from adapterlab import api
    from adapterlab.lab.analysis.trial_table import write_table
    from adapterlab.lab.ledger.store import Ledger
    from adapterlab.lab.ledger.trial_file import write_trial_file
    from adapterlab.lab.run.locate import LEDGER, results_folder

    folder = results_folder(study)
    frame = api.trials(study)
    kind = form or (Format.CSV if out is not None and out.suffix == ".csv" else Format.PARQUET)
    path = out or folder / f"trials.{kind}"
    if kind is Format.CSV:
        write_table(frame, path, "csv")
    else:
        write_trial_file(frame, Ledger(folder / LEDGER), path)
    print(f"{frame['trial'].nunique():,} trials in {len(frame):,} rows, {len(frame.columns)} columns: {path}")


def import_trials(
    file: Annotated[
        Path, typer.Argument(help="Parquet file that `adapterlab export` wrote, here or on another machine.")
    ],
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]",
            help="File or name of the study, or the folder of its results; the file's own study if not given.",
            show_default=False,
        ),
    ] = None,
    out: Out = None,
) -> None:
    """Read exported trials into a study's results, so that the study goes on where it stopped elsewhere."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.report.plain import plain

    found = api.import_trials(file, study, out=out)
    print(f"{found.new:,} trials imported into {found.folder}; {found.known:,} were there already")
    if found.outdated:
        print(
            f"{found.outdated:,} of them ran with other code than this version's: `adapterlab run` trains those again"
        )
    Console().print(plain(f"`adapterlab run {found.folder}` continues the study."), highlight=False, soft_wrap=True)
