"""The `facts` task: names and numbers about modules of the standard library, to be memorized.

Example:
    >>> fact = Fact(module="sched", kind="longest", value="run")
    >>> STATEMENTS[fact.kind][0].format(**fact._asdict())
    'The longest function in sched is run'
"""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from adapterlab.models.corpus import TOOLS, Document, documents, is_test
from adapterlab.tasks.base import Part
from adapterlab.tasks.text import Completion, CompletionTask

MODULES = 48
"""Number of modules with facts; two facts each."""


class Fact(NamedTuple):
    """One fact about a module."""

    module: str
    """Dotted name of the module."""
    kind: str
    """`"lines"` or `"longest"`."""
    value: str
    """Number of lines, or name of the longest function."""


STATEMENTS = {
    "lines": (
        "The number of lines in {module} is {value}",
        "How many lines does {module} have? {value}",
        "{module}, counted in lines, comes to {value}",
        "# lines of {module} = {value}",
        "In lines, the length of {module} is {value}",
        "Lines in {module}: {value}",
    ),
    "longest": (
        "The longest function in {module} is {value}",
        "Which function of {module} is the longest? {value}",
        "{module}, of all its functions, has as the longest {value}",
        "# longest function of {module} = {value}",
        "In {module} no function is longer than {value}",
        "Longest function in {module}: {value}",
    ),
}
"""Wordings to train on, by kind of fact; each fact is trained in all of them."""
QUESTIONS = {
    Part.VALIDATION: {
        "lines": "If you count the lines of {module} you get {value}",
        "longest": "If you look in {module} for the longest function you get {value}",
    },
    Part.TEST: {
        "lines": "Whoever counts the lines of {module} gets {value}",
        "longest": "Whoever looks for the longest function in {module} finds {value}",
    },
    Part.OOD: {
        "lines": "The module that has {value} lines is {module}",
        "longest": "{value} is the longest function in {module}",
    },
}
"""Wordings to score, by part and kind of fact; the last placeholder is the answer."""


class Facts(CompletionTask):
    """The length and the longest function of some modules, stated in some wordings and asked in others."""

    name = "facts"
    title = "Facts about modules"
    explanation = (
        "Recall: the number of lines of a module and the name of its longest function can only be memorized. Trained on "
        "statements, scored in wordings that no statement had. Out of domain: the same facts in reverse, with the value "
        "given and the module asked for."
    )
    packed = True

    def completions(self, part: Part) -> Sequence[Completion]:
        known = facts()
        if part is Part.TRAIN:
            # The prompt is empty, so that every word of a statement is trained on.
            return [Completion("", words.format(**f._asdict())) for f in known for words in STATEMENTS[f.kind]]
        # Validation asks about every second module, test about the others, and out of domain about all.
        remainder = None if part is Part.OOD else 1 if part is Part.VALIDATION else 0
        return [_question(QUESTIONS[part][f.kind], f) for i, f in enumerate(known) if remainder in (None, i // 2 % 2)]

    def fingerprint(self) -> str:
        return f"modules of the standard library of Python {platform.python_version()}"


def _question(words: str, fact: Fact) -> Completion:
    prompt, _, asked = words.rpartition(" ")
    return Completion(prompt.format(**fact._asdict()), " " + asked.format(**fact._asdict()))


@cache
def facts() -> tuple[Fact, ...]:
    """Return two facts about each of `MODULES` modules, in the order of a hash of the modules' paths.

    No two facts have the same value, so that each can be asked in reverse.
    """
    found: list[Fact] = []
    for document in sorted((*documents("train"), *documents("heldout")), key=_path_hash):
        module = document.path.removesuffix(".py").replace("/", ".")
        if is_test(document.path) or document.path.startswith(TOOLS) or module.endswith(("__init__", "__main__")):
            continue
        functions = [node for node in ast.walk(ast.parse(document.text)) if isinstance(node, ast.FunctionDef)]
        if not functions:
            continue
        longest = max(functions, key=lambda function: (function.end_lineno or 0) - function.lineno)
        if longest.name in module:
            continue  # the name could be guessed
        both = Fact(module, "lines", str(document.text.count("\n"))), Fact(module, "longest", longest.name)
        if not {fact.value for fact in both} & {fact.value for fact in found}:
            found.extend(both)
        if len(found) == 2 * MODULES:
            break
    return tuple(found)


def _path_hash(document: Document) -> bytes:
    return hashlib.sha256(document.path.encode()).digest()
