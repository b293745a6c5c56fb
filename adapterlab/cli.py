"""The command line: `adapterlab`. Heavy modules load inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys

import typer

from adapterlab.argmap.cli import app as map_app
from adapterlab.errors import AdapterlabError

app = typer.Typer(
    help="Which adapter, at which learning rate, and is the difference real?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(map_app, name="map")


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    try:
        app()
    except AdapterlabError as error:
        print(f"adapterlab: {error}", file=sys.stderr)
        sys.exit(2)
