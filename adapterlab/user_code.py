"""Python files of a user's own, that define adapters or tasks."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Collection
from pathlib import Path

from adapterlab.errors import AdapterlabError


def load_module(path: Path, registry: Collection[str], should_define: str) -> None:
    """Run a Python file once, so that what it defines is in `registry`.

    Raises `AdapterlabError` if the file is missing, cannot be run, or defines nothing; `should_define` says what it lacks.
    """
    path = path.resolve()
    module = f"adapterlab_file_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    if module in sys.modules:
        return
    before = len(registry)
    spec = importlib.util.spec_from_file_location(module, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise AdapterlabError(f"{path} is no Python file")
    sys.modules[module] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[module])
    except Exception as error:  # whatever the user's file raises
        del sys.modules[module]
        raise AdapterlabError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if len(registry) == before:
        del sys.modules[module]
        raise AdapterlabError(f"{path} defines no {should_define}")
