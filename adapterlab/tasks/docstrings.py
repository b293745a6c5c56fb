r"""The `docstrings` task: the source of a function, and the first sentence of its docstring.

The functions are read from the sources of installed packages that this package depends on, without importing them. Their
licences are those of NumPy, SciPy, pandas and PyTorch (BSD, 3 clauses) and, out of domain, of statsmodels and Jinja (BSD, 3
clauses) and transformers (Apache 2.0). Nothing of them is stored or shipped.

>>> source = 'def double(x):\n    \"\"\"Return twice a number.\"\"\"\n    return x * 2\n'
>>> list(summaries(source, shortest=2))
[Completion(prompt='def double(x):\n    return x * 2\n# Summary:', completion=' Return twice a number.')]
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from adapterlab.files import cache_folder, write_text
from adapterlab.tasks.base import Part
from adapterlab.tasks.text import Completion, CompletionTask

PACKAGES = ("numpy", "pandas", "scipy", "torch")
"""Packages that the model is trained and tested on."""
OTHER_PACKAGES = ("jinja2", "statsmodels", "transformers")
"""Packages out of domain."""
FILES, OTHER_FILES = 200, 60
"""Files of each package that are read, chosen by a hash of their paths, so that reading takes seconds."""
LONGEST = 800
"""Most characters of a function without its docstring."""
EDITION = 1
"""Version of the way in which pairs are cut; pairs in the cache of other versions are not read."""
PARTS = (Part.TRAIN, Part.VALIDATION, Part.TEST, Part.OOD)
_SKIPPED = {"tests", "test", "testing", "_vendor", "vendored", "externals", "third_party"}
_LARGEST = 200_000


class Docstrings(CompletionTask):
    """Functions without their docstrings, completed by the first sentence of the docstring."""

    name = "docstrings"
    title = "Functions and their summaries"
    explanation = (
        "Code in, English out: the source of a function is given, and the first sentence of its docstring is asked for. "
        "Trained and tested on different files of numpy, pandas, scipy and torch. Out of domain: other packages."
    )

    def completions(self, part: Part) -> Sequence[Completion]:
        return _pairs()[part]

    def fingerprint(self) -> str:
        content = json.dumps({part.value: pairs for part, pairs in _pairs().items()})
        read = ", ".join(f"{name} {_version(name)}" for name in (*PACKAGES, *OTHER_PACKAGES))
        return f"functions of {read}: {_digest(content)}, read by Python {platform.python_version()}"


def summaries(source: str, shortest: int = 3) -> Iterator[Completion]:
    """Yield the functions of a module that have a summary and are neither very short nor very long.

    Args:
        source: Source code of a module.
        shortest: Fewest lines of a function without its docstring.

    Yields:
        Functions without their docstrings, with the first sentences of these.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = source.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or len(node.body) < 2:
            continue
        summary = (ast.get_docstring(node) or "").split("\n\n")[0]
        summary = " ".join(summary.split())
        doc = node.body[0]
        code = [*lines[node.lineno - 1 : doc.lineno - 1], *lines[(doc.end_lineno or doc.lineno) : node.end_lineno]]
        text = textwrap.dedent("\n".join(line.rstrip() for line in code if line.strip()))
        if 12 <= len(summary) <= 110 and summary.endswith(".") and len(code) >= shortest and len(text) <= LONGEST:
            yield Completion(f"{text}\n# Summary:", f" {summary}")


@cache
def _pairs() -> dict[Part, tuple[Completion, ...]]:
    """Return the pairs of each part: those in the cache if the files are unchanged since, else those of the files."""
    files = _files()
    key = hashlib.blake2b(repr([_facts(*file) for file in files]).encode(), digest_size=8).hexdigest()
    stored = cache_folder() / "docstrings" / f"{EDITION}-{key}.json"
    found = _read(stored)
    if found is None:
        found = _divided(files)
        with suppress(OSError):  # a cache that cannot be written costs time alone
            stored.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps(found)
            write_text(stored, f"{_digest(text)}\n{text}")
    return {part: tuple(Completion(*pair) for pair in found[part.value]) for part in PARTS}


def _divided(files: Sequence[tuple[str, Path, str]]) -> dict[str, list[Completion]]:
    """Return the pairs by part. A file is in one part; a function or summary that returns in a later part is left out."""
    found: dict[str, list[Completion]] = {part.value: [] for part in PARTS}
    for package, root, path in files:
        part = Part.OOD if package in OTHER_PACKAGES else _part_of(f"{package}/{path}")
        try:
            source = (root / path).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        found[part.value].extend(summaries(source))
    seen: set[str] = set()
    for part in PARTS:
        found[part.value] = list(dict.fromkeys(pair for pair in found[part.value] if not {*pair} & seen))
        seen |= {text for pair in found[part.value] for text in pair}
    return found


def _files() -> list[tuple[str, Path, str]]:
    """Return the files to read: package, its folder, and the path below it, in an order that depends on the paths alone."""
    found = []
    for package in (*PACKAGES, *OTHER_PACKAGES):
        spec = find_spec(package)
        root = Path(next(iter(spec.submodule_search_locations or ()))) if spec else None
        paths = [file.relative_to(root).as_posix() for file in root.rglob("*.py")] if root else []
        kept = [path for path in paths if not _SKIPPED & set(path.split("/")) and not path.endswith("__init__.py")]
        count = OTHER_FILES if package in OTHER_PACKAGES else FILES
        found += [(package, root, path) for path in sorted(kept, key=_order)[:count] if root]
    return [file for file in found if (file[1] / file[2]).stat().st_size <= _LARGEST]


def _facts(package: str, root: Path, path: str) -> tuple[str, str, int, int]:
    found = (root / path).stat()
    return package, path, found.st_size, found.st_mtime_ns


def _read(stored: Path) -> dict[str, list[Completion]] | None:
    """Return the pairs in a file of the cache, or None if it is not there or damaged."""
    try:
        checksum, _, text = stored.read_text("utf-8").partition("\n")
        return json.loads(text) if checksum == _digest(text) else None
    except (OSError, ValueError):
        return None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _order(path: str) -> bytes:
    return hashlib.sha256(path.encode()).digest()


def _part_of(path: str) -> Part:
    first_byte = _order(f"part of {path}")[0]
    return Part.VALIDATION if first_byte < 26 else Part.TEST if first_byte < 64 else Part.TRAIN


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
