"""Files of maps and studies that come with the package.

>>> shipped("studies", "quick.toml").name
'quick.toml'
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from adapterlab.errors import UnknownNameError

PACKAGE = Path(__file__).parent
"""Folder of this package."""


def shipped(kind: Literal["maps", "studies"], name: str) -> Path:
    """Return the path of a map or study that comes with the package, installed or run from a checkout.

    Args:
        kind: Folder of the file.
        name: Name of the file with its ending.

    Raises:
        UnknownNameError: There is no such file; the message names similar ones.
    """
    folders = [PACKAGE / kind, PACKAGE.parent / kind]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    if not (folder / name).is_file():
        raise UnknownNameError(kind.removesuffix("s"), name, [p.name for p in folder.glob("*.*")])
    return folder / name
