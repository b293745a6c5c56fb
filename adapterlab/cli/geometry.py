"""The command that measures a weight change and projects it on hypotheses: geometry.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["geometry", "embedded", "--base", "embedded", "--budget", "many"]).exception)
"--budget 'many': give numbers of parameters, such as 10000,100000"
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adapterlab.errors import AdapterlabError

if TYPE_CHECKING:
    from adapterlab.cli.progress import Stages

PICTURES = (".png", ".svg")


def geometry(
    tuned: Annotated[
        str,
        typer.Argument(
            help="Changed model, saved adapter (ours or PEFT's), or results of run or tune.", show_default=False
        ),
    ],
    base: Annotated[
        str | None, typer.Option(help="Model that it was trained from; the one that an adapter names if not given.")
    ] = None,
    contestant: Annotated[
        str | None, typer.Option(help="Contestant of a study, trained again for this; the winner if not given.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task that the projected models are scored on.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Rows of your own in place of a task: JSONL, CSV, Parquet, or a folder.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Numbers of parameters to project at, separated by commas; ranks 1 to 32 of LoRA if not given."
        ),
    ] = None,
    score_at: Annotated[
        str,
        typer.Option(help="Of these numbers, those at which models are scored: all, largest, or numbers of your own."),
    ] = "all",
    rows: Annotated[
        int, typer.Option(min=1, help="Examples of each part of the task that models are scored on, at most.")
    ] = 32,
    hypotheses: Annotated[
        str | None, typer.Option(help="Hypotheses, or adapters that state them: low_rank,oft. All if not given.")
    ] = None,
    measures: Annotated[str | None, typer.Option(help="Measures, separated by commas; all if not given.")] = None,
    draws: Annotated[int, typer.Option(min=2, help="Random changes that chance is estimated from.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random changes and of fits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; runs/geometry/NAME if not given.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the pictures to this .png or .svg file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the results to this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure a weight change: how much of it each hypothesis can express, and what that part is worth on a task."""
    budgets = _numbers("--budget", budget)
    at: Literal["all", "largest"] | tuple[int, ...]
    match score_at:
        case "all" | "largest":
            at = score_at
        case _:
            at = _numbers("--score-at", score_at)
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise AdapterlabError(f"--plot {plot}: give a file that ends with .png or .svg")
    from rich.console import Console

    from adapterlab.cli.progress import Stages
    from adapterlab.geometry.result_file import as_text
    from adapterlab.harness.geometry import RESULT, default_folder, geometry_of
    from adapterlab.names import printable

    folder = out or default_folder(tuned)
    console = Console(stderr=json)
    with Stages(console) as stages:
        result = geometry_of(
            tuned,
            base,
            contestant=contestant,
            task=task,
            texts=texts,
            budgets=budgets,
            score_at=at,
            rows=rows,
            hypotheses=_names(hypotheses),
            measures=_names(measures),
            draws=draws,
            seed=seed,
            out=folder,
            watch=_Progress(stages),
        )
    written = [folder / RESULT]
    if plot is not None or html is not None:
        from adapterlab.report.geometry import save_plot, write_html

        for file, write in ((plot, save_plot), (html, write_html)):
            if file is not None:
                write(result, file)
                written.append(file)
    if json:
        print(as_text(result), end="")
        return
    from adapterlab.report.geometry_terminal import show

    show(result, console)
    print(printable(f"Written: {', '.join(map(str, written))}"))


class _Progress:
    """Display of a stage and how much of it is done; without a terminal a line at each stage and every half minute."""

    def __init__(self, stages: Stages) -> None:
        self._stages, self._stage = stages, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        text = f"{stage}: {done} of {total}" if total > 1 else stage
        log = self._stages.log
        # Each hypothesis is a stage of its own words, and no line of its own.
        if log is None or stage.split(" ")[0] != self._stage.split(" ")[0]:
            self._stages(text)
        else:
            log.show(lambda: text)
        self._stage = stage


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _names(text) or ())
    except ValueError:
        raise AdapterlabError(f"{option} {text!r}: give numbers of parameters, such as 10000,100000") from None


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
