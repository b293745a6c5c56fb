r"""A map as an HTML page: the drawing, and a card for each claim and argument, section by section.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> '<article class="claim" id="claim-Rain">' in to_html(weather, score(weather))
True
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.anchors import anchors_of
from adapterlab.argmap.tools.cards import Card, Cards
from adapterlab.argmap.tools.characters import legible
from adapterlab.argmap.tools.colours import Colours
from adapterlab.argmap.tools.draw import to_svg
from adapterlab.argmap.tools.theme import THEME

if TYPE_CHECKING:
    import jinja2

SHOWN_WARNINGS = 100
"""Warnings of the scoring on the page; the number of the others is given."""


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    id: str
    title: str
    level: int
    """Level of the HTML heading, from 2 to 6."""
    tags: list[str]
    colour: str | None
    cards: list[Card]


def to_html(the_map: Map, scores: Scores, before: Scores | None = None, folder: str = "") -> str:
    """Return a page with the drawing and with every claim and argument, as one file that makes no request.

    Args:
        the_map: The map.
        scores: Its scores.
        before: Earlier scores, which the drawing shows beside the new ones.
        folder: Way from the page to the map's folder, for relative links; empty if they are the same.
    """
    anchors, colours = anchors_of(the_map), Colours(the_map)
    parts = _parts(the_map, Cards(the_map, scores, anchors, folder), colours)
    page = _template().render(
        title=str(the_map.settings.get("title") or Path(the_map.source.name).stem),
        about=[str(the_map.settings[key]) for key in ("subTitle", "author", "date") if the_map.settings.get(key)],
        abstract=str(the_map.settings.get("abstract") or ""),
        scores=scores,
        theme=Markup(THEME),
        warnings=scores.warnings[:SHOWN_WARNINGS],
        svg=Markup(to_svg(the_map, scores, before, anchors, width=0)),
        parts=parts,
        contents=[part for part in parts if part.title],
        tag_colours=colours.tag_colours if colours.configured else {},
    )
    return legible(page)


def _parts(the_map: Map, cards: Cards, colours: Colours) -> list[Part]:
    by_section: dict[str | None, list[tuple[int, Card]]] = defaultdict(list)
    for claim in the_map.claims.values():
        by_section[claim.section].append((claim.line, cards.claim(claim)))
    for argument in the_map.arguments.values():
        by_section[argument.section].append((argument.line, cards.argument(argument)))
    ordered = {
        section: [card for _, card in sorted(found, key=lambda item: item[0])] for section, found in by_section.items()
    }
    parts = [Part("", "", 2, [], None, ordered.get(None, []))]
    for section in the_map.all_sections:
        colour = colours.of_section(section, default=False)
        level = min(section.level + 1, 6)
        found = ordered.get(section.id, [])
        parts.append(Part(f"section-{section.id}", section.title, level, section.tags, colour, found))
    return [part for part in parts if part.title or part.cards]


@cache
def _template() -> jinja2.Template:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.jinja")
