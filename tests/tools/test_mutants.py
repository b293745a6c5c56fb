"""The mutation tests: which changes are drawn, and which tests run on them. That they run is shown by `make mutants`."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools/mutants.py")
assert spec is not None
assert spec.loader is not None
mutants = importlib.util.module_from_spec(spec)
sys.modules["mutants"] = mutants  # dataclasses look their module up
spec.loader.exec_module(mutants)

SOURCE = '''"""A module of 7 lines."""

from typing import Literal, cast

LIMIT = 10
Kind = Literal["small", "large"]
TABLE = make(1.5)
__all__ = ["grow"]


def grow(size: Literal["a"] = "a", step: int = 3) -> int:
    """Grow by 5."""
    if size < LIMIT:
        raise ValueError("the size is too small")
    pairs = zip(first, second, strict=True)
    return cast("int", size) + step


class A:
    """A class of 9."""

    width: float = 1.0

    @property
    def area(self) -> float:
        return self.width * 2
'''


@pytest.fixture
def drawn(tmp_path) -> list[str]:
    """The diffs of every change that is drawn from the source."""
    (tmp_path / "a.py").write_text(SOURCE)
    return [mutant.diff for seed in range(12) for mutant in mutants.sample([tmp_path / "a.py"], 100, seed, tmp_path)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 10", "LIMIT = 11"),
        ("TABLE = make(1.5)", "TABLE = make(2.5)"),
        ("    if size < LIMIT:", "    if size <= LIMIT:"),
        ("    pairs = zip(first, second, strict=True)", "    pairs = None"),
        ("    width: float = 1.0", "    width: float = 2.0"),
        ("        return self.width * 2", "        return self.width / 2"),
    ],
)
def test_constants_functions_and_decorated_methods_are_changed(before, after, drawn):
    assert f"-{before}\n+{after}" in drawn


@pytest.mark.parametrize("kept", ["module of", "Kind", "__all__", "Grow by", "class of"])
def test_types_docstrings_and_lists_of_names_are_not(kept, drawn):
    assert not any(line.startswith("-") and kept in line for diff in drawn for line in diff.splitlines())


@pytest.mark.parametrize("changed", ["XXintXX", "XXthe size", "THE SIZE", "strict=False", "strict=None"])
def test_casts_words_for_people_and_guards_are_not(changed, drawn):
    assert not any(changed in diff for diff in drawn)


def test_a_sample_is_bounded_is_that_of_its_seed_and_each_mutant_is_another_valid_program(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(SOURCE)
    first, again, other = (mutants.sample([path], 5, seed, tmp_path) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 5
    for mutant in first:
        assert mutant.file == "a.py"
        assert ast.dump(ast.parse(mutant.code)) != ast.dump(ast.parse(SOURCE))
        line = SOURCE.splitlines()[mutant.line - 1]
        assert f"-{line}" in mutant.diff
    assert path.read_text() == SOURCE


@pytest.mark.parametrize("package", mutants.MUTATED)
def test_every_module_that_is_mutated_has_tests_of_its_own(package):
    for path in (ROOT / package).rglob("*.py"):
        file = str(path.relative_to(ROOT))
        tests = mutants.tests_for(file, ROOT)
        assert tests
        assert len(tests) == len(set(tests))
        assert all((ROOT / test).is_file() for test in tests), file
        own = f"test_{path.stem}.py"
        assert own not in {Path(test).name for test in tests[1:]} or Path(tests[0]).name == own


def test_the_slow_tests_that_are_left_out_exist():
    for test in mutants.SLOW:
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text(), test
    assert all((ROOT / test).is_file() for test in mutants.NOT_FOR_ALL)


def test_the_share_counts_what_does_not_end_as_killed_and_the_summary_lists_survivors():
    mutant = mutants.Mutant("a.py", 5, "", "-LIMIT = 10\n+LIMIT = 11")
    verdicts = [mutants.Verdict(mutant, status, 1.0) for status in ("killed", "timeout", "killed", "survived")]
    assert mutants.share_killed(verdicts) == 0.75
    listed = "a.py:5\n-LIMIT = 10\n+LIMIT = 11\n\n"
    assert mutants.summary(verdicts) == (
        f"{listed}4 mutants: 2 killed, 1 survived, 1 timeout (counts as killed): 75.0%"
    )
