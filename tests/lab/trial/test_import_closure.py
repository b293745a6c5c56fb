"""What an import statement makes count, on small packages that the tests write."""

from __future__ import annotations

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.import_closure import ImportClosure
from adapterlab.lab.trial.source_reader import parse

FILES = {
    "__init__.py": "",
    "a.py": "def f(): return 1\n",
    "b.py": "from .a import f\n",
    "c.py": "C = 1\n",
    "listed/__init__.py": "from ..a import f as g\nfrom . import inner\nfrom .own import *\nOWN = 2\n",
    "listed/inner.py": "I = 1\n",
    "listed/own.py": "O = 1\n",
    "lazy/__init__.py": (
        "from typing import TYPE_CHECKING\nfrom importlib import import_module\n"
        "if TYPE_CHECKING:\n    from adapterlab.c import C\n"
        "def __getattr__(name):\n    return getattr(import_module(HOMES[name]), name)\n"
    ),
    "acts/__init__.py": "import torch\ntorch.set_num_threads(1)\n",
    "acts/below.py": "B = 1\n",
    "namespace/deep.py": "D = 1\n",
}
LISTED = {"listed/__init__.py", "a.py", "listed/inner.py", "listed/own.py"}


@pytest.fixture
def closure_of(tmp_path):
    """The files of a package that a module with a given text needs, without the module itself."""
    for name, text in FILES.items():
        path = tmp_path / "adapterlab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(text: str) -> set[str]:
        (tmp_path / "adapterlab/start.py").write_text(text)
        closure = ImportClosure(tmp_path)
        found = closure.modules([closure.module("adapterlab.start")])
        return {module.label.removeprefix("adapterlab/") for module in found} - {"start.py"}

    return run


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("import adapterlab.a", {"a.py"}),
        ("import adapterlab.a as other", {"a.py"}),
        ("from adapterlab import a", {"a.py"}),
        ("from adapterlab.a import f", {"a.py"}),
        ("from . import a", {"a.py"}),
        ("from .b import f", {"b.py", "a.py"}),
        ("def later():\n    if True:\n        from .b import f", {"b.py", "a.py"}),
        ("class K:\n    import adapterlab.c", {"c.py"}),
        ("try:\n    import adapterlab.c\nexcept ImportError:\n    import adapterlab.a", {"a.py", "c.py"}),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a\nelse:\n    from . import c",
            {"c.py"},
        ),
        ("import typing as t\nif t.TYPE_CHECKING:\n    from . import a", set()),
        ("import importlib\nimportlib.import_module('adapterlab.c')", {"c.py"}),
        ("from importlib import import_module as get\nget('.c', __package__)", {"c.py"}),
        ("from importlib import import_module\nimport_module(name='adapterlab.c')", {"c.py"}),
        ("__import__('adapterlab.c')", {"c.py"}),
    ],
)
def test_every_form_of_an_import_counts_wherever_it_is(closure_of, text, counted):
    assert closure_of(text) == counted


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("from adapterlab.listed import g", {"a.py"}),
        ("from adapterlab.listed import inner", {"listed/inner.py"}),
        ("from adapterlab.listed.inner import I", {"listed/inner.py"}),
        ("from adapterlab.listed import OWN", LISTED),
        ("from adapterlab.listed import O", LISTED),
        ("from adapterlab.listed import *", LISTED),
        ("from adapterlab import listed", LISTED),
        ("import adapterlab.listed", LISTED),
        ("from adapterlab import lazy\nlazy.C", {"lazy/__init__.py", "c.py"}),
        ("from adapterlab.lazy import C", {"c.py"}),
        ("import adapterlab\nadapterlab.listed.inner.I", {"__init__.py", "listed/inner.py"}),
        ("import adapterlab.a\nadapterlab.c.C", {"a.py", "c.py"}),
        (
            "def f():\n    from . import a as m\ndef g():\n    from . import namespace as m\n    m.deep.D",
            {"__init__.py", "a.py", "namespace/deep.py"},
        ),
        ("from adapterlab.namespace.deep import D", {"namespace/deep.py"}),
        ("from adapterlab.namespace import deep", {"namespace/deep.py"}),
        ("from adapterlab.acts.below import B", {"acts/__init__.py", "acts/below.py"}),
    ],
)
def test_a_name_of_a_package_is_looked_up_where_it_comes_from(closure_of, text, counted):
    assert closure_of(text) == counted


def test_files_that_import_each_other_count_once(closure_of, tmp_path):
    (tmp_path / "adapterlab/c.py").write_text("from . import d\n")
    (tmp_path / "adapterlab/d.py").write_text("from . import c\nfrom .listed import round_trip\n")
    (tmp_path / "adapterlab/listed/__init__.py").write_text("from . import round_trip\n")
    assert closure_of("from . import c") == {"c.py", "d.py", "listed/__init__.py"}


def test_a_module_of_the_package_without_source_is_an_error(tmp_path):
    with pytest.raises(AdapterlabError, match=r"module adapterlab\.gone has no source file"):
        ImportClosure(tmp_path).module("adapterlab.gone")


@pytest.mark.parametrize(
    ("text", "acts"),
    [
        ('"""Doc."""\nimport torch\nX, Y = 1, 2\nZ: int = 3\ndef f(): print()\nclass K: pass\n', False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n", False),
        ("if __name__ == '__main__':\n    main()\n", False),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None\n", False),
        ("try:\n    import torch\nexcept ImportError:\n    quit()\n", True),
        ("import torch\ntorch.set_num_threads(1)\n", True),
        ("import torch\ntorch.add = max\n", True),
        ("import torch\ntorch.x: int = 1\n", True),
        ("import os\nos.environ['X'] = '1'\n", True),
        ("for x in range(3):\n    pass\n", True),
        ("if True:\n    x = 1\n", True),
    ],
)
def test_code_that_may_change_another_module_when_it_is_imported_is_recognized(text, acts):
    assert parse(text, "").acts == acts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 'a' 'b'", 'x = ("ab")'),
        ("def f(): pass", 'def f():\n    """Doc."""'),
        ("class K:\n    x: int = 1", 'class K:\n    x: int = 1\n    """An attribute."""'),
        ("x = 1_000", "x = 1000  # a thousand"),
        ("from typing import TYPE_CHECKING", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a"),
    ],
)
def test_programs_that_do_the_same_have_one_hash(one, other):
    assert parse(one, "").digest == parse(other, "").digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("x = None", "x = ..."),
        ("f(a, b)", "f(a=b)"),
        ("f((a, b))", "f([a, b])"),
        ("x = [a], b", "x = [a, b]"),
        ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"),
        ("x = f'{a}{b}'", "x = f'{a!r}{b}'"),
        ("x = f'a{b}'", "x = f'{b}a'"),
        ("@d\ndef f(): pass", "def f(): pass"),
        ("def f(a=1): pass", "def f(*, a=1): pass"),
        ("x: int = 1", "x: float = 1"),
    ],
)
def test_programs_that_differ_have_different_hashes(one, other):
    assert parse(one, "").digest != parse(other, "").digest
