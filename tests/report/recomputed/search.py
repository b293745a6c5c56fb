"""The search for a learning rate, repeated with new noise, and what its spread adds to the variance of each metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tests.report.recomputed.runs import FROZEN, PART, TASKS, Runs

GROWTH, KEEP = 8, 2
REPORTED_REPEATS = 1000
"""Repetitions of the search in the report, whose Monte Carlo error decides how near its variances must be to these."""
Loss = Callable[[int, int], float]
"""The validation loss at a place of the lattice in a rung."""


def rate_at(place: int) -> float:
    """The rate at a place of the lattice, four in a decade, with two digits."""
    return float(f"{10 ** (place / 4):.1e}")


def place_of(rate: float) -> int:
    """The place of a rate on the lattice."""
    return round(4 * math.log10(rate))


def search(start: float, loss: Loss) -> tuple[int, list[int], list[int]]:
    """The search of docs/studies.md: the chosen place, and the places tried in the first and in the second rung."""
    middle = place_of(start)
    first = {place: loss(place, 1) for place in (middle - 2, middle, middle + 2)}

    def order(losses: Mapping[int, float]) -> list[int]:
        return sorted(losses, key=lambda place: (losses[place], abs(place - middle), place))

    for _ in range(GROWTH):
        best = order(first)[0]
        if first[best] == math.inf:
            new = min(first) - 4
        elif best in (min(first), max(first)):
            new = best + (2 if best == max(first) else -2)
        else:
            near = max(p for p in first if p < best), min(p for p in first if p > best)
            gaps = [p for p in near if abs(p - best) > 2]
            if not gaps:
                break
            new = (gaps[0] + best) // 2
        first[new] = loss(new, 1)
    best = order(first)[0]
    first |= {place: loss(place, 1) for place in (best - 1, best + 1)}
    second = {place: loss(place, 2) for place in order(first)[:KEEP]}
    return order(second)[0], list(first), list(second)


@dataclass(frozen=True)
class Spread:
    """The rates that a repeated search chooses, and each metric at them."""

    shares: np.ndarray
    responses: Mapping[str, np.ndarray]
    """By metric, its value at each of the rates."""
    chosen: Mapping[str, float]
    """By metric, its value at the rate that the study chose."""

    def variance(self, weights: Mapping[str, float], sigmas: float = 0.0) -> float:
        """The variance of a weighted sum of metrics, `sigmas` of its own Monte Carlo errors away."""
        total = sum(
            (w * self.responses[m] for m, w in weights.items() if m in self.responses), np.zeros(len(self.shares))
        )
        return self.variance_of(total, sigmas)

    def variance_of(self, values: np.ndarray, sigmas: float = 0.0) -> float:
        """The variance of a value at each rate, `sigmas` of its own Monte Carlo errors away; nan counts as not chosen."""
        known = np.isfinite(values)
        if not known.any():
            return 0.0
        shares, values = self.shares[known] / self.shares[known].sum(), values[known]
        squares = (values - shares @ values) ** 2
        variance = float(shares @ squares)
        error = math.sqrt(max(0.0, float(shares @ squares**2) - variance**2) / REPORTED_REPEATS)
        return max(0.0, variance + sigmas * error)


def noise_of(runs: Runs, task: str) -> float:
    """The standard deviation of a run's validation loss about its curve.

    The difference between the best two rates of the second rung, less that in the first rung at the scale of the gains,
    has twice the variance of a run in each rung. Contestants that learn less than a quarter of the best do not count.
    """
    frozen, squares, gains = runs.frozen(task)["validation"], [], {}
    for name in runs.contestants:
        gains[name] = [frozen - runs.rung(name, task, rung)["validation"] for rung in (1, 2)]
    most = max(second.max() for _, second in gains.values())
    for first, second in gains.values():
        both = second[second.index.isin(first.index)].sort_values(ascending=False).index[:2]
        if len(both) == 2 and first.max() > 0 and second.max() > most / 4:
            scale = second.max() / first.max()
            apart = second[both[0]] - second[both[1]] - scale * (first[both[0]] - first[both[1]])
            squares.append(apart**2 / 2 / (1 + scale**2))
    return math.sqrt(np.mean(squares))


def curve_of(losses: Mapping[float, float]) -> Callable[[int], float]:
    """The loss at any place: a parabola through the best rate and its neighbours, straight lines elsewhere, flat outside."""
    rates = sorted(losses)
    x, y = np.log10(rates), np.array([losses[rate] for rate in rates])
    best = int(y.argmin())
    inside = range(1, len(x) - 1)

    def at(place: int) -> float:
        where = math.log10(rate_at(place))
        if best in inside and x[best - 1] <= where <= x[best + 1]:
            near = slice(best - 1, best + 2)
            return float(np.polyval(np.polyfit(x[near], y[near], 2), where))
        return float(np.interp(where, x, y))

    return at


def chosen_again(
    runs: Runs, name: str, task: str, start: float, repeats: int, rng: np.random.Generator
) -> Counter[int]:
    """The share of the repetitions of the search that choose each place."""
    frozen, noise = runs.frozen(task)["validation"], noise_of(runs, task)
    first = runs.rung(name, task, 1)["validation"].replace(math.inf, np.nan).dropna()
    gains = {1: frozen - first.min(), 2: frozen - runs.rung(name, task, 2)["validation"].min()}
    curve, shape = curve_of(((first - frozen) / gains[1]).to_dict()), dict[int, float]()

    def loss(place: int, rung: int) -> float:
        if place not in shape:
            shape[place] = curve(place)
        # The curve was measured with noise itself, which counts for half a run.
        return gains[rung] * (shape[place] + math.sqrt(1.5) * noise / gains[2] * rng.standard_normal())

    return Counter(search(start, loss)[0] for _ in range(repeats))


def spread_of(runs: Runs, name: str, task: str, chosen: Counter[int]) -> Spread:
    """The metrics at the rates that were chosen."""
    frozen = runs.frozen(task)
    places = sorted(chosen)
    shares = np.array([chosen[place] for place in places]) / chosen.total()
    rates = np.array([rate_at(place) for place in places] + [runs.rate(name, task)])
    first = runs.rung(name, task, 1)["validation"].replace(math.inf, np.nan).dropna()
    curve = curve_of(((first - frozen["validation"]) / (frozen["validation"] - first.min())).to_dict())
    reported = runs.reported(name, task)["validation"].replace(math.inf, np.nan).dropna()
    size = max(0.0, frozen["validation"] - reported.mean())
    responses = {"in_domain": size * np.array([curve(place_of(rate)) for rate in rates])}
    second = runs.rung(name, task, 2)
    second = second[second["status"] == "ok"]
    for metric in ("out_of_domain", "forgetting"):
        values = second[PART[metric]]
        if len(values) > 1:
            x = np.log10(values.index.to_numpy(float))
            known = np.clip(np.log10(rates), x.mean() - np.ptp(x) / 2 - 0.5, x.mean() + np.ptp(x) / 2 + 0.5)
            responses[metric] = np.polyfit(x, values, 1)[0] * known
    ends = {metric: float(values[-1]) for metric, values in responses.items()}
    return Spread(shares, {metric: values[:-1] for metric, values in responses.items()}, ends)


def repeat_all(
    runs: Runs, starts: Mapping[str, float], repeats: int, rng: np.random.Generator
) -> dict[tuple[str, str], Spread]:
    """The spread of every contest."""
    return {
        (name, task): spread_of(runs, name, task, chosen_again(runs, name, task, starts[name], repeats, rng))
        for name in runs.contestants
        for task in TASKS
        if name != FROZEN
    }
