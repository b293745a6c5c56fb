"""Blocks of code of a page: commands, Python, and files that the text tells the reader to save."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^ *```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"(?:Save|Put) [^`\n]*`(?P<file>[\w.-]+)`[^`]*\Z")


@dataclass(frozen=True)
class Block:
    """A block of a page."""

    kind: str
    """Language after the fence; `console` for commands behind a dollar sign."""
    text: str
    file: str | None
    """Name under which the sentence before it tells the reader to save it."""
    line: int

    @property
    def commands(self) -> list[str]:
        """Commands of the block, without their comments."""
        lines = [line.removeprefix("$ ") for line in self.text.splitlines() if self.kind == "sh" or line[:2] == "$ "]
        return [command for line in lines if (command := re.sub(r"\s+#\s.*", "", line).strip())]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page of `docs/`, in order."""
    text = (DOCS / page).read_text()
    found = []
    for match in BLOCK.finditer(text):
        paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
        saved = SAVED.search(paragraph)
        shown = match["text"]
        kind = match["kind"] or ("console" if shown.startswith(("$ ", "adapterlab ")) else "")
        if kind == "console" and not shown.startswith("$ "):
            kind = "sh"
        found.append(Block(kind, shown, saved and saved["file"], text[: match.start()].count("\n") + 1))
    return found
