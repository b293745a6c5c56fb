"""Read a source file without running it: a hash of its code, the names that it imports, and whether it acts when loaded.

The hash is blind to comments, docstrings and formatting.

>>> one = parse("x = 1  # why", "")
>>> one.digest == parse("x = 1", "").digest, one.digest == parse("x = 2", "").digest
(True, False)
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

Reference = tuple[str, ...]
"""Absolute name of an imported module, then names looked up in it one after another."""


@dataclass(frozen=True)
class Parsed:
    """Content of one source file."""

    digest: str
    """Hash of the syntax tree without docstrings, comments, formatting and `TYPE_CHECKING` blocks."""
    references: tuple[Reference, ...]
    """Everything that it imports, and attributes of imported names that it uses."""
    exports: Mapping[str, Sequence[Reference]]
    """By name, the imports at top level that bind it."""
    defined: frozenset[str]
    """Names that are bound in any other way."""
    acts: bool
    """True if it does more at import time than import, define and assign to names of its own."""
    computed: bool
    """True if it imports modules whose names are computed."""


@cache
def parse(source: str, package: str) -> Parsed:
    """Return what a source file contains.

    Args:
        source: Its text.
        package: Package that relative imports start from.
    """
    tree = ast.parse(source)
    reader = _Reader(package)
    reader.statements(tree.body)
    chains = {chain for node in reader.attributes for chain in reader.chains(node)}
    digest = hashlib.blake2b("\n".join(reader.tokens).encode("utf-8", "surrogatepass"), digest_size=12)
    exports = {name: list(found) for name, found in reader.exports.items()}
    if "__getattr__" in reader.defined:  # imports on first use; the names are listed for type checkers
        for name, found in reader.listed.items():
            exports.setdefault(name, []).extend(found)
    return Parsed(
        digest.hexdigest(),
        tuple(sorted(reader.references | chains)),
        exports,
        frozenset(reader.defined),
        not all(map(_is_passive, tree.body)),
        reader.computed,
    )


def hash_code(path: Path) -> str:
    """Return the hash of a source file, as in `Parsed.digest`.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
        SyntaxError: If it is not Python.
    """
    return parse(path.read_text("utf-8"), "").digest


_IGNORED = {"ctx", "kind", "type_comment"}
"""Fields of syntax nodes that do not change what runs."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass
class _Reader:
    """Write a syntax tree as tokens that are the same in all versions of Python, and note its imports on the way."""

    package: str
    tokens: list[str] = field(default_factory=list)
    references: set[Reference] = field(default_factory=set)
    exports: dict[str, list[Reference]] = field(default_factory=dict)
    listed: dict[str, list[Reference]] = field(default_factory=dict)
    """By name, imports for type checkers."""
    defined: set[str] = field(default_factory=set)
    attributes: list[ast.Attribute] = field(default_factory=list)
    """Chains of attributes, by their last one."""
    bound: dict[str, set[Reference]] = field(default_factory=dict)
    """By name, what imports anywhere in the file bind to it."""
    computed: bool = False
    _inner: set[ast.expr] = field(default_factory=set)
    """Expressions in front of a dot."""
    _depth: int = 0
    """Number of functions and classes around the node."""

    def statements(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                continue  # docstrings, and bodies that are nothing else
            if _is_type_checking(node):
                self._note_listed(node)
                self.statements(node.orelse)  # type: ignore[attr-defined]
            else:
                self._node(node)

    def chains(self, node: ast.Attribute) -> Iterator[Reference]:
        """Yield what an attribute of an imported name may refer to; nothing for attributes of other expressions."""
        names, value = [node.attr], node.value
        while isinstance(value, ast.Attribute):
            names.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            for reference in self.bound.get(value.id, ()):
                yield (*reference, *reversed(names))

    def _node(self, node: ast.AST) -> None:
        """Append the tokens of a node; empty fields are left out, since new versions of Python add some."""
        self._note(node)
        self._depth += isinstance(node, (*_FUNCTIONS, ast.ClassDef))
        self.tokens.append(type(node).__name__)
        for name in node._fields:
            value: object = _joined(node) if isinstance(node, ast.JoinedStr) else getattr(node, name, None)
            if value is None or value == [] or name in _IGNORED:
                continue
            self.tokens.append(f".{name}")
            if isinstance(value, list):
                if isinstance(value[0], ast.stmt):
                    self.statements(value)
                else:
                    for item in value:
                        self._value(item)
                self.tokens.append("]")
            else:
                self._value(value)
        self.tokens.append(")")
        self._depth -= isinstance(node, (*_FUNCTIONS, ast.ClassDef))

    def _value(self, value: object) -> None:
        if isinstance(value, ast.AST):
            self._node(value)
        else:
            self.tokens.append(ascii(value))  # `repr` depends on Python's version of Unicode

    def _note(self, node: ast.AST) -> None:
        """Note what a node imports or binds."""
        if isinstance(node, ast.Attribute):
            self._inner.add(node.value)
            if node not in self._inner:
                self.attributes.append(node)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                self.defined.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for name, reference in self._imports(node):
                self.references.add(reference)
                # `import a.b` binds `a`, and `import a.b as a` binds `a.b`.
                first = {(name,)} if isinstance(node, ast.Import) else set()
                self.bound.setdefault(name, set()).update({reference} | first)
                if self._depth == 0:
                    self.exports.setdefault(name, []).extend({reference} | first)
        elif isinstance(node, ast.Call):
            self._note_call(node)

    def _note_listed(self, block: ast.stmt) -> None:
        for node in ast.walk(block):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name, reference in self._imports(node):
                    self.listed.setdefault(name, []).append(reference)

    def _note_call(self, node: ast.Call) -> None:
        """Note a call of `import_module` or `__import__`."""
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        names = {called, *(reference[-1] for reference in self.bound.get(called, ()))}
        if names.isdisjoint({"import_module", "__import__"}):
            return
        arguments = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
        argument = arguments[0] if arguments else None
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            name = argument.value
            level = len(name) - len(name.lstrip("."))
            self.references.add((self._absolute(name.lstrip("."), level),))
        else:
            self.computed = True

    def _imports(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Reference]]:
        """Yield the names that an import binds, and what each refers to."""
        for alias in node.names:
            if isinstance(node, ast.Import):
                yield alias.asname or alias.name.partition(".")[0], (alias.name,)
            else:
                module = self._absolute(node.module or "", node.level)
                yield alias.asname or alias.name, (module,) if alias.name == "*" else (module, alias.name)

    def _absolute(self, name: str, level: int) -> str:
        """Return the absolute name of a module that is imported with this number of leading dots."""
        if level == 0:
            return name
        above = self.package.split(".")
        return ".".join([*above[: len(above) - level + 1], *([name] if name else [])])


def _joined(node: ast.JoinedStr) -> list[ast.expr]:
    """Return the parts of an f-string; some versions of Python split the text between two expressions."""
    parts: list[ast.expr] = []
    for part in node.values:
        before = parts[-1] if parts else None
        if isinstance(part, ast.Constant) and isinstance(before, ast.Constant):
            parts[-1] = ast.Constant(str(before.value) + str(part.value))
        elif not isinstance(part, ast.Constant) or part.value:
            parts.append(part)
    return parts


def _is_type_checking(node: ast.stmt) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _is_passive(node: ast.stmt) -> bool:
    """Return True if a statement at top level imports, defines, or assigns to names of its own module."""
    if isinstance(node, ast.Assign):
        return all(isinstance(name, ast.Name) for target in node.targets for name in _targets(target))
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        runs_as_program = isinstance(node.test, ast.Compare) and getattr(node.test.left, "id", "") == "__name__"
        return _is_type_checking(node) or runs_as_program
    if isinstance(node, ast.Try):
        handled = [statement for handler in node.handlers for statement in handler.body]
        return all(map(_is_passive, [*node.body, *handled, *node.orelse, *node.finalbody]))
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Pass)
    return isinstance(node, kinds) or type(node).__name__ == "TypeAlias"


def _targets(target: ast.expr) -> Sequence[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple | ast.List) else (target,)
