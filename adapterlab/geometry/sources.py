"""Weight changes by the names that a user gives: two checkpoints, or an adapter and its base.

>>> open_change("embedded", "embedded")
Traceback (most recent call last):
adapterlab.errors.AdapterlabError: embedded and embedded are the same model: give a changed model and its base
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterlab.adapters.peft_source import CannotLoadError
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import Change
from adapterlab.geometry.checkpoint import Checkpoint
from adapterlab.geometry.checkpoint_change import CheckpointChange
from adapterlab.geometry.in_model import change_of
from adapterlab.models.fingerprint import fingerprint as hash_of
from adapterlab.models.fingerprint import folder_of, place_of
from adapterlab.models.loading import Head, load, quiet
from adapterlab.surgery import load as load_adapter
from adapterlab.surgery import load_peft
from adapterlab.surgery.adapter_files import CARD, LARGEST_CARD
from adapterlab.surgery.io.peft_import import CONFIG

FILES = ("*.safetensors", "*.json")
"""Files of a model on the hub that are read."""
IN_PYTHON = "load it on the model that it was attached to, or give any_base=True"
"""Way out that loading an adapter on another base names, in a program."""


def open_change(tuned: str | Path, base: str | Path | None = None) -> Change:
    """Return the change from a base model to a changed one.

    Args:
        tuned: A model (a folder, a GGUF file, a fetched model, or a hub id), or the folder of an adapter that this package
            or PEFT saved.
        base: The model that it was trained from. If None, the one that the adapter's folder names.

    Returns:
        The change. That between two checkpoints is read layer by layer; that of an adapter is in memory.

    Raises:
        AdapterlabError: A source is missing, damaged, quantized or not finite; or the base is another model, or not named.
    """
    place = Path(tuned)
    if _is_adapter(place):
        return _of_adapter(place, None if base is None else str(base))
    if base is None:
        raise AdapterlabError(f"{tuned} is a whole model, which needs the model that it was trained from: give --base")
    if _is_adapter(Path(base)):
        raise AdapterlabError(f"the base {base} is an adapter: give the model that {tuned} was trained from")
    if place.is_dir() and _holds_adapters(place):
        raise AdapterlabError(
            f"{tuned} holds no model: name a folder in it that holds an adapter or a model, such as {_holds_adapters(place)}"
        )
    before, after = checkpoint_of(str(base)), checkpoint_of(str(tuned))
    if before.folder.resolve() == after.folder.resolve():
        raise AdapterlabError(f"{tuned} and {base} are the same model: give a changed model and its base")
    return CheckpointChange(before, after)


def checkpoint_of(source: str) -> Checkpoint:
    """Return the checkpoint that a source names, fetched from the hub if it is an id there.

    Args:
        source: A folder, a GGUF file, `embedded`, a fetched model, or a hub id.

    Raises:
        AdapterlabError: There is no such model, or it is damaged or quantized.
    """
    where, revision = place_of(source)
    if revision is None:
        return Checkpoint(Path(where), source)
    from huggingface_hub import snapshot_download

    try:
        with quiet():
            folder = snapshot_download(where, revision=revision, allow_patterns=list(FILES))
    except Exception as error:  # the hub raises many types for the same mistakes
        first = str(error).strip().split("\n")[0].rstrip(".")
        raise AdapterlabError(f"cannot fetch the model {source!r}: {first}") from error
    return Checkpoint(Path(folder), source)


def identity_of(tuned: str | Path, base: str | Path | None) -> str:
    """Return a hash of the sources of a change: their names, and the sizes and times of their files.

    Args:
        tuned: As for `open_change`.
        base: As for `open_change`.
    """
    digest = hashlib.blake2b(digest_size=12)
    sources = [Path(tuned), None if base is None else folder_of(str(base))]
    for name, folder in zip((tuned, base), sources, strict=True):
        digest.update(f"{name}\0".encode())
        if folder is None or not folder.exists():
            folder = folder_of(str(name))
        if not folder.is_dir():
            continue
        for file in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json")):
            facts = file.stat()
            digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def base_named_by(folder: Path) -> str | None:
    """Return the base model that an adapter's folder names, or None.

    Args:
        folder: The folder of an adapter that this package or PEFT saved. Beside PEFT's own file, the folder of results
            that it lies in is asked.
    """
    found = _json(folder / CONFIG).get("base_model_name_or_path") if (folder / CONFIG).is_file() else None
    if not found:
        models = (_json(above / "study.json").get("model") for above in folder.resolve().parents[:3])
        found = next(filter(None, models), None)
    return found if isinstance(found, str) and found else None


def _of_adapter(folder: Path, base: str | None) -> Change:
    named = base_named_by(folder)
    source = base or named
    if source is None:
        raise AdapterlabError(f"{folder} does not name its base model: give --base")
    if base is None and not folder_of(source).exists() and source.startswith(("/", ".")):
        raise AdapterlabError(f"{folder} names {source} as its base, which does not exist: give --base")
    if folder_of(source).is_dir() and _is_adapter(folder_of(source)):
        raise AdapterlabError(f"the base {source} is an adapter: give the model that {folder} was trained on")
    if folder_of(source).is_dir():
        Checkpoint(folder_of(source), source)  # raises clear errors for a quantized or damaged base
    _refuse_other_base(folder, source, named)
    model, _ = load(source, _head_of(folder))
    try:
        handle = load_adapter(model, folder) if (folder / CARD).is_file() else load_peft(model, folder)
    except CannotLoadError as error:
        raise AdapterlabError(f"{error}; is {source} the model that it was trained on?") from error
    except AdapterlabError as error:  # of a load in Python; here the base is an option
        raise AdapterlabError(str(error).replace(IN_PYTHON, "give that model as --base")) from error
    try:
        found = change_of(handle, str(folder))
    finally:
        handle.detach()
    found.base_name = source
    found.notes = _notes(folder, source, named)
    return found


def _refuse_other_base(folder: Path, source: str, named: str | None) -> None:
    """Raise an error if a PEFT folder names a base that is at hand and differs from the one that was given.

    The folders of this package hold fingerprints of their base, which are compared when they are loaded.
    """
    if (folder / CARD).is_file() or named is None or named == source:
        return
    if folder_of(named).is_dir() and folder_of(source).is_dir() and hash_of(named) != hash_of(source):
        raise AdapterlabError(
            f"{folder} was trained on {named}, which is another model than {source}: leave --base out, or give that one"
        )


def _notes(folder: Path, source: str, named: str | None) -> Sequence[str]:
    if (folder / CARD).is_file() or named is None or named == source or folder_of(named).is_dir():
        return ()
    return (f"{folder} names {named} as its base, which is not at hand to be compared with {source}.",)


def _head_of(folder: Path) -> Head:
    """Return the output head that a PEFT folder was trained with; that of a language model for all others."""
    config = _json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if config.get("task_type") != "SEQ_CLS":
        return Head()
    raise AdapterlabError(f"{folder} is an adapter of a classifier: merge it into its model, and give both models")


def _is_adapter(folder: Path) -> bool:
    return (folder / CARD).is_file() or (folder / CONFIG).is_file()


def _holds_adapters(folder: Path) -> Path | None:
    """Return a folder within one that holds no model itself, if that has an adapter."""
    if (folder / "config.json").is_file() or any(folder.glob("*.safetensors")):
        return None
    return next((path.parent for name in (CARD, CONFIG) for path in sorted(folder.glob(f"*/{name}"))), None)


def _json(file: Path) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > LARGEST_CARD:
            return {}
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # what reads the file proper names the damage
    return found if isinstance(found, dict) else {}
