r"""Scores of a map: the credence of each claim and the strength of each argument.

>>> from adapterlab.argmap.model.build import parse
>>> scores = score(parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}"), "df-quad")
>>> scores.claims["Wet"].credence
0.9
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from adapterlab.argmap.model.map import Map, Role
from adapterlab.argmap.scoring.network import Network, Node, build
from adapterlab.argmap.scoring.propagation import Values, evaluate
from adapterlab.argmap.scoring.semantics import DEFAULT, LogOdds, Semantics, logit, semantics_named
from adapterlab.argmap.syntax.gc_pause import gc_paused
from adapterlab.errors import UnknownNameError


class ClaimScore(NamedTuple):
    """The score of a claim."""

    credence: float
    """Probability computed by the semantics."""
    log_odds: float
    """Log-odds of the credence, clamped to [0.001, 0.999]; natural logarithm."""
    stated: float | None
    """The credence in the map."""
    role: Role


class ArgumentScore(NamedTuple):
    """The score of an argument."""

    strength: float
    """Product of premises and inference of the last step, in [0, 1]."""
    inference: float | None
    """The inference of the last step in the map."""
    conclusion: str | None
    """Title of the main conclusion."""


class ScoresJson(TypedDict):
    """The JSON form of `Scores`."""

    semantics: str
    claims: dict[str, dict[str, object]]
    arguments: dict[str, dict[str, object]]
    warnings: list[str]
    settled: bool


@dataclass(frozen=True)
class Scores:
    """The scores of a map."""

    semantics: str
    """Name of the semantics."""
    claims: dict[str, ClaimScore]
    """Scores of the claims by title."""
    arguments: dict[str, ArgumentScore]
    """Scores of the arguments by title; broken arguments have none."""
    warnings: list[str]
    """Missing numbers, ignored numbers, and relations for which the semantics is not sound."""
    settled: bool = True
    """False if the map has cycles and their iteration did not converge."""

    def to_json(self) -> ScoresJson:
        """Return the scores as JSON: the fields with their names, and claims and arguments as objects by title."""
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
        the_map: The map.
        semantics: `quadratic-energy` (Potyka 2018), `df-quad` (Rago and others 2016) or `log-odds`.
        credences: Numbers that replace those in the map, by title (see `network.build`).
        skip_broken: Leave out the parts with errors instead of refusing the map.

    Returns:
        Credences of claims and strengths of arguments.

    Raises:
        AdapterlabError: The map has errors, a number is outside [0, 1], or a title is unknown.
    """
    rules = semantics_named(semantics)
    network, values = propagate(the_map, rules, credences, skip_broken)
    warnings = list(network.warnings)
    if not values.settled:
        warnings.append(
            f"the map has cycles without a fixed point: credences still change by {values.change:.2g} a round"
        )
    if isinstance(rules, LogOdds):
        warnings.extend(_unsound(network, values))
    claims = {
        title: ClaimScore(values.values[index], logit(values.values[index]), claim.credence, claim.role)
        for title, claim in the_map.claims.items()
        for index in [network.claims[title]]
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
) -> tuple[Network, Values[float]]:
    """Build the network of a map and compute its values.

    Args:
        the_map: The map.
        rules: The semantics.
        credences: As in `score`.
        skip_broken: As in `score`.

    Returns:
        The network, and the value of each node.

    Raises:
        AdapterlabError: As in `score`.
    """
    with gc_paused():
        network = build(the_map, credences, log_odds=isinstance(rules, LogOdds), skip_broken=skip_broken)
        return network, evaluate(network, rules)


def claim_node(network: Network, title: str) -> int:
    """Return the index of a claim's node.

    Args:
        network: The network.
        title: Title of the claim, bare or in brackets.

    Raises:
        UnknownNameError: There is no such claim; the message names similar ones.
    """
    bare = title[1:-1] if title.startswith("[") and title.endswith("]") else title
    if bare not in network.claims:
        raise UnknownNameError("claim", title, network.claims)
    return network.claims[bare]


def _unsound(network: Network, values: Values[float]) -> list[str]:
    """Return a warning for each relation that log-odds reverses, because the logit of a weak strength is negative."""
    names = {index: f"[{title}]" for title, index in network.claims.items()}
    names |= {index: f"<{title}>" for title, index in network.arguments.items()}
    found: list[str] = []
    for index, name in names.items():
        node: Node = network.nodes[index]
        for sources, verb, effect in ((node.attackers, "attacks", "raises"), (node.inputs[1:], "supports", "lowers")):
            found.extend(
                f"log-odds is not sound here: {names[s]} ({values.values[s]:.2f}) {verb} {name} "
                f"but {effect} it, because it is weaker than one half"
                for s in sources
                if values.values[s] < 0.5
            )
    return found
