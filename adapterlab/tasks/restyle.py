"""The `restyle` task: the programs of the standard library in another coding style."""

from __future__ import annotations

import ast
import builtins
import keyword
import platform
import re
from collections.abc import Sequence
from functools import cache

from adapterlab.models.corpus import TOOLS, Document, documents, is_test
from adapterlab.tasks.base import Part
from adapterlab.tasks.text import WindowTask

OTHER_KIND = ("asyncio/", "email/", "unittest/", "multiprocessing/")
"""Packages of the out-of-domain part; the other parts have none of them."""


class Restyle(WindowTask):
    """Python source with its own names in camelCase, two-space indentation and no comments."""

    name = "restyle"
    title = "Python in another style"
    explanation = (
        "A shift of distribution: the base model knows the language and the standard library; only the layout and the "
        "form of the names are new. Out of domain: packages of another kind, in the same new style."
    )

    def texts(self, part: Part) -> Sequence[str]:
        return _restyled(part)

    def fingerprint(self) -> str:
        return f"standard library of Python {platform.python_version()}"


@cache
def _restyled(part: Part) -> tuple[str, ...]:
    return tuple(text for document in _sources(part) if (text := restyle(document.text)))


def _sources(part: Part) -> list[Document]:
    split = documents("train" if part is Part.TRAIN else "heldout")
    library = [d for d in split if not is_test(d.path) and not d.path.startswith(TOOLS)]
    if part is Part.OOD:
        return [d for d in library if d.path.startswith(OTHER_KIND)]
    in_domain = [d for d in library if not d.path.startswith(OTHER_KIND)]
    return {Part.TRAIN: in_domain, Part.VALIDATION: in_domain[0::3], Part.TEST: in_domain[1::3] + in_domain[2::3]}[part]


def restyle(source: str) -> str | None:
    r"""Rewrite a program in the style of this task.

    Args:
        source: Source code of a Python module.

    Returns:
        The same program in the new style, or None if `source` does not parse.

    Example:
        >>> print(restyle("def read_line(self, max_size=1):\n    return self._read(max_size)  # all\n"))
        def readLine(self, maxSize=1):
          return self._read(maxSize)
        <BLANKLINE>
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    text = ast.unparse(_Rename().visit(tree))
    return re.sub(r"^( {4})+", lambda m: " " * (len(m[0]) // 2), text, flags=re.MULTILINE) + "\n"


_KEEP = set(dir(builtins)) | set(keyword.kwlist) | set(keyword.softkwlist) | {"self", "cls"}


def _camel(name: str) -> str:
    if name in _KEEP or name.startswith("__") or "_" not in name.strip("_"):
        return name
    lead = name[: len(name) - len(name.lstrip("_"))]
    first, *rest = name.strip("_").split("_")
    return lead + first.lower() + "".join(word.capitalize() for word in rest)


class _Rename(ast.NodeTransformer):
    """Rename every name of more than one word to camelCase."""

    def visit(self, node: ast.AST) -> ast.AST:
        for field in ("id", "name", "attr", "arg", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str) and not isinstance(node, ast.alias):
                setattr(node, field, _camel(value))
        return self.generic_visit(node)
