"""Scores of a map: how credible each claim and how strong each argument is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from adapterlab.argmap.model.map import Map, Role
from adapterlab.argmap.scoring.network import Network, Node, build
from adapterlab.argmap.scoring.propagation import Values, evaluate
from adapterlab.argmap.scoring.semantics import DEFAULT, LogOdds, Semantics, logit, semantics_named
from adapterlab.argmap.syntax.gc_pause import gc_paused
from adapterlab.errors import UnknownNameError


class ClaimScore(NamedTuple):
    """A claim's credence under a semantics, its log-odds, the credence that the map states, and its role."""

    credence: float
    log_odds: float
    stated: float | None
    role: Role


class ArgumentScore(NamedTuple):
    """An argument's strength, the inference it states for its last step, and its main conclusion."""

    strength: float
    inference: float | None
    conclusion: str | None


@dataclass(frozen=True)
class Scores:
    """What `score` found."""

    semantics: str
    claims: dict[str, ClaimScore]
    arguments: dict[str, ArgumentScore]
    warnings: list[str]
    settled: bool = True
    """False where the map has cycles that come to no fixed point."""

    def to_json(self) -> dict[str, Any]:
        """`{"semantics": ..., "claims": {title: {...}}, "arguments": {title: {...}}, "warnings": [...]}`."""
        return {
            "semantics": self.semantics,
            "claims": {title: claim._asdict() for title, claim in self.claims.items()},
            "arguments": {title: argument._asdict() for title, argument in self.arguments.items()},
            "warnings": list(self.warnings),
            "settled": self.settled,
        }


def score(
    the_map: Map, semantics: str = DEFAULT, credences: Mapping[str, float] | None = None, skip_broken: bool = False
) -> Scores:
    """Score a map.

    Args:
        the_map: the map.
        semantics: `quadratic-energy` (Potyka 2018), `df-quad` (Rago and others 2016) or `log-odds`.
        credences: numbers instead of the stated ones, by title (see `network.build`).
        skip_broken: score without what could not be read.

    Raises:
        AdapterlabError: the map has errors, a number lies outside [0, 1], or a title is unknown.
    """
    rules = semantics_named(semantics)
    network, values = propagate(the_map, rules, credences, skip_broken)
    warnings = list(network.warnings)
    if not values.settled:
        warnings.append(
            f"the map has cycles without a fixed point: credences still move by {values.change:.2g} a round"
        )
    if isinstance(rules, LogOdds):
        warnings.extend(_unsound(network, values))
    claims = {
        title: ClaimScore(values.values[index], logit(values.values[index]), claim.credence, claim.role)
        for title, claim in the_map.claims.items()
        if (index := network.claims[title]) is not None
    }
    arguments = {
        title: ArgumentScore(
            values.values[index], the_map.arguments[title].inference, the_map.arguments[title].conclusion
        )
        for title, index in network.arguments.items()
    }
    return Scores(rules.name, claims, arguments, warnings, values.settled)


def propagate(
    the_map: Map, rules: Semantics, credences: Mapping[str, float] | None = None, skip_broken: bool = False
) -> tuple[Network, Values]:
    """The network of a map under a semantics, and its values."""
    with gc_paused():
        network = build(the_map, credences, log_odds=isinstance(rules, LogOdds), skip_broken=skip_broken)
        return network, evaluate(network, rules)


def claim_node(network: Network, title: str) -> int:
    """The node of a claim.

    Raises:
        UnknownNameError: with near titles.
    """
    bare = title[1:-1] if title.startswith("[") and title.endswith("]") else title
    if bare not in network.claims:
        raise UnknownNameError("claim", title, network.claims)
    return network.claims[bare]


def _unsound(network: Network, values: Values) -> list[str]:
    """Where log-odds turns a relation round: logit of a weak strength is negative."""
    names = {index: f"[{title}]" for title, index in network.claims.items()}
    names |= {index: f"<{title}>" for title, index in network.arguments.items()}
    found: list[str] = []
    for index, name in names.items():
        node: Node = network.nodes[index]
        for sources, verb, effect in ((node.attackers, "attacks", "raises"), (node.inputs[1:], "supports", "lowers")):
            found.extend(
                f"log-odds is not sound here: {names[s]} ({values.values[s]:.2f}) {verb} {name} "
                f"and, weaker than one half, {effect} it"
                for s in sources
                if values.values[s] < 0.5
            )
    return found
