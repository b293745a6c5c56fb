"""Reading and scoring large maps, beside the reference implementation, in one run: `python -m benchmarks.argmap`.

Both read the same files: arguments of two premises with metadata, tags, links and a relation to the thesis. Ours
reads and scores; the reference (installed by `python -m tests.argmap.reference.regenerate --install`) reads and
exports JSON. Whole processes, start included, the best of three, the two taken in turns: wall time, and processor
time, which other work on the machine disturbs less. Inside one process, reading and scoring apart, in processor time.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from adapterlab import argmap
from tests.argmap.reference import reference_cli

SIZES = (1250, 2500, 5000, 10_000, 20_000)
ROUNDS = 3


def large_map(statements: int) -> str:
    """A map of this many statements: a thesis, and arguments of three."""
    parts = ["===\nmodel:\n    mode: strict\n===\n\n[Thesis]: What all bears on."]
    for number in range((statements - 1) // 3):
        sign = "+>" if number % 3 else "->"
        parts.append(
            f"<Argument {number}>\n\n"
            f"(1) [Premise {number}a]: In trial {number}, a change of *this* kind was seen. #observation\n"
            f"    [paper {number}](https://example.org/{number})\n"
            f'    {{reason: "seen {number} times, by two groups", credence: 0.{number % 89 + 10}}}\n'
            f'(2) [Premise {number}b]: It matters. {{reason: "assumed", credence: 0.7}}\n'
            f"----\n"
            f'(3) [Conclusion {number}]: So it follows. {{reason: "by analogy", inference: 0.6}}\n'
            f"  {sign} [Thesis]"
        )
    return "\n\n".join(parts) + "\n"


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall time and processor time of a command."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def best(taken: list[tuple[float, float]]) -> str:
    """The least wall time and the least processor time."""
    return "  ".join(f"{min(column):6.2f}" for column in zip(*taken, strict=True)) if taken else "not installed"


def main() -> None:
    reference = reference_cli.binary()
    root = Path(__file__).parents[1]
    print("            in one process  |  whole process, wall and processor seconds")
    print("statements   read  score    |  ours            reference")
    taken = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in SIZES:
            path = folder / f"map{size}.argdown"
            path.write_text(large_map(size), encoding="utf-8")
            start = time.process_time()
            read = argmap.parse(path.read_text(encoding="utf-8"))
            middle = time.process_time()
            argmap.score(read)
            end = time.process_time()
            taken.append(end - start)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(seconds([sys.executable, "-m", "adapterlab", "map", "score", "--json", str(path)], root))
                if reference:
                    theirs.append(seconds([str(reference), "json", str(path), str(folder / "out")], folder))
            apart = f"{len(read.claims):10}  {middle - start:5.2f}  {end - middle:5.2f}"
            print(f"{apart}    |  {best(ours)}  {best(theirs)}")
    growth = math.log(taken[-1] / taken[0]) / math.log(SIZES[-1] / SIZES[0])
    print(f"time grows as statements to the power of {growth:.2f}")
    helping = [seconds([sys.executable, "-m", "adapterlab", "map", "--help"], root) for _ in range(5)]
    print(f"adapterlab map --help, wall and processor seconds: {best(helping)}")


if __name__ == "__main__":
    main()
