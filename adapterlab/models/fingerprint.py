"""Names of base models by content: a hash of a folder's files, or a hub id with the commit of its revision.

>>> len(fingerprint("embedded"))
16
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import FileStamp, stamp_of
from adapterlab.models.catalogue import CATALOGUE
from adapterlab.models.gguf_file import converted, converted_folder
from adapterlab.models.stored import is_stored

EMBEDDED = "embedded"
"""Name of the model that comes with the package."""
TEMPLATES = "additional_chat_templates"
"""Folder of chat templates beside the default one, in a model's folder."""
DECISIVE = {
    *(".safetensors", ".json", ".jinja", ".txt", ".model"),
    *(".spm", ".bpe", ".codes", ".vocab", ".tiktoken", ".tokenizer", ".jsonl"),
}
"""Endings of the files that decide what a model computes: weights, configurations, tokenizer, chat template, processor. Code
is never run from a model's folder."""


class Place(NamedTuple):
    """Place that transformers load a model from."""

    where: str
    """A folder, or an id on the hub."""
    revision: str | None = None
    """Commit of an id on the hub; None for a folder."""


def folder_of(source: str) -> Path:
    """Return the folder that a source names; for an id on the hub, a path that does not exist.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub.

    Raises:
        AdapterlabError: If a GGUF file cannot be read.
    """
    if source == EMBEDDED:
        return Path(__file__).parent / "base"
    if source in CATALOGUE:
        return CATALOGUE[source].folder
    file = _file_of(source)
    return converted_folder(file) if file else Path(source)


def place_of(source: str) -> Place:
    """Return where a model is loaded from.

    The commit of a hub id is the one in the cache of the hub, so a study that is resumed continues with the same weights; if
    there is none, the newest one is asked for.

    A GGUF file that is used for the first time is converted.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub, which may end with `@` and a
            branch, tag or commit.

    Raises:
        AdapterlabError: If there is no such folder, and the hub does not know the id or cannot be reached; the model is not
            fetched; or a GGUF file cannot be converted.
    """
    if source in CATALOGUE and not is_stored(CATALOGUE[source].folder):
        raise AdapterlabError(
            f"the model {source} is not on this machine: run `{CATALOGUE[source].command}` once "
            f"({CATALOGUE[source].megabytes} MB)"
        )
    if file := _file_of(source):
        return Place(str(converted(file)))
    folder = folder_of(source)
    if folder.exists():
        return Place(str(folder))
    name, _, revision = source.partition("@")
    if source.lower().endswith(".gguf"):
        raise AdapterlabError(f"there is no file {source}: give a GGUF file, a folder of a model, or an id on the hub")
    if source.startswith((".", "/", "~")) or name.count("/") > 1:
        raise AdapterlabError(f"there is no folder {source}: give one that holds a model, or an id on the hub")
    return Place(name, _commit(source, name, revision or "main"))


def fingerprint(source: str = EMBEDDED) -> str:
    """Return a hash of a local model's files that decide what it computes; for an id on the hub, `ID@COMMIT`.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub.

    Raises:
        AdapterlabError: As `place_of` does.
    """
    place = place_of(source)
    if place.revision is not None:
        return f"{place.where}@{place.revision}"
    return hash_folder(Path(place.where))


def hash_folder(folder: Path) -> str:
    """Return a hash of the files in a model's folder that decide what it computes.

    Args:
        folder: The folder.
    """
    return _hash(folder, _seen(folder))


def decisive_files(folder: Path) -> list[Path]:
    """Return the files of a model's folder that decide what it computes, sorted.

    Args:
        folder: The model's folder.
    """
    files = [*folder.glob("*"), *folder.glob(f"{TEMPLATES}/*")]
    return sorted(file for file in files if file.suffix in DECISIVE and file.is_file())


def model_stamps(source: str) -> list[FileStamp]:
    """Return stamps of the files that `fingerprint` covers; none for an id on the hub, since a commit does not change.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub.
    """
    folder = folder_of(source)
    if not folder.exists():
        return []
    file, seen = _file_of(source), _seen(folder)
    hashed = _hash(folder, seen)
    return [
        *([stamp_of(file)] if file else []),
        stamp_of(folder, _hash_names),
        *(FileStamp(str(file), size, time, hashed, _hash_around) for file, size, time in seen),
    ]


def _file_of(source: str) -> Path | None:
    """Return the file that a source names, which must be a GGUF file; None for other sources."""
    return Path(source) if source not in (EMBEDDED, *CATALOGUE) and Path(source).is_file() else None


Seen = tuple[tuple[Path, int, int], ...]
"""Files with their sizes and the times of their last changes."""


def _seen(folder: Path) -> Seen:
    found = [(file, file.stat()) for file in decisive_files(folder)]
    return tuple((file, facts.st_size, facts.st_mtime_ns) for file, facts in found)


@cache
def _hash(folder: Path, seen: Seen) -> str:
    """Return the hash of a folder's files, read again once their sizes or times differ."""
    digest = hashlib.blake2b(digest_size=8)
    for file, *_ in seen:
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _hash_around(file: Path) -> str:
    """Return the hash of the model that a file belongs to: weights need not be hashed one by one as well."""
    folder = file.parent.parent if file.parent.name == TEMPLATES else file.parent
    return _hash(folder, _seen(folder))


def _hash_names(folder: Path) -> str:
    return "/".join(str(file.relative_to(folder)) for file in decisive_files(folder))


def _commit(source: str, name: str, revision: str) -> str:
    """Return the commit of a revision: the cached one, else the one that the hub names."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
        file = found if isinstance(found, str) else hf_hub_download(name, "config.json", revision=revision)
    except Exception as error:  # the hub raises many types for the same mistakes
        first = str(error).strip().split("\n")[0].rstrip(".")
        raise AdapterlabError(
            f"cannot load the model {source!r}: {first}; there is no folder of that name either"
        ) from error
    return Path(file).parent.name  # .../snapshots/COMMIT/config.json
