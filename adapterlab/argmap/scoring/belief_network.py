r"""A map as a Bayesian network: what each claim predicts, and the evidence for each claim.

A claim is a variable that is true or false. An arrow leads from a claim to what it predicts: from a thesis to the claims
that support or attack it, from the conclusion of an argument to its premises. Two numbers belong to an arrow: the
probability of what is predicted if the claim is true, and if it is false. A claim that nothing predicts has a prior. So
each claim has a base rate, which it has before any evidence.

- A credence is evidence. It says how likely a claim is by what is known about it alone, so its Bayes factor is
  credence / (1 - credence) over the odds of the base rate. A credence equal to the base rate says nothing. With another
  prior, or other predictions, the evidence keeps its Bayes factor: it was found against the base rates of the map.
- A claim that several claims predict has the mean of their predictions (the weighted sum of Das 2004, with equal weights).
- An arrow that is undercut predicts nothing where an undercutter is true: the child then has the rate that it has given the
  undercutter alone. Undercutting moves no base rate.

>>> wet, rain = Variable("[Wet]", prior=0), Variable("[Rain]", credence=3)
>>> names, numbers = ["[Wet]", "if", "if not", "[Rain]"], [0.2, 0.9, 0.1, 0.9]
>>> network = BeliefNetwork([wet, rain], [Prediction(0, 1, rates=(1, 2))], names, numbers)
>>> [round(rate, 2) for rate in network.base_rates()]
[0.2, 0.26]
>>> [network.posterior({"[Rain]": credence})[0].round(3).item() for credence in (0.26, 0.9, 1.0)]
[0.2, 0.626, 0.692]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from adapterlab.argmap.scoring.join_tree import JoinTree, Table
from adapterlab.errors import AdapterlabError

INFERENCE = 0.5
"""Inference of an arrow without numbers."""
MOST_TOGETHER = 6
"""Largest number of claims that predict one claim, or undercut its arrows, in one table; beyond, one of the arrows is chosen
at random, which has the same mean."""

Draws: TypeAlias = NDArray[np.float64]
"""One value, or one for each draw: `(1,)` or `(draws,)`."""


class CyclicError(AdapterlabError):
    """Claims predict each other in a circle, so they are no Bayesian network."""


@dataclass(frozen=True)
class Variable:
    """A claim, or an argument without a structure."""

    name: str
    """`[Title]` of a claim, `<Title>` of an argument."""
    prior: int | None = None
    """Index of its prior, of a variable that nothing predicts; None for one half."""
    credence: int | None = None
    """Index of its credence; None without evidence."""
    weight: float = 1.0
    """Exponent on the Bayes factor that its evidence has for the claim that predicts it, below 1 if the evidence shares
    sources with others. Of a claim that nothing predicts, or several claims, it is the exponent on its own Bayes factor."""


@dataclass(frozen=True)
class Prediction:
    """An arrow: what one claim predicts of another."""

    parent: int
    """Variable of the claim that predicts."""
    child: int
    """Variable of the claim that is predicted."""
    rates: tuple[int, int] | None = None
    """Indices of the probabilities of the child if the parent is true, and if it is false; None if they follow from an
    inference."""
    inference: int | None = None
    """Index of the inference; None for `INFERENCE`."""
    share: int = 1
    """Number of premises that the Bayes factor of the inference, (1 + inference) / (1 - inference), is divided between."""
    attacks: bool = False
    """True if the child speaks against the parent."""
    undercutters: tuple[int, ...] = ()
    """Variables that void the arrow if one of them is true."""

    def probabilities(self, numbers: Sequence[Draws]) -> tuple[Draws, Draws]:
        """Return the probability of the child if the parent is true, and if it is false.

        Args:
            numbers: All numbers of the network.
        """
        if self.rates is not None:
            return numbers[self.rates[0]], numbers[self.rates[1]]
        inference = np.array([INFERENCE]) if self.inference is None else numbers[self.inference]
        up, down = (1.0 + inference) ** (1.0 / self.share), (1.0 - inference) ** (1.0 / self.share)
        true = up / (up + down)
        return (1.0 - true, true) if self.attacks else (true, 1.0 - true)


@dataclass(frozen=True)
class BayesFactor:
    """Evidence for a variable."""

    ratio: float
    """Probability of the evidence if the variable is true, over that if it is false."""
    weight: float = 1.0
    """Exponent, as `Variable.weight`."""


@dataclass
class BeliefNetwork:
    """Variables, arrows and numbers."""

    variables: list[Variable]
    predictions: list[Prediction]
    names: list[str]
    """Name of each number."""
    given: list[float]
    """The numbers; not a number for a credence that is not stated, which is no evidence."""

    def __post_init__(self) -> None:
        self._arrows: list[list[Prediction]] = [[] for _ in self.variables]
        """By variable, the arrows that lead to it."""
        for arrow in self.predictions:
            self._arrows[arrow.child].append(arrow)
        self._order = self._sorted()
        self._states = [2] * len(self.variables)
        self._factors = {i: self._factors_of(i) for i in self._order}
        self._all = [factor for i in self._order for factor in self._factors[i]]
        self._tree = JoinTree(self._states, [factor.scope for factor in self._all] + [(i,) for i in self._order])

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each number, by name."""
        return {name: i for i, name in enumerate(self.names)}

    def posterior(
        self, changed: Mapping[str, float | Draws] | None = None, factors: Mapping[int, BayesFactor] | None = None
    ) -> list[Draws]:
        """Return the probability of each variable given all evidence.

        Args:
            changed: Numbers in place of the given ones, by name; arrays of equal length for several draws.
            factors: By variable, evidence beside its credence.

        Returns:
            Arrays with one value, or one for each draw. For a variable itself its own evidence counts in full, for all
            others with its weight.
        """
        numbers = self._numbers(changed or {})
        _, voids = self._rates(numbers)
        tables = [factor.table(numbers, voids) for factor in self._all]
        evidence: dict[int, tuple[Table, Table]] = {}
        for i in self._order:
            credence, further = self.variables[i].credence, (factors or {}).get(i)
            full = np.ones((1, 2)) if credence is None else likelihood(numbers[credence], self._base[i])
            counted = self._discounted(i, full, self.variables[i].weight)
            if further is not None:
                own = np.array([[1.0, further.ratio]]) / max(1.0, further.ratio)
                full, counted = full * own, counted * self._discounted(i, own, further.weight)
            tables.append(counted)
            evidence[i] = full, counted
        found = self._tree.calibrate(tables)
        return [_in_full(found.marginal((i,)), *evidence[i])[:, 1] for i in range(len(self.variables))]

    def base_rates(self) -> list[float]:
        """Return the probability of each variable without evidence."""
        return [float(rate[0]) for rate in self._base]

    @cached_property
    def _base(self) -> list[Draws]:
        return self._rates(self._numbers({}))[0]

    def _discounted(self, i: int, table: Table, weight: float) -> Table:
        """Return the likelihood of evidence for a variable with a weight, `(draws, 2)`."""
        arrows = self._arrows[i]
        if weight == 1.0:
            return table
        if len(arrows) != 1 or arrows[0].undercutters:
            return table**weight
        true, false = arrows[0].probabilities(self._numbers({}))
        return discounted(table, true, false, weight)

    def _numbers(self, changed: Mapping[str, float | Draws]) -> list[Draws]:
        found = [np.array([value]) for value in self.given]
        for name, value in changed.items():
            found[self.index[name]] = np.atleast_1d(np.asarray(value, dtype=float))
        return found

    def _rates(self, numbers: Sequence[Draws]) -> tuple[list[Draws], dict[Prediction, Draws]]:
        """Return the base rate of each variable, and of each undercut arrow the rate of its child where it is void."""
        rates: list[Draws] = [np.array([0.5])] * len(self.variables)
        voids: dict[Prediction, Draws] = {}
        for i in self._order:
            prior, predicted = self.variables[i].prior, []
            for arrow in self._arrows[i]:
                true, false = arrow.probabilities(numbers)
                base = rates[arrow.parent]
                predicted.append(true * base + false * (1.0 - base))
                if arrow.undercutters:
                    void = self._rate_where_void(arrow, numbers, voids)
                    voids[arrow] = true * void + false * (1.0 - void)
            if predicted:
                rates[i] = sum(predicted[1:], predicted[0]) / len(predicted)
            elif prior is not None:
                rates[i] = numbers[prior]
        return rates, voids

    def _rate_where_void(self, arrow: Prediction, numbers: Sequence[Draws], voids: Mapping[Prediction, Draws]) -> Draws:
        """Return the probability of an arrow's parent without evidence where one of the undercutters is true."""
        scope = (arrow.parent, *dict.fromkeys(u for u in arrow.undercutters if u != arrow.parent))
        used = [factor for i in self._order if i in self._ancestors(scope) for factor in self._factors[i]]
        tree = JoinTree(self._states, [factor.scope for factor in used] + [scope])
        tables = [factor.table(numbers, voids) for factor in used] + [np.ones((1,) * (len(scope) + 1))]
        joint = tree.calibrate(tables).marginal(scope).copy()
        none_true = (slice(None), *(0 if v in arrow.undercutters else slice(None) for v in scope))
        joint[none_true] = 0.0
        by_parent = joint.reshape(joint.shape[0], 2, -1).sum(axis=2)
        total = by_parent.sum(axis=1)
        return np.where(total > 0.0, by_parent[:, 1] / np.where(total > 0.0, total, 1.0), 0.5)

    def _ancestors(self, variables: Sequence[int]) -> set[int]:
        """Return variables with all that predict them and that undercut their arrows."""
        found: set[int] = set()
        waiting = list(variables)
        while waiting:
            i = waiting.pop()
            if i not in found:
                found.add(i)
                waiting += [v for arrow in self._arrows[i] for v in (arrow.parent, *arrow.undercutters)]
        return found

    def _sorted(self) -> list[int]:
        """Return the variables, each after all that it depends on."""
        after: dict[int, list[int]] = defaultdict(list)
        missing = [0] * len(self.variables)
        for arrow in self.predictions:
            for parent in (arrow.parent, *arrow.undercutters):
                after[parent].append(arrow.child)
                missing[arrow.child] += 1
        order = [i for i, count in enumerate(missing) if not count]
        for i in order:
            for child in after[i]:
                missing[child] -= 1
                if not missing[child]:
                    order.append(child)
        if len(order) < len(self.variables):
            first = next(i for i, count in enumerate(missing) if count)
            raise CyclicError(f"{self.variables[first].name} bears on itself, through other claims")
        return order

    def _factors_of(self, i: int) -> list[_Factor]:
        """Return the factors whose product is the probability of a variable given those that it depends on."""
        arrows = self._arrows[i]
        if not arrows:
            return [_Prior((i,), self.variables[i].prior)]
        others = dict.fromkeys(v for arrow in arrows for v in (arrow.parent, *arrow.undercutters))
        if len(arrows) == 1 or len(others) <= MOST_TOGETHER:
            return [_Mean((i, *others), tuple(arrows))]
        choice = len(self._states)
        self._states.append(len(arrows))
        chosen: list[_Factor] = [
            _Chosen((i, *dict.fromkeys((arrow.parent, *arrow.undercutters)), choice), (arrow,), at, len(arrows))
            for at, arrow in enumerate(arrows)
        ]
        return chosen


@dataclass(frozen=True)
class _Factor(ABC):
    scope: tuple[int, ...]
    """The variable that is predicted first."""

    @abstractmethod
    def table(self, numbers: Sequence[Draws], voids: Mapping[Prediction, Draws]) -> Table:
        """Return the values of the factor."""


@dataclass(frozen=True)
class _Prior(_Factor):
    prior: int | None

    def table(self, numbers: Sequence[Draws], voids: Mapping[Prediction, Draws]) -> Table:
        true = np.array([0.5]) if self.prior is None else numbers[self.prior]
        return np.stack([1.0 - true, true], axis=1)


@dataclass(frozen=True)
class _Mean(_Factor):
    """The probability of a claim as the mean of what the arrows to it predict."""

    arrows: tuple[Prediction, ...]

    def table(self, numbers: Sequence[Draws], voids: Mapping[Prediction, Draws]) -> Table:
        others = self.scope[1:]
        true = sum(_predicted(arrow, others, numbers, voids) for arrow in self.arrows) / len(self.arrows)
        return np.stack([1.0 - true, true], axis=1)


@dataclass(frozen=True)
class _Chosen(_Mean):
    """Prediction of one arrow where it is the one that is chosen, and 1 elsewhere; the choice is the last variable."""

    at: int
    of: int

    def table(self, numbers: Sequence[Draws], voids: Mapping[Prediction, Draws]) -> Table:
        true = _predicted(self.arrows[0], self.scope[1:-1], numbers, voids)
        table = np.ones((true.shape[0], 2, *true.shape[1:], self.of))
        table[..., self.at] = np.stack([1.0 - true, true], axis=1)
        return table


def _predicted(
    arrow: Prediction, others: Sequence[int], numbers: Sequence[Draws], voids: Mapping[Prediction, Draws]
) -> Table:
    """Return the probability that an arrow gives its child, by the states of other variables, `(draws, 2, 2, ...)`."""
    true, false = np.broadcast_arrays(*arrow.probabilities(numbers))
    axis = others.index(arrow.parent)
    shape = [1] * len(others)
    shape[axis] = 2
    found = np.stack([false, true], axis=1).reshape(-1, *shape)
    if arrow.undercutters:
        states = np.indices((2,) * len(others))
        void = np.any([states[others.index(u)] for u in arrow.undercutters], axis=0)
        found = np.where(void, voids[arrow].reshape(-1, *(1,) * len(others)), found)
    return np.broadcast_to(found, (found.shape[0], *(2,) * len(others)))


def likelihood(credence: Draws, rate: Draws) -> Table:
    """Return the likelihood of the evidence that makes a claim with a base rate as likely as a credence.

    Args:
        credence: The credence; where it is not a number, there is no evidence.
        rate: The base rate; where it is 0 or 1, nothing is evidence.

    Returns:
        Values if the claim is false, and if it is true, the larger one 1, `(draws, 2)`.
    """
    credence, rate = np.broadcast_arrays(credence, rate)
    open_ = (rate > 0.0) & (rate < 1.0) & ~np.isnan(credence)
    credence, rate = np.where(open_, credence, 0.5), np.where(open_, rate, 0.5)
    table: Table = np.stack([(1.0 - credence) / (1.0 - rate), credence / rate], axis=1)
    scaled: Table = table / table.max(axis=1, keepdims=True)
    return scaled


def _in_full(marginal: Table, full: Table, counted: Table) -> Table:
    """Return a marginal with the full likelihood of the variable's own evidence in place of the one that was counted."""
    if full is counted:
        return marginal
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.where(counted > 0.0, marginal * full / counted, 0.0)
        scaled: Table = table / table.sum(axis=1, keepdims=True)
    return scaled


def discounted(table: Table, true: Draws, false: Draws, weight: float) -> Table:
    """Return the likelihood whose Bayes factor for what predicts a claim is a power of that of another likelihood.

    The Bayes factor of evidence (l0, l1) for the claim that predicts with the rates a and b is
    (a l1 + (1 - a) l0) / (b l1 + (1 - b) l0).

    Args:
        table: Likelihood if the claim is false, and if it is true, `(draws, 2)`.
        true: Probability a of the claim if what predicts it is true.
        false: Probability b if that is false.
        weight: The exponent, from 0 to 1.

    Returns:
        The likelihood, the larger value 1, `(draws, 2)`; where the claim is not predicted at all, the power of `table`.
    """
    no, yes = table[:, 0], table[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = ((true * yes + (1.0 - true) * no) / (false * yes + (1.0 - false) * no)) ** weight
        found = np.stack([true - false * factor, (1.0 - false) * factor - (1.0 - true)], axis=1)
        found = np.where((true < false)[:, None], -found, found)
        found = found / found.max(axis=1, keepdims=True)
    sound = np.isfinite(found).all(axis=1) & (found >= 0.0).all(axis=1) & (true != false)
    chosen: Table = np.where(sound[:, None], found, table**weight)
    return chosen
