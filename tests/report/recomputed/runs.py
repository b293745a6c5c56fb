"""The recorded trials as a table, and the metrics of each run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

FROZEN = "frozen"
LOSSES = ("validation", "test", "ood", "base")
PART = {"in_domain": "test", "out_of_domain": "ood", "forgetting": "base"}
TUNING_SEEDS, REGRET_SEEDS, REPORT_SEEDS = (101, 102), (201, 202), (1, 2, 3)
STEPS, REFERENCE, SMALLEST, BUDGET = 40, "lora", 0.005, 160_000
TASKS = ("restyle", "prose")


class Runs:
    """The trials of the quick study."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.frame = pd.DataFrame([_flat(row) for row in rows])
        self.contestants = [name for name in self.frame["contestant"].unique() if name != FROZEN]

    def of(self, contestant: str, task: str | Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
        """The runs of a contestant on one task or several with some seeds."""
        frame, tasks = self.frame, [task] if isinstance(task, str) else task
        chosen = (frame["contestant"] == contestant) & frame["task"].isin(tasks) & frame["seed"].isin(seeds)
        return frame[chosen]

    def rung(self, contestant: str, task: str, number: int) -> pd.DataFrame:
        """The runs of one rung of the search, by rate."""
        return self.of(contestant, task, TUNING_SEEDS[number - 1 : number]).set_index("lr").sort_index()

    def reported(self, contestant: str, task: str) -> pd.DataFrame:
        """The reported runs, by seed."""
        return self.of(contestant, task, REPORT_SEEDS).set_index("seed").sort_index()

    def frozen(self, task: str) -> pd.Series:
        """The scores of the model before training."""
        return self.of(FROZEN, task, (0,)).iloc[0]

    def rate(self, contestant: str, task: str) -> float:
        """The rate of the reported runs."""
        (rate,) = set(self.reported(contestant, task)["lr"])
        return float(rate)

    def beside(self, contestant: str, task: str, column: str) -> pd.DataFrame:
        """A column of the runs that measure the regret, by rate and seed."""
        return self.of(contestant, task, REGRET_SEEDS).pivot(index="lr", columns="seed", values=column)

    def flag(self, contestant: str, task: str) -> str:
        """`edge` or `wide` for a rate that was not bracketed closely."""
        tried = {*self.rung(contestant, task, 1).index, *self.rung(contestant, task, 2).index}
        apart = np.log10(sorted(tried)) - np.log10(self.rate(contestant, task))
        below, above = -apart[apart < -0.01], apart[apart > 0.01]
        if not len(below) or not len(above):
            return "edge"
        return "wide" if max(below.min(), above.min()) > 0.6 else ""

    def tuning_steps(self, contestant: str) -> int:
        """Steps of both rungs on all tasks."""
        own = self.frame[(self.frame["contestant"] == contestant) & self.frame["seed"].isin(TUNING_SEEDS)]
        return int(own["steps"].sum())

    def losses(self, contestant: str, task: str, part: str) -> pd.Series:
        """The loss on a part by seed; on the task itself a diverged run counts as the frozen model."""
        if contestant == FROZEN:
            return pd.Series({0: self.frozen(task)[part]})
        runs = self.reported(contestant, task)
        found = runs[part].where(runs["status"] == "ok")
        return (found.fillna(self.frozen(task)[part]) if part in ("test", "ood") else found).dropna()

    @cache  # noqa: B019
    def values(self, contestant: str, task: str, metric: str) -> pd.Series:
        """A metric by seed."""
        if metric in PART:
            found = self.losses(contestant, task, PART[metric])
            return found - self.frozen(task)["base"] if metric == "forgetting" else found
        if metric == "steps_to_reference":
            return self._steps_to_reference(contestant, task)
        raise KeyError(metric)

    @cache  # noqa: B019
    def rows(self, contestant: str, task: str, metric: str) -> dict[int, np.ndarray]:
        """The losses of the rows that a metric is a mean over, by seed; of forgetting, their increase."""
        part, before = PART[metric], np.array(self.frozen(task)["rows"][PART[metric]])
        if contestant == FROZEN:
            return {0: before}
        found = {}
        for seed, run in self.reported(contestant, task).iterrows():
            if run["status"] == "ok" or metric != "forgetting":
                losses = np.array(run["rows"][part]) if run["status"] == "ok" else before
                found[seed] = losses - before if metric == "forgetting" else losses
        return found

    def _steps_to_reference(self, contestant: str, task: str) -> pd.Series:
        """Steps at which the validation loss, drawn as straight lines, reaches the reference's final one; all if never."""
        goals, start = self.reported(REFERENCE, task)["validation"], self.frozen(task)["validation"]
        found = {}
        for seed, run in self.reported(contestant, task).iterrows():
            if run["status"] != "ok" or not np.isfinite(goals[seed]):
                continue
            steps, losses = np.array([(0, start), *run["curve"], (STEPS, run["validation"])]).T
            fine = np.linspace(0, STEPS, 400_001)
            reached = np.interp(fine, steps, losses) <= goals[seed]
            found[seed] = fine[reached.argmax()] if reached.any() else STEPS
        return pd.Series(found)

    @cached_property
    def paths(self) -> dict[tuple[str, str, int], pd.DataFrame]:
        """By contestant, task and seed, the losses by strength, from 0 (the frozen model) to the largest.

        Between the ends a path is scored on the first rows alone. How far it is from the line between strengths 0 and 1 is
        taken from those rows and added to the line of all rows.
        """
        found = {}
        for name, task in itertools.product(self.contestants, TASKS):
            frozen = self.frozen(task)
            for seed, run in self.reported(name, task).iterrows():
                if run["status"] != "ok":
                    continue
                few = pd.DataFrame({**frozen["path"], **run["path"]}).T.sort_index()
                whole = pd.DataFrame({0.0: frozen[few.columns], 1.0: run[few.columns]}).T.astype(float)
                found[name, task, seed] = few + _line(whole, few.index) - _line(few, few.index)
        return found

    def operating_points(self, contestant: str) -> pd.DataFrame:
        """The strength with the smallest validation loss by task and seed, with the losses there."""
        chosen = {}
        for (name, task, seed), path in self.paths.items():
            if name == contestant:
                strength = path["validation"].idxmin()
                chosen[task, seed] = {"strength": strength, **path.loc[strength]}
        return pd.DataFrame(chosen).T

    @cache  # noqa: B019
    def way(self, name: str, task: str, seed: int, part: str, along: str) -> Way | None:
        """The gain and the rise of the loss on a part, from the frozen model to a run's end; None if nothing between."""
        start, run = self.frozen(task), self.reported(name, task).loc[seed]
        if run["status"] != "ok":
            return None
        if along == "strength":
            points = self.paths[name, task, seed].loc[:1.0]
        else:
            few = {0.0: frozen_few} if (frozen_few := start["path"].get(0.0)) else {}
            few |= {step / STEPS: scores for step, scores in run["along"]} | {1.0: run["path"].get(1.0, {})}
            points = pd.DataFrame(few).T.sort_index()
            points = points.drop(columns=["validation"], errors="ignore")
            if part in points and "test" in points and len(points) > 2:
                whole = pd.DataFrame({0.0: start[points.columns], 1.0: run[points.columns]}).T.astype(float)
                points = points + _line(whole, points.index) - _line(points, points.index)
        if part not in points or points[part].count() < 3:
            return None
        return Way(
            points.index.to_numpy(), start["test"] - points["test"].to_numpy(), points[part].to_numpy() - start[part]
        )

    def kept(
        self, a: str, b: str, task: str, part: str, along: str, moved: tuple[float, float] = (0.0, 0.0)
    ) -> pd.Series:
        """The rise of `b`'s loss less that of `a` by seed, both at the smaller one of their gains.

        `moved` says how much more `a` would have gained, and how much more its loss would have risen.
        """
        found = {}
        for seed in self.reported(a, task).index.intersection(self.reported(b, task).index):
            mine, theirs = (self.way(name, task, seed, part, along) for name in (a, b))
            if mine is None or theirs is None:
                continue
            mine = Way(mine.at, mine.gain + mine.at * moved[0], mine.rise + mine.at * moved[1])
            gain = min(mine.gain[-1], theirs.gain[-1])
            if gain > 0:
                found[seed] = theirs.rise_at(gain) - mine.rise_at(gain)
        return pd.Series(found, dtype=float)


class Way(NamedTuple):
    """Positions from 0 to 1, the gain at each, and how much another loss has risen."""

    at: np.ndarray
    gain: np.ndarray
    rise: np.ndarray

    def rise_at(self, gain: float) -> float:
        """The rise at the first position with a gain, by cubic splines."""
        learned = CubicSpline(self.at, self.gain)
        grid = np.linspace(0, 1, 1001)
        above = learned(grid) >= gain
        after = above.argmax() if above.any() else len(grid) - 1
        below = grid[after - 1]
        crossed = above.any() and learned(grid[after]) > gain
        where = brentq(lambda x: learned(x) - gain, below, grid[after], xtol=1e-14) if crossed else grid[after]
        return float(CubicSpline(self.at, self.rise)(where))


def _line(ends: pd.DataFrame, strengths: pd.Index) -> pd.DataFrame:
    low, high = (ends.loc[s].to_numpy() for s in (0.0, 1.0))
    return pd.DataFrame([low + s * (high - low) for s in strengths], index=strengths, columns=ends.columns)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    trial, outcome = row["trial"], row["outcome"]
    scores = {part: outcome["scores"][part][0] for part in LOSSES if part in outcome["scores"]}
    if outcome["status"] != "ok":
        scores["validation"] = np.inf
    path, along = (
        {place: {part: pair[0] for part, pair in found.items()} for place, found in outcome.get(key, [])}
        for key in ("path", "along")
    )
    return {
        "contestant": row["contestant"],
        **{key: trial[key] for key in ("task", "lr", "seed", "steps")},
        **{key: outcome[key] for key in ("status", "parameters", "seconds", "curve", "rows")},
        **scores,
        "path": path,
        "along": list(along.items()),
    }
