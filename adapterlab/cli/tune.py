"""The command that finds an adapter for a user's model and data: tune.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> options = ["--model", "my-model", "--train", "rows.jsonl", "--time", "soon"]
>>> str(CliRunner().invoke(app, ["tune", *options]).exception)
"--time 'soon' is not a length of time: give one like 90s, 30m or 2h"
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterlab.cli.studies import exit_if_incomplete, exit_on_interrupt

if TYPE_CHECKING:
    from adapterlab.lab.ledger.store import Ledger
    from adapterlab.lab.run.contest import Contest
    from adapterlab.lab.run.prepare import PreparedStudy
    from adapterlab.lab.run.scheduler import StartExecutor
    from adapterlab.tuning.advice import Advice
    from adapterlab.tuning.planning import TuningPlan


def tune(
    model: Annotated[str, typer.Option(help="Base model: a folder or a hub id; safetensors only.")],
    train: Annotated[Path, typer.Option(help="Training rows: JSONL, CSV, Parquet, or a folder.")],
    eval_: Annotated[
        Path | None, typer.Option("--eval", help="Rows for validation and test; cut from --train if not given.")
    ] = None,
    ood: Annotated[Path | None, typer.Option(help="Rows of another domain, to be scored too.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Rows that must not be forgotten; built-in text if not given.")
    ] = None,
    contestants: Annotated[
        str | None, typer.Option(help="Adapters, separated by commas; a shortlist if not given.")
    ] = None,
    time: Annotated[str, typer.Option(help="Time that the study may take: 90s, 30m, 2h.")] = "15m",
    budget: Annotated[
        str | None, typer.Option(help="Trained parameters: 0.5%, 20k; those of LoRA of rank 8 if not given.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Reported runs of each adapter; chosen by the time if not given.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples in a training step.")] = 8,
    length: Annotated[
        int | None, typer.Option(min=8, help="Tokens in an example, at most; chosen by the data if not given.")
    ] = None,
    ranks: Annotated[
        str | None, typer.Option(help="Compare ranks: 4,16,64; of LoRA, or of the --contestants.", show_default=False)
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Compare where to adapt: attention,all-linear.", show_default=False)
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="all: compare every method that fits, in a race.", show_default=False)
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Score generated answers: exact_match, f1, contains, or python:FILE.FUNCTION for your own."),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a generated answer, at most; 64 if not given.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the Python file of --metric, from now on.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; runs/MODEL-DATA if not given.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; one for each core or GPU if not given.")
    ] = None,
) -> None:
    """Find the adapter and the learning rate for your model and data; train and save the winner."""
    from rich.console import Console

    from adapterlab import api
    from adapterlab.cli.progress import Stages, study_progress
    from adapterlab.lab.run.scheduler import run_study
    from adapterlab.report.plain import plain
    from adapterlab.tuning.show import show_advice, show_winner

    console, ledgers = Console(), list[Path]()
    stages = Stages(console)

    def planned(plan: TuningPlan) -> None:
        stages.pause()
        for note in plan.notes:
            console.print(plain(note), highlight=False)

    def run(prepared: PreparedStudy, ledger: Ledger, start: StartExecutor) -> list[Contest]:
        ledgers[:] = [ledger.path]
        with study_progress(prepared.study.name, ledger.path, console, stages.log) as watch:
            return run_study(prepared, ledger, watch=watch, start=start)

    def analysed(advice: Advice) -> None:
        stages.pause()
        show_advice(advice, console)
        if advice.contestant is not None:
            stages(f"saving {advice.contestant}")

    with exit_on_interrupt(ledgers, console), stages:
        stages("reading the data")
        advice = api.tune(
            model,
            train,
            eval=eval_,
            ood=ood,
            keep=keep,
            contestants=contestants,
            time=time,
            budget=budget,
            seeds=seeds,
            batch=batch,
            length=length,
            ranks=ranks,
            targets=targets,
            methods=methods,
            metric=metric,
            max_new_tokens=max_new_tokens,
            trust=trust,
            out=out,
            workers=workers,
            run=run,
            watch=stages,
            planned=planned,
            analysed=analysed,
        )
    show_winner(advice, console)
    exit_if_incomplete(advice.analysis.is_incomplete, advice.folder, console)
