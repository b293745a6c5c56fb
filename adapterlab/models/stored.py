"""Folders of models in the cache: made whole or not at all, for the owner alone, and never through a link.

>>> model_cache().name
'models'
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.files import cache_folder


def model_cache() -> Path:
    """Return the folder of the cache that holds models."""
    return cache_folder().absolute() / "models"


def is_stored(folder: Path) -> bool:
    """Return True if a folder of the cache exists.

    Args:
        folder: A folder in `model_cache()`.

    Raises:
        AdapterlabError: If it is a link, or belongs to another user, who could have put any weights there.
    """
    if folder.is_symlink():
        raise AdapterlabError(f"{folder} is a link: remove it, and a model is written there again")
    if not folder.is_dir():
        return False
    if os.geteuid() not in (0, folder.stat().st_uid):
        raise AdapterlabError(f"{folder} belongs to another user: set ADAPTERLAB_CACHE to a folder of your own")
    return True


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`, which becomes it if the `with` block ends without an error.

    If another process finishes the same folder first, the files of that process stay, and these are dropped.

    Args:
        folder: A folder in `model_cache()`.

    Yields:
        The folder to write to in the meantime; it is removed on an error.

    Raises:
        AdapterlabError: If the cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise AdapterlabError(
            f"cannot write to {folder.parent} ({error.strerror}): set ADAPTERLAB_CACHE to a folder that can be written"
        ) from error
    try:
        yield partial
        if not is_stored(folder):
            try:
                partial.replace(folder)
            except OSError:
                if not is_stored(folder):
                    raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
