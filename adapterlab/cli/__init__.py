"""The command line, `adapterlab`: a thin layer over `adapterlab.api`.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from adapterlab.argmap.cli import app as map_app
from adapterlab.cli import adapters, results, studies, tune
from adapterlab.errors import AdapterlabError

app = typer.Typer(
    help="Which adapter, at which learning rate, and is the difference real?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    """Print the version and exit, if `wanted`."""
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(f"adapterlab {version('adapterlab')}")
    except PackageNotFoundError:
        raise AdapterlabError(
            "the version is not known, because the package is not installed: `pip install -e .`"
        ) from None
    raise typer.Exit


@app.callback()
def _adapterlab(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Accept the options that are given before a command."""


for _command in (
    studies.run,
    results.status,
    results.compare,
    results.export,
    tune.tune,
    adapters.adapters,
    adapters.explain,
    studies.honest,
):
    app.command()(_command)
app.add_typer(map_app, name="map")


def main() -> None:
    """Run the command line; a user's error is one message and exit status 2."""
    try:
        app()
    except AdapterlabError as error:
        print(f"adapterlab: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(
            f"adapterlab: no room on the disk{where}: free some space, and give the same command again", file=sys.stderr
        )
        sys.exit(2)
