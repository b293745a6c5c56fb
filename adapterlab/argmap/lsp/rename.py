r"""Renaming of a title or tag at all its occurrences.

>>> from adapterlab.argmap.lsp.document import Document
>>> analysis = Document("", "[Wet]: It is wet.\n\n[Wet]\n  + [Rain]", 1).analysis
>>> [(found.name_start, found.name_end) for found in renamed(analysis, analysis.occurrences[0], "Damp")]
[(1, 4), (20, 23)]
"""

from __future__ import annotations

from adapterlab.argmap.lsp.document import Analysis
from adapterlab.argmap.lsp.occurrences import Occurrence, occurrences
from adapterlab.argmap.syntax.diagnostics import Source
from adapterlab.errors import AdapterlabError


def renamed(analysis: Analysis, found: Occurrence, name: str) -> list[Occurrence]:
    """Return the occurrences to replace by a new name.

    Args:
        analysis: The document.
        found: An occurrence of the old name.
        name: The new name, without brackets and without `#`.

    Raises:
        AdapterlabError: The new name is taken, or would not be read as a name.
    """
    places = analysis.by_name[found.kind, found.name]
    if name == found.name:
        return places
    if (found.kind, name) in analysis.by_name and found.kind != "tag":
        raise AdapterlabError(f"there is another {found.kind} with the title {name!r}: choose another title")
    text = analysis.text.text
    parts, at = [], 0
    for place in places:
        parts += [text[at : place.name_start], name]
        at = place.name_end
    changed = occurrences(Source("".join([*parts, text[at:]])))
    old = set(places)
    expected = [(place.kind, name if place in old else place.name) for place in analysis.occurrences]
    if [(place.kind, place.name) for place in changed] != expected:
        raise AdapterlabError(
            f"{name!r} cannot name a {found.kind}: leave out brackets, line breaks and marks of Argdown"
        )
    return places
