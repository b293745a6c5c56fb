r"""Discount of evidence that shares a source.

Evidence that shares a source (`source:`, a name or a list) is not independent. Of claims that share one, the logarithm of
each one's Bayes factor for what predicts it is divided by 1 + the sum of its dependences on the others, the design effect of
Kish (1965): evidence that is named n times with a dependence of 1 counts once. The front matter may give the dependence
of a source, `sources: {NAME: 0.8}`; otherwise it is `DEPENDENCE`.

>>> from adapterlab.argmap.model.build import parse
>>> twice = parse("[A]: a {credence: 0.8, source: x}\n\n[B]: b {credence: 0.8, source: x}")
>>> {i: round(weight, 3) for i, weight in shared_weights(twice, [Endpoint("claim", t) for t in "AB"]).items()}
{0: 0.667, 1: 0.667}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapterlab.argmap.model.map import Endpoint, Map
from adapterlab.argmap.scoring.network import probability

DEPENDENCE = 0.5
"""Dependence of two pieces of evidence that share a source, if the map states none."""


def shared_weights(the_map: Map, ends: Sequence[Endpoint | None]) -> dict[int, float]:
    """Return the weights of evidence that shares a source with other evidence.

    Args:
        the_map: The map.
        ends: Claims and arguments; None in the place of those without evidence.

    Returns:
        By index in `ends`, the weight; without those that share no source.

    Raises:
        AdapterlabError: If a dependence in the front matter is not a probability.
    """
    stated = the_map.settings.get("sources")
    dependences = stated if isinstance(stated, Mapping) else {}
    sources = [frozenset() if end is None else _names(the_map.element(end).data.get("source")) for end in ends]
    sharing: dict[str, list[int]] = {}
    for i, names in enumerate(sources):
        for name in names:
            sharing.setdefault(name, []).append(i)
    found = {}
    for i, names in enumerate(sources):
        strongest: dict[int, float] = {}
        for name in names:
            dependence = probability(dependences.get(name, DEPENDENCE), f"the dependence of the source {name}")
            for other in sharing[name]:
                if other != i:
                    strongest[other] = max(dependence, strongest.get(other, 0.0))
        if strongest:
            found[i] = 1.0 / (1.0 + sum(strongest.values()))
    return found


def _names(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    return frozenset(str(name) for name in value) if isinstance(value, list) else frozenset([str(value)])
