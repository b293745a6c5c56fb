"""Analysis of the contests at one cell, on tasks with one unit of loss, computed once for all renderers.

>>> RateCurve("prose", "lora", {1e-3: 1.1, 1e-2: 1.05}, 1e-2).chosen
0.01
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from adapterlab.lab.analysis.by_task import Curve, TaskResult, results_by_task, training_curves
from adapterlab.lab.analysis.contrast import difference
from adapterlab.lab.analysis.effects import Effects, Sources
from adapterlab.lab.analysis.equal_learning import EqualLearning, compare_at_equal_learning
from adapterlab.lab.analysis.geometry import Changes, changes_of
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.pareto import ParetoFront, pareto_front
from adapterlab.lab.analysis.provenance import Provenance, provenance_of
from adapterlab.lab.analysis.rank_stability import RankStability, measure_rank_stability
from adapterlab.lab.analysis.regret import TuningRegret, tuning_regret
from adapterlab.lab.analysis.rubric import Card, grade
from adapterlab.lab.analysis.scoreboard import Scoreboard, make_scoreboard
from adapterlab.lab.ledger.origins import Origin
from adapterlab.lab.run.lr_search import Flag
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.tasks.base import Part

PARTS = (Part.VALIDATION, Part.TEST, Part.OOD, Part.BASE)
"""Parts whose losses are listed for each trial."""


@dataclass(frozen=True)
class RateCurve:
    """Validation losses of one contestant on one task in the first rung of its learning-rate search."""

    task: str
    contestant: str
    losses: Mapping[float, float]
    """By learning rate, rising; rates that diverged are left out."""
    chosen: float | None
    """Selected rate; None if every rate diverged."""
    flag: Flag = Flag.NONE
    """Reason to doubt that the selected rate is near the best one."""


@dataclass(frozen=True)
class TrialRow:
    """One trial, as the report lists it."""

    id: str
    contestant: str
    task: str
    lr: float
    seed: int
    steps: int
    status: str
    seconds: float
    losses: Mapping[str, float]
    """By part, the loss; nan for a part that was not scored."""


@dataclass(frozen=True)
class Board:
    """Analysis of the contests at one cell, on tasks with one unit of loss."""

    study: Study
    """The study at this cell, with these tasks."""
    cell: Cell
    """Levels of the factors that the study sweeps."""
    scoreboard: Scoreboard
    pareto: ParetoFront
    equal_learning: tuple[EqualLearning, ...]
    """Every other contestant against the reference at equal learning; empty if no strength path was scored."""
    ranks: RankStability
    rubric: tuple[Card, ...]
    by_task: tuple[TaskResult, ...]
    """Every contestant on every task by itself."""
    curves: tuple[Curve, ...]
    """Validation losses during training."""
    rate_curves: tuple[RateCurve, ...]
    regret: TuningRegret
    frozen: Mapping[str, float]
    """By task, the validation loss of the frozen model."""
    parts: frozenset[str]
    """Parts that the frozen model was scored on, on any of the tasks."""
    trials: tuple[TrialRow, ...]
    incidents: tuple[str, ...]
    """Trials that ran out of memory, diverged or failed, in words."""
    provenance: Provenance
    sources: Sources | None = None
    """Variance of the in-domain difference between the best two contestants, by its sources; None if there are not two, or
    it is unknown."""
    changes: Changes = field(default_factory=Changes)
    """Geometry of the trained changes of weights, for the contestants whose geometry was measured."""

    @property
    def unit(self) -> str:
        """Unit of the losses."""
        return self.scoreboard.unit

    @property
    def doubtful_rates(self) -> tuple[RateCurve, ...]:
        """Searches whose selected rate has a flag."""
        return tuple(curve for curve in self.rate_curves if curve.flag)

    @property
    def steps(self) -> int:
        """Training steps of all trials."""
        return sum(trial.steps for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Training time of all trials, in seconds of one worker."""
        return sum(trial.seconds for trial in self.trials)


def make_board(effects: Effects, model_parameters: int, origins: Sequence[Origin]) -> Board:
    """Analyse the contests at one cell.

    Args:
        effects: Effects estimated from finished contests, on tasks with one unit of loss.
        model_parameters: Number of parameters of the base model.
        origins: Environments that the trials ran in.

    Returns:
        The analysis of these contests.
    """
    results = effects.results
    frozen = {task: results.frozen(task) for task in results.study.tasks}
    scoreboard = make_scoreboard(effects)
    best = [row.contestant for row in scoreboard.ranked]
    return Board(
        results.study,
        results.resolved.cell,
        scoreboard,
        pareto_front(effects),
        compare_at_equal_learning(effects),
        measure_rank_stability(effects),
        tuple(grade(effects, model_parameters)),
        results_by_task(effects),
        training_curves(results),
        tuple(_rate_curves(results)),
        tuning_regret(results),
        {task: outcome.validation for task, outcome in frozen.items()},
        frozenset(part for outcome in frozen.values() for part in outcome.scores),
        tuple(_trials(results)),
        tuple(_incidents(results)),
        provenance_of(results, origins),
        effects.sources(difference(best[0], best[1], "in_domain")) if len(best) > 1 else None,
        changes_of(results),
    )


def _rate_curves(results: Results) -> Iterable[RateCurve]:
    for task in results.study.tasks:
        for name in results.contestants:
            contest = results.contests[name, task]
            losses = {
                lr: outcome.validation
                for lr, (_, outcome) in sorted(contest.first.items())
                if math.isfinite(outcome.validation)
            }
            yield RateCurve(task, name, losses, contest.rate, contest.search_flag)


def _trials(results: Results) -> Iterable[TrialRow]:
    for contest in results.contests.values():
        for trial, outcome in contest.runs:
            losses = {part.value: outcome.scores.get(part, (math.nan, 0))[0] for part in PARTS}
            yield TrialRow(
                trial.id,
                contest.contestant,
                trial.task,
                trial.lr,
                trial.seed,
                trial.steps,
                outcome.status,
                outcome.seconds,
                losses,
            )


def _incidents(results: Results) -> list[str]:
    counts: Counter[str] = Counter()
    for contest in results.contests.values():
        for _, outcome in contest.runs:
            if outcome.note:
                reason = "the loss diverged" if outcome.status == "diverged" else outcome.note
                counts[f"{contest.contestant}: {reason}"] += 1
    return [f"{incident} ({count} trial{'s' * (count > 1)})" for incident, count in counts.items()]
