"""How strength spreads: what supporters and attackers make of a base strength.

Each semantics gives a value and its derivatives. `weigh` takes lists of supporters and attackers; numbers may be floats
or numpy arrays of equal length (many draws at once).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapterlab.errors import UnknownNameError

FLOOR, CEILING = 0.001, 0.999
"""Where log-odds clamps: a credence of 0 or 1 would outweigh everything."""

Number = Any
"""A float, or a numpy array of draws."""


class Semantics(Protocol):
    """What a semantics gives."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        """The strength of what has this base, these supporters and these attackers."""

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        """The derivatives of `weigh` in the base, in each supporter and in each attacker."""

    def noisy_or(self, strengths: Sequence[Number]) -> Number:
        """The base of a conclusion that several arguments draw."""

    def noisy_or_slopes(self, strengths: Sequence[float]) -> list[float]:
        """The derivatives of `noisy_or`."""


def products_without_each(factors: Sequence[float]) -> list[float]:
    """For each factor, the product of all the others."""
    before, after = [1.0], [1.0]
    for factor in factors[:-1]:
        before.append(before[-1] * factor)
    for factor in reversed(factors[1:]):
        after.append(after[-1] * factor)
    return [b * a for b, a in zip(before, reversed(after), strict=True)] if factors else []


def _probabilistic_sum(strengths: Sequence[Number]) -> Number:
    """1 - product(1 - s): DF-QuAD's aggregation (Rago and others 2016, definition 1)."""
    return 1.0 - math.prod(1.0 - s for s in strengths)


def _select(condition: Number, then: Number, otherwise: Number) -> Number:
    if isinstance(condition, bool):
        return then if condition else otherwise
    import numpy as np

    return np.where(condition, then, otherwise)


class _NoisyOr:
    """What several arguments make of one conclusion."""

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

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        """The equilibrium strength."""
        energy = sum(supporters) - sum(attackers)
        impact = energy * energy / (1.0 + energy * energy)
        return base + _select(energy > 0, 1.0 - base, -base) * impact

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        """D strength / d energy is positive for a supporter, negative for an attacker."""
        energy = sum(supporters) - sum(attackers)
        square = energy * energy
        reach = (1.0 - base) if energy > 0 else base
        slope = reach * 2.0 * abs(energy) / (1.0 + square) ** 2
        return 1.0 - square / (1.0 + square), [slope] * len(supporters), [-slope] * len(attackers)


@dataclass(frozen=True)
class DFQuAD(_NoisyOr):
    """Discontinuity-free QuAD (Rago, Toni, Aurisicchio, Baroni, KR 2016, definitions 1-3).

    Supporters and attackers aggregate to v+ and v- by the probabilistic sum; then
    strength = base - base |v+ - v-| where v- >= v+, and base + (1 - base) |v+ - v-| otherwise.
    """

    name: str = "df-quad"

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        """The final strength."""
        lead = _probabilistic_sum(supporters) - _probabilistic_sum(attackers)
        return base + _select(lead > 0, 1.0 - base, base) * lead

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        """At a tie of both sides, where the strength has a kink, the attackers' side."""
        lead = _probabilistic_sum(supporters) - _probabilistic_sum(attackers)
        reach = (1.0 - base) if lead > 0 else base
        up = [reach * x for x in self.noisy_or_slopes(supporters)]
        down = [-reach * x for x in self.noisy_or_slopes(attackers)]
        return 1.0 - abs(lead), up, down


@dataclass(frozen=True)
class LogOdds(_NoisyOr):
    """Sums of log-odds, clamped to [0.001, 0.999]: what the sources' map was written for.

    Not sound: logit(s) is negative below one half, so a weak attacker raises its target and a weak supporter lowers it.
    """

    name: str = "log-odds"

    def weigh(self, base: Number, supporters: Sequence[Number], attackers: Sequence[Number]) -> Number:
        """logistic(logit base + sum of logit supporters - sum of logit attackers)."""
        if not supporters and not attackers:
            return base
        return _expit(logit(base) + sum(map(logit, supporters)) - sum(map(logit, attackers)))

    def slopes(
        self, base: float, supporters: Sequence[float], attackers: Sequence[float]
    ) -> tuple[float, list[float], list[float]]:
        """Zero wherever a clamp holds."""
        if not supporters and not attackers:
            return 1.0, [], []
        value = self.weigh(base, supporters, attackers)
        outer = value * (1.0 - value) if FLOOR < value < CEILING else 0.0
        return (
            outer * _logit_slope(base),
            [outer * _logit_slope(s) for s in supporters],
            [-outer * _logit_slope(a) for a in attackers],
        )


def logit(probability: Number) -> Number:
    """log(p / (1 - p)) of the probability clamped to [0.001, 0.999]."""
    if isinstance(probability, int | float):
        p = min(max(probability, FLOOR), CEILING)
        return math.log(p / (1.0 - p))
    import numpy as np

    p = np.clip(probability, FLOOR, CEILING)
    return np.log(p / (1.0 - p))


def _expit(log_odds: Number) -> Number:
    if isinstance(log_odds, float):
        p = 1.0 / (1.0 + math.exp(-log_odds)) if log_odds > -700 else 0.0
        return min(max(p, FLOOR), CEILING)
    import numpy as np

    return np.clip(1.0 / (1.0 + np.exp(-np.clip(log_odds, -700, 700))), FLOOR, CEILING)


def _logit_slope(probability: float) -> float:
    return 1.0 / (probability * (1.0 - probability)) if FLOOR < probability < CEILING else 0.0


SEMANTICS: dict[str, Semantics] = {s.name: s for s in (QuadraticEnergy(), DFQuAD(), LogOdds())}
DEFAULT = "quadratic-energy"


def semantics_named(name: str) -> Semantics:
    """The semantics of this name.

    Raises:
        UnknownNameError: with the names there are.
    """
    if name not in SEMANTICS:
        raise UnknownNameError("semantics", name, SEMANTICS)
    return SEMANTICS[name]
