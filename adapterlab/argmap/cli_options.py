"""Options that several `adapterlab map` commands have.

>>> Watch.__metadata__[0].default
'--watch'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterlab.names import is_control, printable

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


def show(text: object) -> None:
    r"""Print a text with its control characters as escapes: a map may come from someone else.

    >>> show("[Rain\x1b[2J]")
    [Rain\x1b[2J]

    Args:
        text: The text, or what is shown as text.
    """
    print(printable(text))


def show_json(data: object) -> None:
    r"""Print data as JSON, with control characters as JSON escapes.

    >>> show_json({"title": "Regen \x9b \u202e"})
    {
     "title": "Regen \u009b \u202e"
    }

    Args:
        data: Plain data.
    """
    text = json.dumps(data, indent=1, ensure_ascii=False)
    print("".join(_as_json(c) if c != "\n" and is_control(c) else c for c in text))


def _as_json(character: str) -> str:
    # A delete character is the one control that JSON leaves as it is.
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


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
