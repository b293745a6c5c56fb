r"""Characters that XML, HTML and UTF-8 files cannot hold.

>>> legible("a\x00b")
'a�b'
"""

from __future__ import annotations

import re

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def legible(text: str) -> str:
    """Return a text with U+FFFD for every control character and surrogate, which XML and UTF-8 forbid.

    Args:
        text: The text; metadata can hold such characters as escapes.
    """
    return _FORBIDDEN.sub("\ufffd", text)
