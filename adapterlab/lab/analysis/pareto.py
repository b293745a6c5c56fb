"""Pareto front of learning against forgetting: who is on it, how certain that is, and the area that each method dominates.

A method covers more than its end point: a trained adapter reaches every point of its path when its `strength` is reduced.

>>> on_front([(0.06, 0.03), (0.05, 0.05), (0.02, 0.01)])
[True, False, True]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from adapterlab.lab.analysis.contrast import value
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results, path_of
from adapterlab.lab.statistics import Interval, Paired, bootstrap
from adapterlab.tasks.base import Part

Point = tuple[float, float]
"""In-domain gain, and forgetting, in the unit of the loss."""
RESAMPLES = 2000
"""Resamples of the seeds from which the shares on the front are estimated."""


@dataclass(frozen=True)
class OperatingPoint:
    """The strength with the smallest validation loss, and the scores there."""

    low: float
    """Smallest over seeds and tasks."""
    high: float
    """Largest over seeds and tasks."""
    learned: Paired
    """In-domain gain at that strength."""
    forgotten: Paired
    """Forgetting at that strength."""


@dataclass(frozen=True)
class ParetoEntry:
    """One contestant on the plane."""

    contestant: str
    point: Point
    """Its end point: the mean over tasks and seeds."""
    on_front: bool
    """True if no other contestant learns as much and forgets as little."""
    share: float
    """Share of resamples of the seeds in which it is on the front."""
    hypervolume: Interval
    """Area dominated by its whole path up to the reference point: mean over seeds, with a bootstrap interval."""
    path: tuple[tuple[float, float, float], ...]
    """Strength, gain and forgetting along the path: means over tasks and seeds; empty if no path was scored."""
    operating_point: OperatingPoint | None = None
    """None if no path was scored."""


@dataclass(frozen=True)
class ParetoFront:
    """The plane of learning against forgetting."""

    reference: Point
    """Corner of the hypervolume: no gain, and the forgetting of the worst run, rounded up."""
    entries: tuple[ParetoEntry, ...]
    """Entries by hypervolume, largest first."""
    unit: str
    """Unit of the gain."""

    @property
    def front(self) -> list[Point]:
        """Points on the front, by increasing gain."""
        return sorted(entry.point for entry in self.entries if entry.on_front)


def pareto_front(effects: Effects, seed: int = 0) -> ParetoFront:
    """Place the contestants on the plane, and find those on the front.

    A contestant is placed if each task has a reported run of it with the same seed.

    Args:
        effects: Effects estimated from finished contests.
        seed: Seed of the resampling.

    Returns:
        The plane with the contestants on it, without those that lack a run.
    """
    results = effects.results
    operating_points = {name: _operating_point(effects, name) for name in results.contestants}
    paths = {name: by_seed for name in results.contestants if (by_seed := _paths(results, name))}
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in paths.values()))) if paths else []
    ends = {name: {s: _end(by_seed[s]) for s in seeds} for name, by_seed in paths.items()}
    if not seeds:
        return ParetoFront((0.0, 0.0), (), results.unit)
    worst = max(max(forgot for path in by_seed.values() for _, forgot in path.values()) for by_seed in paths.values())
    reference = (0.0, max(0.01, math.ceil(round(20 * worst, 6)) / 20))
    points = {name: _mean(list(by_seed.values())) for name, by_seed in ends.items()}
    front = dict(zip(points, on_front(list(points.values())), strict=True))
    shares = _shares(ends, seeds, seed)
    entries = []
    for name, by_seed in paths.items():
        path = _mean_path([by_seed[s] for s in seeds])
        entries.append(
            ParetoEntry(
                name,
                points[name],
                front[name],
                shares[name],
                bootstrap([hypervolume(list(by_seed[s].values()), reference) for s in seeds]),
                path,
                operating_points[name] if path else None,
            )
        )
    return ParetoFront(reference, tuple(sorted(entries, key=lambda e: -e.hypervolume.value)), results.unit)


def _operating_point(effects: Effects, name: str) -> OperatingPoint | None:
    strengths = list(effects.values(name, "operating_point").values())
    if not strengths:
        return None
    return OperatingPoint(
        min(strengths),
        max(strengths),
        effects.gained(name, "in_domain_rewound"),
        effects.estimate(value(name, "forgetting_rewound")),
    )


def on_front(points: Sequence[Point]) -> list[bool]:
    """Return for each point whether no other learns at least as much and forgets less, or learns more and forgets no more.

    Args:
        points: Learned and forgotten; of equal points all are on the front.
    """
    if not points:
        return []
    table = np.array(points, dtype=float)
    return [bool(b) for b in moocore.is_nondominated(table, maximise=[True, False], keep_weakly=True)]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the area that the points dominate up to a reference point, in squared nats per byte.

    Args:
        points: Learned and forgotten; points beyond the reference dominate nothing.
        reference: The reference point.
    """
    table = np.array(points, dtype=float).reshape(-1, 2)
    return float(moocore.hypervolume(table, ref=np.array(reference), maximise=[True, False]))


def _paths(results: Results, contestant: str) -> dict[int, dict[float, Point]]:
    """Return by seed and strength the point on the plane, a mean over tasks; only seeds that every task has."""
    by_task: list[dict[int, dict[float, Point]]] = []
    for task in results.study.tasks:
        contest, frozen = results.contests.get((contestant, task)), results.frozen(task).scores
        if contest is None or not {Part.TEST, Part.BASE} <= set(frozen):
            return {}
        test_loss, base_loss = frozen[Part.TEST][0], frozen[Part.BASE][0]
        by_task.append(
            {
                seed: {
                    strength: (test_loss - scores[Part.TEST][0], scores[Part.BASE][0] - base_loss)
                    for strength, scores in path_of(results, contest, seed).items()
                }
                for seed, (_, outcome) in contest.reported.items()
                if outcome.status == "ok"
            }
        )
    common = sorted(set.intersection(*(set(by_seed) for by_seed in by_task)))
    return {
        seed: {
            strength: _mean([by_seed[seed][strength] for by_seed in by_task])
            for strength in by_task[0][seed]
            if all(strength in by_seed[seed] for by_seed in by_task)
        }
        for seed in common
    }


def _end(path: Mapping[float, Point]) -> Point:
    return path[1.0]


def _mean(points: Sequence[Point]) -> Point:
    learned, forgot = np.mean(points, axis=0)
    return float(learned), float(forgot)


def _mean_path(paths: Sequence[Mapping[float, Point]]) -> tuple[tuple[float, float, float], ...]:
    strengths = sorted(set.intersection(*(set(path) for path in paths)))
    if len(strengths) <= 2:
        return ()
    return tuple((strength, *_mean([path[strength] for path in paths])) for strength in strengths)


def _shares(ends: Mapping[str, Mapping[int, Point]], seeds: Sequence[int], seed: int) -> dict[str, float]:
    """Return the share of resamples of the seeds, the same for all contestants, in which each is on the front."""
    table = np.array([[ends[name][s] for s in seeds] for name in ends])
    rng = np.random.default_rng(seed)
    drawn = table[:, rng.integers(len(seeds), size=(RESAMPLES, len(seeds)))].mean(axis=2)
    learned, forgot = drawn[..., 0], drawn[..., 1]
    # Axes are one, other, resample: other is no worse in both and better in at least one.
    no_worse = (learned[None] >= learned[:, None]) & (forgot[None] <= forgot[:, None])
    better = (learned[None] > learned[:, None]) | (forgot[None] < forgot[:, None])
    shares = 1 - (no_worse & better).any(axis=1).mean(axis=1)
    return dict(zip(ends, map(float, shares), strict=True))
