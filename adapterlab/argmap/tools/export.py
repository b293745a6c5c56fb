r"""Export of a map: DOT for Graphviz, and a self-contained HTML page.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> print(to_dot(weather, score(weather)).splitlines()[5])
  "c:Rain" -> "c:Wet" [color="#2e8b57"];
"""

from __future__ import annotations

from html import escape

from adapterlab.argmap.model.map import Claim, Map
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.draw import GREEN, GREY, RED, to_svg

_EDGES = {
    "support": f'color="{GREEN}"',
    "entails": f'color="{GREEN}"',
    "attack": f'color="{RED}"',
    "contrary": f'color="{RED}"',
    "contradictory": f'color="{RED}", dir=both',
    "undercut": f'color="{RED}", style=dashed',
}


def to_dot(the_map: Map, scores: Scores) -> str:
    """Return a map as a Graphviz digraph: claims are boxes, arguments are ellipses.

    Args:
        the_map: The map.
        scores: Its scores.
    """
    lines = ["digraph map {", "  rankdir=RL;", '  node [fontname="Helvetica", fontsize=11];']
    for title, found in scores.claims.items():
        bold = ", penwidth=2" if found.role == "thesis" else ""
        lines.append(
            f"  {_quoted('c:' + title)} [shape=box{bold}, label={_quoted(f'{title} ({found.credence:.2f})')}];"
        )
    for title, argument in scores.arguments.items():
        lines.append(
            f"  {_quoted('a:' + title)} [shape=ellipse, label={_quoted(f'{title} ({argument.strength:.2f})')}];"
        )
    for title in scores.arguments:
        own = _quoted("a:" + title)
        for role, numbered in the_map.arguments[title].numbered:
            claim = _quoted("c:" + numbered)
            premise = role == "premise"
            edge, colour = (f"{claim} -> {own}", GREY) if premise else (f"{own} -> {claim}", GREEN)
            lines.append(f'  {edge} [color="{colour}"];')
    for relation in the_map.relations:
        ends = [("c:" if end.kind == "claim" else "a:") + end.title for end in (relation.source, relation.target)]
        if all(end[2:] in (scores.claims if end[0] == "c" else scores.arguments) for end in ends):
            source, target = map(_quoted, ends)
            lines.append(f"  {source} -> {target} [{_EDGES[relation.kind]}];")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body{{font:15px/1.5 system-ui,Roboto,'DejaVu Sans',sans-serif;color:#1f2933}}
body{{max-width:1140px;margin:2em auto;padding:0 1em}}
.map{{overflow-x:auto}} table{{border-collapse:collapse;width:100%;margin-top:2em}}
th,td{{text-align:left;vertical-align:top;padding:.35em .8em .35em 0}} td{{border-top:1px solid #e3e8ed}}
td.n{{font-variant-numeric:tabular-nums;white-space:nowrap}} .why{{color:#66727f;font-size:13px}}
</style></head><body><h1>{title}</h1><p>{lead}</p><div class="map">{svg}</div>
<table><tr><th>Claim</th><th>Text</th><th>Credence</th><th>Stated</th></tr>
{rows}
</table></body></html>
"""


def to_html(the_map: Map, scores: Scores, before: Scores | None = None) -> str:
    """Return a page with the drawing and a table of all claims with texts, reasons and sources.

    Args:
        the_map: The map.
        scores: Its scores.
        before: Earlier scores, which the drawing shows beside the new ones.
    """
    title = escape(str(the_map.settings.get("title") or the_map.source.name))
    rows = "\n".join(_row(claim, scores) for claim in the_map.claims.values() if claim.title in scores.claims)
    lead = escape(f"Scored by {scores.semantics}. " + " ".join(f"{w}." for w in scores.warnings[:3]))
    return _PAGE.format(title=title, lead=lead, svg=to_svg(the_map, scores, before), rows=rows)


def _row(claim: Claim, scores: Scores) -> str:
    found = scores.claims[claim.title]
    links = [
        f'<a href="{escape(url, quote=True)}">{escape(text)}</a>'
        for mention in claim.mentions
        for text, url in mention.links
        if url.startswith(("https://", "http://"))
    ]
    why = escape(str(claim.data.get("reason", "")))
    text = (
        escape(claim.text)
        + (f" ({', '.join(links)})" if links else "")
        + (f'<div class="why">{why}</div>' if why else "")
    )
    stated = "" if found.stated is None else f"{found.stated:.2f}"
    numbers = f'<td class="n">{found.credence:.3f}</td><td class="n">{stated}</td>'
    return f"<tr><td>{escape(claim.title)}</td><td>{text}</td>{numbers}</tr>"
