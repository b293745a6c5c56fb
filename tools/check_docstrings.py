"""Check that docstrings document their arguments and use plain terms: `python tools/check_docstrings.py [PATH ...]`.

Checked for every module of the package:

- A docstring opens with a verb or a noun phrase, not with a word of `OPENINGS`, and contains no phrase of `TERMS`.
- A public module has an example that doctest can run.
- A public function or method has an `Args:` section that names each parameter, a `Returns:` or `Yields:` section if it
  returns something (unless its first sentence starts with "Return" or "Yield"), and a `Raises:` section if it raises an
  `AdapterlabError` itself.
- A public class documents the parameters of its `__init__`, or, if it is a dataclass, each field.

Overrides are documented where the method is declared, so a method without a docstring is left to the linter.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
OPENINGS = ("what", "whether", "where", "those", "that", "how", "who", "whom", "whose", "why", "which", "when", "let")
"""First words that make a docstring a riddle: name the thing, or start with the verb."""
TERMS = {
    r"\blest\b": "so that ... not",
    r"\bthereof\b": "of it",
    r"\bof which\b": "split the sentence",
    r"\bbe it\b": "whether",
    r"\bof late\b": "recently",
    r"\balike\b": "in the same way",
    r"\bwhat stands\b": "name the thing",
    r"\blets? go of\b": "clear, free, release",
    r"\bnor ever\b": "and never",
    r"\banew\b": "again, from scratch",
    r"\bof (?:its|their) own accord\b": "by default",
    r"\bcom(?:es?|ing) to nothing\b": "fails",
    r"\bc[ao]mes? of (?:it|them|a trial|trials|that)\b": "result, outcome",
    r"\bforet(?:ell|old|ells)\b": "predict",
    r"\breckon(?:s|ed|ing)?\b": "estimate, count",
    r"\bin so many words\b": "explicitly",
    r"\bis handed\b": "receives",
    r"\bwhoever\b": "the caller",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bso many\b": "the number of",
    r"\bnought\b": "zero",
    r"\btwain\b": "two",
    r"\bhither\b|\bthither\b": "here, there",
    r"\bere\b": "before",
    r"\bbegets?\b": "produces",
    r"\ball but empty\b": "almost empty",
    r"\bhas in hand\b|\bhad in hand\b|\bhave in hand\b": "is running",
    r"\bwould fain\b|\bverily\b|\bwherein\b|\bwhereof\b|\bwhereby\b|\btherein\b|\bhence\b": "plain English",
    r"\bput in line\b|\bin line\b": "queued",
    r"\bsay(?:s)? of itself\b": "declare",
    r"\bthe mend\b": "the fix",
    r"\bhow many heads ask\b": "number of query heads",
}
"""Archaic or vague phrases, and what to write instead."""
SECTIONS = ("Args:", "Returns:", "Yields:", "Raises:")
ERRORS = {"AdapterlabError", "UnknownNameError"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def problems(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each problem of a file as its line and a message.

    Args:
        path: A Python file.

    Yields:
        The line number and what is wrong there.
    """
    tree = ast.parse(path.read_text("utf-8"))
    doc = ast.get_docstring(tree)
    yield from ((1, f"module: {found}") for found in prose(doc or ""))
    if public(path) and doc is not None and ">>>" not in doc and not _any_example(tree):
        yield 1, "module: no example that doctest can run"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function):
            yield from ((node.lineno, f"{node.name}: {found}") for found in prose(ast.get_docstring(node) or ""))
    yield from _attributes(tree)
    if public(path):
        yield from _signatures(tree.body, "")


def public(path: Path) -> bool:
    """Return whether a module is public: no part of its name starts with an underscore, and it is no `__init__`.

    Args:
        path: The module's file.
    """
    return not any(part.startswith("_") for part in path.parts)


def prose(doc: str) -> Iterator[str]:
    """Yield what is wrong with the words of one docstring.

    Args:
        doc: The docstring.

    Yields:
        One message for each problem.
    """
    first = re.match(r"[A-Za-z']+", doc)
    if first and first.group(0).lower() in OPENINGS:
        yield f"opens with {first.group(0)!r}: open with a verb or a noun phrase"
    for term, instead in TERMS.items():
        if found := re.search(term, doc, re.IGNORECASE):
            yield f"{found.group(0)!r}: write plainly ({instead})"


def _any_example(tree: ast.Module) -> bool:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | Function)]
    return any(">>>" in (ast.get_docstring(node) or "") for node in nodes)


def _attributes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Check the strings below assignments, which document attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, after in zip(body, body[1:], strict=False):
            if isinstance(before, ast.AnnAssign | ast.Assign) and _is_string(after):
                yield from ((after.lineno, f"attribute: {found}") for found in prose(after.value.value.strip()))


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _signatures(body: Sequence[ast.stmt], within: str) -> Iterator[tuple[int, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _class(node)
            yield from _signatures(node.body, f"{node.name}.")
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield from ((node.lineno, f"{within}{node.name}: {found}") for found in _function(node))


def _class(node: ast.ClassDef) -> Iterator[tuple[int, str]]:
    if _decorated(node, "dataclass"):
        return
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    doc = ast.get_docstring(node) or ""
    if init is not None and (missing := _undocumented(init, f"{doc}\n{ast.get_docstring(init) or ''}")):
        yield node.lineno, f"{node.name}: Args lacks {', '.join(missing)}"


def _function(node: Function) -> Iterator[str]:
    doc = ast.get_docstring(node)
    if doc is None or _decorated(node, "overload", "property", "cached_property", "field_validator", "model_validator"):
        return
    if missing := _undocumented(node, doc):
        yield f"Args lacks {', '.join(missing)}"
    returned = ast.unparse(node.returns) if node.returns is not None else "None"
    says = re.match(r"(Return|Yield)", doc) or "Returns:" in doc or "Yields:" in doc
    if returned not in ("None", "Never", "NoReturn") and not says:
        yield "neither Returns nor Yields is documented"
    raised = {
        name.id
        for found in _own(node)
        if isinstance(found, ast.Raise) and found.exc is not None
        for name in ast.walk(found.exc)
        if isinstance(name, ast.Name) and name.id in ERRORS
    }
    if raised and "Raises:" not in doc:
        yield f"Raises lacks {', '.join(sorted(raised))}"


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own(child)


def _undocumented(node: Function, doc: str) -> list[str]:
    args = node.args
    names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    names += [a.arg for a in (args.vararg, args.kwarg) if a is not None]
    static = _decorated(node, "staticmethod")
    wanted = [name for i, name in enumerate(names) if not (i == 0 and name in ("self", "cls") and not static)]
    wanted = [name for name in wanted if not name.startswith("_")]
    section = doc.split("Args:", 1)[1] if "Args:" in doc else ""
    for other in SECTIONS[1:]:
        section = section.split(other, 1)[0]
    documented = set(re.findall(r"^\s+\*{0,2}(\w+)(?: \([^)]*\))?:", section, re.MULTILINE))
    return [name for name in wanted if name not in documented]


def _decorated(node: ast.ClassDef | Function, *names: str) -> bool:
    found = {ast.unparse(d.func if isinstance(d, ast.Call) else d).split(".")[-1] for d in node.decorator_list}
    return bool(found & set(names))


def main(arguments: Sequence[str]) -> int:
    """Check the given files and folders, or the whole package.

    Args:
        arguments: Files and folders; none for the package.

    Returns:
        The exit status: 1 if anything was found.
    """
    places = [Path(a) for a in arguments] or [ROOT / "adapterlab"]
    files = [f for place in places for f in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    count = 0
    for file in files:
        relative = file.resolve().relative_to(ROOT)
        for line, message in problems(relative if Path.cwd() == ROOT else file):
            print(f"{relative}:{line}: {message}")
            count += 1
    print(f"{count} problems in {len(files)} files" if count else f"{len(files)} files: docstrings are in order")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
