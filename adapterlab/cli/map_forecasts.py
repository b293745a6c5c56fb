"""The command `adapterlab map forecasts`: how good the forecasts of resolved claims were.

>>> app = typer.Typer()
>>> add_to(app)
>>> [command.name for command in app.registered_commands]
['forecasts']
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterlab.argmap.cli_options import AsJson, show_json


def add_to(app: typer.Typer) -> None:
    """Register the command.

    Args:
        app: The commands for argument maps.
    """
    app.command("forecasts")(_forecasts)


def _forecasts(
    results: Annotated[
        list[Path],
        typer.Argument(help="verdict.json of studies, or the folders of their results.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Score what the map, the survey and the papers said beforehand of claims that contests have resolved."""
    from rich.console import Console

    from adapterlab.report.forecasts import forecasts_to_json, show_forecasts
    from adapterlab.verdict.resolution import read_resolution

    resolution = read_resolution(results)
    if as_json:
        show_json(forecasts_to_json(resolution))
        return
    show_forecasts(resolution, Console())
