"""Mutation tests of a random sample: `python tools/mutants.py [--count 200] [--seed 0] [--jobs 2] [PATH ...]`.

A mutant is the package with one small change (`<` for `<=`, 4 for 3, an argument left out). The tests of the changed module
run on it; if they all pass, the mutant has survived, and something is not tested. docs/mutants.md explains how to read the
result.

The changes are those of mutmut's operators. Only the choice of places, the copies and the test runs are here: mutmut itself
mutates no decorated function and no constant, and has no bounded sample. The working tree is never changed; each job has a
copy in a temporary folder.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import difflib
import os
import py_compile
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).parent.parent
MUTATED = ("adapterlab/lab", "adapterlab/verdict", "adapterlab/argmap/scoring")
"""The packages that are mutated by default."""
TESTS = {
    "adapterlab/argmap/scoring": ("tests/argmap/test_semantics.py", "tests/argmap/test_scores.py", "tests/argmap"),
    "adapterlab/verdict": ("tests/verdict", "tests/report"),
    "adapterlab/lab/statistics": ("tests/lab/statistics", "tests/lab/analysis", "tests/verdict"),
    "adapterlab/lab/analysis": (
        "tests/lab/analysis",
        "tests/verdict",
        "tests/report",
        "tests/lab/run/test_commands.py",
    ),
    "adapterlab/lab/ledger": ("tests/lab/ledger", "tests/lab/run/test_commands.py"),
    "adapterlab/lab/study": ("tests/lab/study", "tests/lab/run/test_commands.py"),
    "adapterlab/lab/trial": ("tests/lab/trial", "tests/lab/run/test_contest.py", "tests/lab/run/test_capacity.py"),
    "adapterlab/lab/run/executors/ray.py": ("tests/lab/run/executors/test_cluster.py",),
    "adapterlab/lab/run/executors/ray_head.py": ("tests/lab/run/executors/test_ray_head.py",),
    "adapterlab/lab/run/executors/ray_parcel.py": ("tests/lab/run/executors/test_parcel.py",),
    "adapterlab/lab/run/executors": ("tests/lab/run/executors/test_local.py", "tests/lab/run/test_scheduler.py"),
    "adapterlab/lab/run": ("tests/lab/run",),
    "adapterlab/lab": ("tests/lab",),
}
"""By the path of a package or module, the tests that run on its mutants, in this order; the longest path counts.

Tests named after the module come first, and so does the module's own doctest.
"""
NOT_FOR_ALL = {"tests/lab/run/executors/test_cluster.py", "tests/lab/run/test_soak.py", "tests/argmap/test_parity.py"}
"""Test files that are left out unless `TESTS` names them: they start a cluster, or take minutes."""
SLOW = (
    "tests/lab/analysis/test_calibration.py::test_a_real_adapter_trained_twice_is_the_same_to_the_bit",
    "tests/lab/ledger/test_full_disk.py::test_a_full_disk_stops_a_study_that_goes_on_when_there_is_room",
    "tests/lab/run/test_scheduler.py::test_a_signal_keeps_what_is_done_and_says_so",
    "tests/lab/run/test_scheduler.py::test_kill_in_the_middle_and_a_rerun_give_the_same_ledger",
    "tests/lab/study/test_shipped_studies.py::test_its_contestants_fit_the_embedded_model_near_the_budget",
)
"""Tests that are left out because they take long and test little of a single module."""
WITHOUT_TORCH = "adapterlab/argmap"
"""The package whose tests need nothing of tests/conftest.py, which loads torch."""
LEAST = 0.85
"""Share of mutants that must be killed."""
FOR_READERS = (
    m.Call(func=m.Name("cast") | m.Name("TypeVar"))
    | m.Subscript(value=m.Name("Literal"))
    | m.Arg(keyword=m.Name("strict"))
    | m.If(test=m.Name("TYPE_CHECKING"))
    | m.Assign(targets=[m.AssignTarget(m.Name("__all__"))])
)
"""Code for the type checker, lists of names, and guards against mistakes of our own (`strict=True`): not mutated."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    line: int
    code: str
    """The whole file with the change."""
    diff: str


@dataclass(frozen=True)
class Verdict:
    """What the tests made of one mutant."""

    mutant: Mutant
    status: str
    """`killed`, `survived` or `timeout`."""
    seconds: float


class _Places(cst.CSTVisitor):
    """Collect the places of a module: a node, and the changes that one operator makes to it."""

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, list[cst.CSTNode]]] = []
        self._functions = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator) or m.matches(node, FOR_READERS):
            return False
        if isinstance(node, cst.FunctionDef):
            self._functions += 1
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and not self._means_nothing(node):
                changed = [change for change in operator(node) if _guards(change) == _guards(node)]
                self.found += [(node, changed)] if changed else []
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef):
            self._functions -= 1

    def _means_nothing(self, node: cst.CSTNode) -> bool:
        """Return True where a change would tell nothing: it breaks every run, or changes no behaviour."""
        if m.matches(node, m.Call(func=m.Name("len") | m.Name("isinstance"))):
            return True
        if isinstance(node, cst.SimpleString) and len(node.evaluated_value.split()) > 1:
            return True  # words for people
        literal = isinstance(node, cst.BaseNumber | cst.BaseString | cst.Name)
        return not self._functions and not literal  # outside functions: constants, not types and tables


def _guards(node: cst.CSTNode) -> int:
    """Return the number of `strict=True` in the arguments of a call."""
    guard = m.Arg(keyword=m.Name("strict"), value=m.Name("True"))
    return sum(m.matches(argument, guard) for argument in node.args) if isinstance(node, cst.Call) else 0


def places(path: Path) -> list[tuple[cst.Module, int, cst.CSTNode, list[cst.CSTNode]]]:
    """Return the places of a file at which it can be changed.

    Args:
        path: A Python file.

    Returns:
        For each place the module, the line, the node, and what one operator can put in its place.
    """
    wrapper = MetadataWrapper(cst.parse_module(path.read_text("utf-8")))
    visitor = _Places()
    wrapper.module.visit(visitor)
    positions = wrapper.resolve(PositionProvider)
    return [(wrapper.module, positions[node].start.line, node, changed) for node, changed in visitor.found]


def sample(files: Iterable[Path], count: int, seed: int, root: Path = ROOT) -> list[Mutant]:
    """Draw mutants: places without replacement, all equally likely, then one change at each.

    Args:
        files: The files that may be changed.
        count: Number of mutants; fewer if there are fewer places.
        seed: Of the draw; the same seed and code give the same mutants.
        root: The folder that paths are shown relative to.

    Returns:
        The mutants, in the order of files and lines.
    """
    rng = random.Random(seed)
    everywhere = [(path, *place) for path in sorted(files) for place in places(path)]
    drawn: list[Mutant] = []
    for path, module, line, node, changed in rng.sample(everywhere, len(everywhere)):
        if len(drawn) == count:
            break
        mutated = cst.ensure_type(module.deep_replace(node, rng.choice(changed)), cst.Module).code
        if _differs(module.code, mutated):
            drawn.append(_mutant(str(path.relative_to(root)), line, module.code, mutated))
    return sorted(drawn, key=lambda mutant: (mutant.file, mutant.line))


def _differs(before: str, after: str) -> bool:
    """Return True if the changed code is valid and is not the same program."""
    try:
        return ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))
    except SyntaxError:
        return False


def _mutant(file: str, line: int, before: str, after: str) -> Mutant:
    diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))
    return Mutant(file, line, after, "\n".join(text for text in diff[2:] if not text.startswith("@@")))


def tests_for(file: str, root: Path) -> list[str]:
    """Return the test files that run on mutants of a module, those named after it first.

    Args:
        file: The module, relative to `root`.
        root: The checkout.
    """
    named = TESTS[max((path for path in TESTS if Path(file).is_relative_to(path)), key=len)]
    found: dict[str, None] = {}
    for name in named:
        path = root / name
        files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
        relative = [str(f.relative_to(root)) for f in files]
        found.update(dict.fromkeys(f for f in relative if f in named or f not in NOT_FOR_ALL))
    own = f"test_{Path(file).stem}.py"
    return sorted(found, key=lambda test: Path(test).name != own)


class Copy:
    """A copy of the checkout in a temporary folder, where one mutant at a time is tested.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._root, self._temporary = folder / "checkout", folder / "tmp"
        self._temporary.mkdir()
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (self._root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self._root / name)
        # By hash, not by time: a mutant may have the size and the second of its original.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self._root / "adapterlab", quiet=1, invalidation_mode=mode)

    def test(self, file: str, timeout: float | None = None) -> tuple[str, float, str]:
        """Run the tests of a module as it is in this copy.

        Args:
            file: The module, relative to the checkout.
            timeout: Seconds after which the tests are stopped; None: never.

        Returns:
            `survived` if the tests pass, `killed` or `timeout`; the seconds that they took; and what pytest printed.
        """
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--hypothesis-seed=0",
        ]
        command += [argument for test in SLOW for argument in ("--deselect", test)]
        if Path(file).is_relative_to(WITHOUT_TORCH):
            command.append("--noconftest")
        environment = os.environ | {
            "PYTHONPATH": str(self._root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self._temporary),
        }
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, *tests_for(file, self._root), file],
            cwd=self._root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
            status = "survived" if process.returncode == 0 else "killed"
        except subprocess.TimeoutExpired:
            status, output = "timeout", ""
        finally:
            _end(process)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(exist_ok=True)
        return status, time.monotonic() - started, output

    def test_mutant(self, mutant: Mutant, timeout: float) -> Verdict:
        """Change the file, run its tests, and change it back.

        Args:
            mutant: The change.
            timeout: Seconds after which the tests are stopped.

        Returns:
            What the tests made of it.
        """
        path = self._root / mutant.file
        original = path.read_text("utf-8")
        try:
            path.write_text(mutant.code, "utf-8")
            status, seconds, _ = self.test(mutant.file, timeout)
        finally:
            path.write_text(original, "utf-8")
        return Verdict(mutant, status, seconds)


def _end(process: subprocess.Popen[str]) -> None:
    """End a test run and the workers that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Jobs:
    """Several copies of the checkout, each of which tests one thing at a time.

    Args:
        folder: An empty folder for the copies.
        count: Number of copies.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._count = count
        self._free: queue.Queue[Copy] = queue.Queue()
        for i in range(count):
            (folder / str(i)).mkdir()
            self._free.put(Copy(folder / str(i)))

    def run(self, work: Callable[[Copy, Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield each item with the result of `work`, as they end.

        Args:
            work: Tests an item in a copy.
            items: What is to be tested.

        Yields:
            The item and its result.
        """

        def on_a_copy(item: Item) -> Result:
            copy = self._free.get()
            try:
                return work(copy, item)
            finally:
                self._free.put(copy)

        with ThreadPoolExecutor(self._count) as pool:
            futures = {pool.submit(on_a_copy, item): item for item in items}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def time_limits(jobs: Jobs, files: Iterable[str]) -> dict[str, float]:
    """Return, by file, the seconds after which its mutants' tests are stopped.

    Args:
        jobs: Where the tests run, without a mutant.
        files: The files that have mutants.

    Raises:
        SystemExit: If the tests fail without a mutant.
    """
    by_tests: dict[frozenset[str], list[str]] = {}
    for file in files:
        by_tests.setdefault(frozenset(tests_for(file, ROOT)), []).append(file)
    limits: dict[str, float] = {}
    for same, (status, seconds, output) in jobs.run(lambda copy, same: copy.test(same[0]), by_tests.values()):
        if status != "survived":
            raise SystemExit(f"the tests of {same[0]} fail without a mutant:\n{output[-3000:]}")
        print(f"without a mutant: {seconds:.0f} s for the tests of {', '.join(same)}", flush=True)
        limits |= dict.fromkeys(same, 60 + 3 * seconds)
    return limits


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return the counts and every survivor with its file, line and change.

    Args:
        verdicts: All of them.
    """
    counts = Counter(verdict.status for verdict in verdicts)
    survivors = sorted((v.mutant for v in verdicts if v.status == "survived"), key=lambda x: (x.file, x.line))
    listed = [f"{mutant.file}:{mutant.line}\n{mutant.diff}" for mutant in survivors]
    return "\n\n".join(
        [
            *listed,
            f"{len(verdicts)} mutants: {counts['killed']} killed, {counts['survived']} survived, "
            f"{counts['timeout']} timeout (counts as killed): {share_killed(verdicts):.1%}",
        ]
    )


def share_killed(verdicts: Sequence[Verdict]) -> float:
    """Return the share of mutants that the tests noticed: by failing, or by not ending.

    Args:
        verdicts: All of them; there must be one at least.
    """
    return sum(verdict.status != "survived" for verdict in verdicts) / len(verdicts)


def main(arguments: Sequence[str]) -> int:
    """Draw mutants, test them, and print what survived.

    Args:
        arguments: The command line's.

    Returns:
        The exit status: 1 if too many survived.
    """
    parser = argparse.ArgumentParser(description="Mutation tests of a random sample.")
    parser.add_argument("paths", nargs="*", default=MUTATED, help="what is mutated (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200, help="number of mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="tests at once (default: one for each core)"
    )
    parser.add_argument("--least", type=float, default=LEAST, help="share that must be killed (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show the sample and test nothing")
    given = parser.parse_args(arguments)
    files = [f for path in given.paths for f in (sorted((ROOT / path).rglob("*.py")) or [ROOT / path])]
    mutants = sample(files, given.count, given.seed)
    if given.list:
        print("\n\n".join(f"{mutant.file}:{mutant.line}\n{mutant.diff}" for mutant in mutants))
        return 0
    print(f"{len(mutants)} mutants, seed {given.seed}", flush=True)
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        jobs = Jobs(Path(folder), given.jobs)
        limits = time_limits(jobs, dict.fromkeys(mutant.file for mutant in mutants))
        for mutant, verdict in jobs.run(lambda copy, mutant: copy.test_mutant(mutant, limits[mutant.file]), mutants):
            verdicts.append(verdict)
            place = f"{mutant.file}:{mutant.line}"
            print(f"[{len(verdicts)}/{len(mutants)}] {verdict.status:8} {verdict.seconds:4.0f} s  {place}", flush=True)
            if verdict.status == "survived":
                print(mutant.diff, flush=True)
    print(f"\n{summary(verdicts)}")
    return 0 if share_killed(verdicts) >= given.least else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
