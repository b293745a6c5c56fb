r"""Identifiers of claims, arguments and sections in an HTML page, and labels of elements without a title.

>>> from adapterlab.argmap.model.build import parse
>>> anchors = anchors_of(parse("[Wet Street]: The street is wet.\n  + [Rain]: It rains."))
>>> anchors[Endpoint("claim", "Wet Street")]
'claim-Wet-Street'
"""

from __future__ import annotations

import re

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map

_UNTITLED = re.compile(r"Untitled [0-9]+")


def anchors_of(the_map: Map) -> dict[Endpoint, str]:
    """Return the id of every claim and argument; no two are equal.

    Args:
        the_map: The map.

    Returns:
        Ids by claim or argument: `claim-` or `argument-`, the title with hyphens for white space, and a number if two
        titles would have the same id.
    """
    ends = [Endpoint("claim", title) for title in the_map.claims]
    ends += [Endpoint("argument", title) for title in the_map.arguments]
    found: dict[Endpoint, str] = {}
    used: set[str] = set()
    for end in ends:
        name = base = f"{end.kind}-{'-'.join(end.title.split())}"
        number = 1
        while name in used:
            number += 1
            name = f"{base}-{number}"
        used.add(name)
        found[end] = name
    return found


def label(element: Claim | Argument) -> str:
    """Return the title of a claim or argument, or its text if it was written without a title.

    Args:
        element: The claim or argument.
    """
    return element.text if is_untitled(element) and element.text else element.title


def is_untitled(element: Claim | Argument) -> bool:
    """Return True if the element was written without a title, so that its title is a number such as `Untitled 3`.

    Args:
        element: The claim or argument.
    """
    return _UNTITLED.fullmatch(element.title) is not None
