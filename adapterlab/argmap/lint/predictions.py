r"""Checks of what claims say is predicted of them: the form, the sign, and the titles.

>>> from adapterlab.argmap.model.build import parse
>>> the_map = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {predicted: [0.1, 0.9]}")
>>> [finding.code for finding in predictions(the_map)]
['predicted-sign']
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterlab.argmap.lint.place import at
from adapterlab.argmap.model.map import Map, Mention
from adapterlab.argmap.scoring.arrows import Arrow, arrows_of
from adapterlab.argmap.scoring.predicted import RATES, SIZES, key_of, stated_rates, stated_sizes
from adapterlab.argmap.syntax.diagnostics import Diagnostic
from adapterlab.errors import AdapterlabError


def predictions(the_map: Map) -> Iterator[Diagnostic]:
    """Find predictions that cannot be read, that contradict the sign of their relation, or that are about no relation.

    Args:
        the_map: The map.

    Yields:
        The findings.
    """
    elements = (*the_map.claims.values(), *the_map.arguments.values())
    if not any(RATES in element.data or SIZES in element.data for element in elements):
        return
    arrows = arrows_of(the_map)
    for arrow in arrows:
        data = the_map.element(arrow.child).data
        for key, read in ((RATES, stated_rates), (SIZES, stated_sizes)):
            try:
                rates = read(the_map, arrow) if key in data else None
            except AdapterlabError as error:
                message = str(error).removeprefix(f"{the_map.source.name}: ")
                yield at(the_map, _stating(the_map, arrow, key), "error", "predicted", message)
                continue
            if key == RATES and rates is not None and (problem := _contradiction(arrow, *rates)):
                fix = "swap the two numbers, or turn the sign of the relation"
                yield at(the_map, _stating(the_map, arrow, key), "warning", "predicted-sign", problem, fix)
    yield from _of_no_relation(the_map, arrows)


def _contradiction(arrow: Arrow, true: float, false: float) -> str:
    """Return a sentence if the two numbers say the opposite of the relation; a pair of equal numbers says nothing."""
    if true == false or (true < false) == arrow.attacks:
        return ""
    bears = "contradicts" if arrow.contradicts else "speaks against" if arrow.attacks else "speaks for"
    return (
        f"{arrow.child} {bears} {arrow.parent}, but is predicted to be {'more' if true > false else 'less'} likely if "
        f"that is true ({true:g}) than if it is false ({false:g})"
    )


def _of_no_relation(the_map: Map, arrows: list[Arrow]) -> Iterator[Diagnostic]:
    by_child: dict[str, list[Arrow]] = {}
    for arrow in arrows:
        by_child.setdefault(str(arrow.child), []).append(arrow)
    named = [(f"[{title}]", claim) for title, claim in the_map.claims.items()]
    for name, element in [*named, *((f"<{title}>", argument) for title, argument in the_map.arguments.items())]:
        for key in (RATES, SIZES):
            for mention in element.mentions if key in element.data else ():
                stated = mention.data.get(key)
                if isinstance(stated, dict):
                    known = {key_of(stated, arrow) for arrow in by_child.get(name, ())}
                    for title in [title for title in stated if title not in known]:
                        message = f"{name} states what {title} predicts of it ({key}), but does not bear on {title}"
                        yield at(the_map, _block(mention), "warning", "predicted-title", message)


def _stating(the_map: Map, arrow: Arrow, key: str) -> Mention:
    return _block(next(m for m in the_map.element(arrow.child).mentions if key in m.data))


def _block(place: Mention) -> Mention:
    """Return the place of a metadata block."""
    return Mention(place.line, place.data_start, place.data_end, place.role, data=place.data)
