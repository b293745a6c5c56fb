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
