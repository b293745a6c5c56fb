"""Commands that run studies: run, honest.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["run", "qick"]).exception)
"unknown study 'qick': did you mean quick?"
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterlab.cli.options import EvidenceOption, LockOption, MapOption, RelevanceOption

if TYPE_CHECKING:
    from rich.console import Console

    from adapterlab.lab.study.spec import Study


def run(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]", help="TOML file of a study, or the name of a built-in one.", show_default="quick"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; runs/NAME if not given.")] = None,
    map_file: MapOption = None,
    lock: LockOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; one for each core or GPU if not given.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run the trials on this Ray cluster: HOST:PORT, or auto.")
    ] = None,
    shard: Annotated[
        int | None, typer.Option(min=1, help="Devices that the model of each trial is divided over.")
    ] = None,
    lanes: Annotated[
        int | None, typer.Option(min=1, help="Trials trained in one pass, if they differ only by rate and seed.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="If another run is writing the same results, wait for its end.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust the Python files that the study names, as they are now.")
    ] = False,
    evidence: EvidenceOption = None,
    relevance: RelevanceOption = None,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan", help="Show what would run, how long it takes and where; a few steps are timed, no trial is run."
        ),
    ] = False,
) -> None:
    """Run a study, resuming where it stopped; write report.html and verdict.json."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.cli.progress import study_progress
    from adapterlab.lab.run.locate import LEDGER, open_study
    from adapterlab.report.plain import plain
    from adapterlab.report.terminal import show
    from adapterlab.trust import UntrustedCodeError

    console = Console()
    try:
        spec, folder = open_study(study, out, trust=trust)
    except UntrustedCodeError as error:
        if not plan_only:
            raise
        raise UntrustedCodeError(
            f"{error}; --plan runs that code too, since it times steps of each contestant"
        ) from None
    if plan_only:
        _show_estimate(spec, folder, console, workers=workers, cluster=cluster, shard=shard, lanes=lanes)
        return
    ledger = folder / LEDGER
    _warn_of_little_power(spec, ledger, console)

    def waiting() -> None:
        console.print(plain(f"Another run is writing {ledger}; waiting for its end."))

    with exit_on_interrupt([ledger], console), study_progress(spec.name, ledger, console) as watch:
        analysis = api.run(
            spec,
            out=folder,
            map=map_file,
            lock=lock,
            workers=workers,
            cluster=cluster,
            shard=shard,
            lanes=lanes,
            evidence=evidence,
            relevance=relevance,
            wait=waiting if wait else None,
            watch=watch,
            note=lambda text: console.print(plain(text), highlight=False),
        )
    show(analysis, console)
    console.print(plain(f"\nThe report: {folder / 'report.html'}"))
    exit_if_incomplete(analysis.is_incomplete, folder, console)


def honest(
    study: Annotated[str, typer.Argument(help="File or name of a study.")] = "quick",
    ledger: Annotated[Path | None, typer.Option(help="Ledger of a finished study, for the size of the noise.")] = None,
    studies: Annotated[int, typer.Option(min=20, help="Simulated studies for each row of the table.")] = 200,
) -> None:
    """Measure false alarms and power: simulate a study without an effect and with known effects."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.report.calibration import show_calibration

    console = Console()
    with console.status("simulating") as display:

        def watch(effect: float) -> None:
            display.update(f"{studies} studies with an effect of {effect:g}")

        calibration = api.calibrate(study, ledger=ledger, studies=studies, watch=watch)
    show_calibration(calibration, console)


def _show_estimate(study: Study, out: Path, console: Console, **limits: int | str | None) -> None:
    from adapterlab import api
    from adapterlab.report.plain import plain
    from adapterlab.report.progress import show_estimate

    with console.status("sizing the contestants") as display:

        def watch(name: str) -> None:
            display.update(plain(f"timing a few steps of {name}"))

        estimate = api.estimate(study, out=out, measure=True, watch=watch, **limits)
        display.update("simulating studies like it")
        power = api.power(study, out=out)
    show_estimate(estimate, power, console)


def _warn_of_little_power(study: Study, ledger: Path, console: Console) -> None:
    """Print a warning if a study that has not begun can find nothing."""
    from adapterlab import api
    from adapterlab.report.progress import show_warning

    if not ledger.is_file():
        show_warning(api.power(study, out=ledger.parent), console)


def exit_if_incomplete(incomplete: bool, folder: Path, console: Console) -> None:
    """Exit with status 1 if trials of the frozen model or the reference failed.

    Args:
        incomplete: True if some failed.
        folder: Folder of the results.
        console: Where to print.
    """
    if incomplete:
        console.print(
            f"Trials of the frozen model or the reference failed: remove the cause, then `adapterlab retry {folder}`.",
            style="red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)


@contextmanager
def exit_on_interrupt(ledgers: Sequence[Path], console: Console) -> Iterator[None]:
    """On Ctrl-C, TERM or HUP, print the number of recorded trials and exit with 128 and the signal's number.

    Args:
        ledgers: File of the ledger; empty as long as there is none.
        console: Where to print.
    """
    from adapterlab.cli.signals import status_of
    from adapterlab.lab.ledger.store import Ledger
    from adapterlab.report.plain import plain

    try:
        yield
    except KeyboardInterrupt as stop:
        for ledger in ledgers:
            count = len(Ledger(ledger)) if ledger.is_file() else 0
            console.print(plain(f"\nStopped. {count} trials are kept in {ledger}; run the same command to resume."))
        if not ledgers:
            console.print("\nStopped before the first trial.")
        raise typer.Exit(status_of(stop)) from None
