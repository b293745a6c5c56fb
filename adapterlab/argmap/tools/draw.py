r"""Drawing of a map as a self-contained SVG image.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> to_svg(weather, score(weather)).count("<rect")
6
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import quote

from adapterlab.argmap.model.map import Endpoint, Map
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.characters import legible
from adapterlab.argmap.tools.colours import Colours
from adapterlab.argmap.tools.layout import VALUE, WIDTH, Box, Sign, lay_out
from adapterlab.argmap.tools.wrap import shortened

GREEN, RED, GREY = "#2e8b57", "#c0392b", "#9aa5b1"
COLOURS: dict[Sign, str] = {"support": GREEN, "attack": RED, "undercut": RED, "premise": GREY}
"""Colour of the line for each kind of relation."""
PADDING = 9
"""Space between the edge of a box and its content, in pixels."""
CAPTION_CHARACTER = 6.2
"""Mean width of a character of a caption, in pixels."""

_STYLE = """
.argmap text{font:12px system-ui,Roboto,'DejaVu Sans',sans-serif;fill:#1f2933}
.argmap .caption{font-size:10.5px;fill:#66727f}
.argmap .value{font-size:11px;font-variant-numeric:tabular-nums}
.argmap .thesis text{font-weight:600}
.argmap .argument text:not(.value){font-style:italic}
"""


def to_svg(
    the_map: Map,
    scores: Scores,
    before: Scores | None = None,
    anchors: Mapping[Endpoint, str] | None = None,
    width: float = WIDTH,
) -> str:
    """Draw a map, with theses on the left and their supporters and attackers to the right.

    Green lines are support, red lines attacks, dashed red lines undercuts, grey lines lead from premises. The width of
    a line and the bar in a box show strength; a stripe at its left edge has the colour of its tag or section, see
    `colours.Colours`.

    Args:
        the_map: The map.
        scores: Its scores.
        before: Earlier scores; boxes whose credence differs by at least 0.005 show both numbers.
        anchors: Ids of claims and arguments in the page that contains the drawing; boxes link to them.
        width: Smallest width of the drawing in pixels.

    Returns:
        SVG.
    """
    colours = Colours(the_map)
    layout = lay_out(the_map, 2.2 * VALUE if before else VALUE, width)
    strengths = {id(box): _strength(box, scores) for box in layout.boxes}
    parts = [
        f'<svg class="argmap" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}"'
        f' width="{layout.width:.0f}" height="{layout.height:.0f}" role="img" aria-label="argument map">',
        f"<style>{_STYLE}</style>",
    ]
    for box in layout.boxes:
        parts.extend(_edge(sign, child, box, strengths[id(child)]) for sign, child in box.children)
        parts.extend(_edge(sign, other, box, strengths[id(other)]) for sign, other in box.cross_links)
    for box in layout.boxes:
        end = Endpoint(box.kind, box.title)
        ends = [end, Endpoint("argument", box.argument.title)] if box.argument else [end]
        colour = next((found for e in ends if (found := colours.drawn(e))), None)
        drawn = _box(box, the_map, strengths[id(box)], _strength(box, before) if before else None, colour)
        anchor = (anchors or {}).get(end)
        parts.append(f'<a href="#{escape(quote(anchor))}">{drawn}</a>' if anchor else drawn)
    return legible("\n".join([*parts, "</svg>"]))


def _strength(box: Box, scores: Scores) -> float | None:
    if box.kind == "claim":
        return scores.claims[box.title].credence if box.title in scores.claims else None
    return scores.arguments[box.title].strength if box.title in scores.arguments else None


def _edge(sign: Sign, source: Box, target: Box, strength: float | None) -> str:
    width = 1.0 + 4.0 * (strength if strength is not None else 0.0)
    colour = COLOURS[sign]
    dashes = ' stroke-dasharray="5 3"' if sign == "undercut" else ""
    x0, y0, x1, y1 = source.x, source.middle, target.x + target.width, target.middle
    if source.depth <= target.depth:  # a cross-link from the left of its target is drawn around the boxes
        x0 = source.x + source.width
        dashes = ' stroke-dasharray="2 3"'
    bend = abs(x0 - x1) / 2 + (40 if source.depth <= target.depth else 0)
    start = x0 + bend if source.depth <= target.depth else x0 - bend
    head = f"M{x1:.1f} {y1:.1f}l7 -4v8z" if sign != "premise" else ""
    line = f"M{x0:.1f} {y0:.1f}C{start:.1f} {y0:.1f} {x1 + bend:.1f} {y1:.1f} {x1 + 5:.1f} {y1:.1f}"
    shown = (
        f'<path class="edge {sign}" d="{line}" fill="none" stroke="{colour}" stroke-width="{width:.1f}"'
        f' stroke-opacity="0.75"{dashes}/>'
    )
    return shown + (f'<path class="head {sign}" d="{head}" fill="{colour}"/>' if head else "")


def _box(box: Box, the_map: Map, strength: float | None, before: float | None, colour: str | None) -> str:
    claim = the_map.claims.get(box.title) if box.kind == "claim" else None
    thesis = claim is not None and claim.role == "thesis"
    text = claim.text if claim else the_map.arguments[box.title].text
    stroke, fill = ("#1f2933", "#fff") if thesis else ("#c3ccd5", "#fff" if box.argument is None else "#f4f6f8")
    tooltip = escape(f"{box.title}: {text}" if text else box.title)
    lines = [
        f'<g class="{"thesis" if thesis else box.kind}"><title>{tooltip}</title>',
        f'<rect class="box" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="5"'
        f' fill="{fill}" stroke="{stroke}"/>',
    ]
    if colour:
        lines.append(
            f'<rect class="stripe" x="{box.x + 1:.1f}" y="{box.y + 1:.1f}" width="4" height="{box.height - 2:.1f}" rx="2"'
            f' fill="{colour}"/>'
        )
    for row, line in enumerate(box.lines):
        lines.append(f'<text x="{box.x + PADDING:.1f}" y="{box.y + 18 + 15 * row:.1f}">{escape(line)}</text>')
    if box.argument is not None and box.kind == "claim":
        name = shortened(box.argument.title, (box.width - 2 * PADDING) / CAPTION_CHARACTER)
        y = box.y + 17 + 15 * len(box.lines)
        lines.append(f'<text class="caption" x="{box.x + PADDING:.1f}" y="{y:.1f}">{escape(name)}</text>')
    if strength is not None:
        lines.append(_bar(box, strength, before))
    return "".join([*lines, "</g>"])


def _bar(box: Box, strength: float, before: float | None) -> str:
    left, width, y = box.x + PADDING, box.width - 2 * PADDING, box.y + box.height - 7
    moved = before is not None and abs(before - strength) >= 0.005
    label = f"{before:.2f}→{strength:.2f}" if moved else f"{strength:.2f}"
    drawn = [
        f'<text class="value" x="{left + width:.1f}" y="{box.y + 18:.1f}" text-anchor="end">{label}</text>',
        f'<rect class="track" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="3" rx="1.5" fill="#e3e8ed"/>',
        f'<rect class="level" x="{left:.1f}" y="{y:.1f}" width="{width * strength:.1f}" height="3" rx="1.5"'
        ' fill="#3d6fb4"/>',
    ]
    if moved and before is not None:
        drawn.append(
            f'<rect class="mark" x="{left + width * before - 1:.1f}" y="{y - 2:.1f}" width="2" height="7" fill="#1f2933"/>'
        )
    return "".join(drawn)
