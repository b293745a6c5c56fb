"""The command line: `adapterlab`. Heavy modules load inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterlab.argmap.cli import app as map_app
from adapterlab.cli import results
from adapterlab.errors import AdapterlabError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from adapterlab.lab.contest import Contest
    from adapterlab.lab.driver import Progress
    from adapterlab.lab.ledger import Ledger
    from adapterlab.lab.study import Study

app = typer.Typer(
    help="Which adapter, at which learning rate, and is the difference real?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(map_app, name="map")


@app.callback()
def _adapterlab() -> None:
    """Which adapter, at which learning rate, and is the difference real?"""


@app.command()
def run(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]", help="A study in TOML, or the name of one that is shipped.", show_default="quick"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where results go; runs/NAME if not given.")] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="An argument map; the built-in one if not given.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core if not given.")] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would run, how long, on what.")] = False,
) -> None:
    """Run a study, or what is missing of it; score the map before and after; write report.html and verdict.json."""
    from rich.console import Console

    from adapterlab import argmap
    from adapterlab.lab.finding import LEDGER, open_study, record_study
    from adapterlab.lab.ledger import Ledger
    from adapterlab.resources import shipped

    console = Console()
    plan, folder = open_study(study, out)
    if plan_only:
        _show_plan(plan, folder / LEDGER, workers, console)
        return
    the_map = argmap.load(map_file or shipped("maps", "natural_manifold.argdown"))
    ledger = Ledger(folder / LEDGER)
    record_study(plan, folder)
    before = len(ledger)
    try:
        contests = _run_with_progress(plan, ledger, workers, console)
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. {len(ledger)} trials are kept in {ledger.path}; the same command goes on from there."
        )
        raise typer.Exit(130) from None
    if len(ledger) == before:
        console.print(f"All {before} trials are there; nothing to run.")
    _report(contests, ledger, the_map, folder, console)


for _command in (results.status, results.compare, results.export):
    app.command()(_command)


@app.command()
def adapters(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with hyperparameters and invariants.")] = False,
) -> None:
    """List the adapters and what each believes about a transformer."""
    import json

    from rich.console import Console

    from adapterlab.report import catalogue

    if as_json:
        print(json.dumps(catalogue.as_json(), indent=1))
    else:
        catalogue.show_all(Console())


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="An adapter.", show_default=False)],
    model: Annotated[str, typer.Option(help="The model that costs are counted on: a folder or an id.")] = "embedded",
) -> None:
    """Show one adapter as a card: formula, belief, what it preserves, what it costs, where its code is."""
    from rich.console import Console

    from adapterlab.report import catalogue

    catalogue.explain(name, model, Console())


def _show_plan(study: Study, ledger_file: Path, workers: int | None, console: Console) -> None:
    from adapterlab.lab.ledger import Ledger
    from adapterlab.lab.plan import make_plan
    from adapterlab.report.progress import show_plan

    ledger = Ledger(ledger_file) if ledger_file.is_file() else None
    with console.status("sizing the contestants") as display:
        plan = make_plan(
            study, ledger, workers=workers, watch=lambda name: display.update(f"timing a few steps of {name}")
        )
    show_plan(plan, console)


def _run_with_progress(study: Study, ledger: Ledger, workers: int | None, console: Console) -> list[Contest]:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from adapterlab.lab.driver import run_study

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[trials]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=180) as display:
        bar = display.add_task(study.name, total=None, trials="starting")
        return run_study(study, ledger, workers=workers, watch=_watch(display, bar))


def _watch(display: object, bar: object) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        display.update(  # type: ignore[attr-defined]
            bar, completed=progress.done, total=progress.expected, trials=f"{progress.trials} trials"
        )

    return watch


def _report(contests: list[Contest], ledger: Ledger, the_map: object, folder: Path, console: Console) -> None:
    from adapterlab.lab.metrics import by_budget
    from adapterlab.lab.standing import stand
    from adapterlab.models.loading import load_causal
    from adapterlab.report.page import write_report
    from adapterlab.report.terminal import show, show_board
    from adapterlab.verdict import judge, write_verdict

    *smaller, largest = by_budget(contests)
    size = sum(p.numel() for p in load_causal(largest.study.model).model.parameters())
    environments = [env for _, _, env in ledger]
    for part in smaller:
        standing = stand(part)
        path = folder / f"report-{part.study.budget}.html"
        write_report(part, standing, judge(the_map, part, size), environments, size, path)  # type: ignore[arg-type]
        console.print(f"\nat {part.study.budget:,} trained parameters ({path}):")
        show_board(standing, console)
    if smaller:
        console.print(f"\nat {largest.study.budget:,} trained parameters, where the map's claims are judged:")
    standing = stand(largest)
    judgement = judge(the_map, largest, size)  # type: ignore[arg-type]
    write_report(largest, standing, judgement, environments, size, folder / "report.html")
    write_verdict(judgement, standing.answer, largest.study.name, folder / "verdict.json")
    show(standing, judgement, console)
    console.print(f"\nThe report: {folder / 'report.html'}")


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    try:
        app()
    except AdapterlabError as error:
        print(f"adapterlab: {error}", file=sys.stderr)
        sys.exit(2)
