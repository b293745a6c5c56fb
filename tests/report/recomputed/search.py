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
Start = tuple[float, bool]
"""The rate at which a search starts, and whether it is a trusted prediction."""
Loss = Callable[[int, int], float]
"""The validation loss at a place of the lattice in a rung."""


def rate_at(place: int) -> float:
    """The rate at a place of the lattice, four in a decade, with two digits."""
    return float(f"{10 ** (place / 4):.1e}")


def place_of(rate: float) -> int:
    """The place of a rate on the lattice."""
    return round(4 * math.log10(rate))


def search(start: Start, loss: Loss) -> tuple[int, list[int], list[int]]:
    """The search of docs/studies.md: the chosen place, and the places tried in the first and in the second rung."""
    rate, trusted = start
    middle, apart = place_of(rate), 1 if trusted else 2
    first = {place: loss(place, 1) for place in (middle - apart, middle, middle + apart)}

    def order(losses: Mapping[int, float]) -> list[int]:
        return sorted(losses, key=lambda place: (losses[place], abs(place - middle), place))

    for _ in range(GROWTH):
        best = order(first)[0]
        if first[best] == math.inf:
            new = min(first) - 4
        elif best in (min(first), max(first)):
            new = best + (apart if best == max(first) else -apart)
        else:
            near = max(p for p in first if p < best), min(p for p in first if p > best)
            gaps = [p for p in near if abs(p - best) > 2]
            if not gaps:
                break
            new = (gaps[0] + best) // 2
        first[new] = loss(new, 1)
    best = order(first)[0]
    first |= {place: loss(place, 1) for place in (best - 1, best + 1) if place not in first}
    best = order(first)[0]
    if trusted and abs(best - middle) <= 1:
        return _confirmed(first, best, 4 * math.log10(rate)), list(first), []
    second = {place: loss(place, 2) for place in order(first)[:KEEP]}
    return order(second)[0], list(first), list(second)


def _confirmed(losses: Mapping[int, float], best: int, predicted: float) -> int:
    """The place nearest to the mean of the prediction and, with twice its weight, the lowest point of the parabola."""
    near = [losses[place] for place in (best - 1, best, best + 1)]
    lowest = float(best)
    if max(near) < math.inf:
        square, slope, _ = np.polyfit([-1, 0, 1], near, 2)
        lowest = best - slope / (2 * square) if square > 0 else best
    between = round((predicted + 2 * lowest) / 3)
    return between if losses.get(between, math.inf) < math.inf else best


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

    Where searches have two rungs: the difference between the best two rates of the second rung, less that in the first rung
    at the scale of the gains, has twice the variance of a run in each rung. Else: what is left of the runs that measure the
    regret without the means of rates and of seeds. Contestants that learn less than a quarter of the best do not count.
    """
    frozen, gains = runs.frozen(task)["validation"], {}
    for name in runs.contestants:
        gains[name] = [frozen - runs.rung(name, task, rung)["validation"] for rung in (1, 2)]
        if gains[name][1].empty:
            gains[name][1] = frozen - runs.reported(name, task)["validation"]
    most = max(second.max() for _, second in gains.values())
    learners = [name for name, (_, second) in gains.items() if second.max() > max(0.0, most / 4)]
    squares = []
    for name in learners:
        first, second = gains[name]
        both = second[second.index.isin(first.index)].sort_values(ascending=False).index[:2]
        if len(both) == 2 and first.max() > 0:
            scale = second.max() / first.max()
            apart = second[both[0]] - second[both[1]] - scale * (first[both[0]] - first[both[1]])
            squares.append(apart**2 / 2 / (1 + scale**2))
    if squares:
        return math.sqrt(np.mean(squares))
    total, df = 0.0, 0
    for name in learners:
        table = runs.beside(name, task, "validation")
        table = table[table.max(axis=1) < frozen]
        if len(table):
            rest = table.sub(table.mean(axis=1), axis=0) - (table.mean(axis=0) - table.to_numpy().mean())
            total, df = total + float((rest.to_numpy() ** 2).sum()), df + (len(table) - 1) * (table.shape[1] - 1)
    return math.sqrt(total / df)


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
    runs: Runs, name: str, task: str, start: Start, repeats: int, rng: np.random.Generator
) -> Counter[int]:
    """The share of the repetitions of the search that choose each place."""
    frozen, noise = runs.frozen(task)["validation"], noise_of(runs, task)
    first = runs.rung(name, task, 1)["validation"].replace(math.inf, np.nan).dropna()
    reported = runs.reported(name, task)["validation"].replace(math.inf, np.nan).dropna()
    second = runs.rung(name, task, 2)["validation"]
    gains = {1: frozen - first.min(), 2: frozen - (second.min() if len(second) else reported.mean())}
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
    for metric in ("out_of_domain", "forgetting"):
        own = _line(runs, name, task, metric)
        if own is None:  # the root mean square of the others' slopes, with the sign of their mean
            lines = [line for other in runs.contestants if (line := _line(runs, other, task, metric)) is not None]
            slopes = np.array([slope for slope, _, _ in lines])
            slope = math.copysign(math.sqrt((slopes**2).mean()), slopes.mean())
            own = slope, math.log10(runs.rate(name, task)), float(np.mean([reach for _, _, reach in lines]))
        slope, centre, reach = own
        responses[metric] = slope * np.clip(np.log10(rates), centre - reach, centre + reach)
    ends = {metric: float(values[-1]) for metric, values in responses.items()}
    return Spread(shares, {metric: values[:-1] for metric, values in responses.items()}, ends)


def _line(runs: Runs, name: str, task: str, metric: str) -> tuple[float, float, float] | None:
    """The slope of a metric over rates, their centre and how far from it the line goes: at full length, on a log scale."""
    values = runs.beside(name, task, PART[metric])
    if values.empty:
        second = runs.rung(name, task, 2)
        values = second[second["status"] == "ok"][[PART[metric]]]
    by_rate = values.mean(axis=1).dropna()
    if len(by_rate) < 2:
        return None
    x = np.log10(by_rate.index.to_numpy(float))
    return float(np.polyfit(x, by_rate, 1)[0]), float(x.mean()), float(np.ptp(x)) / 2 + 0.5


def repeat_all(
    runs: Runs, starts: Mapping[str, Start], repeats: int, rng: np.random.Generator
) -> dict[tuple[str, str], Spread]:
    """The spread of every contest."""
    return {
        (name, task): spread_of(runs, name, task, chosen_again(runs, name, task, starts[name], repeats, rng))
        for name in runs.contestants
        for task in TASKS
        if name != FROZEN
    }
