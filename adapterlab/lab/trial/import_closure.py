"""First-party source files that a program can reach through its imports, found without running it.

The rule prefers one file too many to one too few:

- An import counts wherever it is written: at the top, inside a function, relative, or as `import_module` of a literal
  string. Blocks under `if TYPE_CHECKING` do not run and are left out.
- A module that is imported counts as a whole, together with everything that it imports.
- For `from package import name`, a name that the package's `__init__` imports from elsewhere is looked up there. A name
  that `__init__` defines itself makes `__init__` count like any other module, and so does an import of the package as an
  object (`import package`). Attributes of such an object (`package.module.function`) are looked up in the same way.
- The `__init__` of a package *above* a module also runs when the module is imported. It counts only if it does more than
  import and define.
- Imports of computed names are not followed. They are in the registries, which import every method and every task. A
  method, a task or a user's file that imports from a registry counts all members of it.
- A module that does more than import and define may change other modules when it is loaded. A registered file of a user
  that does so always counts. In the package only modules that every trial imports may do so: a test checks it.

First-party is the package, and for a user's file also the files beside it and all others that are neither in the standard
library nor in a folder of installed packages.

>>> closure = ImportClosure()
>>> roots = [closure.module("adapterlab.user_code")]
>>> [module.label for module in closure.modules(roots)]
['adapterlab/errors.py', 'adapterlab/names.py', 'adapterlab/user_code.py']
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import FileStamp
from adapterlab.lab.trial.source_reader import Parsed, Reference, hash_code, parse

PACKAGE = "adapterlab"
ROOT = Path(__file__).parents[3]
"""Folder that contains the package."""


@dataclass(frozen=True)
class Module:
    """One first-party source file."""

    path: Path
    top: Path
    """Folder in which absolute imports of the same code are found."""
    own: str | None = None
    """The only top-level package that is first-party for this file; None for a user's file."""

    @property
    def label(self) -> str:
        """Path below `top`, which does not depend on where the code is installed."""
        return self.path.relative_to(self.top).as_posix()

    @property
    def is_package(self) -> bool:
        """True for the `__init__` of a package."""
        return self.path.name == "__init__.py"

    @property
    def name(self) -> str:
        """Absolute name of the module."""
        parts = self.path.relative_to(self.top).with_suffix("").parts
        return ".".join(parts[:-1] if self.is_package else parts)

    @property
    def package(self) -> str:
        """Name that relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


class ImportClosure:
    """Follow imports from some modules to all first-party modules that they need.

    Args:
        root: Folder that contains the package; a copy may be given.
        registries: By name of a registry package, the names of the modules that define its members.

    Each file is read once: a file that changes later is not read again.
    """

    def __init__(self, root: Path = ROOT, registries: Mapping[str, Sequence[str]] | None = None) -> None:
        self.root = root
        self._registries = registries or {}
        self._parsed: dict[Path, tuple[Parsed, FileStamp]] = {}
        self._found: dict[tuple[str, Path, str | None], Module | None] = {}
        self._needs: dict[Module, list[Module]] = {}
        self._libraries: set[str] = set()

    def module(self, name: str) -> Module | None:
        """Return the module of this absolute name, or None for one of the standard library.

        Args:
            name: A module of the package, or any other module that is loaded.

        Raises:
            AdapterlabError: If there is no source file for it.
        """
        first = name.partition(".")[0]
        if first == PACKAGE:
            module = _file(name, self.root, PACKAGE)
        elif first in sys.stdlib_module_names:
            return None
        else:
            module = _loaded(name)
        if module is None:
            raise AdapterlabError(
                f"module {name} has no source file, but trials are named by a hash of the source: install {PACKAGE} with "
                "its source files, and define adapters and tasks of your own in files"
            )
        return module

    def modules(self, roots: Iterable[Module]) -> list[Module]:
        """Return every first-party module that the roots need, themselves included, sorted by label.

        Args:
            roots: Where to start.
        """
        # Modules of the package come first: what they import from outside is a library, also for a user's file.
        queue = sorted([*roots, *self._acting()], key=lambda module: module.own == PACKAGE)
        found = set[Module]()
        while queue:
            module = queue.pop()
            if module not in found:
                found.add(module)
                if module not in self._needs:
                    self._needs[module] = list(self._needed(module))
                queue += self._needs[module]
        return sorted(found, key=lambda module: (module.label, module.path))

    def digests(self, roots: Iterable[Module]) -> list[tuple[str, str]]:
        """Return the label and the hash of every module that the roots need, sorted by label.

        Args:
            roots: Where to start.
        """
        return [(module.label, self.parsed(module).digest) for module in self.modules(roots)]

    def stamps(self, roots: Iterable[Module]) -> list[FileStamp]:
        """Return the files of every module that the roots need, as they were when they were read.

        Args:
            roots: Where to start.
        """
        return [self._read(module)[1] for module in self.modules(roots)]

    def parsed(self, module: Module) -> Parsed:
        """Return the content of a module; each file is read once.

        Args:
            module: The module to read.
        """
        return self._read(module)[0]

    def _read(self, module: Module) -> tuple[Parsed, FileStamp]:
        if module.path not in self._parsed:
            seen = module.path.stat()  # before the content, so that a change in between is noticed
            parsed = parse(module.path.read_text("utf-8"), module.package)
            stamp = FileStamp(str(module.path), seen.st_size, seen.st_mtime_ns, parsed.digest, hash_code)
            self._parsed[module.path] = parsed, stamp
        return self._parsed[module.path]

    def _needed(self, module: Module) -> Iterator[Module]:
        """Yield the modules that one module needs directly."""
        for reference in self.parsed(module).references:
            if module.own == PACKAGE:
                self._libraries.add(reference[0].partition(".")[0])
            for found in self._resolve(reference, module, frozenset()):
                yield found
                if found.name in self._registries and self._may_look_up(module):
                    yield from self._members(self._registries[found.name])
        for folder in module.path.relative_to(module.top).parents[1 if module.is_package else 0 : -1]:
            above = Module(module.top / folder / "__init__.py", module.top, module.own)
            if above.path.is_file() and self.parsed(above).acts:
                yield above

    def _members(self, names: Iterable[str]) -> Iterator[Module]:
        """Yield the modules of a registry's members, except for classes without a source file."""
        for name in names:
            with suppress(AdapterlabError):
                if (module := self.module(name)) is not None:
                    yield module

    def _acting(self) -> Iterator[Module]:
        """Yield the registered files of users that do more than import and define."""
        outside = {name for names in self._registries.values() for name in names if name.partition(".")[0] != PACKAGE}
        yield from (module for module in self._members(sorted(outside)) if self.parsed(module).acts)

    def _may_look_up(self, module: Module) -> bool:
        """Return True for methods, tasks and users' files; other code only looks up the trial's own method and task."""
        return module.own != PACKAGE or any(module.name.startswith(f"{name}.") for name in self._registries)

    def _resolve(self, reference: Reference, importer: Module, trail: frozenset[Reference]) -> Iterator[Module]:
        """Yield the modules whose code stands behind an imported name."""
        if reference in trail:
            return
        trail |= {reference}
        module, names = self._find(reference[0], importer), reference[1:]
        inner = (f"{reference[0]}.{names[0]}", *names[1:]) if names else ()
        if module is None:
            if inner:  # a package without `__init__`
                yield from self._resolve(inner, importer, trail)
            return
        if not module.is_package or not names:
            yield module
            return
        parsed, elsewhere = self.parsed(module), list[Module]()
        for export in parsed.exports.get(names[0], ()):
            elsewhere += self._resolve((*export, *names[1:]), module, trail)
        elsewhere += self._resolve(inner, importer, trail)
        if names[0] in parsed.defined or not elsewhere:
            yield module
        yield from elsewhere

    def _find(self, name: str, importer: Module) -> Module | None:
        """Return the first-party module of this absolute name as `importer` sees it, or None."""
        key = (name, importer.top, importer.own)
        if key not in self._found:
            self._found[key] = self._search(name, importer)
        return self._found[key]

    def _search(self, name: str, importer: Module) -> Module | None:
        first = name.partition(".")[0]
        if first == PACKAGE:
            return _file(name, self.root, PACKAGE)
        if importer.own is not None:
            return _file(name, importer.top, importer.own) if first == importer.own else None
        if first in self._libraries:
            return None
        top = _folder_of(first)
        return _file(name, importer.top, None) or (None if top is None else _file(name, top, None))


def _loaded(name: str) -> Module | None:
    """Return a loaded module from outside the package, or None if it has no source file."""
    path = Path(getattr(sys.modules.get(name), "__file__", None) or "").resolve()
    if path.suffix != ".py":
        return None
    if name == "__main__" or name.startswith(f"{PACKAGE}_file_"):
        return Module(path, path.parent)
    top = path.parents[name.count(".") + (path.name == "__init__.py")]
    return Module(path, top, name.partition(".")[0] if _is_installed(path) else None)


def _file(name: str, top: Path, own: str | None) -> Module | None:
    """Return the module of this absolute name below a folder, or None if there is no source file."""
    base = top.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return Module(path, top, own)
    return None


@cache
def _folder_of(package: str) -> Path | None:
    """Return the folder that contains a top-level module of a user, or None for a library."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    if not places or not Path(places[0]).exists():
        return None
    place = Path(places[0]).resolve()
    return None if _is_installed(place) or _in_standard_library(place) else place.parent


def _is_installed(path: Path) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _in_standard_library(path: Path) -> bool:
    paths = sysconfig.get_paths()
    folders = {Path(paths[key]).resolve() for key in ("stdlib", "platstdlib")}
    return not _is_installed(path) and any(folder in path.resolve().parents for folder in folders)
