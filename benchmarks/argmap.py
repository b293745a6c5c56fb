"""Time to read and score large maps, compared with the reference implementation: `python -m benchmarks.argmap`.

Both implementations read the same files: arguments of two premises with metadata, tags, links and a relation to the
thesis. adapterlab reads and scores a map; the reference (installed by
`python -m tests.argmap.reference.regenerate --install`) reads it and exports JSON. Two measurements:

- Complete processes with their start, alternating between the two implementations, the best of three runs: wall time,
  and processor time, which other work on the machine affects less.
- Reading and scoring within one process, in processor seconds.
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
    """Return a map with about this number of statements: a thesis, and arguments of three statements each."""
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
    """Return the wall time and the processor time of a command."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def best(taken: list[tuple[float, float]]) -> str:
    """Return the smallest wall time and the smallest processor time."""
    return "  ".join(f"{min(column):6.2f}" for column in zip(*taken, strict=True)) if taken else "not installed"


def main() -> None:
    reference = reference_cli.binary()
    root = Path(__file__).parents[1]
    print("            in one process  |  complete process, wall and processor seconds")
    print("statements   read  score    |  adapterlab      reference")
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
            in_one = f"{len(read.claims):10}  {middle - start:5.2f}  {end - middle:5.2f}"
            print(f"{in_one}    |  {best(ours)}  {best(theirs)}")
    growth = math.log(taken[-1] / taken[0]) / math.log(SIZES[-1] / SIZES[0])
    print(f"time grows as statements to the power of {growth:.2f}")
    help_times = [seconds([sys.executable, "-m", "adapterlab", "map", "--help"], root) for _ in range(5)]
    print(f"adapterlab map --help, wall and processor seconds: {best(help_times)}")


if __name__ == "__main__":
    main()
