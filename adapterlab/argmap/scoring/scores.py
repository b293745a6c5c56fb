r"""Scores of a map: the credence of each claim and the strength of each argument.

>>> from adapterlab.argmap.model.build import parse
>>> scores = score(parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}"), "df-quad")
>>> scores.claims["Wet"].credence
0.9
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from adapterlab.argmap.model.map import Map, Role
from adapterlab.argmap.scoring.network import Network, Node, build
from adapterlab.argmap.scoring.propagation import Values, evaluate
from adapterlab.argmap.scoring.semantics import (
    BAYES,
    DEFAULT,
    LogOdds,
    Semantics,
    default_semantics,
    logit,
    semantics_named,
)
from adapterlab.argmap.syntax.gc_pause import gc_paused
from adapterlab.errors import AdapterlabError, UnknownNameError

if TYPE_CHECKING:
    from adapterlab.argmap.scoring.belief_network import BayesFactor
    from adapterlab.argmap.scoring.compile_map import CompiledMap


class ClaimScore(NamedTuple):
    """The score of a claim."""

    credence: float
    """Probability computed by the semantics."""
    log_odds: float
    """Log-odds of the credence, clamped to [0.001, 0.999]; natural logarithm."""
    stated: float | None
    """The credence in the map."""
    role: Role
    base: float | None = None
    """Probability without evidence; None in semantics that have none."""


class ArgumentScore(NamedTuple):
    """The score of an argument."""

    strength: float
    """Product of premises and inference of the last step, in [0, 1]; in `bayes` the credence of its conclusion."""
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
        """Return the scores as JSON: the fields with their names, and claims and arguments as objects by title.

        Claims have a `base` only in semantics with base rates.
        """
        return {
            "semantics": self.semantics,
            "claims": {title: _json(claim) for title, claim in self.claims.items()},
            "arguments": {title: argument._asdict() for title, argument in self.arguments.items()},
            "warnings": list(self.warnings),
            "settled": self.settled,
        }


def _json(claim: ClaimScore) -> dict[str, object]:
    return {key: value for key, value in claim._asdict().items() if key != "base" or value is not None}


def score(
    the_map: Map,
    semantics: str | None = None,
    credences: Mapping[str, float] | None = None,
    skip_broken: bool = False,
    factors: Mapping[str, BayesFactor] | None = None,
) -> Scores:
    """Score a map.

    Args:
        the_map: The map.
        semantics: `bayes`, `quadratic-energy` (Potyka 2018), `df-quad` (Rago and others 2016) or `log-odds`; None for
            `bayes` if the map states what its claims predict, and for `quadratic-energy` if not.
        credences: Numbers that replace those in the map, by title (see `network.build`).
        skip_broken: Leave out the parts with errors instead of refusing the map.
        factors: Evidence beside the credences, by title of the claim; only `bayes` takes it into account.

    Returns:
        Credences of claims and strengths of arguments. `Scores.semantics` is the one that was used: a map that is no
        Bayesian network is not scored by `bayes`, which a warning says.

    Raises:
        AdapterlabError: The map has errors, a number is outside [0, 1], or a title is unknown.
    """
    name = semantics or default_semantics(the_map)
    if name != BAYES:
        return _gradual(the_map, semantics_named(name), credences, skip_broken)
    from adapterlab.argmap.scoring.bayes import try_compile  # numpy is not needed elsewhere

    compiled, problem = try_compile(the_map, credences, skip_broken)
    if compiled is not None:
        return _by_inference(the_map, compiled, factors)
    found = _gradual(the_map, semantics_named(DEFAULT), credences, skip_broken)
    return replace(found, warnings=[f"{problem}: {BAYES} cannot score it, so {DEFAULT} does", *found.warnings])


def _by_inference(the_map: Map, compiled: CompiledMap, factors: Mapping[str, BayesFactor] | None) -> Scores:
    after, base = compiled.posterior(factors=factors), compiled.network.base_rates()
    warnings = list(compiled.warnings)
    if compiled.assumed:
        warnings.append(
            f"{compiled.assumed} of {compiled.assumed + compiled.stated} relations and premises have no predicted: their "
            "numbers follow from inferences"
        )
    credences = {name: float(after[i][0]) for i, name in enumerate(v.name for v in compiled.network.variables)}
    if any(math.isnan(credence) for credence in credences.values()):
        raise AdapterlabError(
            f"{the_map.source.name}: the evidence is impossible: certain credences (0 or 1) contradict what the map predicts"
        )
    claims = {
        title: ClaimScore(credences[f"[{title}]"], logit(credences[f"[{title}]"]), claim.credence, claim.role, base[i])
        for title, claim in the_map.claims.items()
        for i in [compiled.claims[title]]
    }
    arguments = {
        title: ArgumentScore(
            credences[f"[{argument.conclusion}]" if argument.steps else f"<{title}>"],
            argument.inference,
            argument.conclusion,
        )
        for title, argument in the_map.arguments.items()
        if not argument.broken
    }
    return Scores(BAYES, claims, arguments, warnings)


def _gradual(the_map: Map, rules: Semantics, credences: Mapping[str, float] | None, skip_broken: bool) -> Scores:
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
    return network.claims[claim_title(network.claims, title)]


def claim_title(claims: Mapping[str, int], title: str) -> str:
    """Return the bare title of a claim.

    Args:
        claims: All claims, by title.
        title: Title of the claim, bare or in brackets.

    Raises:
        UnknownNameError: There is no such claim; the message names similar ones.
    """
    bare = title[1:-1] if title.startswith("[") and title.endswith("]") else title
    if bare not in claims:
        raise UnknownNameError("claim", title, claims)
    return bare


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
