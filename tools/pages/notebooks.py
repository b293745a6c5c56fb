"""Run the notebooks of `examples/` and keep what they print: `python -m tools.pages.notebooks`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 300
"""Time that a cell may take."""


def notebooks() -> list[Path]:
    """Return the notebooks in their order."""
    return sorted(EXAMPLES.glob("*.ipynb"))


def executed(path: Path, folder: Path) -> NotebookNode:
    """Return a notebook with what its cells print when they are run in order by a new interpreter.

    Warnings and progress are left out, and so are times and counts that differ from run to run.

    Args:
        path: The notebook.
        folder: Folder that it runs in.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell raises an error.
    """
    book = nbformat.read(path, as_version=4)
    NotebookClient(
        book, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _kept(cell.outputs)
    return book


def _kept(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return the outputs without the standard error stream, what was printed as one."""
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    stream = [nbformat.v4.new_output("stream", name="stdout", text=printed)] if printed else []
    return [*stream, *(output for output in outputs if output.output_type != "stream")]


if __name__ == "__main__":
    for path in notebooks():
        nbformat.write(executed(path, path.parent), path)
        sys.stdout.write(f"{path.name}\n")
