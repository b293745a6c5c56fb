"""The command `reproduce`: train a random sample of published trials again.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["reproduce", "no/such/folder"]).exception)
'no/such/folder has no trials.parquet: give a folder of published results, such as results/real-1'
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterlab.errors import AdapterlabError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterlab.lab.ledger.records import Record
    from adapterlab.lab.run.reproduce import Published, Reproduced

FILE = "trials.parquet"
"""Name of the file of published trials in a folder."""


def reproduce(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders of published results, or folders of these.")
    ],
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the trials to draw.")] = 0.01,
    least: Annotated[int, typer.Option(min=1, help="Fewest trials of each study.")] = 3,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all studies together.")] = 5.0,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the draw; a new one if not given.", show_default=False)
    ] = None,
) -> None:
    """Train a random sample of published trials again; exit with status 1 if an outcome is not the published one."""
    from rich.console import Console

    from adapterlab.lab.ledger.trial_file import read_trial_file
    from adapterlab.lab.run.reproduce import OF_THE_NOISE, Published
    from adapterlab.report.plain import plain

    console = Console()
    files = [file for folder in folders for file in _files(folder)]
    seed = random.randrange(1_000_000) if seed is None else seed
    rng, end = random.Random(seed), time.monotonic() + 60 * minutes
    console.print(
        plain(
            f"Draw {seed}. A loss agrees if it differs by at most {OF_THE_NOISE:g} of the seed noise of its task: rounding "
            "on another machine does less."
        ),
        soft_wrap=True,
        highlight=False,
    )
    found: list[Reproduced] = []
    for i, file in enumerate(files):
        console.print(plain(f"\n{file.parent}"), style="bold", highlight=False)
        try:
            published = Published.open(read_trial_file(file))
        except AdapterlabError as error:
            console.print(plain(f"not trained here: {error}"), soft_wrap=True, highlight=False)
            continue
        seconds = (end - time.monotonic()) / (len(files) - i)
        found += _rerun(published, share, least, seconds, rng, console)
    wrong = [each for each in found if not each.agrees]
    exact = sum(each.verdict == "equal to the last bit" for each in found)
    if not found:
        raise AdapterlabError("no trial was trained: give more --minutes, or fetch the models that the studies need")
    console.print(
        plain(f"\n{len(found) - len(wrong)} of {len(found)} outcomes agree, {exact} of them to the last bit."),
        highlight=False,
    )
    if wrong:
        raise typer.Exit(1)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.rglob(FILE)) if folder.is_dir() else []
    if not files:
        raise AdapterlabError(f"{folder} has no {FILE}: give a folder of published results, such as results/real-1")
    return files


def _rerun(
    published: Published, share: float, least: int, seconds: float, rng: random.Random, console: Console
) -> list[Reproduced]:
    """Draw trials of a study and train them, with a paragraph for each."""
    from adapterlab.lab.run.reproduce import duration_of
    from adapterlab.report.plain import plain

    sample = published.draw(share, least, seconds, rng)
    many = f"{len(sample.drawn)} of {sample.of} trials drawn"
    if sample.too_long:
        many += f"; {sample.too_long} take more than {seconds / least:.0f} s each and were left out"
    console.print(plain(many), soft_wrap=True, highlight=False)
    found = []
    with console.status("") as display:

        def watch(record: Record) -> None:
            trial = record.finished.trial
            display.update(
                plain(f"training {trial.method} on {trial.task}, published time {duration_of(record):.0f} s")
            )

        for each in published.rerun(sample, seconds, watch):
            found.append(each)
            console.print(plain(_line(each)), soft_wrap=True, highlight=False, style="" if each.agrees else "red")
    if left := len(sample.drawn) - len(found):
        console.print(plain(f"{left} more did not fit in the time: this machine is slower, or busy"), highlight=False)
    return found


def _line(each: Reproduced) -> str:
    """Return the line about a trial: contestant, published, here, difference, verdict."""
    trial, part = each.trial, each.part
    about = (
        f"{each.contestant} on {trial.task}, rate {trial.lr:.2g}, seed {trial.seed}, {trial.steps} steps ({trial.id})"
    )
    if part:
        (was, _), (now, _) = each.published.scores[part], each.here.scores[part]
        about += f": {part} loss {was:.6f} published, {now:.6f} here, difference {each.difference:+.2g}"
        about += f" (at most {each.tolerance:.2g})"
    code = "; its code has changed since it was published" if each.other_code else ""
    why = f" ({each.here.note})" if each.here.status == "failed" else ""
    return f"  {about}: {each.verdict}{why}{code}"
