"""The maps and studies that come with the program."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from adapterlab.errors import UnknownNameError

PACKAGE = Path(__file__).parent
"""Folder of this package."""


def shipped(kind: Literal["maps", "studies"], name: str) -> Path:
    """The file of this name among those that come with the program, installed or run from its source.

    Raises `UnknownNameError` with the names that exist.
    """
    folders = [PACKAGE / kind, PACKAGE.parent / kind]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    if not (folder / name).is_file():
        raise UnknownNameError(kind.removesuffix("s"), name, [p.name for p in folder.glob("*.*")])
    return folder / name
