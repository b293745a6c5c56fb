r"""Texts of users on a terminal: without control characters, and with nothing that rich takes for markup.

>>> plain("ia3[/b]")
'ia3\\[/b]'
"""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from adapterlab.names import printable


def plain(text: object) -> str:
    """Return a text such that rich prints it as it is.

    Args:
        text: The text, or what is shown as text.
    """
    return escape(printable(text))


def add_plain_row(table: Table, *cells: object, style: str = "") -> None:
    """Add a row to a table, with each cell as it is.

    Args:
        table: The table.
        *cells: The cells.
        style: Style of the row.
    """
    table.add_row(*map(plain, cells), style=style)
