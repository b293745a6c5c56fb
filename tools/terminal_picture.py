"""Draw the output of a command as it looks in a terminal: an SVG for the documentation.

    adapterlab tune --model smollm2 --train my.jsonl --time 20m | tee output.txt
    python tools/terminal_picture.py "adapterlab tune --model smollm2 --train my.jsonl --time 20m" output.txt docs/tune.svg

Lines that are longer than 80 columns are an error: the output of every command fits.

>>> "total" in picture("ls", ["total 0"])
True
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 80
LOG = re.compile(r"\[ *\d+ s\]|\.\.\.$")
"""Lines of progress."""


def picture(command: str, lines: list[str]) -> str:
    """Return an SVG of a terminal.

    Args:
        command: Command line that is shown above the output.
        lines: Lines of the output.
    """
    long = [line for line in lines if len(line) > WIDTH]
    if long:
        raise SystemExit(f"longer than {WIDTH} columns: {long[0]}")
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", "bold"))
    for line in lines:
        console.print(Text(line, "dim" if LOG.match(line) else ""), highlight=False)
    console.print()  # the last line would be cut
    found = console.export_svg(title="adapterlab", theme=MONOKAI, unique_id="terminal")
    # The picture needs no request: the viewer's own monospaced font is as good as the one that rich would fetch.
    start, end = found.index("@font-face"), found.index(".terminal-matrix")
    return f"{found[:start]}{found[end:]}".replace("Fira Code", "ui-monospace, Menlo, Consolas")


if __name__ == "__main__":
    shown, source, target = sys.argv[1:]
    Path(target).write_text(picture(shown, Path(source).read_text("utf-8").splitlines()), "utf-8")
