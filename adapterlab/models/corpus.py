"""The text that needs no download: the standard library of the Python that runs this.

The embedded base model is trained on `documents("train")`; `documents("heldout")` is what it never saw. The split is a
hash of each file's path inside the library, so a file stays on its side of the split in every version of Python.
"""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from adapterlab.errors import AdapterlabError

Split: TypeAlias = Literal["train", "heldout"]
HELDOUT_IN = 10
"""One file of the library proper in this many is held out; its test suites are all for training."""

# Tables of numbers and generated text, no code that anyone wrote: they would drown the rest.
_GENERATED = ("encodings/", "pydoc_data/", "lib2to3/pgen2/", "test/encoded_modules/", "test/cjkencodings/")
_LONGEST = 150_000
TOOLS = ("idlelib/", "lib2to3/", "distutils/", "tkinter/", "turtledemo/")
"""Whole programs inside the library, which some distributions leave out."""


@dataclass(frozen=True)
class Document:
    """One source file: its path inside the library and its text."""

    path: str
    text: str


def is_test(path: str) -> bool:
    """Whether the file belongs to one of the library's test suites (some distributions leave these out)."""
    return any(part in ("test", "tests", "idle_test") for part in path.split("/"))


def split_of(path: str) -> Split:
    """The side of the split that a file of this path (relative to the library, `/` between parts) is on."""
    if is_test(path):
        return "train"
    digest = hashlib.sha256(path.encode()).digest()
    return "heldout" if int.from_bytes(digest[:8], "big") % HELDOUT_IN == 0 else "train"


@cache
def documents(split: Split) -> tuple[Document, ...]:
    """The library's Python files on one side of the split, in the order of their paths.

    Raises `AdapterlabError` if this Python comes without the source of its library.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if "site-packages/" in path or path.startswith(_GENERATED) or split_of(path) != split:
            continue
        try:
            text = file.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if 200 <= len(text) <= _LONGEST:
            found.append(Document(path, text))
    if not found:
        raise AdapterlabError(
            f"no Python source found in the standard library at {root}: the embedded tasks are cut from it; "
            "install a Python that ships its library as source"
        )
    return tuple(found)
