r"""Breaking of labels into lines by the estimated width of their characters.

>>> wrap("Load-bearing basis of the map", 14, 4)
['Load-bearing', 'basis of the', 'map']
"""

from __future__ import annotations

from unicodedata import east_asian_width

_BROAD = frozenset("mwMW@%—…")


def wrap(text: str, width: float, most: int) -> list[str]:
    """Break a text into lines; words that are longer than a line are divided, if possible behind a hyphen.

    Args:
        text: The text.
        width: Width of a line in mean characters.
        most: Largest number of lines; the rest of the text is left out.

    Returns:
        The lines, at least one. The last ends in an ellipsis if text is left out.
    """
    lines: list[str] = []
    for whole in text.split():
        for word in _parts(whole, width):
            if lines and _width(lines[-1]) + 1 + _width(word) <= width:
                lines[-1] += " " + word
            else:
                lines.append(word)
        if len(lines) > most:
            return [*lines[: most - 1], shortened(lines[most - 1] + "…", width)]
    return lines or [""]


def shortened(text: str, width: float) -> str:
    """Return a text, or its beginning and an ellipsis if it is wider than a line.

    Args:
        text: The text.
        width: Width of the line in mean characters.
    """
    return text if _width(text) <= width else text[: _fitting(text, width - 1)].rstrip("…") + "…"


def _parts(word: str, width: float) -> list[str]:
    parts: list[str] = []
    while _width(word) > width:
        most = max(1, _fitting(word, width - 1))
        cut = word.rfind("-", 1, most) + 1 or most
        parts.append(word[:cut] if word[cut - 1] == "-" else word[:cut] + "-")
        word = word[cut:]
    return [*parts, word]


def _fitting(text: str, width: float) -> int:
    """Return how many characters from the start fit into a line."""
    total = 0.0
    for index, character in enumerate(text):
        total += _units(character)
        if total > width:
            return index
    return len(text)


def _width(text: str) -> float:
    return sum(map(_units, text))


def _units(character: str) -> float:
    if not character.isascii() and east_asian_width(character) in "WF":
        return 2.0
    return 1.45 if character in _BROAD else 1.15 if character.isupper() else 1.0
