"""The commands that run studies: run, honest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from adapterlab.lab.run.scheduler import Watch
    from adapterlab.lab.study.spec import Study


def run(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="A study in TOML, or the name of a shipped one.", show_default="quick"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; runs/NAME if not given.")] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="An argument map; the built-in one if not given.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; one for each core or GPU if not given.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster that runs the trials: HOST:PORT, or auto.")
    ] = None,
    shard: Annotated[int | None, typer.Option(min=1, help="Devices that one trial's model is divided over.")] = None,
    lanes: Annotated[
        int | None, typer.Option(min=1, help="Trials that differ by learning rate or seed alone and may share a pass.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="If another run writes the same results, wait for it.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Show what would run, how long, on which device; run nothing.")
    ] = False,
) -> None:
    """Run a study, resuming where it stopped; write report.html and verdict.json."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.lab.run.locate import LEDGER, open_study
    from adapterlab.report.terminal import show

    console = Console()
    spec, folder = open_study(study, out)
    if plan_only:
        _show_estimate(spec, folder, console, workers=workers, cluster=cluster, shard=shard, lanes=lanes)
        return
    ledger = folder / LEDGER

    def waiting() -> None:
        console.print(f"Another run is writing {ledger}; waiting until it has ended.")

    with stopping_kindly([ledger], console), progress_bar(spec.name, ledger, console) as watch:
        analysis = api.run(
            spec,
            out=folder,
            map=map_file,
            workers=workers,
            cluster=cluster,
            shard=shard,
            lanes=lanes,
            wait=waiting if wait else None,
            watch=watch,
        )
    show(analysis, str(folder), console)
    console.print(f"\nThe report: {folder / 'report.html'}")


def honest(
    study: Annotated[str, typer.Argument(help="A study: its name or its file.")] = "quick",
    ledger: Annotated[Path | None, typer.Option(help="A finished study's ledger, to take the noise from.")] = None,
    studies: Annotated[int, typer.Option(min=20, help="Simulated studies for each line of the table.")] = 200,
) -> None:
    """Simulate studies with no effect, or one of a known size, and count what they find."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.report.calibration import show_calibration

    console = Console()
    with console.status("simulating") as display:

        def watch(effect: float) -> None:
            display.update(f"{studies} studies with {effect:g} planted")

        found = api.calibrate(study, ledger=ledger, studies=studies, watch=watch)
    show_calibration(found, console)


def _show_estimate(study: Study, out: Path, console: Console, **limits: Any) -> None:
    from adapterlab import api
    from adapterlab.report.progress import show_estimate

    with console.status("sizing the contestants") as display:

        def watch(name: str) -> None:
            display.update(f"timing a few steps of {name}")

        found = api.estimate(study, out=out, watch=watch, **limits)
    show_estimate(found, console)


@contextmanager
def stopping_kindly(ledgers: Sequence[Path], console: Console) -> Iterator[None]:
    """On Ctrl-C, say what is kept and exit with status 130.

    Args:
        ledgers: File of the ledger; empty if there is none yet when the block is left.
        console: Where to print.
    """
    from adapterlab.lab.ledger.store import Ledger

    try:
        yield
    except KeyboardInterrupt:
        for ledger in ledgers:
            kept = len(Ledger(ledger)) if ledger.is_file() else 0
            console.print(f"\nStopped. {kept} trials are kept in {ledger}; the same command continues from there.")
        if not ledgers:
            console.print("\nStopped before anything was run.")
        raise typer.Exit(130) from None


@contextmanager
def progress_bar(name: str, ledger: Path, console: Console) -> Iterator[Watch]:
    """Show a progress bar while a study runs; say so if there was nothing to run.

    Args:
        name: Name of the study.
        ledger: File of the ledger.
        console: Where to print.

    Yields:
        The function to call with the progress.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from adapterlab.lab.ledger.store import Ledger
    from adapterlab.lab.run.scheduler import Progress as Done

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[trials]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    ran = False
    with Progress(*columns, console=console, transient=True, speed_estimate_period=180) as display:
        bar = display.add_task(name, total=None, trials="starting")

        def watch(progress: Done) -> None:
            nonlocal ran
            ran = True
            display.update(bar, completed=progress.done, total=progress.expected, trials=f"{progress.trials} trials")

        yield watch
    if not ran:
        console.print(f"All {len(Ledger(ledger))} trials are there; nothing to run.")
