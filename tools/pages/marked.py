r"""Marked parts of the pages: text between two comments that a tool writes.

>>> page = "Before.\n<!-- made: answer -->\nold\n<!-- end: answer -->\nAfter.\n"
>>> print(with_parts(page, {"answer": "new"}), end="")
Before.
<!-- made: answer -->
<BLANKLINE>
new
<BLANKLINE>
<!-- end: answer -->
After.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PART = re.compile(r"<!-- made: (?P<name>[\w-]+) -->\n.*?<!-- end: (?P=name) -->", re.DOTALL)


def with_parts(page: str, parts: Mapping[str, str]) -> str:
    """Return a page with its marked parts replaced.

    Args:
        page: Text of the page.
        parts: Text of each part by its name.

    Raises:
        KeyError: If the page has a part that nothing writes.
    """

    def replaced(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- made: {name} -->\n\n{parts[name].strip()}\n\n<!-- end: {name} -->"

    return PART.sub(replaced, page)


def names_of(page: str) -> list[str]:
    """Return the names of the marked parts of a page.

    Args:
        page: Text of the page.
    """
    return [found["name"] for found in PART.finditer(page)]
