"""`prose`: from programs to the language reference."""

from __future__ import annotations

import ast
import inspect
import platform
from collections.abc import Sequence
from functools import cache

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import documents
from adapterlab.tasks.base import Part
from adapterlab.tasks.text import WindowTask


class Prose(WindowTask):
    """The texts of `help("...")`: English about Python, which the base was not trained on."""

    name = "prose"
    title = "English about Python"
    explanation = (
        "A shift of domain: the base has seen English only in comments and docstrings; here it is whole chapters of the "
        "language reference. Out of domain: the docstrings of modules that nobody trained on."
    )

    def texts(self, part: Part) -> Sequence[str]:
        return docstrings() if part is Part.OOD else _topics()[part]

    def fingerprint(self) -> str:
        return f"documentation of Python {platform.python_version()}"


@cache
def _topics() -> dict[Part, tuple[str, ...]]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise AdapterlabError(
            "task 'prose' is cut from pydoc_data, which this Python lacks: install the whole standard library, "
            "or leave the task out of the study"
        ) from error
    # Chapters repeat one another's sections, so a paragraph stays only where it first stands.
    seen: set[str] = set()
    texts = []
    for _, text in sorted(topics.items()):
        fresh = [paragraph for paragraph in text.split("\n\n") if paragraph.strip() not in seen]
        seen.update(paragraph.strip() for paragraph in fresh)
        if len(fresh) > 1:
            texts.append("\n\n".join(fresh))
    return {
        Part.VALIDATION: tuple(texts[0::5]),
        Part.TEST: tuple(texts[1::5]),
        Part.TRAIN: tuple(text for i, text in enumerate(texts) if i % 5 > 1),
    }


@cache
def docstrings() -> tuple[str, ...]:
    """The docstrings of the held-out modules, one text for each."""
    found = []
    for document in documents("heldout"):
        try:
            tree = ast.parse(document.text)
        except SyntaxError:
            continue
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        strings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, owners)]
        text = "\n\n".join(inspect.cleandoc(s) for s in strings if s)
        if text:
            found.append(text)
    return tuple(found)
