"""Check that docstrings document their arguments and use plain terms: `python tools/check_docstrings.py [PATH ...]`.

Checked for every module of the package:

- A docstring opens with a verb or a noun phrase, not with a word of `OPENINGS`, and contains no phrase of `TERMS`.
- A public module has an example that doctest runs (an `__init__` needs none).
- A public function or method has an `Args:` section with an entry for each parameter and for nothing else; a `Returns:` or
  `Yields:` section if it gives something, unless its first sentence starts with "Return" or "Yield"; and a `Raises:` section
  with each `AdapterlabError` that it raises itself.
- A public class documents the parameters of its `__init__`.
- A public method of a class without bases has a docstring.
- With `--fields`: a public dataclass or named tuple documents each public field, by a string below it or by its name in the
  class's docstring.

Overrides are documented where the method is declared, so a method without a docstring passes if its class has bases. A
parameter of a command is documented by the `help` of its `typer.Option` or `typer.Argument`. A command may raise errors
without a section, since its docstring is its `--help`.
"""

from __future__ import annotations

import ast
import doctest
import itertools
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
    r"\bforet(?:ell|old|ells|elling)\b": "predict",
    r"\breckon(?:s|ed|ing)?\b": "estimate, count",
    r"\bin so many words\b": "explicitly",
    r"\bis handed\b": "receives",
    r"\bwhoever\b": "the caller",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bso many\b": "the number of",
    r"\bby so much\b": "by this amount",
    r"\bnought\b": "zero",
    r"\btwain\b": "two",
    r"\bhither\b|\bthither\b": "here, there",
    r"\bere\b": "before",
    r"\bbegets?\b": "produces",
    r"\ball but empty\b": "almost empty",
    r"\bh(?:as|ad|ave) in hand\b": "is running",
    r"\bwould fain\b|\bverily\b|\bwherein\b|\bwhereof\b|\bwhereby\b|\btherein\b|\bhence\b": "plain English",
    r"\b(?:puts?|waits?|waiting|is|are) in line\b(?! \d| with)": "queued",
    r"\bsa(?:y|ys|id) of (?:it|them)sel(?:f|ves)\b": "declare",
    r"\bspeaks? of\b": "describes",
    r"\bhow many heads ask\b": "number of query heads",
}
"""Archaic or vague phrases, and what to write instead."""
ERRORS = {"AdapterlabError", "CannotExportError", "UnknownNameError"}
"""The errors of this package that a user may catch."""
EXEMPT = ("overload", "property", "cached_property", "setter", "field_validator", "model_validator")
"""Decorators of functions that are read like attributes, or called by a library alone."""
PLAIN_BASES = {"ABC", "Protocol", "Generic", "NamedTuple", "object", "StrEnum", "Enum", "IntEnum"}
"""Bases that declare no methods of this package, so that a class with no others overrides nothing."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def problems(path: Path, *, fields: bool = False) -> Iterator[tuple[int, str]]:
    """Yield each problem of a file as its line and a message.

    Args:
        path: A Python file.
        fields: True to check the fields of dataclasses and named tuples too.

    Yields:
        The line number and what is wrong there.
    """
    tree = ast.parse(path.read_text("utf-8"))
    doc = ast.get_docstring(tree)
    yield from ((1, f"module: {found}") for found in prose(doc or ""))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | Function)]
    docs = [doc or "", *(ast.get_docstring(node) or "" for node in documented)]
    if public(path) and path.name != "__init__.py" and doc is not None and not any(map(has_example, docs)):
        yield 1, "module: no example that doctest can run"
    for node, text in zip(documented, docs[1:], strict=True):
        yield from ((node.lineno, f"{node.name}: {found}") for found in prose(text))
    yield from _attributes(tree)
    if public(path):
        yield from _Signatures(tree, fields=fields).problems(tree.body, "")


def public(path: Path) -> bool:
    """Return True if no part of the module's dotted name starts with an underscore.

    Args:
        path: The module's file; the folders that hold an `__init__.py` are its packages.
    """
    names = [] if path.name == "__init__.py" else [path.stem]
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        names.append(folder.name)
        folder = folder.parent
    return not any(name.startswith("_") for name in names)


def prose(doc: str) -> Iterator[str]:
    """Yield what is wrong with the words of one docstring; code in backticks is skipped.

    Args:
        doc: The docstring.

    Yields:
        One message for each problem.
    """
    first = re.match(r"[A-Za-z']+", doc)
    if first and first.group(0).lower() in OPENINGS:
        yield f"opens with {first.group(0)!r}: open with a verb or a noun phrase"
    words = " ".join(re.sub(r"`[^`]*`", "`code`", doc).split())
    for term, instead in TERMS.items():
        if found := re.search(term, words, re.IGNORECASE):
            yield f"{found.group(0)!r}: write plainly ({instead})"


def has_example(doc: str) -> bool:
    """Return True if a docstring has an example that doctest runs.

    Args:
        doc: The docstring.
    """
    try:
        examples = doctest.DocTestParser().get_examples(doc)
    except ValueError:
        return False
    return any(doctest.SKIP not in example.options for example in examples)


def sections(doc: str) -> dict[str, str]:
    r"""Return the sections of a docstring in Google's style, by their headings.

    >>> sections("Return the sum.\n\nArgs:\n    a: One.\n    b: Two.\n\nThe end.")
    {'Args': '    a: One.\n    b: Two.'}

    Args:
        doc: The docstring, its indentation removed.
    """
    found: dict[str, list[str]] = {}
    heading = ""
    for line in doc.splitlines():
        if line and not line[0].isspace():
            match = re.fullmatch(r"([A-Z][A-Za-z]*(?: [A-Za-z]+)?):\s*", line)
            heading = match.group(1) if match else ""
        elif heading:
            found.setdefault(heading, []).append(line)
    return {heading: "\n".join(lines).strip("\n") for heading, lines in found.items()}


def entries(section: str) -> set[str]:
    """Return the names that a section describes; a name without a text after it is not one of them.

    Args:
        section: The text of an `Args` or `Raises` section, its heading left out.
    """
    lines = section.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    found = set()
    for line, after in itertools.pairwise([*lines, ""]):
        match = re.match(rf"\s{{{indent}}}`?\*{{0,2}}([\w.]+)`?(?:\s*\(.*?\))?:(.*)", line)
        goes_on = len(after) - len(after.lstrip()) > indent
        if match and (match.group(2).strip() or goes_on):
            found.add(match.group(1))
    return found


def _attributes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Check the strings below assignments, which document attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            for name, text, line in _documented_names(body):
                yield from ((line, f"{name}: {found}") for found in prose(text))


def _documented_names(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str, int]]:
    """Yield each name that has a string below its assignment, with that string and its line."""
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.AnnAssign | ast.Assign) and (text := _string(after)) is not None:
            targets = before.targets if isinstance(before, ast.Assign) else [before.target]
            yield ast.unparse(targets[0]), text.strip(), after.lineno


def _string(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return None


class _Signatures:
    """Check the public functions and classes of one module."""

    def __init__(self, tree: ast.Module, *, fields: bool) -> None:
        self._fields = fields
        self._options = _options(tree) | set[str]().union(*map(_imported, tree.body))

    def problems(self, body: Sequence[ast.stmt], within: str, *, overrides: bool = True) -> Iterator[tuple[int, str]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from ((node.lineno, f"{node.name}: {found}") for found in self._class(node))
                yield from self.problems(node.body, f"{node.name}.", overrides=_overrides(node))
            elif isinstance(node, Function) and not node.name.startswith("_"):
                found = self._function(node, overrides=overrides)
                yield from ((node.lineno, f"{within}{node.name}: {message}") for message in found)

    def _class(self, node: ast.ClassDef) -> Iterator[str]:
        doc = ast.get_docstring(node) or ""
        if _decorated(node, "dataclass") or "NamedTuple" in _bases(node):
            named = {name for name, _, _ in _documented_names(node.body)}
            fields = [_field_name(field) for field in node.body if isinstance(field, ast.AnnAssign)]
            missing = [n for n in fields if n and not n.startswith("_") and n not in named and not _mentions(doc, n)]
            if missing and self._fields:
                yield f"fields without a docstring: {', '.join(missing)}"
            return
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is not None:
            yield from self._arguments(init, doc, ast.get_docstring(init) or "")

    def _function(self, node: Function, *, overrides: bool) -> Iterator[str]:
        doc = ast.get_docstring(node)
        if doc is None:
            if not overrides and not _decorated(node, "overload", "setter"):
                yield "no docstring, and it overrides nothing"
            return
        if _decorated(node, *EXEMPT):
            return
        yield from self._arguments(node, doc)
        found = sections(doc)
        says = re.match(r"(Return|Yield)s?\b", doc) or {"Returns", "Yields"} & set(found)
        if _gives(node) and not says:
            yield "neither Returns nor Yields is documented"
        if any(self._is_option(argument) for argument in _parameters(node)):
            return
        missing = _raised(node) - entries(found.get("Raises", ""))
        if missing:
            yield f"Raises lacks {', '.join(sorted(missing))}"

    def _arguments(self, node: Function, *docs: str) -> Iterator[str]:
        described = set[str]().union(*(entries(sections(doc).get("Args", "")) for doc in docs))
        parameters = _parameters(node)
        wanted = [a.arg for a in parameters if not a.arg.startswith("_") and not self._is_option(a)]
        if missing := [name for name in wanted if name not in described]:
            yield f"Args lacks {', '.join(missing)}"
        if unknown := sorted(described - {a.arg for a in parameters}):
            yield f"Args has {', '.join(unknown)}, no parameter of it"

    def _is_option(self, argument: ast.arg) -> bool:
        return argument.annotation is not None and _has_help(argument.annotation, self._options)


def _options(tree: ast.Module) -> set[str]:
    """Return the names that a module gives to documented options and arguments of commands."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and _has_help(node.value, set())]
    return {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}


def _imported(node: ast.stmt) -> set[str]:
    """Return such names that a statement imports from another module of the package."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("adapterlab."):
        return set()
    file = ROOT / f"{str(node.module).replace('.', '/')}.py"
    if not file.is_file():
        return set()
    return _options(ast.parse(file.read_text("utf-8"))) & {alias.name for alias in node.names}


def _has_help(annotation: ast.expr, known: set[str]) -> bool:
    """Return True if a parameter of this annotation is documented by the help of a command's option or argument."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id in known:
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Option", "typer.Argument"):
            return any(keyword.arg == "help" for keyword in node.keywords)
    return False


def _parameters(node: Function) -> list[ast.arg]:
    """Return the parameters without `self` and `cls`."""
    args = node.args
    found = [*args.posonlyargs, *args.args]
    if found and found[0].arg in ("self", "cls") and not _decorated(node, "staticmethod"):
        del found[0]
    return [*found, *([args.vararg] if args.vararg else []), *args.kwonlyargs, *([args.kwarg] if args.kwarg else [])]


def _gives(node: Function) -> bool:
    """Return True if a function returns or yields something other than None."""
    returned = ast.unparse(node.returns) if node.returns is not None else "None"
    return not re.fullmatch(r"None|Never|NoReturn|(?:Async)?(?:Iterator|Generator)\[None\b.*\]", returned)


def _raised(node: Function) -> set[str]:
    """Return the errors of this package that a function raises itself."""
    raised = [found.exc for found in _own(node) if isinstance(found, ast.Raise) and found.exc is not None]
    calls = [exc.func if isinstance(exc, ast.Call) else exc for exc in raised]
    return {ast.unparse(call).split(".")[-1] for call in calls} & ERRORS


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own(child)


def _field_name(field: ast.AnnAssign) -> str:
    """Return the name of a field; nothing for a class variable."""
    return "" if "ClassVar" in ast.unparse(field.annotation) else ast.unparse(field.target)


def _mentions(doc: str, name: str) -> bool:
    """Return True if a docstring has all words of a name."""
    return all(re.search(rf"\b{re.escape(word)}", doc, re.IGNORECASE) for word in name.split("_"))


def _bases(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}


def _overrides(node: ast.ClassDef) -> bool:
    """Return True if a method of the class may be declared in a base."""
    return bool(_bases(node) - PLAIN_BASES)


def _decorated(node: ast.ClassDef | Function, *names: str) -> bool:
    found = {ast.unparse(d.func if isinstance(d, ast.Call) else d).split(".")[-1] for d in node.decorator_list}
    return bool(found & set(names))


def main(arguments: Sequence[str]) -> int:
    """Check the given files and folders, or the whole package.

    Args:
        arguments: Files and folders, none for the package; `--fields` among them checks fields too.

    Returns:
        The exit status: 1 if anything was found.
    """
    places = [Path(a) for a in arguments if a != "--fields"] or [ROOT / "adapterlab"]
    files = [f for place in places for f in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    count = 0
    for file in files:
        whole = file.resolve()
        name = whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else file
        for line, message in problems(file, fields="--fields" in arguments):
            print(f"{name}:{line}: {message}")
            count += 1
    print(f"{count} problems in {len(files)} files" if count else f"{len(files)} files: docstrings are in order")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
