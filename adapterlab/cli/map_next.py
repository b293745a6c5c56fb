"""The command `adapterlab map next`: the contest, not yet run, that would move the thesis most for its compute.

>>> app = typer.Typer()
>>> add_to(app)
>>> [command.name for command in app.registered_commands]
['next']
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterlab.argmap.cli_options import AsJson, File, ThesisTitle, show, show_json

if TYPE_CHECKING:
    from adapterlab.verdict.next_contest import NextContest


NOT_TESTED = "not tested"
"""Word of a verdict file for an instrument that tested nothing."""


def add_to(app: typer.Typer) -> None:
    """Register the command.

    Args:
        app: The commands for argument maps.
    """
    app.command("next")(_next)


def _next(
    file: File,
    results: Annotated[
        list[Path] | None,
        typer.Option("--done", help="verdict.json of a study whose claims are tested already. May be repeated."),
    ] = None,
    model: Annotated[str, typer.Option(help="Model that the contest would run on.")] = "embedded",
    weight: Annotated[
        float | None,
        typer.Option(
            "--relevance",
            min=0,
            max=1,
            help="Weight of results on this model for larger ones; from its size if not given.",
            show_default=False,
        ),
    ] = None,
    thesis: ThesisTitle = None,
    top: Annotated[int, typer.Option(min=1, help="Contests that are shown and timed.")] = 5,
    write: Annotated[Path | None, typer.Option(help="Write the study of the first contest to this TOML file.")] = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Time the contests that are shown.")] = True,
    as_json: AsJson = False,
) -> None:
    """Name the contests, not yet run, that would move the thesis most for each hour of compute."""
    from adapterlab.argmap.model import files
    from adapterlab.report.progress import duration
    from adapterlab.verdict.next_contest import next_contests, unwritable

    the_map = files.load(file)
    done = [title for path in results or [] for title in _tested(path)]
    measured = [title for path in results or [] for title in _tested(path, by_geometry=True)]
    relevance = _relevance(model) if weight is None else weight
    found = next_contests(the_map, done, relevance, thesis, model, measured)[:top]
    hours = [_hours(contest) if measure else None for contest in found]
    order = sorted(range(len(found)), key=lambda i: -found[i].moves / (hours[i] or found[i].steps))
    shown = [_row(found[i], hours[i]) for i in order]
    if write is not None and found:
        _write(found[order[0]], file, write)
    if as_json:
        found_json = {"relevance": relevance, "contests": shown, "no_study": unwritable(the_map, done, model)}
        show_json(found_json)
        return
    for row in shown:
        time = "" if row["hours"] is None else f", about {duration(3600 * row['hours'])}"
        show(f"{row['moves']:.4f}  {row['what']} on {', '.join(row['tasks'])}{time}")
        show(f"        tests {', '.join(f'[{title}]' for title in row['claims'])}")
    for title, reason in unwritable(the_map, done, model).items():
        show(f"        no study is written for [{title}]: {reason}")
    if not shown:
        show("no test is left: every claim with a test was tested")
        return
    show(f"The first column is the expected change of the thesis, with results at a relevance of {relevance:.2f}.")
    if write is not None:
        show(f"To run the first: adapterlab run {write} --map {file}")


def _tested(path: Path, by_geometry: bool = False) -> list[str]:
    """Return the claims that a verdict file has tested by contests, or by geometry."""
    from adapterlab.errors import AdapterlabError

    try:
        claims = json.loads(path.read_text("utf-8"))["claims"]
        if by_geometry:
            tested = (claim for claim in claims if "instruments" in claim)
            return [c["claim"] for c in tested if c["instruments"]["geometry_says"] != NOT_TESTED]
        contests = (claim for claim in claims if not {"geometry", "projects"} & claim.get("test", {}).keys())
        return [claim["claim"] for claim in contests if not claim.get("untested")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterlabError(f"--done {path} is not the verdict.json of a study with a map: {error}") from error


def _relevance(model: str) -> float:
    from adapterlab.errors import AdapterlabError
    from adapterlab.models.listing import listed
    from adapterlab.verdict import relevance
    from adapterlab.verdict.next_contest import TRAINING

    known = {entry.name: entry.parameters for entry in listed() if entry.parameters}
    if model not in known:
        raise AdapterlabError(f"the size of {model} is not known: give --relevance, from 0 to 1")
    return relevance(known[model], TRAINING.steps * TRAINING.batch)


def _hours(contest: NextContest) -> float | None:
    from adapterlab import api

    seconds = api.estimate(contest.study).seconds
    return None if seconds is None else seconds / 3600


def _row(contest: NextContest, hours: float | None) -> dict[str, Any]:
    return {
        "what": contest.title,
        "contestants": list(contest.contestants),
        "tasks": list(contest.study.tasks),
        "claims": list(contest.tests),
        "moves": contest.moves,
        "bits": contest.bits,
        "steps": contest.steps,
        "hours": hours,
    }


def _write(contest: NextContest, file: Path, target: Path) -> None:
    from adapterlab.files import write_text
    from adapterlab.lab.study.as_toml import as_toml

    claims = " and ".join(f"[{title}]" for title in contest.tests)
    write_text(target, f"# Tests {claims} of {file.name}.\n{as_toml(contest.study)}\n")
