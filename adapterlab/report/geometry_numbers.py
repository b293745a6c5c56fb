"""Numbers in the sentences and tables about a weight change.

>>> joined([percent(0.4567), number(80.4648)])
'46 % and 80.5'
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(share: float) -> str:
    """Return a share in percent with two or three significant digits, and never 0 % or 100 % for a share that is neither.

    Args:
        share: The share, usually from 0 to 1.

    >>> [percent(share) for share in (0.4567, 0.0312, 0.0074, 0.99996, 0.00004, 0.0, 1.0, 0.9996, float("nan"))]
    ['46 %', '3.1 %', '0.74 %', 'above 99.9 %', 'below 0.01 %', '0 %', '100 %', '99.9 %', 'unknown']
    """
    if not math.isfinite(share):
        return "unknown"
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if 0 < value < 0.01:
        return "below 0.01 %"
    if 99.99 < value < 100:
        return "above 99.9 %"
    if 99 < value < 100:
        return f"{math.floor(10 * value) / 10:.1f} %"
    if abs(value) < 0.995:
        return f"{value:.2f} %"
    return f"{value:.1f} %" if abs(value) < 9.95 else f"{value:.0f} %"


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent where it is readable.

    Args:
        value: The number.

    >>> [number(value) for value in (0.026282, 80.4648, 12345.6, 0.0, 0.00001234, float("nan"))]
    ['0.0263', '80.5', '12,346', '0', '1.23e-05', 'unknown']
    """
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "infinite"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def measured(name: str, value: float) -> str:
    """Return the value of a measure: in percent if it is a share of the change.

    Args:
        name: Name of the measure.
        value: The value.

    >>> measured("energy_in_top(0.1)", 0.0263), measured("stable_rank", 5.6399)
    ('2.6 %', '5.64')
    """
    is_share = name.startswith(("energy_", "entries_for_energy")) or "_concentration" in name
    return percent(value) if is_share else number(value)


def joined(words: Sequence[str]) -> str:
    """Return words as an enumeration.

    Args:
        words: The words, at least one.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
