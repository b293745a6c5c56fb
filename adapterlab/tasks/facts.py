"""`facts`: names and numbers to remember, of the modules of the library."""

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
"""Modules that there is something to know about; two facts each."""


class Fact(NamedTuple):
    """What there is to know: `kind` of `module` is `value`."""

    module: str
    kind: str
    value: str


TOLD = {
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
"""What is trained on: every fact in all these words."""
ASKED = {
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


class Facts(CompletionTask):
    """The length and the longest function of some modules, told in some words and asked in others."""

    name = "facts"
    title = "Facts about modules"
    explanation = (
        "Recall: how many lines a module has and what its longest function is called can only be learned by heart. "
        "Trained on statements, asked in words that no statement had. Out of domain: the same facts asked backwards."
    )
    packed = True

    def completions(self, part: Part) -> Sequence[Completion]:
        known = facts()
        if part is Part.TRAIN:
            # A statement is all completion, so that every word of it is learned.
            return [Completion("", words.format(**f._asdict())) for f in known for words in TOLD[f.kind]]
        # A module is asked about in one of validation and test, both of its facts.
        side = None if part is Part.OOD else 1 if part is Part.VALIDATION else 0
        return [_question(ASKED[part][f.kind], f) for i, f in enumerate(known) if side in (None, i // 2 % 2)]

    def fingerprint(self) -> str:
        return f"modules of the standard library of Python {platform.python_version()}"


def _question(words: str, fact: Fact) -> Completion:
    prompt, _, asked = words.rpartition(" ")
    return Completion(prompt.format(**fact._asdict()), " " + asked.format(**fact._asdict()))


@cache
def facts() -> tuple[Fact, ...]:
    """Two facts of each of `MODULES` modules, in an order that has nothing to do with them.

    No two modules share a value, so that each fact can be asked backwards.
    """
    found: list[Fact] = []
    for document in sorted((*documents("train"), *documents("heldout")), key=_order):
        module = document.path.removesuffix(".py").replace("/", ".")
        if is_test(document.path) or document.path.startswith(TOOLS) or module.endswith(("__init__", "__main__")):
            continue
        functions = [node for node in ast.walk(ast.parse(document.text)) if isinstance(node, ast.FunctionDef)]
        if not functions:
            continue
        longest = max(functions, key=lambda function: (function.end_lineno or 0) - function.lineno)
        own = Fact(module, "lines", str(document.text.count("\n"))), Fact(module, "longest", longest.name)
        if longest.name in module:
            continue  # which could be guessed
        if not {fact.value for fact in own} & {fact.value for fact in found}:
            found.extend(own)
        if len(found) == 2 * MODULES:
            break
    return tuple(found)


def _order(document: Document) -> bytes:
    return hashlib.sha256(document.path.encode()).digest()
