"""The checker of docstrings: what it must flag, and what it must let pass."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path
from textwrap import dedent, indent

import pytest

TOOL = Path(__file__).parents[2] / "tools/check_docstrings.py"
spec = importlib.util.spec_from_file_location("check_docstrings", TOOL)
assert spec is not None
assert spec.loader is not None
check_docstrings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_docstrings)

MODULE = '"""Sums.\n\n>>> 1 + 1\n2\n"""\n'
"""A module's docstring with an example."""


def found(source: str, folder: Path, name: str = "sums.py", **options) -> list[str]:
    """The messages for a module with this source."""
    path = folder / name
    path.write_text(source)
    return [message for _, message in check_docstrings.problems(path, **options)]


def function(signature: str, doc: str, body: str = "pass") -> str:
    """A module with one function."""
    return f'{MODULE}def {signature}:\n    """{doc}"""\n    {body}\n'


def klass(member: str, doc: str = "A.", head: str = "class A") -> str:
    """A module with one class."""
    return f'{MODULE}{head}:\n    """{doc}"""\n\n' + indent(dedent(member).strip("\n"), "    ") + "\n"


ARGS = "Add.\n\n    Args:\n        a: The first, in metres.\n    "
RAISES = "Add.\n\n    Raises:\n        AdapterlabError: If all fails.\n    "


@pytest.mark.parametrize(
    ("source", "message"),
    [
        # Words.
        (function("f()", "What it does."), "opens with 'What'"),
        (function("f()", "Let it do."), "opens with 'Let'"),
        (function("_f()", "Whether it holds."), "opens with 'Whether'"),
        (f'{MODULE}LIMIT = 3\n"""How many there are."""\n', "opens with 'How'"),
        (klass('b: int = 0\n"""Those of it."""'), "opens with 'Those'"),
        (function("f()", "Add the two, lest one be lost."), "'lest'"),
        (function("f()", "Add so\n    many of them."), "'so many'"),
        (function("f()", "Add those that wait in line."), "'wait in line'"),
        ('"""Sums, anew.\n\n>>> 1\n1\n"""\n', "'anew'"),
        # Examples.
        ('"""Sums."""\n', "no example"),
        ('"""Sums.\n\n>>> 1 / 0  # doctest: +SKIP\n1\n"""\n', "no example"),
        # Args.
        (function("f(a: int)", "Add."), "f: Args lacks a"),
        (function("f(a: int, b: int)", ARGS), "f: Args lacks b"),
        (function("f(a: int, *rest: int, b: int = 0, **more: int)", ARGS), "f: Args lacks rest, b, more"),
        (function("f(a: int)", "Add.\n\n    Args:\n        a:\n    "), "f: Args lacks a"),
        (
            function("f(a: int)", "Add.\n\n    Note:\n        a: This is no section of arguments.\n    "),
            "f: Args lacks a",
        ),
        (
            function(
                "f(a: int, b: int)", "Add.\n\n    Args:\n        a: The first; and of two\n            b: this.\n    "
            ),
            "f: Args lacks b",
        ),
        (function("f()", ARGS), "f: Args has a, no parameter of it"),
        (function("f(a: int, _b: int, c: int)", ARGS), "f: Args lacks c"),
        (klass('def f(self, a: int) -> None:\n    """Add."""'), "A.f: Args lacks a"),
        (klass("def __init__(self, a: int) -> None:\n    pass"), "A: Args lacks a"),
        # Returns.
        (function("f() -> int", "Add."), "neither Returns nor Yields"),
        (function("f() -> Iterator[int]", "Add."), "neither Returns nor Yields"),
        (function("f() -> int", "Add. The caller Returns: nothing."), "neither Returns nor Yields"),
        (function("f() -> int", "Returning is all."), "neither Returns nor Yields"),
        # Raises.
        (function("f() -> None", "Add.", "raise AdapterlabError('x')"), "Raises lacks AdapterlabError"),
        (function("f() -> None", "Add.", "raise errors.UnknownNameError('x')"), "Raises lacks UnknownNameError"),
        (
            function("f() -> None", RAISES, "raise UnknownNameError('x')"),
            "Raises lacks UnknownNameError",
        ),
        # Missing docstrings that no base can give.
        (klass("def f(self) -> None:\n    pass"), "A.f: no docstring"),
        (klass("def f(self) -> None: ...", head="class A(Protocol)"), "A.f: no docstring"),
    ],
)
def test_it_flags(source, message, tmp_path):
    messages = found(source, tmp_path)
    assert len(messages) == 1, messages
    assert message in messages[0]


@pytest.mark.parametrize(
    "source",
    [
        MODULE,
        # Words.
        function("f()", "Return what is there."),
        function("f()", "Amend `so many` in line 3, in line with the standard."),
        f'{MODULE}LIMIT = 3\n"""Number of them."""\n',
        # Examples: in a function or a class.
        '"""Sums."""\n\n\ndef f() -> None:\n    """Add.\n\n    >>> f()\n    """\n',
        # Args.
        function("f(a: int)", ARGS),
        function("f(a: int)", "Add.\n\n    Args:\n        a (tuple[int, (int)], optional): The first.\n    "),
        function("f(a: int)", "Add.\n\n    Args:\n        a:\n            The first.\n    "),
        function("f(*a: int, **b: int)", "Add.\n\n    Args:\n        *a: These.\n        **b: Those.\n    "),
        function("f(a: int, _b: int)", ARGS),
        klass("def __init__(self, a: int) -> None:\n    pass", "A.\n\n    Args:\n        a: A.\n    "),
        klass('def __init__(self, a: int) -> None:\n    """Make it.\n\n    Args:\n        a: A.\n    """'),
        klass('@classmethod\ndef f(cls) -> None:\n    """Add."""'),
        function("_f(a: int) -> int", "Add."),
        function("f() -> None", "Add.", 'def inside(a: int) -> int:\n        """Add."""\n        return a'),
        # Commands of typer.
        function("f(a: Annotated[int, typer.Option(help='A.')])", "Add.", "raise AdapterlabError('x')"),
        f"{MODULE}from adapterlab.cli.options import MapOption\n"
        + function("f(a: MapOption)", "Add.").removeprefix(MODULE),
        f"{MODULE}Out = Annotated[int, typer.Option(help='A.')]\n" + function("f(a: Out)", "Add.").removeprefix(MODULE),
        # Returns.
        function("f() -> int", "Return the sum."),
        function("f() -> Iterator[int]", "Yield the sums."),
        function("f() -> int", "Add.\n\n    Returns:\n        The sum.\n    "),
        function("f() -> Iterator[int]", "Add.\n\n    Yields:\n        The sums.\n    "),
        function("f() -> NoReturn", "Stop."),
        f'{MODULE}@contextmanager\ndef f() -> Iterator[None]:\n    """Hold the lock."""\n    yield\n',
        klass('@property\ndef f(self) -> int:\n    """Number of them."""'),
        # Raises.
        function(
            "f() -> None",
            "Add.\n\n    Raises:\n        AdapterlabError: If all fails.\n    ",
            "raise AdapterlabError('x')",
        ),
        function("f() -> None", "Add.", "raise KeyError(AdapterlabError)"),
        function("f() -> None", "Add.", "def inside() -> None:\n        raise AdapterlabError('x')"),
        # Methods that a base may declare.
        klass("def f(self, a: int) -> int:\n    return a", head="class A(B)"),
        klass("def f(self, a: int) -> int:\n    return a", head="class _A"),
    ],
)
def test_it_lets_pass(source, tmp_path):
    assert found(source, tmp_path) == []


FIELDS = dedent(
    '''
    @dataclass(frozen=True)
    class A:
        """A box of a width."""

        width: int
        height: int
        """In metres."""
        kind: ClassVar[str] = "box"
        _seen: int = 0
    '''
)


def test_it_checks_fields_when_asked(tmp_path):
    assert found(MODULE + FIELDS, tmp_path, fields=True) == []
    missing = FIELDS.replace('"""A box of a width."""', '"""A box."""').replace('"""In metres."""', "")
    assert found(MODULE + missing, tmp_path, fields=True) == ["A: fields without a docstring: width, height"]
    assert found(MODULE + missing, tmp_path) == []


def test_only_public_modules_are_held_to_examples_and_sections(tmp_path):
    plain = '"""Sums."""\n' + function("f(a: int)", "Add.").removeprefix(MODULE)
    assert len(found(plain, tmp_path)) == 2
    assert found(plain, tmp_path, "_sums.py") == []
    assert found(plain, tmp_path, "__init__.py") == ["f: Args lacks a"]
    hidden = tmp_path / "_hidden"
    hidden.mkdir()
    assert len(found(plain, hidden)) == 2, "a folder that is no package has no part in the name"
    (hidden / "__init__.py").write_text("")
    assert found(plain, hidden) == []


def test_it_exits_with_1_where_something_is_found_and_names_the_line(tmp_path, capsys):
    (tmp_path / "good.py").write_text(MODULE)
    assert check_docstrings.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 files: docstrings are in order\n"
    (tmp_path / "bad.py").write_text(function("f(a: int)", "Add."))
    assert check_docstrings.main([str(tmp_path)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path / 'bad.py'}:6: f: Args lacks a"
    assert last == "1 problems in 2 files"


def test_it_keeps_its_own_rules():
    assert list(check_docstrings.problems(TOOL, fields=True)) == []
    assert doctest.testmod(check_docstrings).failed == 0
