"""A map as a network of numbers: which value is made of which.

Four kinds of node suffice: a number that is given, a product (an argument's step), a choice of arguments for one
conclusion, and a weighing of base, supporters and attackers (a claim, an argument, an inference under undercuts).
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


@dataclass(slots=True)
class Node:
    """One value. `inputs` are indices of nodes; of a weighing, the first is the base."""

    kind: Literal["given", "product", "noisy_or", "weigh"]
    inputs: list[int] = field(default_factory=list)
    attackers: list[int] = field(default_factory=list)
    given: float = 0.0


@dataclass
class Network:
    """The nodes of a map, and which of them stand for what."""

    nodes: list[Node] = field(default_factory=list)
    claims: dict[str, int] = field(default_factory=dict)
    arguments: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    """The numbers that the map states: `[Claim]`, `<Argument>` (its last inference), `<Argument>/1` (another)."""
    warnings: list[str] = field(default_factory=list)

    def add(self, node: Node) -> int:
        """Append a node; its index."""
        self.nodes.append(node)
        return len(self.nodes) - 1


def build(
    the_map: Map,
    credences: Mapping[str, float] | None = None,
    *,
    log_odds: bool,
    skip_broken: bool = False,
) -> Network:
    """The network of a map.

    Args:
        the_map: the map.
        credences: numbers to use instead of the stated ones, by title: a claim's credence (of a conclusion: instead of
            what its arguments give; of a thesis: its prior), an argument's last inference. `[Title]`, `<Title>` do too.
        log_odds: build for log-odds, where an undercut attacks the main conclusion, not the inference, and arguments
            that conclude a thesis support it.
        skip_broken: leave out what could not be read instead of refusing the map.

    Raises:
        AdapterlabError: where the map has errors and `skip_broken` is not set, or a number lies outside [0, 1].
    """
    found = errors(the_map.diagnostics)
    if found and not skip_broken:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        first = f"{the_map.source.name}:{found[0].line}: {found[0].message}{more}"
        raise AdapterlabError(f"{first}; mend it, or score without what is broken (skip_broken, --skip-broken)")
    return _Builder(the_map, _overrides(the_map, credences or {}), log_odds).build()


def parameter(the_map: Map, name: str) -> str:
    """The parameter that a title means: `[Title]` for a claim, `<Title>` for an argument's last inference.

    Raises:
        UnknownNameError: with near titles.
    """
    bare = name[1:-1] if name[:1] + name[-1:] in ("[]", "<>") else name
    if not name.startswith("<") and bare in the_map.claims:
        return f"[{bare}]"
    if not name.startswith("[") and bare in the_map.arguments:
        return f"<{bare}>"
    raise UnknownNameError("claim or argument", name, [*the_map.claims, *the_map.arguments], the_map.source.name)


def _overrides(the_map: Map, credences: Mapping[str, float]) -> dict[str, float]:
    return {parameter(the_map, name): _within(value, name) for name, value in credences.items()}


def _within(value: float, where: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise AdapterlabError(f"{where}: a credence lies between 0 and 1, not at {value:g}")
    return float(value)


class _Builder:
    def __init__(self, the_map: Map, overrides: dict[str, float], log_odds: bool) -> None:
        self.map, self.overrides = the_map, overrides
        self.log_odds = log_odds
        self.network = Network()
        self.supporters: dict[Endpoint, list[Endpoint]] = defaultdict(list)
        self.attackers: dict[Endpoint, list[Endpoint]] = defaultdict(list)
        self.drawn: dict[str, list[int]] = defaultdict(list)
        """The nodes of the steps that conclude a claim."""

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
        source, target = relation.source, relation.target
        if source == target or self._broken(source) or self._broken(target) or self._counted_elsewhere(relation):
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
                    f"{source} undercuts the claim {target}, which draws no inference: it counts as an attack"
                )
        self.attackers[target].append(source)
        if relation.kind == "contradictory":
            self.attackers[source].append(target)

    def _broken(self, end: Endpoint) -> bool:
        return end.kind != "claim" and self.map.arguments[end.title].broken

    def _counted_elsewhere(self, relation: Relation) -> bool:
        """An earlier conclusion of an argument bears on a claim that the argument itself, as written, bears on."""
        if relation.source.kind != "claim" or any(source.kind == "argument" for source, _, _ in relation.written):
            return False
        return (relation.source.title, relation.target, relation.kind) in self._through_arguments

    @property
    def _through_arguments(self) -> set[tuple[str, Endpoint, RelationKind]]:
        if not hasattr(self, "_through"):
            self._through = {
                (step.conclusion, relation.target, relation.kind)
                for relation in self.map.relations
                for source, _, _ in relation.written
                if source.kind == "argument"
                for step in self.map.arguments[source.title].steps
                if relation.source != Endpoint("claim", step.conclusion)
            }
        return self._through

    def _argument(self, argument: Argument) -> None:
        network, carried = self.network, None
        for number, step in enumerate(argument.steps):
            inputs = [network.claims[title] for title in step.premises]
            if carried is not None:
                inputs.append(carried)
            inputs.append(self._inference(argument, number, step))
            product = network.add(Node("product", inputs))
            carried = network.claims[step.conclusion]
            if number < len(argument.steps) - 1:
                self.drawn[step.conclusion].append(product)
            else:
                self.drawn[step.conclusion].append(network.arguments[argument.title])
                self._weigh(network.arguments[argument.title], product, Endpoint("argument", argument.title))
        if not argument.steps:
            stated = argument.data.get("credence")
            base = self._given(f"<{argument.title}>", stated, "has neither a structure nor a credence")
            self._weigh(network.arguments[argument.title], base, Endpoint("argument", argument.title))

    def _inference(self, argument: Argument, number: int, step: Step) -> int:
        last = number == len(argument.steps) - 1
        name = f"<{argument.title}>" if last else f"<{argument.title}>/{number + 1}"
        base = self._given(name, step.inference, "states no inference")
        end = Endpoint("inference", argument.title, step.conclusion_index)
        if not self.attackers[end]:
            return base
        node = self.network.add(Node("weigh"))
        self._weigh(node, base, end)
        return node

    def _claim(self, claim: Claim) -> None:
        network, end = self.network, Endpoint("claim", claim.title)
        drawn, name = self.drawn.get(claim.title), f"[{claim.title}]"
        if name in self.overrides:
            base = self._given(name, None, "")
        elif drawn and claim.role == "thesis" and self.log_odds:
            self._weigh(network.claims[claim.title], network.add(Node("given", given=NEUTRAL)), end)
            network.nodes[network.claims[claim.title]].inputs.extend(drawn)
            return
        elif drawn:
            base = network.add(Node("noisy_or", drawn))
        elif claim.role == "thesis" or (claim.credence is None and (self.supporters[end] or self.attackers[end])):
            base = network.add(
                Node("given", given=_within(NEUTRAL if claim.prior is None else claim.prior, f"[{claim.title}] prior"))
            )
            if claim.credence is not None:
                network.warnings.append(
                    f"the thesis {name} states a credence; it is computed, not stated (prior: sets where it starts)"
                )
        else:
            stated = claim.data.get("credence", claim.data.get("prior"))
            base = self._given(name, stated, "" if claim.broken else "states no credence")
        self._weigh(network.claims[claim.title], base, end)

    def _weigh(self, index: int, base: int, end: Endpoint) -> None:
        node = self.network.nodes[index]
        node.inputs = [base, *(self._of(s) for s in self.supporters[end])]
        node.attackers = [self._of(a) for a in self.attackers[end]]

    def _of(self, end: Endpoint) -> int:
        return self.network.claims[end.title] if end.kind == "claim" else self.network.arguments[end.title]

    def _given(self, name: str, stated: object, missing: str) -> int:
        value = self.overrides.get(name, stated)
        if value is None and not missing:
            value = NEUTRAL
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.network.warnings.append(f"{name} {missing}: {NEUTRAL} is used")
            value = NEUTRAL
        index = self.network.add(Node("given", given=_within(value, name)))
        self.network.parameters[name] = index
        return index
