r"""Rules for the names and titles that users give, so that no name can forge a line of a report or a path.

>>> name_problem("ia3[/b]")
"holds '[': brackets are markup of the terminal"
>>> name_problem("lora-8"), text_problem("A study of\nlora")
(None, "holds the control character '\\n'")
>>> printable("red \x1b[31m")
'red \\x1b[31m'
"""

from __future__ import annotations

import unicodedata

LONGEST = 80
"""Most characters of a name."""
LONGEST_TEXT = 2000
"""Most characters of a title, a reason or a path."""


def name_problem(name: str) -> str | None:
    """Return the reason why a text cannot be the name of a contestant, task or adapter, or None if it can.

    Args:
        name: The name.
    """
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST:
        return f"has {len(name):,} characters: give at most {LONGEST}"
    if name != name.strip():
        return "begins or ends with a space"
    if name.startswith("."):
        return "begins with a dot: such files are hidden"
    for mark, reason in {
        "[": "brackets are markup of the terminal",
        "]": "brackets are markup of the terminal",
    }.items():
        if mark in name:
            return f"holds {mark!r}: {reason}"
    for mark in "/\\":
        if mark in name:
            return f"holds {mark!r}: names become names of files"
    return text_problem(name)


def text_problem(text: str) -> str | None:
    """Return the reason why a text cannot be a title, a reason or a path, or None if it can.

    Args:
        text: The text.
    """
    if len(text) > LONGEST_TEXT:
        return f"has {len(text):,} characters: give at most {LONGEST_TEXT:,}"
    wrong = next((character for character in text if is_control(character)), None)
    return None if wrong is None else f"holds the control character {wrong!a}"


def is_control(character: str) -> bool:
    """Return True for characters that a terminal or an editor acts on: controls, marks of direction, surrogates, separators.

    Args:
        character: One character.
    """
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: object) -> str:
    """Return a text with its control characters as escapes; new lines and tabs stay.

    Args:
        text: The text, or what is shown as text.
    """
    return "".join(ascii(c)[1:-1] if c not in "\n\t" and is_control(c) else c for c in str(text))
