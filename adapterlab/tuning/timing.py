"""Times of a study's contestants on this machine, taken on all workers at once.

>>> PROBED_ROWS, SLOW_STEP
(8, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from adapterlab.lab.run.capacity import Capacity, measure_capacity, probe
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.progress import Cost
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.score import ANSWERED
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.tasks.base import Part
from adapterlab.tuning.clock import Clock
from adapterlab.tuning.row_lengths import RowLengths
from adapterlab.tuning.workers import Workers

PROBED_ROWS = 8
"""Rows scored to time the scoring."""
SLOW_STEP, MANY_STEPS = 1.0, 4
"""Seconds of a step above which one step is timed of each contestant, and the number of steps otherwise."""


@dataclass(frozen=True)
class Timing:
    """Times the contestants of a study on all workers at once, as they will run."""

    prepared: PreparedStudy
    contests: Sequence[Contest]
    lengths: RowLengths
    pool: Workers

    def token(self) -> float:
        """Return the seconds to score one token."""
        frozen = replace(probe(self._frozen, 0), parts=(Part.VALIDATION.value,), metric="")
        rows = {}
        for count in (2, PROBED_ROWS):  # what is slow only the first time comes first
            rows = self._on_all(replace(frozen, windows=count))
        scored = float(self.lengths.parts[Part.VALIDATION][:PROBED_ROWS].sum())
        return max(outcome.scoring_seconds for outcome in rows.values()) / scored

    @property
    def answers(self) -> int:
        """Number of parts whose answers are generated and scored; 0 for a task without a metric."""
        return sum(part in self._frozen.parts for part in ANSWERED) if self._frozen.metric else 0

    def answer(self) -> float:
        """Return the seconds to generate one answer; the untrained model's are seldom shorter than a trained one's."""
        few = replace(probe(self._frozen, 0), parts=(Part.TEST.value,), windows=1, metric_rows=PROBED_ROWS)
        return max(outcome.generating_seconds for outcome in self._on_all(few).values()) / PROBED_ROWS

    def first_step(self) -> float:
        """Return the seconds of the first step of the reference; infinite if it does not fit in memory."""
        trial = probe(self._trials()[self.prepared.study.reference], 1)
        return max(self._per_step(trial, outcome) for trial, outcome in self._on_all(trial).items())

    def capacity(self, steps: int, watch: Callable[[str], None]) -> Capacity:
        """Return the settings with which the contestants fit in memory, and their costs.

        Args:
            steps: Steps timed of each.
            watch: Called with what is being done.
        """

        def run(trials: Mapping[str, Trial], checkpointing: bool) -> Mapping[str, Outcome]:
            words = "a step" if steps == 1 else f"{steps} steps"
            watch(f"timing {words} of each contestant")
            limits = self._limits.model_copy(update={"checkpointing": checkpointing})
            done = self.pool.run(limits, self._resolved(limits), list(trials.values()))
            return {name: self._scaled(trial, done[trial].outcome) for name, trial in trials.items()}

        return measure_capacity({name: probe(trial, steps) for name, trial in self._trials().items()}, run)

    def clock(self, costs: Mapping[str, Cost], token: float, answer: float) -> Clock:
        """Return the clock of the study.

        Args:
            costs: By contestant, the cost of its training.
            token: Seconds to score one token.
            answer: Seconds to generate one answer.
        """
        crew = crews(self._limits, self.prepared.resolved.worker_config())
        known = [contest for contest in self.contests if contest.contestant in {FROZEN, *costs}]
        return Clock(known, costs, token, self.lengths, len(crew), answer * self.answers)

    @property
    def _frozen(self) -> Trial:
        return next(contest for contest in self.contests if contest.contestant == FROZEN).frozen_trial()

    @property
    def _limits(self) -> Limits:
        return self.prepared.study.limits

    def _resolved(self, limits: Limits) -> ResolvedStudy:
        return replace(self.prepared.resolved, study=self.prepared.study.model_copy(update={"limits": limits}))

    def _trials(self) -> dict[str, Trial]:
        """Return a trial of each contestant, at the main cell."""
        trained = [contest for contest in self.contests if contest.adapter is not None]
        return {contest.contestant: contest.trial(contest.start, 0, 1, reported=False) for contest in trained}

    def _on_all(self, trial: Trial) -> dict[Trial, Outcome]:
        """Run a trial on each worker at the same time, with different seeds."""
        crew = len(crews(self._limits, self.prepared.resolved.worker_config()))
        trials = [replace(trial, seed=seed) for seed in range(crew)]
        done = self.pool.run(self._limits, self.prepared.resolved, trials)
        return {trial: done[trial].outcome for trial in trials}

    def _per_step(self, trial: Trial, outcome: Outcome) -> float:
        return self._scaled(trial, outcome).seconds / trial.steps if outcome.status != "failed" else math.inf

    def _scaled(self, trial: Trial, outcome: Outcome) -> Outcome:
        """Return the outcome with the time that batches of average size would have taken."""
        timed = self.lengths.trained(trial.batch, trial.steps, trial.seed)
        return replace(outcome, seconds=outcome.seconds * self.lengths.trained(trial.batch) / timed)
