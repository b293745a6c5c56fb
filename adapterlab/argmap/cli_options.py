"""Options that several `adapterlab map` commands have.

>>> Watch.__metadata__[0].default
'--watch'
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adapterlab.argmap.model.map import Map

File = Annotated[Path, typer.Argument(help="A map in Argdown.", show_default=False)]
SemanticsName = Annotated[
    str | None,
    typer.Option(
        "--semantics",
        help="Rule that computes credences: bayes, quadratic-energy, df-quad or log-odds. Default: bayes if the map "
        "states what its claims predict, otherwise quadratic-energy.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out the parts of the map that have errors.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help='A new number: "[Claim]=0.3" for a credence, "<Argument>=0.8" for an inference, "[A] if [B]=0.7" or '
        '"[A] if not [B]=0.4" for what is predicted of A. May be repeated.',
    ),
]
ThesisTitle = Annotated[
    str | None, typer.Option("--thesis", help="Title of a claim. Default: the first thesis in the map.")
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Repeat whenever the file changes, with one line each time, until Ctrl-C.")
]


def read_map(file: Path, skip_broken: bool) -> Map:
    """Return the map of a file.

    Args:
        file: The file.
        skip_broken: Accept a map with errors.

    Raises:
        AdapterlabError: The file cannot be read, or it has errors that are not accepted.
    """
    from adapterlab.argmap.model import files

    return files.read(file) if skip_broken else files.load(file)
