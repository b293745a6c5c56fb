"""The models on this machine, and those that can be fetched.

>>> listed()[0].name, listed()[0].parameters
('embedded', 4262144)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapterlab.models.catalogue import CATALOGUE
from adapterlab.models.fingerprint import EMBEDDED, folder_of
from adapterlab.models.gguf_file import card_of
from adapterlab.models.stored import is_stored, model_cache


@dataclass(frozen=True)
class Listed:
    """A model that studies can name."""

    name: str
    """Name after `--model`."""
    title: str
    """The model in words."""
    parameters: int
    """Number of parameters; 0 if not known."""
    licence: str
    """Licence of the weights."""
    megabytes: float
    """Size of its folder, or of what is fetched; 0 if not known."""
    folder: Path | None
    """Folder of the model; None if it is not on this machine."""
    command: str = ""
    """Command that fetches it, if it is not on this machine."""


def listed() -> list[Listed]:
    """Return the embedded model, those of the catalogue, and the GGUF files that were converted."""
    base = folder_of(EMBEDDED)
    found = [Listed(EMBEDDED, "A small language model of Python source", 4_262_144, "MIT", _size(base), base)]
    for entry in CATALOGUE.values():
        there = is_stored(entry.folder)
        size = _size(entry.folder) if there else entry.megabytes
        place, command = (entry.folder, "") if there else (None, entry.command)
        found.append(Listed(entry.name, entry.title, entry.parameters, entry.licence, size, place, command))
    return [*found, *_converted()]


def _converted() -> Iterator[Listed]:
    for folder in sorted(model_cache().glob("gguf-*")):
        card = card_of(folder) if is_stored(folder) and (folder / "README.md").is_file() else {}
        parameters = card.get("parameters", "0").replace(",", "")
        title = card.get("name", "") or "GGUF file"
        yield Listed(
            card.get("file", str(folder)),
            title,
            int(parameters) if parameters.isdecimal() else 0,
            card.get("licence", "not stated"),
            _size(folder),
            folder,
        )


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6
