"""Effects, ranks, the front and the rubric's figures, from the table of runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property

import numpy as np
import pandas as pd
from scipy import stats

from tests.report.recomputed.runs import FROZEN, REFERENCE, REGRET_SEEDS, REPORT_SEEDS, TASKS, Runs
from tests.report.recomputed.search import Spread, place_of, rate_at
from tests.report.recomputed.statistics import (
    Estimate,
    Prior,
    cochran,
    holm,
    random_effects,
    row_part,
    satterthwaite,
)

SELECTION_DF = 5
UNRANKED = "full_ft"
MATCHED = {"base": "forgetting", "ood": "out_of_domain"}
Way = tuple[str, str]
"""A part and the way back to an equal gain on the task."""
Contrast = Mapping[tuple[str, str], float]
"""By contestant and metric, the weight; losses count negatively, so that positive is better."""


def versus(a: str, b: str, metric: str = "in_domain") -> Contrast:
    """The difference of two contestants in a loss."""
    return {(a, metric): -1.0, (b, metric): 1.0}


def share_beyond(own: tuple[str, str], other: tuple[str, str], share: float) -> Contrast:
    """A gain less a share of another."""
    total: dict[tuple[str, str], float] = {own: -1.0, (FROZEN, own[1]): 1.0}
    for key, weight in ((other, share), ((FROZEN, other[1]), -share)):
        total[key] = total.get(key, 0.0) + weight
    return total


class Recomputed:
    """The numbers of the report.

    Args:
        runs: The trials.
        spreads: By contestant and task, the rates that a repeated search chooses.
        sigmas: Monte Carlo errors that are added to each variance of the selection.
    """

    def __init__(self, runs: Runs, spreads: Mapping[tuple[str, str], Spread], sigmas: float = 0.0) -> None:
        self.runs, self.spreads, self.sigmas = runs, spreads, sigmas
        self.names = runs.contestants
        self.ranked = [name for name in self.names if name != UNRANKED]

    def _difference(self, a: str, b: str, metric: str | Way, task: str) -> pd.Series:
        if isinstance(metric, tuple):
            return self.runs.kept(a, b, task, *metric)
        return (self.runs.values(b, task, metric) - self.runs.values(a, task, metric)).dropna()

    @cache  # noqa: B019
    def _prior(self, metric: str | Way) -> Prior:
        """The prior of a metric, from the pairs of contestants that have two seeds or more."""
        variances, df, most = {}, {}, {}
        for task in TASKS:
            pairs = {p: self._difference(*p, metric, task) for p in itertools.combinations(self.names, 2)}
            several = [d for d in pairs.values() if len(d) > 1]
            variances[task] = np.array([d.var(ddof=1) for d in several])
            df[task] = np.array([len(d) - 1 for d in several])
            counts = [max(len(d) for pair, d in pairs.items() if name in pair) - 1 for name in self.names]
            most[task] = sum(counts) - max(counts)
        return Prior.of(variances, df, most)

    def contrast_by_seed(self, contrast: Contrast, task: str) -> pd.Series:
        """The contrast by seed, of the seeds that all of its contestants have."""
        trained = {name for name, _ in contrast if name != FROZEN}
        seeds = sorted(
            set.intersection(*(set(self.runs.values(n, task, m).index) for n, m in contrast if n in trained))
        )
        total = pd.Series(0.0, index=seeds)
        for (name, metric), weight in contrast.items():
            own = self.runs.values(name, task, metric)
            total = total + weight * (own.iloc[0] if name == FROZEN else own[seeds])
        return total

    def _parts(self, contrast: Contrast, task: str) -> tuple[float, int, list[tuple[float, float]]]:
        """The mean on a task, the number of seeds, and the parts of its variance with their degrees of freedom."""
        d = self.contrast_by_seed(contrast, task)
        names = [name for name, _ in contrast if name != FROZEN]
        metrics = sorted({metric for _, metric in contrast})
        plain = len(contrast) == 2 and len(set(names)) == 2 and len(metrics) == 1
        own = float(d.var(ddof=1)), len(d) - 1
        variance, df = self._prior(metrics[0]).shrink(task, *own) if plain else own
        parts = [(variance / len(d), df)]
        for name in dict.fromkeys(names):
            weights = {metric: weight for (who, metric), weight in contrast.items() if who == name}
            parts.append((self.spreads[name, task].variance(weights, self.sigmas), SELECTION_DF))
        for metric in metrics:
            terms = {name: weight for (name, of), weight in contrast.items() if of == metric}
            tables = {name: self.runs.rows(name, task, metric) for name in terms}
            seeds = [seed for seed in d.index if all(seed in t for n, t in tables.items() if n != FROZEN)]
            table = [sum(w * tables[n][0 if n == FROZEN else seed] for n, w in terms.items()) for seed in seeds]
            parts.append(row_part(np.array(table)))
        return float(d.mean()), len(d), parts

    def estimate(self, contrast: Contrast, tasks: Sequence[str] = TASKS) -> Estimate:
        """The mean over tasks with equal weights."""
        return _average([self._parts(contrast, task) for task in tasks])

    def gain(self, name: str, metric: str = "in_domain") -> Estimate:
        """The improvement over the frozen model."""
        return self.estimate(versus(name, FROZEN, metric))

    def forgetting(self, name: str) -> Estimate:
        """The increase of the loss on the base domain."""
        return self.estimate({(name, "forgetting"): 1.0})

    def by_task(self, contrast: Contrast) -> list[Estimate]:
        """The contrast on each task."""
        return [self.estimate(contrast, [task]) for task in TASKS]

    def kept(self, name: str, tasks: Sequence[str] = TASKS, part: str = "base", along: str = "strength") -> Estimate:
        """The rise of another loss under the reference less that under a contestant, at equal learning."""
        found = []
        for task in tasks:
            d = self.runs.kept(name, REFERENCE, task, part, along)
            variance, df = self._prior((part, along)).shrink(task, float(d.var(ddof=1)), len(d) - 1)
            chosen = [
                (self._moved(*pair, task, part, along), SELECTION_DF) for pair in ((name, REFERENCE), (REFERENCE, name))
            ]
            found.append((float(d.mean()), len(d), [(variance / len(d), df), *chosen]))
        return _average(found)

    def _moved(self, name: str, other: str, task: str, part: str, along: str) -> float:
        """The variance of the difference at equal learning over the rates that another search would choose for `name`."""
        spread, metric = self.spreads[name, task], MATCHED[part]
        if metric not in spread.responses:
            return 0.0
        gains = spread.chosen["in_domain"] - spread.responses["in_domain"]
        rises = spread.responses[metric] - spread.chosen[metric]
        values = [
            self.runs.kept(name, other, task, part, along, move).mean() for move in zip(gains, rises, strict=True)
        ]
        return spread.variance_of(np.array(values), self.sigmas)

    @cached_property
    def others(self) -> list[str]:
        """All but the reference."""
        return [name for name in self.names if name != REFERENCE]

    @cached_property
    def pair_p(self) -> dict[frozenset[str], float]:
        """Adjusted p-values of all pairs of ranked contestants."""
        pairs = {frozenset(p): self.estimate(versus(*p)).p for p in itertools.combinations(self.ranked, 2)}
        return holm(pairs)

    @cached_property
    def kept_p(self) -> dict[str, float]:
        """Adjusted p-values of forgetting at equal learning."""
        return holm({name: self.kept(name).p for name in self.others if name != UNRANKED})

    @cached_property
    def uneven(self) -> dict[str, float]:
        """P-values of equal differences from the reference on all tasks."""
        return {name: cochran(self.by_task(versus(name, REFERENCE))) for name in self.others}

    @cached_property
    def kept_uneven(self) -> dict[str, float]:
        """The same of forgetting at equal learning."""
        return {name: cochran([self.kept(name, [task]) for task in TASKS]) for name in self.others}

    def across(self, name: str) -> tuple[Estimate, float]:
        """The difference from the reference on tasks like these, and its spread between tasks."""
        return random_effects(self.by_task(versus(name, REFERENCE)))

    def regret(self, name: str) -> tuple[float, float]:
        """The regret over the tasks and its standard error: the neighbour is picked on one seed, compared on the other."""
        means, variances = [], []
        for task in TASKS:
            runs = self.runs.of(name, task, REGRET_SEEDS).pivot(index="seed", columns="lr", values="validation")
            rate = self.runs.rate(name, task)
            runs = runs[[rate, *(rate_at(place_of(rate) + step) for step in (-1, 1))]]
            differences = []
            for seed in REGRET_SEEDS:
                picked = runs.drop(index=seed).mean().idxmin()
                differences.append(runs.loc[seed, rate] - runs.loc[seed, picked])
            means.append(np.mean(differences))
            variances.append(np.var(differences, ddof=1) / len(differences))
        return float(np.mean(means)), math.sqrt(sum(variances)) / len(TASKS)

    @cached_property
    def gains(self) -> dict[str, dict[str, pd.Series]]:
        """By contestant and task, the in-domain gain by seed."""
        return {n: {t: self.contrast_by_seed(versus(n, FROZEN), t) for t in TASKS} for n in self.names}

    def ranks(self, draws: int, rng: np.random.Generator) -> pd.DataFrame:
        """The rank of each contestant when tasks, and seeds within them, are drawn again; the same ones for all."""
        table = np.array([[self.gains[name][task][list(REPORT_SEEDS)] for task in TASKS] for name in self.names])
        tasks = rng.integers(len(TASKS), size=(draws, len(TASKS), 1))
        seeds = rng.integers(len(REPORT_SEEDS), size=(draws, len(TASKS), len(REPORT_SEEDS)))
        total = table[:, tasks, seeds].mean(axis=(2, 3)).T
        return pd.DataFrame(stats.rankdata(-total, axis=1), columns=self.names)

    def concordance(self) -> tuple[float, float]:
        """Kendall's W of the tasks' orders, and the p-value of Friedman's chi-squared."""
        table = np.array([[self.gains[name][task].mean() for name in self.names] for task in TASKS])
        sums = stats.rankdata(table, axis=1).sum(axis=0)
        m, n = table.shape
        w = 12 * ((sums - sums.mean()) ** 2).sum() / (m**2 * (n**3 - n))
        return float(w), float(stats.chi2.sf(m * (n - 1) * w, n - 1))

    @cached_property
    def plane(self) -> dict[str, dict[int, pd.DataFrame]]:
        """By contestant and seed, gain and forgetting by strength, means over tasks; of seeds that all have."""
        paths, found = self.runs.paths, {}
        seeds = [s for s in REPORT_SEEDS if all((n, t, s) in paths for n in self.names for t in TASKS)]
        for name in self.names:
            found[name] = {}
            for seed in seeds:
                points = []
                for task in TASKS:
                    path, start = paths[name, task, seed], self.runs.frozen(task)
                    points.append(
                        pd.DataFrame({"gain": start["test"] - path["test"], "lost": path["base"] - start["base"]})
                    )
                found[name][seed] = sum(points) / len(points)
        return found

    def rewound(self, name: str) -> tuple[Estimate, Estimate]:
        """Gain and forgetting at the strength with the smallest validation loss, without the part of other rows."""
        points, learned, lost = self.runs.operating_points(name), [], []
        for task in TASKS:
            start, own = self.runs.frozen(task), points.loc[task]
            gain, forgot = start["test"] - own["test"], own["base"] - start["base"]
            selected = self.spreads[name, task].variance({"in_domain": 1.0}, self.sigmas), SELECTION_DF
            learned.append((gain.mean(), len(gain), [(gain.var(ddof=1) / len(gain), len(gain) - 1), selected]))
            lost.append((forgot.mean(), len(forgot), [(forgot.var(ddof=1) / len(forgot), len(forgot) - 1)]))
        return _average(learned), _average(lost)

    def ends(self) -> pd.DataFrame:
        """By contestant, the mean gain and forgetting at full strength."""
        return pd.DataFrame(
            {name: np.mean([p.loc[1.0] for p in by.values()], axis=0) for name, by in self.plane.items()},
            index=["gain", "lost"],
        ).T

    def front_shares(self) -> dict[str, float]:
        """The share of all resamples of the seeds in which each contestant is on the front."""
        seeds = list(next(iter(self.plane.values())))
        counts = dict.fromkeys(self.names, 0)
        drawn = list(itertools.product(seeds, repeat=len(seeds)))
        for draw in drawn:
            points = {n: np.mean([self.plane[n][s].loc[1.0] for s in draw], axis=0) for n in self.names}
            for name in self.names:
                counts[name] += is_on_front(name, points)
        return {name: count / len(drawn) for name, count in counts.items()}

    def areas(self) -> tuple[float, dict[str, tuple[float, float, float]]]:
        """The forgetting of the reference point, and by contestant the area that its paths cover: mean and limits."""
        worst = max(p["lost"].max() for by in self.plane.values() for p in by.values())
        corner = max(0.01, math.ceil(round(20 * worst, 6)) / 20)
        found = {}
        for name, by_seed in self.plane.items():
            areas = [_area(path, corner) for path in by_seed.values()]
            # Of the resamples of three values, 1 of 27 repeats the smallest one: more than 2.5 %, so it is the limit.
            found[name] = float(np.mean(areas)), min(areas), max(areas)
        return corner, found

    def reached(self, name: str) -> float:
        """Steps to the reference's score: the mean over seeds and tasks."""
        return float(np.mean([self.runs.values(name, task, "steps_to_reference").mean() for task in TASKS]))


def is_on_front(name: str, points: Mapping[str, np.ndarray]) -> bool:
    """True if no other learns at least as much and forgets at most as much, one of them strictly."""
    gain, lost = points[name]
    return not any(g >= gain and f <= lost and (g > gain or f < lost) for g, f in points.values())


def _area(path: pd.DataFrame, corner: float) -> float:
    """Area under the steps of the points that learn something and forget less than the corner."""
    total, floor = 0.0, 0.0
    good = path[(path["gain"] > 0) & (path["lost"] < corner)].sort_values("lost")
    for _, point in good.iterrows():
        if point["gain"] > floor:
            total += (point["gain"] - floor) * (corner - point["lost"])
            floor = point["gain"]
    return total


def _average(found: Sequence[tuple[float, int, Sequence[tuple[float, float]]]]) -> Estimate:
    share = len(found) ** -2
    parts = [(share * variance, df) for _, _, by in found for variance, df in by]
    return satterthwaite(float(np.mean([mean for mean, _, _ in found])), parts, sum(n for _, n, _ in found))
