"""The `prose` task: from programs to the English of the language reference."""

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
    """The texts of Python's `help("...")`: English about Python, which the base model was not trained on."""

    name = "prose"
    title = "English about Python"
    explanation = (
        "A shift of domain: the base model has seen English only in comments and docstrings; here it reads whole chapters "
        "of the language reference. Out of domain: the docstrings of modules that no model was trained on."
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
            "task 'prose' needs the module pydoc_data, which this Python lacks: install the whole standard library, "
            "or leave the task out of the study"
        ) from error
    # Chapters repeat sections of other chapters, so a paragraph is kept only where it first occurs.
    seen: set[str] = set()
    texts = []
    for _, text in sorted(topics.items()):
        new = [paragraph for paragraph in text.split("\n\n") if paragraph.strip() not in seen]
        seen.update(paragraph.strip() for paragraph in new)
        if len(new) > 1:
            texts.append("\n\n".join(new))
    return {
        Part.VALIDATION: tuple(texts[0::5]),
        Part.TEST: tuple(texts[1::5]),
        Part.TRAIN: tuple(text for i, text in enumerate(texts) if i % 5 > 1),
    }


@cache
def docstrings() -> tuple[str, ...]:
    """Return the docstrings of the held-out modules of the standard library, one text per module."""
    return tuple(text for document in documents("heldout") if (text := docstrings_of(document.text)))


def docstrings_of(source: str) -> str:
    r"""Return all docstrings of a program, separated by empty lines; an empty string if it does not parse.

    Args:
        source: Source code of a Python module.

    Example:
        >>> docstrings_of("'''Tools.'''\ndef run():\n    '''Start it.'''")
        'Tools.\n\nStart it.'
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    strings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, owners)]
    return "\n\n".join(inspect.cleandoc(s) for s in strings if s)
