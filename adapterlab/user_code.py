"""Load Python files of a user's own that define adapters or tasks.

>>> import tempfile
>>> registry = {}
>>> with tempfile.TemporaryDirectory() as folder:
...     file = Path(folder) / "mine.py"
...     _ = file.write_text("x = 1")
...     load_module(file, registry, "adapter: subclass LinearAdapter and set its name")
Traceback (most recent call last):
    ...
adapterlab.errors.AdapterlabError: ...mine.py defines no adapter: subclass LinearAdapter and set its name
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.names import name_problem


def load_module(path: Path, registry: MutableMapping[str, type[Any]], should_define: str) -> None:
    """Run a Python file, so that the classes that it defines register themselves; a file is run once for each process.

    Args:
        path: The file.
        registry: Classes by name, to which defining a class adds an entry.
        should_define: Description of what the file should define, for the error message.

    Raises:
        AdapterlabError: The file is missing, cannot be run, defines nothing, or reuses a name. `registry` is unchanged.
    """
    path = path.resolve()
    module = f"adapterlab_file_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    if module in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise AdapterlabError(f"{path} is not a Python file")
    before = dict(registry)
    sys.modules[module] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[module])
        problem = _problem(before, registry, should_define)
    except Exception as error:  # the user's file may raise any
        problem = f"cannot be run: {type(error).__name__}: {error}"
    if problem is not None:
        del sys.modules[module]
        registry.clear()
        registry.update(before)
        raise AdapterlabError(f"{path} {problem}")


def _problem(before: Mapping[str, type[Any]], after: Mapping[str, type[Any]], lacks: str) -> str | None:
    """Return what is wrong with the definitions of a file, or None."""
    for name, other in before.items():
        if after[name] is not other:
            where = getattr(sys.modules[other.__module__], "__file__", other.__module__)
            return f"defines {name!r}, as {where} does: give it another name"
    for name in after.keys() - before.keys():
        if problem := name_problem(name):
            return f"defines a class whose name {name!a} {problem}"
    return None if len(after) > len(before) else f"defines no {lacks}"
