"""The command line, `adapterlab`: a thin layer over `adapterlab.api`.

Heavy modules are imported inside the commands, which keeps `--help` fast.
"""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterlab.argmap.cli import app as map_app
from adapterlab.argmap.lint import further
from adapterlab.cli import (
    adapters,
    evaluate,
    evidence,
    geometry,
    map_forecasts,
    map_lock,
    map_next,
    models,
    rate,
    report,
    reproduce,
    results,
    studies,
    tune,
)
from adapterlab.cli.signals import drop_output, status_of, stop_on_signals
from adapterlab.errors import AdapterlabError, AdapterlabWarning
from adapterlab.names import printable

if TYPE_CHECKING:
    from adapterlab.argmap import Diagnostic, Map

ABOUT = "Compare adapters: which one, at which learning rate, and is the difference real?"

app = typer.Typer(
    help=ABOUT,
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
    """Compare adapters: which one, at which learning rate, and is the difference real?"""


for _command in (
    studies.run,
    results.status,
    report.report,
    results.compare,
    results.export,
    results.import_trials,
    results.retry,
    reproduce.reproduce,
    tune.tune,
    rate.rate,
    evaluate.evaluate,
    geometry.geometry,
    adapters.adapters,
    adapters.explain,
    studies.honest,
):
    app.command()(_command)
map_next.add_to(map_app)
map_lock.add_to(map_app)
map_forecasts.add_to(map_app)
app.add_typer(map_app, name="map")


def _check_tests(the_map: Map) -> list[Diagnostic]:
    if not any({"test", "geometry_test"} & claim.data.keys() for claim in the_map.claims.values()):
        return []  # the rest of the package is not needed
    from adapterlab.verdict.check_tests import check_tests

    return check_tests(the_map)


further.CHECKS.append(_check_tests)
app.add_typer(models.app, name="models")
app.add_typer(evidence.app, name="evidence")


def _show_warning(others: Callable[..., None], message: Warning | str, *details: Any) -> None:
    """Print a warning of this package as one line, and others as Python does."""
    if isinstance(message, AdapterlabWarning):
        print(f"adapterlab: {printable(message)}", file=sys.stderr)
    else:
        others(message, *details)


def main() -> None:
    """Run the command line. An error of the user, or a full disk, prints one message and exits with status 2."""
    warnings.showwarning = partial(_show_warning, warnings.showwarning)
    stop_on_signals()
    try:
        app()
    except AdapterlabError as error:
        print(f"adapterlab: {printable(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):  # the reader of the output is gone, or its terminal
            drop_output()
            sys.exit(status_of(error))
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        file = f" for {error.filename}" if error.filename else ""
        print(
            f"adapterlab: no room on the disk{file}: free some space, then run the same command again", file=sys.stderr
        )
        sys.exit(2)
