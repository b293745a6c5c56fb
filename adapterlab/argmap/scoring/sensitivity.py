r"""Sensitivity of a thesis to each number in the map.

`sensitivities` gives derivatives for all numbers in one reverse pass. `one_way_sensitivities` also varies each number
from 0 to 1 with all others fixed (one-way sensitivity analysis, the data of a tornado plot).

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> sensitivities(weather, "Wet", "df-quad")
{'[Rain]': 0.5}
>>> [rain] = one_way_sensitivities(weather, "Wet", "df-quad")
>>> rain.low, rain.high, rain.tips_at
(0.5, 1.0, None)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.network import NEUTRAL
from adapterlab.argmap.scoring.propagation import derivatives, downstream, reevaluate
from adapterlab.argmap.scoring.scores import claim_node, claim_title, propagate
from adapterlab.argmap.scoring.semantics import BAYES, DEFAULT, Semantics, default_semantics, semantics_named
from adapterlab.errors import AdapterlabError

if TYPE_CHECKING:
    from adapterlab.argmap.scoring.compile_map import CompiledMap

BISECTIONS = 40
"""Steps of the search for a tipping point; each halves its error."""


def sensitivities(
    the_map: Map,
    thesis: str,
    semantics: str | None = None,
    credences: Mapping[str, float] | None = None,
    skip_broken: bool = False,
) -> dict[str, float]:
    """Compute the derivative of a thesis' credence with respect to each number in the map.

    Args:
        the_map: The map.
        thesis: Title of a claim, bare or in brackets.
        semantics: As in `score`.
        credences: As in `score`.
        skip_broken: As in `score`.

    Returns:
        Derivatives by name, the largest absolute values first. Names are `[Claim]` for a credence or a prior, `<Argument>`
        for the inference of an argument's last step, `<Argument>/1` for that of an earlier step, and in `bayes` `[A] if [B]`
        and `[A] if not [B]` for what is predicted of A.

    Raises:
        AdapterlabError: As in `score`.
        UnknownNameError: There is no such claim.
    """
    compiled = _network(the_map, semantics, credences, skip_broken)
    if compiled is not None:
        from adapterlab.argmap.scoring.bayes import slopes

        effects = slopes(compiled, claim_title(compiled.claims, thesis))
    else:
        rules = _gradual(the_map, semantics)
        network, values = propagate(the_map, rules, credences, skip_broken)
        slope = derivatives(network, rules, values, claim_node(network, thesis))
        effects = {name: slope[index] for name, index in network.parameters.items()}
    return dict(sorted(effects.items(), key=lambda item: -abs(item[1])))


def _network(
    the_map: Map, semantics: str | None, credences: Mapping[str, float] | None, skip_broken: bool
) -> CompiledMap | None:
    """Return the Bayesian network of a map if it is scored by one, as `score` decides."""
    if (semantics or default_semantics(the_map)) != BAYES:
        return None
    from adapterlab.argmap.scoring.bayes import try_compile

    return try_compile(the_map, credences, skip_broken)[0]


def _gradual(the_map: Map, semantics: str | None) -> Semantics:
    """Return the gradual semantics of a map that is not scored by a Bayesian network."""
    name = semantics or default_semantics(the_map)
    return semantics_named(DEFAULT if name == BAYES else name)


@dataclass(frozen=True)
class Sensitivity:
    """The effect of one number in the map on the credence of a thesis."""

    name: str
    """Its name, as in `sensitivities`."""
    stated: float
    """The number in the map."""
    slope: float
    """Derivative of the thesis' credence with respect to the number."""
    low: float
    """Credence of the thesis if the number is 0."""
    high: float
    """Credence of the thesis if the number is 1."""
    tips_at: float | None
    """The value of the number at which the thesis crosses one half, all others unchanged; None if it never does."""

    @property
    def swing(self) -> float:
        """Absolute change of the thesis' credence between 0 and 1."""
        return abs(self.high - self.low)


def one_way_sensitivities(
    the_map: Map,
    thesis: str | None = None,
    semantics: str | None = None,
    credences: Mapping[str, float] | None = None,
    skip_broken: bool = False,
    limit: int | None = 50,
) -> list[Sensitivity]:
    """Vary each number of a map from 0 to 1 and compute the credence of a thesis.

    Args:
        the_map: The map.
        thesis: Title of a claim; None for the first thesis of the map.
        semantics: As in `score`.
        credences: As in `score`.
        skip_broken: As in `score`.
        limit: Greatest number of results: the numbers with the largest derivatives are varied; None for all.

    Returns:
        The effect of each number, the largest swings first.

    Raises:
        AdapterlabError: As in `score`, or the map has no thesis.
    """
    compiled = _network(the_map, semantics, credences, skip_broken)
    if compiled is not None:
        return _one_way_by_inference(compiled, claim_title(compiled.claims, thesis or first_thesis(the_map)), limit)
    rules = _gradual(the_map, semantics)
    network, values = propagate(the_map, rules, credences, skip_broken)
    node = claim_node(network, thesis or first_thesis(the_map))
    slopes = derivatives(network, rules, values, node)

    ranked = sorted(network.parameters.items(), key=lambda item: -abs(slopes[item[1]]))
    found = []
    for name, index in ranked[:limit]:
        path = downstream(values, index)

        def at(value: float, index: int = index, path: list[int] = path) -> float:
            return float(reevaluate(network, rules, values, index, value, path)[node])

        low, high = at(0.0), at(1.0)
        tips_at = _crossing(at) if (low - NEUTRAL) * (high - NEUTRAL) < 0 else None
        found.append(Sensitivity(name, network.nodes[index].given, slopes[index], low, high, tips_at))
    return sorted(found, key=lambda sensitivity: -sensitivity.swing)


def _one_way_by_inference(compiled: CompiledMap, title: str, limit: int | None) -> list[Sensitivity]:
    import numpy as np

    from adapterlab.argmap.scoring.bayes import along, slopes

    slope = slopes(compiled, title)
    names = sorted(slope, key=lambda name: -abs(slope[name]))[:limit]
    extremes = along(compiled, title, dict.fromkeys(names, np.array([0.0, 1.0])))
    found = []
    for name in names:
        low, high = map(float, extremes[name])

        def at(value: float, name: str = name) -> float:
            return float(along(compiled, title, {name: np.array([value])})[name][0])

        tips_at = _crossing(at) if (low - NEUTRAL) * (high - NEUTRAL) < 0 else None
        found.append(Sensitivity(name, compiled.numbers[name], float(slope[name]), low, high, tips_at))
    return sorted(found, key=lambda sensitivity: -sensitivity.swing)


def _crossing(at: Callable[[float], float]) -> float:
    """Return the value in [0, 1] at which a monotonic function crosses one half, by bisection."""
    below, above, sign = 0.0, 1.0, at(0.0) - NEUTRAL
    for _ in range(BISECTIONS):
        middle = (below + above) / 2
        if (at(middle) - NEUTRAL) * sign > 0:
            below = middle
        else:
            above = middle
    return (below + above) / 2


def first_thesis(the_map: Map) -> str:
    """Return the title of the first thesis in the text.

    Args:
        the_map: The map.

    Raises:
        AdapterlabError: The map has no thesis.
    """
    theses = the_map.theses
    if not theses:
        raise AdapterlabError(
            f"{the_map.source.name} has no thesis (a claim that others bear on and that bears on no other): name a"
            " claim, with --thesis on the command line"
        )
    return min(theses, key=lambda title: the_map.claims[title].mentions[0].start)
