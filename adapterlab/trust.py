"""Python files that may be run because a user said so, by their content.

A study can name Python files of adapters and tasks. Such code is run only if its content was trusted on this machine before,
or is now; a file that changed is asked about again.

>>> untrusted([Path("nowhere.py")])
[PosixPath('nowhere.py')]
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text

TRUSTED = "trusted.json"
"""Name of the file with the hashes of trusted files."""


class UntrustedCodeError(AdapterlabError):
    """A study names Python files whose content nobody trusted on this machine."""


def config_folder() -> Path:
    """Return `$ADAPTERLAB_CONFIG`, or `adapterlab` in `$XDG_CONFIG_HOME` or `~/.config`."""
    if own := os.environ.get("ADAPTERLAB_CONFIG"):
        return Path(own)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "adapterlab"


def untrusted(files: Iterable[str | Path]) -> list[Path]:
    """Return the files that must not be run yet; those that cannot be read are among them.

    Args:
        files: Python files.
    """
    known = set(_hashes())
    return [Path(file) for file in files if _hash(Path(file)) not in known]


def trust(files: Iterable[str | Path]) -> None:
    """Record the present content of files as trusted; a file that cannot be read is left out.

    Args:
        files: Python files.

    Raises:
        AdapterlabError: The record cannot be written.
    """
    new = {found: str(file) for file in files if (found := _hash(Path(file))) is not None}
    known = _hashes()
    if new.keys() <= known.keys():
        return
    folder = config_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(folder / TRUSTED, json.dumps(known | new, indent=1) + "\n", mode=0o600)
    except OSError as error:
        raise AdapterlabError(f"cannot record trusted files in {folder}: {error.strerror}") from error


def require(files: Sequence[str | Path], study: str, trusted: bool) -> None:
    """Raise an error if a study names Python files that must not be run; trust them first if the user said so.

    Args:
        files: Python files that the study names.
        study: The study, as the user called it.
        trusted: True if the user trusts the files as they are.

    Raises:
        UntrustedCodeError: A file is not trusted.
    """
    if trusted:
        trust(files)
    found = [file for file in untrusted(files) if file.is_file()]
    if found:
        raise UntrustedCodeError(
            f"{study} runs the Python code in {found[0]}, which is not trusted on this machine, or has changed since: "
            "read it, then give --trust once (in Python, trust=True)"
        )


def _hash(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def _hashes() -> dict[str, str]:
    """Return the trusted hashes, with the path of each file when it was trusted; none if the record cannot be read."""
    try:
        found = json.loads((config_folder() / TRUSTED).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
