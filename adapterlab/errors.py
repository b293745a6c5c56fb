"""Errors that a user can cause.

Each message says in a line or two what is wrong, where, and how to fix it. The command line prints the message without a
traceback and exits with status 2.

>>> print(UnknownNameError("adapter", "lorra", ["lora", "dora", "oft"], where="study.toml"))
unknown adapter 'lorra' in study.toml: did you mean lora, dora?
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AdapterlabError(Exception):
    """Base class of all errors caused by the user's input."""


class AdapterlabWarning(UserWarning):
    """A remark on the user's input; the command line prints it as one line."""


class ChangedInputError(AdapterlabError):
    """A file that names the trials of a running study by its content has changed."""


class ScorerError(AdapterlabError):
    """A user's function that scores answers failed; the study stops, since its metric is not known for any contestant."""


class UnknownNameError(AdapterlabError):
    """A name that does not exist; the message suggests similar ones, or lists all.

    Args:
        kind: Kind of thing that is named, such as "adapter", "task" or "setting".
        name: The unknown name.
        known: The names that exist.
        where: File or option in which the name was given.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}{f' in {where}' if where else ''}: {hint}")
        self.name, self.near = name, near
