r"""The network of a map: a graph of numbers in which the value of each node is computed from other nodes.

There are four kinds of node: a given number, a product (a step of an argument), a noisy-OR (a claim that several
arguments conclude), and a weighing of a base strength against supporters and attackers (a claim, an argument, or an
inference with undercuts).

>>> from adapterlab.argmap.model.build import parse
>>> network = build(parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}"), log_odds=False)
>>> network.claims, network.parameters
({'Wet': 0, 'Rain': 1}, {'[Rain]': 3})
>>> network.nodes[0]
Node(kind='weigh', inputs=[2, 1], attackers=[], given=0.0)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from adapterlab.argmap.model.map import SUPPORTS, Argument, Claim, Endpoint, Map, Relation, RelationKind, Step
from adapterlab.argmap.syntax.diagnostics import errors
from adapterlab.errors import AdapterlabError, UnknownNameError

NEUTRAL = 0.5
"""Credence of a claim or inference without a number, and prior of a thesis without one."""


@dataclass(slots=True)
class Node:
    """One value of a network."""

    kind: Literal["given", "product", "noisy_or", "weigh"]
    inputs: list[int] = field(default_factory=list)
    """Indices of the nodes that the value is computed from. Of a weighing: the base, then the supporters."""
    attackers: list[int] = field(default_factory=list)
    """Indices of the attackers of a weighing."""
    given: float = 0.0
    """The value of a given node."""


@dataclass
class Network:
    """The nodes of a map."""

    nodes: list[Node] = field(default_factory=list)
    claims: dict[str, int] = field(default_factory=dict)
    """Index of each claim's node, by title."""
    arguments: dict[str, int] = field(default_factory=dict)
    """Index of each argument's node, by title."""
    parameters: dict[str, int] = field(default_factory=dict)
    """Index of each number in the map, by name: `[Claim]` for its credence or prior, `<Argument>` for its last
    inference, `<Argument>/1` for the inference of an earlier step."""
    warnings: list[str] = field(default_factory=list)

    def add(self, node: Node) -> int:
        """Append a node.

        Args:
            node: The node.

        Returns:
            Its index.
        """
        self.nodes.append(node)
        return len(self.nodes) - 1


def build(
    the_map: Map,
    credences: Mapping[str, float] | None = None,
    *,
    log_odds: bool,
    skip_broken: bool = False,
) -> Network:
    """Build the network of a map.

    Args:
        the_map: The map.
        credences: Numbers that replace those in the map, by title (`Title`, `[Title]` or `<Title>`). For a claim, its
            credence; for a conclusion, the value computed from its arguments; for a thesis, its prior; for an argument,
            its last inference.
        log_odds: True for log-odds, where an undercut attacks the main conclusion instead of the inference, and
            arguments that conclude a thesis support it.
        skip_broken: Leave out the parts with errors instead of refusing the map.

    Returns:
        The network, with warnings about missing and ignored numbers.

    Raises:
        AdapterlabError: The map has errors and `skip_broken` is False, or a number is outside [0, 1].
        UnknownNameError: A title in `credences` is unknown.
    """
    if not skip_broken:
        require_whole(the_map)
    return _Builder(the_map, _overrides(the_map, credences or {}), log_odds).build()


def require_whole(the_map: Map) -> None:
    """Raise an error if a map has parts that cannot be read.

    Args:
        the_map: The map.

    Raises:
        AdapterlabError: The map has errors; the message has the first.
    """
    found = errors(the_map.diagnostics)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        first = f"{the_map.source.name}:{found[0].line}: {found[0].message}{more}"
        raise AdapterlabError(f"{first}; fix it, or skip the broken parts (skip_broken, --skip-broken)")


def counted_elsewhere(the_map: Map) -> set[tuple[Endpoint, Endpoint, RelationKind]]:
    """Return the relations of earlier conclusions of an argument that is written with the same relation.

    The argument and its earlier conclusion count as one supporter or attacker.

    Args:
        the_map: The map.

    Returns:
        Source, target and kind of each such relation.
    """
    of_arguments = {
        (Endpoint("claim", step.conclusion), relation.target, relation.kind)
        for relation in the_map.relations
        for source, _, _ in relation.written
        if source.kind == "argument"
        for step in the_map.arguments[source.title].steps
        if relation.source != Endpoint("claim", step.conclusion)
    }
    return {
        key
        for relation in the_map.relations
        if not any(source.kind == "argument" for source, _, _ in relation.written)
        and (key := (relation.source, relation.target, relation.kind)) in of_arguments
    }


def parameter(the_map: Map, name: str) -> str:
    """Return the parameter for a title: `[Title]` for a claim, `<Title>` for the last inference of an argument.

    Args:
        the_map: The map.
        name: A title, bare or in brackets. A bare title of both a claim and an argument stands for the claim.

    Raises:
        UnknownNameError: There is no such title; the message names similar ones.
    """
    bare = name[1:-1] if name[:1] + name[-1:] in ("[]", "<>") else name
    if not name.startswith("<") and bare in the_map.claims:
        return f"[{bare}]"
    if not name.startswith("[") and bare in the_map.arguments:
        return f"<{bare}>"
    raise UnknownNameError("claim or argument", name, [*the_map.claims, *the_map.arguments], the_map.source.name)


def _overrides(the_map: Map, credences: Mapping[str, float]) -> dict[str, float]:
    return {parameter(the_map, name): probability(value, name) for name, value in credences.items()}


def probability(value: float, name: str) -> float:
    """Return a number of a map.

    Args:
        value: The number.
        name: Its name in messages.

    Raises:
        AdapterlabError: It is outside [0, 1].
    """
    if not 0.0 <= value <= 1.0:
        raise AdapterlabError(f"{name}: a credence must be between 0 and 1, not {value:g}")
    return float(value)


class _Builder:
    def __init__(self, the_map: Map, overrides: dict[str, float], log_odds: bool) -> None:
        self.map, self.overrides = the_map, overrides
        self.log_odds = log_odds
        self.network = Network()
        self.supporters: dict[Endpoint, list[Endpoint]] = defaultdict(list)
        self.attackers: dict[Endpoint, list[Endpoint]] = defaultdict(list)
        self.concluding: dict[str, list[int]] = defaultdict(list)
        """For each conclusion, the nodes of the steps that conclude it."""
        self.elsewhere = counted_elsewhere(the_map)

    def build(self) -> Network:
        for relation in self.map.relations:
            self._sort(relation)
        network = self.network
        arguments = [a for a in self.map.arguments.values() if not a.broken]
        for title in self.map.claims:
            network.claims[title] = network.add(Node("weigh"))
        for argument in arguments:
            network.arguments[argument.title] = network.add(Node("weigh"))
        for argument in arguments:
            self._argument(argument)
        for claim in self.map.claims.values():
            self._claim(claim)
        return network

    def _sort(self, relation: Relation) -> None:
        """Enter a relation into `supporters` or `attackers`."""
        source, target = relation.source, relation.target
        if source == target or self._broken(source) or self._broken(target):
            return
        if (source, target, relation.kind) in self.elsewhere:
            return
        if relation.kind in SUPPORTS:
            self.supporters[target].append(source)
            return
        if relation.kind == "undercut":
            if target.kind == "inference" and self.log_odds:
                conclusion = self.map.arguments[target.title].conclusion
                target = Endpoint("claim", conclusion or "")
            elif target.kind == "claim":
                self.network.warnings.append(
                    f"{source} undercuts the claim {target}, which has no inference: it is counted as an attack"
                )
        self.attackers[target].append(source)
        if relation.kind == "contradictory":
            self.attackers[source].append(target)

    def _broken(self, end: Endpoint) -> bool:
        return end.kind != "claim" and self.map.arguments[end.title].broken

    def _argument(self, argument: Argument) -> None:
        network, previous_conclusion = self.network, None
        for number, step in enumerate(argument.steps):
            inputs = [network.claims[title] for title in step.premises]
            if previous_conclusion is not None:
                inputs.append(previous_conclusion)
            inputs.append(self._inference(argument, number, step))
            product = network.add(Node("product", inputs))
            previous_conclusion = network.claims[step.conclusion]
            if number < len(argument.steps) - 1:
                self.concluding[step.conclusion].append(product)
            else:
                self.concluding[step.conclusion].append(network.arguments[argument.title])
                self._weigh(network.arguments[argument.title], product, Endpoint("argument", argument.title))
        if not argument.steps:
            stated = argument.data.get("credence")
            base = self._given(f"<{argument.title}>", stated, "has neither a structure nor a credence")
            self._weigh(network.arguments[argument.title], base, Endpoint("argument", argument.title))

    def _inference(self, argument: Argument, number: int, step: Step) -> int:
        last = number == len(argument.steps) - 1
        name = f"<{argument.title}>" if last else f"<{argument.title}>/{number + 1}"
        base = self._given(name, step.inference, "has no inference")
        end = Endpoint("inference", argument.title, step.conclusion_index)
        if not self.attackers[end]:
            return base
        node = self.network.add(Node("weigh"))
        self._weigh(node, base, end)
        return node

    def _claim(self, claim: Claim) -> None:
        network, end = self.network, Endpoint("claim", claim.title)
        concluding, name = self.concluding.get(claim.title), f"[{claim.title}]"
        if name in self.overrides:
            base = self._given(name, None, "")
        elif concluding and claim.role == "thesis" and self.log_odds:
            self._weigh(network.claims[claim.title], network.add(Node("given", given=NEUTRAL)), end)
            network.nodes[network.claims[claim.title]].inputs.extend(concluding)
            return
        elif concluding:
            base = network.add(Node("noisy_or", concluding))
        elif claim.role == "thesis" or (claim.credence is None and (self.supporters[end] or self.attackers[end])):
            prior = NEUTRAL if claim.prior is None else claim.prior
            base = network.add(Node("given", given=probability(prior, f"{name} prior")))
            if claim.credence is not None:
                network.warnings.append(
                    f"the credence of the thesis {name} is ignored, because it is computed (prior: sets its start)"
                )
        else:
            stated = claim.data.get("credence", claim.data.get("prior"))
            base = self._given(name, stated, "" if claim.broken else "has no credence")
        self._weigh(network.claims[claim.title], base, end)

    def _weigh(self, index: int, base: int, end: Endpoint) -> None:
        node = self.network.nodes[index]
        node.inputs = [base, *(self._index(s) for s in self.supporters[end])]
        node.attackers = [self._index(a) for a in self.attackers[end]]

    def _index(self, end: Endpoint) -> int:
        return self.network.claims[end.title] if end.kind == "claim" else self.network.arguments[end.title]

    def _given(self, name: str, stated: object, missing: str) -> int:
        """Add a given node and return its index; `missing` is the warning if there is no number, empty for none."""
        value = self.overrides.get(name, stated)
        if value is None and not missing:
            value = NEUTRAL
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.network.warnings.append(f"{name} {missing}: {NEUTRAL} is used")
            value = NEUTRAL
        index = self.network.add(Node("given", given=probability(value, name)))
        self.network.parameters[name] = index
        return index
