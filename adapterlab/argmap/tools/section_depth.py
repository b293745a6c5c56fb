r"""Limit on the nesting of sections, for exports that nest as the sections do.

>>> from adapterlab.argmap.model.build import parse
>>> refuse_deep_sections(parse("# Rain\n\n[Wet]: It is wet."))
"""

from __future__ import annotations

from adapterlab.argmap.model.map import Map
from adapterlab.errors import AdapterlabError

MAX_DEPTH = 100
"""Levels of sections inside each other."""


def refuse_deep_sections(the_map: Map) -> None:
    """Check that no section is too deep for a nested file.

    Args:
        the_map: The map.

    Raises:
        AdapterlabError: Sections are nested more than 100 levels deep.
    """
    waiting = [(section, 1) for section in the_map.sections]
    while waiting:
        section, depth = waiting.pop()
        if depth > MAX_DEPTH:
            place = f"{the_map.source.name}:{section.line}"
            raise AdapterlabError(
                f"{place}: sections are nested more than {MAX_DEPTH} levels deep; use fewer levels of #"
            )
        waiting.extend((child, depth + 1) for child in section.children)
