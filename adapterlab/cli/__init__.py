"""The command line: `adapterlab`. Heavy modules load inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import errno
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

    from adapterlab.lab.ledger.store import Ledger
    from adapterlab.lab.run.contest import Contest
    from adapterlab.lab.run.scheduler import Progress
    from adapterlab.lab.study.spec import Study

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
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each core or GPU if not given.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster that runs the trials: HOST:PORT, or auto.")
    ] = None,
    shard: Annotated[int | None, typer.Option(min=1, help="Devices that one trial's model is spread over.")] = None,
    lanes: Annotated[
        int | None, typer.Option(min=1, help="Trials that differ by learning rate or seed alone and may share a pass.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="If another run writes the same results, wait for it.")] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would run, how long, on what.")] = False,
) -> None:
    """Run a study, or what is missing of it; score the map before and after; write report.html and verdict.json."""
    from rich.console import Console

    from adapterlab import argmap
    from adapterlab.lab.ledger.store import Ledger
    from adapterlab.lab.run.locate import LEDGER, open_study
    from adapterlab.resources import shipped

    console = Console()
    plan, folder = open_study(study, out)
    plan = plan.limited(workers=workers, cluster=cluster, shard=shard, lanes=lanes)
    if plan_only:
        _show_plan(plan, folder / LEDGER, console)
        return
    the_map = argmap.load(map_file or shipped("maps", "natural_manifold.argdown"))
    ledger = Ledger(folder / LEDGER)
    before = len(ledger)
    try:
        contests = _run_with_progress(plan, ledger, console, wait)
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
def tune(
    model: Annotated[str, typer.Option(help="The model: a folder or an id of the hub; safetensors only.")],
    train: Annotated[Path, typer.Option(help="What to learn: JSONL, CSV, Parquet, or a folder.")],
    eval_: Annotated[
        Path | None, typer.Option("--eval", help="Rows to validate and test on; cut from --train if not given.")
    ] = None,
    ood: Annotated[Path | None, typer.Option(help="Rows of another domain, scored too.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="What must not be forgotten; the built-in text for language models.")
    ] = None,
    contestants: Annotated[
        str | None, typer.Option(help="Adapters, with commas between them; a shortlist if not given.")
    ] = None,
    time: Annotated[str, typer.Option(help="How long it may take: 90s, 30m, 2h.")] = "15m",
    budget: Annotated[
        str | None, typer.Option(help="Trained parameters: 0.5%, 20k; those of a LoRA of rank 8 if not given.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help="Runs reported of each; by the time if not given.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples in a training step.")] = 8,
    length: Annotated[
        int | None, typer.Option(min=8, help="Tokens in an example, at most; by the data if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where results go; runs/MODEL-DATA if not given.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each core or GPU if not given.")
    ] = None,
) -> None:
    """Find the adapter and the learning rate for your model and data, and train and save the winner."""
    from rich.console import Console

    from adapterlab.tune import command
    from adapterlab.tune.request import make_request

    console = Console()
    request = make_request(
        model,
        train,
        evaluate=eval_,
        ood=ood,
        keep=keep,
        contestants=contestants,
        time=time,
        budget=budget,
        seeds=seeds,
        batch=batch,
        length=length,
    )
    folder = out or command.default_folder(request)
    ledger = command.open_ledger(folder)
    try:
        command.tune(
            request, folder, ledger, workers, lambda study, led: _run_with_progress(study, led, console, False), console
        )
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. {len(ledger)} trials are kept in {ledger.path}; the same command goes on from there."
        )
        raise typer.Exit(130) from None


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


@app.command()
def honest(
    study: Annotated[str, typer.Argument(help="A study: its name or its file.")] = "quick",
    ledger: Annotated[Path | None, typer.Option(help="A finished study's ledger, to take the noise from.")] = None,
    studies: Annotated[int, typer.Option(min=20, help="Simulated studies for each line of the table.")] = 200,
) -> None:
    """Simulate studies in which nothing is to be found, or something of a known size, and count what they find."""
    from rich.console import Console

    from adapterlab.lab.run.locate import find_study
    from adapterlab.lab.study.load import load_study
    from adapterlab.report.calibration import show_honesty

    show_honesty(load_study(find_study(study)), ledger, studies, Console())


def _show_plan(study: Study, ledger_file: Path, console: Console) -> None:
    from adapterlab.lab.ledger.store import Ledger
    from adapterlab.lab.run.estimate import make_plan
    from adapterlab.report.progress import show_plan

    ledger = Ledger(ledger_file) if ledger_file.is_file() else None
    with console.status("sizing the contestants") as display:
        plan = make_plan(study, ledger, watch=lambda name: display.update(f"timing a few steps of {name}"))
    show_plan(plan, console)


def _run_with_progress(study: Study, ledger: Ledger, console: Console, wait: bool) -> list[Contest]:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from adapterlab.lab.run.locate import record_study
    from adapterlab.lab.run.scheduler import run_study

    record_study(study, ledger.path.parent)
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
        said = lambda: console.print(f"Another run is writing {ledger.path}; waiting until it has ended.")  # noqa: E731
        return run_study(study, ledger, wait=said if wait else None, watch=_watch(display, bar))


def _watch(display: object, bar: object) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        display.update(  # type: ignore[attr-defined]
            bar, completed=progress.done, total=progress.expected, trials=f"{progress.trials} trials"
        )

    return watch


def _report(contests: list[Contest], ledger: Ledger, the_map: object, folder: Path, console: Console) -> None:
    from adapterlab.lab.analysis.metrics import by_budget, by_unit
    from adapterlab.lab.analysis.rubric import grade
    from adapterlab.lab.analysis.scoreboard import make_scoreboard
    from adapterlab.models.loading import load_causal
    from adapterlab.report.page import write_report
    from adapterlab.report.terminal import show, show_board
    from adapterlab.verdict import judge, write_verdict

    *smaller, largest = by_budget(contests)
    size = sum(p.numel() for p in load_causal(largest.study.model).model.parameters())
    environments = [env for _, _, env in ledger]
    main, *others = by_unit(largest)
    for board in [*(board for part in smaller for board in by_unit(part)), *others]:
        budget, tasks = board.study.budget, board.study.tasks
        scoreboard = make_scoreboard(board)
        name = "-".join([*([] if budget is None else [str(budget)]), *tasks])
        path = folder / f"report-{name}.html"
        write_report(board, scoreboard, judge(the_map, board, size), environments, size, path)  # type: ignore[arg-type]
        sized = "" if budget is None else f" at {budget:,} trained parameters"
        console.print(f"\n{' and '.join(tasks)}{sized}, in {board.unit} ({path}):")
        show_board(scoreboard, console)
    if smaller:
        console.print(f"\nat {largest.study.budget:,} trained parameters, where the map's claims are judged:")
    scoreboard = make_scoreboard(main)
    judgement = judge(the_map, largest, size)  # type: ignore[arg-type]
    write_report(main, scoreboard, judgement, environments, size, folder / "report.html")
    write_verdict(judgement, scoreboard.answer, largest.study.name, folder / "verdict.json")
    show(scoreboard, judgement, grade(main, size), console)
    console.print(f"\nThe report: {folder / 'report.html'}")


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    try:
        app()
    except AdapterlabError as error:
        print(f"adapterlab: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(f"adapterlab: no room on the disk{where}: free some, and give the same command again", file=sys.stderr)
        sys.exit(2)
