r"""Places of findings in the text of a map.

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("[Wet]: The street is wet.\n\n[Rain]: It rains.")
>>> rain = weather.claims["Rain"].mentions[0]
>>> line_of(weather, rain), at(weather, rain, "warning", "dry", "it is dry").column
('line 3', 1)
"""

from __future__ import annotations

from adapterlab.argmap.model.map import Map, Mention
from adapterlab.argmap.syntax.diagnostics import Diagnostic, Severity

LONGEST = 60
"""Characters that a finding underlines at most."""


def at(the_map: Map, place: Mention, severity: Severity, code: str, message: str, fix: str = "") -> Diagnostic:
    """Return a diagnostic about a mention.

    Args:
        the_map: The map.
        place: The mention.
        severity: As in `Source.at`.
        code: As in `Source.at`.
        message: As in `Source.at`.
        fix: As in `Source.at`.
    """
    return the_map.source.at(severity, code, message, place.start, min(place.end, place.start + LONGEST), fix)


def line_of(the_map: Map, place: Mention) -> str:
    """Return the line of a mention for a message, with the file if it is an included one.

    Args:
        the_map: The map.
        place: The mention.
    """
    file = the_map.source.origin(place.start)[0].name
    return f"line {place.line}" + ("" if file == the_map.source.name else f" of {file}")
