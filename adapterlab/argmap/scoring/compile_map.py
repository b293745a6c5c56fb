r"""A map as a Bayesian network: its relations and arguments as arrows, its credences as evidence.

A thesis predicts the claims that support or attack it, and the conclusion of an argument its premises. The two numbers of
an arrow are written on what is predicted: `predicted: [0.8, 0.4]`, the probability of the claim if what it bears on is
true, and if it is false; `predicted: {"Title": [0.8, 0.4]}` if it bears on several claims. Numbers that are missing follow
from the old style: an inference i stands for a Bayes factor of (1 + i) / (1 - i), evenly divided between the premises of
its step; a relation stands for the inference `belief_network.INFERENCE`, and a contradiction for `[0, 1]`.

Evidence that shares a source is not independent: `adapterlab.argmap.scoring.shared_sources`.

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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from adapterlab.argmap.model.map import Endpoint, Map
from adapterlab.argmap.scoring.arrows import Arrow, arrows_of, number_name
from adapterlab.argmap.scoring.belief_network import BayesFactor, BeliefNetwork, Draws, Prediction, Variable
from adapterlab.argmap.scoring.network import probability, require_whole
from adapterlab.argmap.scoring.predicted import stated_rates
from adapterlab.argmap.scoring.shared_sources import shared_weights
from adapterlab.errors import AdapterlabError


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


class _Compiler:
    def __init__(self, the_map: Map, changed: Mapping[str, float]) -> None:
        self.map = the_map
        self.numbers: dict[str, float] = {}
        self.places: dict[str, int] = {}
        """Index of each number, by name."""
        self.warnings: list[str] = []
        self.changed = {number_name(the_map, name): probability(value, name) for name, value in changed.items()}

    def compiled(self) -> CompiledMap:
        arrows = arrows_of(self.map, self.warnings)
        ends = [Endpoint("claim", title) for title in self.map.claims]
        ends += [Endpoint("argument", a.title) for a in self.map.arguments.values() if not a.broken and not a.steps]
        places = {end: i for i, end in enumerate(ends)}
        predicted = {arrow.child for arrow in arrows}
        predicting = {arrow.parent for arrow in arrows}
        concluded = {step.conclusion for a in self.map.arguments.values() if not a.broken for step in a.steps}
        found = [self._variable(end, end in predicted, end in predicting, end.title in concluded) for end in ends]
        weights = shared_weights(
            self.map,
            [end if variable.credence is not None else None for end, variable in zip(ends, found, strict=True)],
        )
        variables = [replace(variable, weight=weights.get(i, variable.weight)) for i, variable in enumerate(found)]
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
        name, data = str(end), self.map.element(end).data
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

    def _prediction(self, arrow: Arrow, places: Mapping[Endpoint, int]) -> Prediction:
        parent, child = places[arrow.parent], places[arrow.child]
        undercutters = tuple(places[end] for end in arrow.undercutters)
        rates = stated_rates(self.map, arrow)
        if rates is None and arrow.contradicts:
            rates = (0.0, 1.0)
        if rates is not None:
            true, false = arrow.names
            at = self._number(true, rates[0]), self._number(false, rates[1])
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


def _stated(data: Mapping[str, object], key: str) -> float | None:
    value = data.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
