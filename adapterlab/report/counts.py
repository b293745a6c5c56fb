"""Counts in a few characters.

>>> thousands(18_432)
'18.4k'
"""

from __future__ import annotations


def thousands(count: int) -> str:
    """Return a count in about three digits, such as `18.4k`.

    Args:
        count: The count.
    """
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.1f}k"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 trial` or `1,204 trials`.

    Args:
        count: The count.
        noun: The noun in the singular, with a regular plural.
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
