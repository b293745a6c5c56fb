"""The command `adapterlab map lock`: record a map's claims, tests and forecast before a study runs.

>>> app = typer.Typer()
>>> add_to(app)
>>> [command.name for command in app.registered_commands]
['lock']
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterlab.argmap.cli_options import File, show

if TYPE_CHECKING:
    from adapterlab.argmap import Map
    from adapterlab.lab.run.resolve import ResolvedStudy
    from adapterlab.verdict.lock import Lock


def add_to(app: typer.Typer) -> None:
    """Register the command.

    Args:
        app: The commands for argument maps.
    """
    app.command("lock")(_lock)


def _lock(
    file: File,
    study: Annotated[
        str | None,
        typer.Option(help="Study that will test the map: its file, or the name of a built-in one.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File of the lock. Default: NAME.lock.json beside the map, or in the study's folder of results.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show what has changed since; exit with 1 if anything has.")
    ] = False,
) -> None:
    """Record claims, tests, thresholds and forecast before a study runs, with a hash and the date."""
    from adapterlab.argmap.model import files
    from adapterlab.lab.run.locate import open_study
    from adapterlab.lab.run.resolve import resolve
    from adapterlab.verdict.lock import SHOWN, lock_file, make_lock, read_lock, write_lock

    the_map = files.load(file)
    folder, resolved = None, None
    if study is not None:
        spec, folder = open_study(study)
        resolved = resolve(spec)
    path = out or lock_file(file, folder)
    if check:
        _show_changes(read_lock(path), path, the_map, resolved)
        return
    new = make_lock(the_map, resolved)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = write_lock(new, path)
    show(f"{path}: locked on {lock.date}, hash {lock.hash[:SHOWN]}" + (", unchanged" if lock != new else ""))
    show(f"{len(lock.content['claims'])} claims, {len(lock.content['tests'])} tests; {lock.forecast['semantics']}:")
    for title in the_map.theses:
        show(f"{lock.forecast['claims'][f'[{title}]']:6.3f}  [{title}]")
    if study is None:
        show("Thresholds that the study states are not resolved; --study names the study that will test the map.")


def _show_changes(lock: Lock, path: Path, the_map: Map, study: ResolvedStudy | None) -> None:
    from adapterlab.errors import AdapterlabError
    from adapterlab.verdict.lock import SHOWN

    locked = lock.content["study"]
    if locked is not None and study is None:
        raise AdapterlabError(f"{path} was written for the study {locked['name']}: name it with --study")
    found = [] if lock.is_intact else ["the lock itself was edited by hand"]
    found += lock.changes(the_map, study)
    for change in found:
        show(change)
    if found:
        show(f"{len(found)} change{'s' * (len(found) != 1)} since {lock.date}")
        raise typer.Exit(1)
    show(f"nothing has changed since {lock.date}, hash {lock.hash[:SHOWN]}")
