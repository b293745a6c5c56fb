"""What a thesis hangs on: derivatives, the credence at which it tips, and how far it swings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.network import NEUTRAL
from adapterlab.argmap.scoring.propagation import derivatives, downstream, reevaluate
from adapterlab.argmap.scoring.scores import claim_node, propagate
from adapterlab.argmap.scoring.semantics import DEFAULT, semantics_named
from adapterlab.errors import AdapterlabError

BISECTIONS = 40


def sensitivities(
    the_map: Map,
    thesis: str,
    semantics: str = DEFAULT,
    credences: Mapping[str, float] | None = None,
    skip_broken: bool = False,
) -> dict[str, float]:
    """The derivatives d thesis / d each number that the map states, by one reverse pass.

    Keys are `[Claim]` for a credence, `<Argument>` for the inference of an argument's last step and `<Argument>/1` for
    that of an earlier step; largest effects first.

    Raises:
        AdapterlabError: as `score`; UnknownNameError where there is no such claim.
    """
    rules = semantics_named(semantics)
    network, values = propagate(the_map, rules, credences, skip_broken)
    slope = derivatives(network, rules, values, claim_node(network, thesis))
    effects = {name: slope[index] for name, index in network.parameters.items()}
    return dict(sorted(effects.items(), key=lambda item: -abs(item[1])))


@dataclass(frozen=True)
class Sensitivity:
    """One stated number and what the thesis makes of it."""

    name: str
    """`[Claim]`, `<Argument>` or, for an earlier step, `<Argument>/1`."""
    stated: float
    slope: float
    """d thesis / d this number."""
    low: float
    """The thesis if this number were 0."""
    high: float
    """The thesis if it were 1."""
    tips_at: float | None
    """Where the thesis crosses one half, all else as stated; None where it never does."""

    @property
    def swing(self) -> float:
        """How far the thesis moves over the number's whole range."""
        return abs(self.high - self.low)


def one_way_sensitivities(
    the_map: Map,
    thesis: str | None = None,
    semantics: str = DEFAULT,
    credences: Mapping[str, float] | None = None,
    skip_broken: bool = False,
    limit: int | None = 50,
) -> list[Sensitivity]:
    """The numbers that a thesis hangs on, those that swing it furthest first.

    Args:
        the_map: the map.
        thesis: a claim; the map's first thesis if None.
        semantics: as in `score`.
        credences: as in `score`.
        skip_broken: as in `score`.
        limit: swings and tipping points are worked out for this many numbers, those of the largest derivatives.

    Raises:
        AdapterlabError: as `score`, or where the map has no thesis.
    """
    rules = semantics_named(semantics)
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
    return sorted(found, key=lambda crux: -crux.swing)


def _crossing(at: Callable[[float], float]) -> float:
    below, above, sign = 0.0, 1.0, at(0.0) - NEUTRAL
    for _ in range(BISECTIONS):
        middle = (below + above) / 2
        if (at(middle) - NEUTRAL) * sign > 0:
            below = middle
        else:
            above = middle
    return (below + above) / 2


def first_thesis(the_map: Map) -> str:
    """The thesis that stands first in the text.

    Raises:
        AdapterlabError: where there is none.
    """
    theses = the_map.theses
    if not theses:
        raise AdapterlabError(
            f"{the_map.source.name} has no thesis (a claim borne on that bears on no other): name a claim"
        )
    return min(theses, key=lambda title: the_map.claims[title].mentions[0].start)
