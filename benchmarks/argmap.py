"""Time and memory to read and score large maps, beside the reference: `python -m benchmarks.argmap [sizes ...]`.

Both implementations read the same files: arguments of two premises with metadata, tags, links and a relation to the
thesis. adapterlab reads and scores a map and prints JSON; the reference (installed by
`python -m tests.argmap.reference.regenerate --install`) reads it and writes JSON. Each runs as a complete process, its
start included, and the two alternate. Of several runs, the table shows the smallest processor time, which other work on
the machine affects less than wall time, and the largest resident memory. The time for intervals is that of another
process, `map score --interval`, without the reference, which has no credences.

The results are written to `benchmarks/results/argmap.md`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.argmap.reference import reference_cli

SIZES = (1000, 3000, 10_000, 30_000, 100_000)
INTERVALS = 10_000  # statements of the map whose intervals are timed
ROUNDS = 3
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "argmap.md"
HEADER = f"""# Reading large maps

Processor seconds and peak memory of complete processes, the best of {ROUNDS} alternating runs
(`python -m benchmarks.argmap`). adapterlab also scores the map; the reference is @argdown/cli {reference_cli.VERSION}.

| statements | adapterlab, s | reference, s | adapterlab, MB | reference, MB |
|--:|--:|--:|--:|--:|
"""


class Use(NamedTuple):
    """Resources that a process has used."""

    seconds: float
    """Processor time."""
    megabytes: float
    """Largest resident memory."""


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


def used(command: list[str], folder: Path) -> Use:
    """Run a command and return what it has used."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, use = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return Use(use.ru_utime + use.ru_stime, use.ru_maxrss / 1024)


def best(uses: list[Use]) -> Use:
    """Return the smallest time and the largest memory."""
    return Use(min(use.seconds for use in uses), max(use.megabytes for use in uses))


def main() -> None:
    """Measure, and write the table."""
    reference = reference_cli.binary()
    if reference is None:
        raise SystemExit("the reference is not installed: python -m tests.argmap.reference.regenerate --install")
    score = [sys.executable, "-m", "adapterlab", "map", "score", "--json"]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in map(int, sys.argv[1:] or SIZES):
            path = folder / f"map{size}.argdown"
            path.write_text(large_map(size), encoding="utf-8")
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(used([*score, str(path)], ROOT))
                theirs.append(used([str(reference), "json", str(path), str(folder / "out")], folder))
            a, b = best(ours), best(theirs)
            rows.append(f"| {size:,} | {a.seconds:.2f} | {b.seconds:.2f} | {a.megabytes:.0f} | {b.megabytes:.0f} |\n")
            print(rows[-1], end="", flush=True)
        path = folder / "intervals.argdown"
        path.write_text(large_map(INTERVALS), encoding="utf-8")
        plain = best([used([*score, str(path)], ROOT) for _ in range(ROUNDS)])
        drawn = best([used([*score, "--interval", str(path)], ROOT) for _ in range(ROUNDS)])
    extra = f"\nIntervals (`--interval`) of {INTERVALS:,} statements take {drawn.seconds - plain.seconds:.2f} s more.\n"
    print(extra)
    RESULTS.write_text(HEADER + "".join(rows) + extra, encoding="utf-8")


if __name__ == "__main__":
    main()
