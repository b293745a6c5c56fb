r"""Numbers that a map states for its arrows: `predicted:`, and how many observations they are worth.

`predicted: [0.8, 0.4]` is the probability of a claim if what it bears on is true, and if it is false; `predicted_n: 20`, or
`[20, 5]` for each, is the sample size of the two. If the claim bears on several, both are mappings by title.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.arrows import arrows_of
>>> text = "[Wet]: w {prior: 0.2}\n  + [Rain]: r {predicted: [0.9, 0.1], predicted_n: [20, 5], credence: 0.9}"
>>> the_map = parse(text)
>>> [arrow] = arrows_of(the_map)
>>> stated_rates(the_map, arrow), stated_sizes(the_map, arrow)
((0.9, 0.1), (20.0, 5.0))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.arrows import Arrow
from adapterlab.argmap.scoring.network import probability
from adapterlab.errors import AdapterlabError

RATES, SIZES = "predicted", "predicted_n"
"""Keys of the metadata."""


def stated_rates(the_map: Map, arrow: Arrow) -> tuple[float, float] | None:
    """Return the two numbers that the child states for an arrow, or None.

    Args:
        the_map: The map.
        arrow: One of its arrows.

    Raises:
        AdapterlabError: If they are not two probabilities.
    """
    stated = _of(the_map, arrow, RATES)
    if stated is None:
        return None
    where = f"{the_map.source.name}: predicted of {arrow.child}"
    if not isinstance(stated, list) or len(stated) != 2 or not all(map(_is_number, stated)):
        raise AdapterlabError(
            f"{where} must be two probabilities, such as [0.8, 0.4]: of the claim if {arrow.parent} is true, and if it "
            "is false"
        )
    return probability(stated[0], where), probability(stated[1], where)


def stated_sizes(the_map: Map, arrow: Arrow) -> tuple[float, float] | None:
    """Return the sample sizes that the child states for the two numbers of an arrow, or None.

    Args:
        the_map: The map.
        arrow: One of its arrows.

    Raises:
        AdapterlabError: If they are not positive numbers.
    """
    stated = _of(the_map, arrow, SIZES)
    if stated is None:
        return None
    pair: list[Any] = stated if isinstance(stated, list) else [stated, stated]
    if len(pair) != 2 or not all(_is_number(size) and size > 0 for size in pair):
        raise AdapterlabError(
            f"{the_map.source.name}: predicted_n of {arrow.child} must be a positive number, or two of them, not {stated!r}"
        )
    return float(pair[0]), float(pair[1])


def key_of(stated: Mapping[str, object], arrow: Arrow) -> str | None:
    """Return the key by which a mapping by title names the parent of an arrow, or None.

    Args:
        stated: The mapping.
        arrow: The arrow.
    """
    return next((key for key in (arrow.parent.title, str(arrow.parent)) if key in stated), None)


def _of(the_map: Map, arrow: Arrow, key: str) -> object:
    stated = the_map.element(arrow.child).data.get(key)
    if isinstance(stated, Mapping):
        title = key_of(stated, arrow)
        return None if title is None else stated[title]
    return stated


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
