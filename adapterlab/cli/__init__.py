"""The command line, `adapterlab`: a thin layer over `adapterlab.api`.

Heavy modules are imported inside the commands, which keeps `--help` fast.
"""

from __future__ import annotations

import errno
import sys

import typer

from adapterlab.argmap.cli import app as map_app
from adapterlab.cli import adapters, results, studies, tune
from adapterlab.errors import AdapterlabError

ABOUT = "Compare adapters: which one, at which learning rate, and is the difference real?"

app = typer.Typer(
    help=ABOUT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _adapterlab() -> None:
    """Compare adapters: which one, at which learning rate, and is the difference real?"""


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
    """Run the command line. An error of the user, or a full disk, prints one message and exits with status 2."""
    try:
        app()
    except AdapterlabError as error:
        print(f"adapterlab: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        file = f" for {error.filename}" if error.filename else ""
        print(
            f"adapterlab: no room on the disk{file}: free some space, then run the same command again", file=sys.stderr
        )
        sys.exit(2)
