"""Text that needs no download: the source of the standard library of the running Python.

The embedded base model is trained on `documents("train")`, and never on `documents("heldout")`. The split depends on a hash
of each file's path inside the library, so a file stays on its side of the split in every version of Python.

>>> split_of("json/decoder.py"), split_of("stat.py"), split_of("test/test_json/test_decode.py")
('train', 'heldout', 'train')
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
"""One in this number of files is held out, test suites excepted, which are all used for training."""

# Tables of numbers and generated text, which would outweigh the code that people wrote.
_GENERATED = ("encodings/", "pydoc_data/", "lib2to3/pgen2/", "test/encoded_modules/", "test/cjkencodings/")
_LONGEST = 150_000
TOOLS = ("idlelib/", "lib2to3/", "distutils/", "tkinter/", "turtledemo/")
"""Folders of whole programs inside the library, which some distributions leave out."""


@dataclass(frozen=True)
class Document:
    """One source file."""

    path: str
    """Path relative to the library, with `/` between parts."""
    text: str
    """Content of the file."""


def is_test(path: str) -> bool:
    """Return True if a file belongs to one of the library's test suites, which some distributions leave out.

    Args:
        path: Path relative to the library, with `/` between parts.
    """
    return any(part in ("test", "tests", "idle_test") for part in path.split("/"))


def split_of(path: str) -> Split:
    """Return the side of the split that a file is on.

    Args:
        path: Path relative to the library, with `/` between parts.
    """
    if is_test(path):
        return "train"
    digest = hashlib.sha256(path.encode()).digest()
    return "heldout" if int.from_bytes(digest[:8], "big") % HELDOUT_IN == 0 else "train"


@cache
def documents(split: Split) -> tuple[Document, ...]:
    """Return the library's Python files on one side of the split, in the order of their paths.

    Files that are generated, very short, very long or not UTF-8 are left out.

    Args:
        split: Side of the split.

    Raises:
        AdapterlabError: This Python comes without the source of its library.
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
            f"no Python source found in the standard library at {root}: the embedded tasks are made from it; "
            "install a Python that ships its library as source"
        )
    return tuple(found)
