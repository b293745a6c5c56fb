"""The one family of errors that a user can cause.

Each message says what was wrong, where, and how to mend it, in a line or two. The command line prints the message
without a traceback and exits with 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AdapterlabError(Exception):
    """A mistake in what was asked for, or in what was given."""


class UnknownNameError(AdapterlabError):
    """A name that is none of the known ones; the message gives the nearest.

    `kind` is what was named ("adapter", "task", "setting"), `where` the file or option that named it.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}{f' in {where}' if where else ''}: {hint}")
        self.name, self.near = name, near
