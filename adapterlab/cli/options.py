"""Options that several commands take.

>>> MapOption.__metadata__[0].help
'Argument map to test; the built-in one if not given.'
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MapOption = Annotated[
    Path | None, typer.Option("--map", help="Argument map to test; the built-in one if not given.", show_default=False)
]
LockOption = Annotated[
    Path | None,
    typer.Option(help="Lock of the map; the one with the results or beside the map if not given.", show_default=False),
]
EvidenceOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Tables of other results that bear on the map's claims.")
]
RelevanceOption = Annotated[
    float | None,
    typer.Option(help="Weight of the results for the map's claims, from 0 to 1; by model size if not given."),
]
