r"""A map as a Bayesian network: its relations and arguments as arrows, its credences as evidence.

A thesis predicts the claims that support or attack it, and the conclusion of an argument its premises. The two numbers of
an arrow are written on what is predicted: `predicted: [0.8, 0.4]`, the probability of the claim if what it bears on is
true, and if it is false; `predicted: {"Title": [0.8, 0.4]}` if it bears on several claims. Numbers that are missing follow
from the old style: an inference i stands for a Bayes factor of (1 + i) / (1 - i), evenly divided between the premises of
its step; a relation stands for the inference `belief_network.INFERENCE`, and a contradiction for `[0, 1]`.

Evidence that shares a source (`source:`, a name or a list) is not independent. Of claims that share one, the logarithm of
each one's Bayes factor for what predicts it is divided by 1 + the sum of its dependences on the others, the design effect of
Kish (1965): evidence that is named n times with a dependence of 1 counts once. The front matter may give the dependence
of a source, `sources: {NAME: 0.8}`; otherwise it is `DEPENDENCE`.

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("[Wet]: It is wet. {prior: 0.2}\n  + [Rain]: It rains. {predicted: [0.9, 0.1], credence: 0.9}")
>>> found = compile_map(weather)
>>> found.network.names
['[Wet]', '[Rain]', '[Rain] if [Wet]', '[Rain] if not [Wet]']
>>> found.network.posterior()[found.claims["Wet"]].round(3).item()
0.626
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapterlab.argmap.model.map import SUPPORTS, Argument, Claim, Endpoint, Map
from adapterlab.argmap.scoring.belief_network import BayesFactor, BeliefNetwork, Draws, Prediction, Variable
from adapterlab.argmap.scoring.network import counted_elsewhere, parameter, probability, require_whole
from adapterlab.errors import AdapterlabError

DEPENDENCE = 0.5
"""Dependence of two pieces of evidence that share a source, if the map states none."""


@dataclass
class CompiledMap:
    """The network of a map."""

    network: BeliefNetwork
    claims: dict[str, int]
    """Variable of each claim, by title."""
    stated: int
    """Arrows with numbers of their own."""
    assumed: int
    """Arrows whose numbers follow from an inference or a relation."""
    changed: dict[str, float] = field(default_factory=dict)
    """Numbers in place of those in the map, by name."""
    warnings: list[str] = field(default_factory=list)

    def posterior(
        self, changed: Mapping[str, float | Draws] | None = None, factors: Mapping[str, BayesFactor] | None = None
    ) -> list[Draws]:
        """Return the probability of each variable given all evidence: see `BeliefNetwork.posterior`.

        Args:
            changed: Further numbers in place of those in the map, by name.
            factors: Evidence beside the credences, by title of the claim.
        """
        by_variable = {self.claims[title]: factor for title, factor in (factors or {}).items()}
        return self.network.posterior({**self.changed, **(changed or {})}, by_variable)

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers by name, those that were changed with their new values."""
        given = dict(zip(self.network.names, self.network.given, strict=True))
        return {**given, **self.changed}


def compile_map(the_map: Map, credences: Mapping[str, float] | None = None, skip_broken: bool = False) -> CompiledMap:
    """Return the network of a map.

    Args:
        the_map: The map.
        credences: Numbers that replace those in the map: as in `adapterlab.argmap.score`, and by the names of the
            numbers of arrows, `[Rain] if [Wet]`. A credence for a conclusion is evidence beside that of its arguments.
        skip_broken: Leave out the parts with errors instead of refusing the map.

    Raises:
        AdapterlabError: The map has errors, or a number is not valid.
        CyclicError: Claims bear on each other in a circle.
        UnknownNameError: A title in `credences` is unknown.
    """
    if not skip_broken:
        require_whole(the_map)
    return _Compiler(the_map, credences or {}).compiled()


@dataclass(frozen=True)
class _Arrow:
    """An arrow before its numbers are known."""

    parent: Endpoint
    child: Endpoint
    attacks: bool = False
    contradicts: bool = False
    step: tuple[str, int] | None = None
    """Title of an argument and number of its step, from 0; None for a relation."""
    share: int = 1
    undercutters: tuple[Endpoint, ...] = ()


class _Compiler:
    def __init__(self, the_map: Map, changed: Mapping[str, float]) -> None:
        self.map = the_map
        self.numbers: dict[str, float] = {}
        self.places: dict[str, int] = {}
        """Index of each number, by name."""
        self.warnings: list[str] = []
        self.changed = {self._name(name): probability(value, name) for name, value in changed.items()}

    def _name(self, name: str) -> str:
        """Return the name of a number: of arrows `[Rain] if [Wet]`, of all others as `parameter` reads them."""
        child, separator, parent = name.partition(" if ")
        if not separator:
            return parameter(self.map, name)
        negated = "not " if parent.startswith("not ") else ""
        return f"{parameter(self.map, child)} if {negated}{parameter(self.map, parent.removeprefix('not '))}"

    def compiled(self) -> CompiledMap:
        arrows = self._arrows()
        ends = [Endpoint("claim", title) for title in self.map.claims]
        ends += [Endpoint("argument", a.title) for a in self.map.arguments.values() if not a.broken and not a.steps]
        places = {end: i for i, end in enumerate(ends)}
        predicted = {arrow.child for arrow in arrows}
        predicting = {arrow.parent for arrow in arrows}
        concluded = {step.conclusion for a in self.map.arguments.values() if not a.broken for step in a.steps}
        variables = self._discounted(
            ends,
            [self._variable(end, end in predicted, end in predicting, end.title in concluded) for end in ends],
        )
        predictions = [self._prediction(arrow, places) for arrow in arrows]
        unused = next((name for name in self.changed if name not in self.places), None)
        if unused is not None:
            raise AdapterlabError(
                f"{self.map.source.name}: {unused} is not a number of the network: a credence, a prior, `[A] if [B]`, "
                "`[A] if not [B]`, or the inference of an argument whose premises have no `predicted:`"
            )
        network = BeliefNetwork(variables, predictions, list(self.numbers), list(self.numbers.values()))
        stated = sum(prediction.rates is not None for prediction in predictions)
        claims = {end.title: i for end, i in places.items() if end.kind == "claim"}
        return CompiledMap(network, claims, stated, len(predictions) - stated, self.changed, self.warnings)

    def _number(self, name: str, value: float) -> int:
        """Enter a number of the map and return its index."""
        if name not in self.places:
            self.places[name] = len(self.places)
            self.numbers[name] = value if math.isnan(value) else probability(value, name)
        return self.places[name]

    def _variable(self, end: Endpoint, predicted: bool, predicting: bool, concluded: bool) -> Variable:
        name, data = str(end), self._element(end).data
        credence, prior = _stated(data, "credence"), _stated(data, "prior")
        computed = end.kind == "claim" and (concluded or self.map.claims[end.title].role == "thesis")
        if computed and credence is not None:
            self.warnings.append(f"the credence of {name} is ignored, because it is computed")
            credence = None
        if predicted and prior is not None:
            self.warnings.append(f"the prior of {name} is ignored, because it follows from what predicts it")
        if not predicted and credence is None and (predicting or prior is not None):
            return Variable(name, prior=self._number(name, 0.5 if prior is None else prior))
        base = None if predicted or prior is None else self._number(f"{name} prior", prior)
        if credence is None and name not in self.changed:
            return Variable(name)
        return Variable(name, base, self._number(name, math.nan if credence is None else credence))

    def _element(self, end: Endpoint) -> Claim | Argument:
        return self.map.claims[end.title] if end.kind == "claim" else self.map.arguments[end.title]

    def _discounted(self, ends: Sequence[Endpoint], variables: Sequence[Variable]) -> list[Variable]:
        """Return the variables with the weights of their evidence."""
        stated = self.map.settings.get("sources")
        dependences = stated if isinstance(stated, Mapping) else {}
        sources = [
            _names(self._element(end).data.get("source")) if v.credence is not None else frozenset()
            for end, v in zip(ends, variables, strict=True)
        ]
        sharing: dict[str, list[int]] = {}
        for i, names in enumerate(sources):
            for name in names:
                sharing.setdefault(name, []).append(i)
        found = list(variables)
        for i, names in enumerate(sources):
            strongest: dict[int, float] = {}
            for name in names:
                dependence = probability(dependences.get(name, DEPENDENCE), f"the dependence of the source {name}")
                for other in sharing[name]:
                    if other != i:
                        strongest[other] = max(dependence, strongest.get(other, 0.0))
            if strongest:
                found[i] = replace(found[i], weight=1.0 / (1.0 + sum(strongest.values())))
        return found

    def _arrows(self) -> list[_Arrow]:
        undercut: dict[Endpoint, list[Endpoint]] = {}
        arrows: list[_Arrow] = []
        contradictions: list[_Arrow] = []
        elsewhere = counted_elsewhere(self.map)
        for relation in self.map.relations:
            source, target = relation.source, relation.target
            if source == target or self._broken(source) or self._broken(target):
                continue
            if (source, target, relation.kind) in elsewhere:
                continue
            attacks = relation.kind not in SUPPORTS
            structured = target.kind == "argument" and bool(self.map.arguments[target.title].steps)
            if target.kind == "inference" or (structured and attacks):
                argument = self.map.arguments[target.title]
                index = target.index if target.kind == "inference" else argument.steps[-1].conclusion_index
                undercut.setdefault(Endpoint("inference", target.title, index), []).append(source)
            elif structured:
                conclusion = Endpoint("claim", self.map.arguments[target.title].conclusion or "")
                arrows.append(_Arrow(conclusion, source))
            elif relation.kind == "contradictory":
                contradictions.append(_Arrow(target, source, attacks=True, contradicts=True))
            else:
                if relation.kind == "undercut":
                    self.warnings.append(
                        f"{source} undercuts {target}, which has no inference: it is counted as an attack"
                    )
                arrows.append(_Arrow(target, source, attacks))
        for argument in self.map.arguments.values():
            if not argument.broken:
                arrows += self._steps(argument, undercut)
        above = _Ancestors(arrows)
        for arrow in contradictions:  # either way round says the same
            turned = above.reach(arrow.parent, arrow.child)
            arrows.append(replace(arrow, parent=arrow.child, child=arrow.parent) if turned else arrow)
            above.add(arrows[-1])
        return arrows

    def _steps(self, argument: Argument, undercut: Mapping[Endpoint, Sequence[Endpoint]]) -> list[_Arrow]:
        arrows: list[_Arrow] = []
        before: list[str] = []
        for number, step in enumerate(argument.steps):
            inputs = [title for title in (*step.premises, *before) if title != step.conclusion]
            parent = Endpoint("claim", step.conclusion)
            undercutters = tuple(undercut.get(Endpoint("inference", argument.title, step.conclusion_index), ()))
            arrows += [
                _Arrow(
                    parent,
                    Endpoint("claim", title),
                    step=(argument.title, number),
                    share=len(inputs),
                    undercutters=undercutters,
                )
                for title in inputs
            ]
            before = [step.conclusion]
        return arrows

    def _broken(self, end: Endpoint) -> bool:
        return end.kind != "claim" and self.map.arguments[end.title].broken

    def _prediction(self, arrow: _Arrow, places: Mapping[Endpoint, int]) -> Prediction:
        parent, child = places[arrow.parent], places[arrow.child]
        undercutters = tuple(places[end] for end in arrow.undercutters)
        rates = self._stated_rates(arrow)
        if rates is None and arrow.contradicts:
            rates = (0.0, 1.0)
        if rates is not None:
            of = str(arrow.parent)
            name = str(arrow.child)
            at = self._number(f"{name} if {of}", rates[0]), self._number(f"{name} if not {of}", rates[1])
            return Prediction(parent, child, at, undercutters=undercutters)
        inference = None if arrow.step is None else self._inference(*arrow.step)
        return Prediction(
            parent, child, inference=inference, share=arrow.share, attacks=arrow.attacks, undercutters=undercutters
        )

    def _inference(self, title: str, number: int) -> int | None:
        """Return the index of the inference of a step, or None if it has none."""
        argument = self.map.arguments[title]
        last = number == len(argument.steps) - 1
        name = f"<{title}>" if last else f"<{title}>/{number + 1}"
        stated = argument.steps[number].inference
        if stated is None and name not in self.changed:
            return None
        return self._number(name, 0.0 if stated is None else stated)

    def _stated_rates(self, arrow: _Arrow) -> tuple[float, float] | None:
        """Return the two numbers that the child states for an arrow, or None."""
        stated = self._element(arrow.child).data.get("predicted")
        if isinstance(stated, Mapping):
            stated = stated.get(arrow.parent.title, stated.get(str(arrow.parent)))
        if stated is None:
            return None
        where = f"{self.map.source.name}: predicted of {arrow.child}"
        if (
            not isinstance(stated, list)
            or len(stated) != 2
            or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in stated)
        ):
            raise AdapterlabError(
                f"{where} must be two probabilities, such as [0.8, 0.4]: of the claim if {arrow.parent} is true, and if it "
                "is false"
            )
        return probability(stated[0], where), probability(stated[1], where)


class _Ancestors:
    """Arrows by their start, for the direction of contradictions."""

    def __init__(self, arrows: Sequence[_Arrow]) -> None:
        self.below: dict[Endpoint, list[Endpoint]] = {}
        for arrow in arrows:
            self.add(arrow)

    def add(self, arrow: _Arrow) -> None:
        """Enter an arrow."""
        for parent in (arrow.parent, *arrow.undercutters):
            self.below.setdefault(parent, []).append(arrow.child)

    def reach(self, above: Endpoint, below: Endpoint) -> bool:
        """Return True if an arrow from `above` to `below` would close a circle."""
        waiting, seen = [below], {below}
        while waiting:
            for end in self.below.get(waiting.pop(), ()):
                if end == above:
                    return True
                if end not in seen:
                    seen.add(end)
                    waiting.append(end)
        return False


def _stated(data: Mapping[str, object], key: str) -> float | None:
    value = data.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _names(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    return frozenset(str(name) for name in value) if isinstance(value, list) else frozenset([str(value)])
