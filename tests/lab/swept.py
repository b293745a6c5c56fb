"""Swept studies whose outcomes a test makes up: the gain of each run follows from its contestant, its cell and its rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import by_cell
from adapterlab.lab.analysis.selection import ROUGH_REPLAYS
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.study.spec import Contestant, Reporting
from adapterlab.lab.study.sweep import Level, Sweep
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from tests.lab.unplayed import TUNING, prepared_of, study_of

START = 1e-2
TASKS = ("prose", "restyle")
Gain = Callable[[str, str, Mapping[str, Level]], float]
"""Gain of a contestant on a task at the levels of a cell, at its best rate."""
SHARPNESS = 0.15
"""Loss of a run a decade from its best rate, beyond that at the best one; that of the quick study."""


def swept_study(
    *names: str, seeds: tuple[int, ...] = (1, 2, 3), tasks: tuple[str, ...] = ("prose", "restyle"), **sweep: Any
):
    """A study of LoRA and others, with a sweep."""
    return study_of(
        contestants=tuple(Contestant(adapter=name, start=START) for name in names),
        tasks=tasks,
        tuning=TUNING,
        report=Reporting(seeds=seeds, windows=16, curve_every=5, smallest=0.005),
        sweep=Sweep(**sweep),
        **({"training": {"steps": sweep["steps"][-1]}} if "steps" in sweep else {}),
        **({"budget": sweep["budgets"][-1]} if "budgets" in sweep else {}),
        **({"model": sweep["models"][0]} if "models" in sweep else {}),
    )


def play_swept(
    prepared: PreparedStudy,
    gain: Gain,
    *,
    noise: float = 0.0,
    shared: float = 0.0,
    best: Callable[[str, Mapping[str, Level]], float] = lambda name, levels: START,
    rng: np.random.Generator | None = None,
) -> list[Contest]:
    """Play all contests; a run's noise is its own, what a seed does to all runs of a task together is shared.

    Contests that run the same trials get the same outcomes.
    """
    rng = rng or np.random.default_rng(0)
    known: dict[str, Outcome] = {}
    together: dict[tuple[str, int], float] = {}

    def run(contest: Contest, trial: Trial) -> Outcome:
        if trial.id not in known:
            known[trial.id] = outcome(contest, trial)
        return known[trial.id]

    def outcome(contest: Contest, trial: Trial) -> Outcome:
        name, levels = contest.contestant, contest.resolved.cell.by_factor
        if name == FROZEN:
            return Outcome("ok", dict.fromkeys(trial.parts, (1.0, 0.5)), (), 0, 0.0, 0.0)
        away = math.log10(trial.lr / best(name, levels))
        seed = together.setdefault((trial.task, trial.seed), float(rng.normal(0, shared)) if shared else 0.0)
        loss = 1 - gain(name, trial.task, levels) * (1 if trial.steps == contest.study.training.steps else 0.8)
        loss += SHARPNESS * away**2 + seed + (float(rng.normal(0, noise)) if noise else 0.0)
        rank = getattr(contest.adapter, "rank", 1)
        return Outcome("ok", dict.fromkeys(trial.parts, (loss, 0.5)), (), 100 * rank, 0.01 * trial.steps * rank, 0.5)

    return play_study(prepared.contests(), run)


def cells_of(prepared: PreparedStudy, contests: list[Contest], replays: int = ROUGH_REPLAYS) -> Cells:
    """The effects at every cell."""
    return Cells.of([Effects.of(results, replays) for results in by_cell(contests)], prepared.study.sweep)


def swept(
    names: tuple[str, ...], gain: Gain, *, sweep: Mapping[str, Any], seeds: tuple[int, ...] = (1, 2, 3), **how: Any
) -> Cells:
    """The effects at every cell of a made-up study."""
    prepared = prepared_of(swept_study(*names, seeds=seeds, **sweep))
    return cells_of(prepared, play_swept(prepared, gain, **how))
