r"""Formats of files that a map is written to, by suffix.

>>> sorted(FORMATS)
['.dot', '.graphml', '.html', '.json', '.svg']
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from adapterlab.argmap.model.files import write_text
from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.scores import score
from adapterlab.errors import UnknownNameError

FORMATS = {
    ".html": "page",
    ".svg": "image",
    ".dot": "file for Graphviz",
    ".graphml": "graph for networkx, Gephi or yEd",
    ".json": "JSON as `argdown json` writes it",
}


def write(
    the_map: Map,
    out: Path,
    semantics: str | None = None,
    skip_broken: bool = False,
    tags: Sequence[str] = (),
    sections: Sequence[str] = (),
) -> Map:
    """Draw or export a map; the suffix of the file decides the format.

    Args:
        the_map: The map.
        out: The file to write.
        semantics: As in `score`.
        skip_broken: As in `score`.
        tags: As in `select`.
        sections: As in `select`. JSON without tags and sections has the whole map, as in the reference implementation.

    Returns:
        The part of the map that was written.

    Raises:
        UnknownNameError: The suffix, a tag or a section is unknown.
        AdapterlabError: The map has errors, nothing is selected, or the file cannot be written.
    """
    from adapterlab.argmap.tools.select import select

    if out.suffix not in FORMATS:
        raise UnknownNameError("format", out.suffix or str(out), FORMATS, "--out")
    scores = score(the_map, semantics, skip_broken=skip_broken)
    part = the_map if out.suffix == ".json" and not tags and not sections else select(the_map, tags, sections)
    if out.suffix == ".html":
        from adapterlab.argmap.tools.page import to_html

        folder = os.path.relpath(Path(the_map.source.name).resolve().parent, out.resolve().parent)
        text = to_html(part, scores, folder="" if folder == "." else folder)
    elif out.suffix == ".svg":
        from adapterlab.argmap.tools.draw import to_svg

        text = to_svg(part, scores)
    elif out.suffix == ".dot":
        from adapterlab.argmap.tools.export import to_dot

        text = to_dot(part, scores)
    elif out.suffix == ".graphml":
        from adapterlab.argmap.tools.graphml import to_graphml

        text = to_graphml(part, scores)
    else:
        from adapterlab.argmap.tools.to_json import to_json

        text = to_json(part, scores)
    write_text(out, text)
    return part
