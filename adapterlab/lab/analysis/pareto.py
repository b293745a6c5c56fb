"""The plane of learning and forgetting: who lies on the frontier, how sure that is, and how much each method covers.

A method covers more than its end point: turned down by `strength`, a trained adapter reaches every point of its path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from adapterlab.lab.analysis.metrics import Results, path_of
from adapterlab.lab.analysis.statistics import Interval, bootstrap
from adapterlab.tasks.base import Part

Point = tuple[float, float]
"""Nats per byte learned in-domain and forgotten on the base's own domain."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Covered:
    """One contestant on the plane."""

    contestant: str
    point: Point
    """Where it ends: the mean over tasks and seeds."""
    on_front: bool
    """Whether no other contestant learns as much and forgets as little."""
    share: float
    """Share of resamples of the seeds in which that is so."""
    hypervolume: Interval
    """Of its whole path, up to the reference point: mean over seeds, by bootstrap over seeds."""
    path: tuple[tuple[float, float, float], ...]
    """Strength, learned and forgotten there: means over tasks and seeds; empty if no path was scored."""


@dataclass(frozen=True)
class Frontier:
    """The plane of a study."""

    reference: Point
    """What the hypervolume is measured up to: nothing learned, and as much forgotten as the worst forgets."""
    covered: tuple[Covered, ...]
    """By hypervolume, most first."""
    unit: str
    """Of what is learned."""

    @property
    def front(self) -> list[Point]:
        """The points of the frontier, from the least learned."""
        return sorted(c.point for c in self.covered if c.on_front)


def frontier(results: Results, seed: int = 0) -> Frontier:
    """Place every contestant that was reported on every task with a seed in common."""
    paths = {name: found for name in results.contestants if (found := _paths(results, name))}
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in paths.values()))) if paths else []
    ends = {name: {s: _end(by_seed[s]) for s in seeds} for name, by_seed in paths.items()}
    if not seeds:
        return Frontier((0.0, 0.0), (), results.unit)
    worst = max(max(forgot for path in by_seed.values() for _, forgot in path.values()) for by_seed in paths.values())
    reference = (0.0, max(0.01, math.ceil(round(20 * worst, 6)) / 20))
    points = {name: _mean(list(by_seed.values())) for name, by_seed in ends.items()}
    first = dict(zip(points, on_front(list(points.values())), strict=True))
    shares = _shares(ends, seeds, seed)
    covered = [
        Covered(
            name,
            points[name],
            first[name],
            shares[name],
            bootstrap([hypervolume(list(by_seed[s].values()), reference) for s in seeds]),
            _mean_path([by_seed[s] for s in seeds]),
        )
        for name, by_seed in paths.items()
    ]
    return Frontier(reference, tuple(sorted(covered, key=lambda c: -c.hypervolume.value)), results.unit)


def on_front(points: Sequence[Point]) -> list[bool]:
    """Which points no other betters in both: more learned, less forgotten. Of equal points all are on the front."""
    if not points:
        return []
    table = np.array(points, dtype=float)
    return [bool(b) for b in moocore.is_nondominated(table, maximise=[True, False], keep_weakly=True)]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The area that the points cover up to `reference`, in squared nats per byte; what lies beyond it covers nothing."""
    table = np.array(points, dtype=float).reshape(-1, 2)
    return float(moocore.hypervolume(table, ref=np.array(reference), maximise=[True, False]))


def _paths(results: Results, contestant: str) -> dict[int, dict[float, Point]]:
    """By seed and strength, the point on the plane, a mean over tasks; only seeds that every task has."""
    by_task: list[dict[int, dict[float, Point]]] = []
    for task in results.study.tasks:
        contest, frozen = results.contests.get((contestant, task)), results.frozen(task).scores
        if contest is None or not {Part.TEST, Part.BASE} <= set(frozen):
            return {}
        start, kept = frozen[Part.TEST][0], frozen[Part.BASE][0]
        by_task.append(
            {
                seed: {
                    strength: (start - scores[Part.TEST][0], scores[Part.BASE][0] - kept)
                    for strength, scores in path_of(results, contest, seed).items()
                }
                for seed, (_, outcome) in contest.reported.items()
                if outcome.status == "ok"
            }
        )
    common = sorted(set.intersection(*(set(found) for found in by_task)))
    return {
        seed: {
            strength: _mean([found[seed][strength] for found in by_task])
            for strength in by_task[0][seed]
            if all(strength in found[seed] for found in by_task)
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
    """In what share of resamples of the seeds, the same for all, each contestant is on the front."""
    table = np.array([[ends[name][s] for s in seeds] for name in ends])
    rng = np.random.default_rng(seed)
    drawn = table[:, rng.integers(len(seeds), size=(RESAMPLES, len(seeds)))].mean(axis=2)
    learned, forgot = drawn[..., 0], drawn[..., 1]
    # [one, other, resample]: other is nowhere worse and somewhere better than one.
    nowhere_worse = (learned[None] >= learned[:, None]) & (forgot[None] <= forgot[:, None])
    better = (learned[None] > learned[:, None]) | (forgot[None] < forgot[:, None])
    shares = 1 - (nowhere_worse & better).any(axis=1).mean(axis=1)
    return dict(zip(ends, map(float, shares), strict=True))
