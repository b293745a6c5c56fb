"""Coverage-guided fuzzing of the parser for a limited time: `python -m benchmarks.argmap_fuzz [seconds]`.

Needs atheris (`pip install atheris`). Every input must give a map or diagnostics. An exception, or an input that takes
longer than ten seconds, stops the run; the input is then written to the current folder.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["adapterlab.argmap"]):
    from adapterlab.argmap.model import build
    from adapterlab.argmap.scoring import network, propagation, scores
    from adapterlab.argmap.tools import fmt
    from adapterlab.errors import AdapterlabError

from tests.argmap.reference import corpus

MODULES = (build, fmt, network, propagation, scores)  # imported here, so that atheris instruments them
LONGEST = 4096  # bytes of an input


def one_input(data: bytes) -> None:
    read = build.parse(data.decode("utf-8", "replace"))
    for diagnostic in read.diagnostics:
        diagnostic.render(read.source)
    with suppress(AdapterlabError):
        scores.score(read, skip_broken=True)
    with suppress(AdapterlabError):
        fmt.format_map(read.source.text)


def main() -> None:
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (corpus.written() | corpus.generated()).items():
            Path(folder, name).write_bytes(text.encode())
        options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
