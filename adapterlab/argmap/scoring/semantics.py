"""Gradual semantics: the strength of a node from its base strength, its supporters and its attackers.

Each semantics gives the strength and its derivatives. Strengths are floats, or numpy arrays of equal length that hold
one value for each draw of a simulation.

>>> semantics = semantics_named("quadratic-energy")
>>> semantics.weigh(0.5, supporters=[1.0], attackers=[])
0.75
>>> semantics.slopes(0.5, supporters=[1.0], attackers=[])
(0.5, [0.25], [])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, overload

from adapterlab.argmap.model.map import Map
from adapterlab.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Draws: TypeAlias = NDArray[np.float64]

FLOOR, CEILING = 0.001, 0.999
"""Bounds of a probability in log-odds. Without them, a credence of 0 or 1 would have infinite weight."""

Number: TypeAlias = "float | Draws"
"""A float, or an array with one value for each draw."""


class Semantics(Protocol):
    """A rule that turns a base strength, supporters and attackers into a strength."""

    @property
    def name(self) -> str:
        """Name of the semantics on the command line."""

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        """Return the strength of a node.

        Args:
            base: Strength without supporters and attackers, in [0, 1].
            supporters: Strengths of the supporters, in [0, 1].
            attackers: Strengths of the attackers, in [0, 1].
        """

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        """Return the derivatives of `weigh`.

        Args:
            base: As in `weigh`.
            supporters: As in `weigh`.
            attackers: As in `weigh`.

        Returns:
            The derivatives with respect to the base, to each supporter and to each attacker.
        """

    def noisy_or(self, strengths: Sequence[Number]) -> Number:
        """Return the base strength of a claim that several arguments conclude.

        Args:
            strengths: Strengths of the arguments, in [0, 1].
        """

    def noisy_or_slopes(self, strengths: Sequence[float]) -> list[float]:
        """Return the derivatives of `noisy_or` with respect to each strength.

        Args:
            strengths: As in `noisy_or`.
        """


def products_without_each(factors: Sequence[float]) -> list[float]:
    """Return, for each factor, the product of all the others, without division.

    Args:
        factors: The factors; zeros are allowed.
    """
    before, after = [1.0], [1.0]
    for factor in factors[:-1]:
        before.append(before[-1] * factor)
    for factor in reversed(factors[1:]):
        after.append(after[-1] * factor)
    return [b * a for b, a in zip(before, reversed(after), strict=True)] if factors else []


def _probabilistic_sum(strengths: Sequence[Number]) -> Number:
    """Return 1 - product(1 - s), the noisy-OR: DF-QuAD's aggregation (Rago and others 2016, definition 1)."""
    rest: Number = 1.0
    for strength in strengths:
        rest = rest * (1.0 - strength)
    return 1.0 - rest


def _select(condition: bool | NDArray[np.bool_], then: Number, otherwise: Number) -> Number:
    if isinstance(condition, bool):
        return then if condition else otherwise
    import numpy as np

    return np.where(condition, then, otherwise)


class _NoisyOr:
    def noisy_or(self, strengths: Sequence[Number]) -> Number:
        return _probabilistic_sum(strengths)

    def noisy_or_slopes(self, strengths: Sequence[float]) -> list[float]:
        return products_without_each([1.0 - s for s in strengths])


@dataclass(frozen=True)
class QuadraticEnergy(_NoisyOr):
    """The quadratic energy model (Potyka, KR 2018, definition 1).

    Energy E = sum of supporters - sum of attackers; impact h(x) = max(x, 0)^2 / (1 + max(x, 0)^2);
    strength = base - base h(-E) + (1 - base) h(E).
    """

    name: str = "quadratic-energy"
    """Name of the semantics on the command line."""

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        energy = sum(supporters) - sum(attackers)
        impact = energy * energy / (1.0 + energy * energy)
        return base + _select(energy > 0, 1.0 - base, -base) * impact

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        energy = sum(supporters) - sum(attackers)
        square = energy * energy
        distance = (1.0 - base) if energy > 0 else base
        slope = distance * 2.0 * abs(energy) / (1.0 + square) ** 2
        return 1.0 - square / (1.0 + square), [slope] * len(supporters), [-slope] * len(attackers)


@dataclass(frozen=True)
class DFQuAD(_NoisyOr):
    """Discontinuity-free QuAD (Rago, Toni, Aurisicchio, Baroni, KR 2016, definitions 1-3).

    The noisy-OR aggregates supporters to v+ and attackers to v-; then
    strength = base - base |v+ - v-| if v- >= v+, and base + (1 - base) |v+ - v-| otherwise.
    """

    name: str = "df-quad"
    """Name of the semantics on the command line."""

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        lead = _probabilistic_sum(supporters) - _probabilistic_sum(attackers)
        return base + _select(lead > 0, 1.0 - base, base) * lead

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        # If v+ = v-, the strength has a kink; these are the derivatives on the attackers' side.
        lead = float(_probabilistic_sum(supporters) - _probabilistic_sum(attackers))
        distance = (1.0 - base) if lead > 0 else base
        up = [distance * x for x in self.noisy_or_slopes(supporters)]
        down = [-distance * x for x in self.noisy_or_slopes(attackers)]
        return 1.0 - abs(lead), up, down


@dataclass(frozen=True)
class LogOdds(_NoisyOr):
    """Sum of log-odds, clamped to [0.001, 0.999]; kept for maps that were written for it.

    Strength = logistic(logit base + sum of logit supporters - sum of logit attackers).

    It is not sound: logit(s) is negative below one half, so a weak attacker raises its target and a weak supporter
    lowers it.
    """

    name: str = "log-odds"
    """Name of the semantics on the command line."""

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        if not supporters and not attackers:
            return base
        return _expit(logit(base) + sum(map(logit, supporters)) - sum(map(logit, attackers)))

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        # A clamped probability has the derivative zero.
        if not supporters and not attackers:
            return 1.0, [], []
        value = float(self.weigh(base, supporters, attackers))
        outer = value * (1.0 - value) if FLOOR < value < CEILING else 0.0
        return (
            outer * _logit_slope(base),
            [outer * _logit_slope(s) for s in supporters],
            [-outer * _logit_slope(a) for a in attackers],
        )


@overload
def logit(probability: float) -> float: ...
@overload
def logit(probability: Number) -> Number: ...
def logit(probability: Number) -> Number:
    """Return log(p / (1 - p)) of a probability clamped to [0.001, 0.999].

    Args:
        probability: The probability p.
    """
    if isinstance(probability, int | float):
        p = min(max(probability, FLOOR), CEILING)
        return math.log(p / (1.0 - p))
    import numpy as np

    clipped = np.clip(probability, FLOOR, CEILING)
    return np.log(clipped / (1.0 - clipped))


def _expit(log_odds: Number) -> Number:
    if isinstance(log_odds, float):
        p = 1.0 / (1.0 + math.exp(-log_odds)) if log_odds > -700 else 0.0
        return min(max(p, FLOOR), CEILING)
    import numpy as np

    return np.clip(1.0 / (1.0 + np.exp(-np.clip(log_odds, -700, 700))), FLOOR, CEILING)


def _logit_slope(probability: float) -> float:
    return 1.0 / (probability * (1.0 - probability)) if FLOOR < probability < CEILING else 0.0


SEMANTICS: dict[str, Semantics] = {s.name: s for s in (QuadraticEnergy(), DFQuAD(), LogOdds())}
"""All semantics by name."""
DEFAULT = "quadratic-energy"
"""Semantics of a map that does not state what its claims predict."""
BAYES = "bayes"
"""Name of the semantics that reads a map as a Bayesian network (`bayes.py`)."""
NAMES = (BAYES, *SEMANTICS)
"""Names of all semantics."""


def default_semantics(the_map: Map) -> str:
    """Return the semantics by which a map is scored if none is asked for: `BAYES` if it states what its claims predict.

    Args:
        the_map: The map.
    """
    elements = (*the_map.claims.values(), *the_map.arguments.values())
    return BAYES if any("predicted" in element.data for element in elements) else DEFAULT


def semantics_named(name: str) -> Semantics:
    """Return a gradual semantics.

    Args:
        name: `quadratic-energy`, `df-quad` or `log-odds`.

    Raises:
        UnknownNameError: There is no semantics of this name; the message names similar ones.
    """
    if name not in SEMANTICS:
        raise UnknownNameError("semantics", name, NAMES)
    return SEMANTICS[name]
