"""`adapterlab map ...`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Read, check and score argument maps.", no_args_is_help=True)


@app.callback()
def _map() -> None:
    """Read, check and score argument maps."""
