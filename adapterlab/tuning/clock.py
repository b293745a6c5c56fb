"""Times measured on this machine, and the time that a study takes by them.

>>> Clock((), {"lora": Cost(step=0.2, attach=1.0)}, token=1e-4, lengths=RowLengths({}), workers=2).workers
2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.progress import ContestState, Cost, seconds_left
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.tuning.row_lengths import RowLengths

WRITING = 10.0
"""Seconds to analyse a study, write its report and save its winner."""


@dataclass(frozen=True)
class Clock:
    """Times measured on this machine."""

    contests: Sequence[Contest]
    """All contests of a study at each of its cells, not played."""
    costs: Mapping[str, Cost]
    """By contestant, the cost of its training."""
    token: float
    """Seconds to score one token."""
    lengths: RowLengths
    workers: int
    answers: float = 0.0
    """Seconds to generate an answer for each part whose answers are scored; 0 for a task without a metric."""

    def seconds(self, study: Study) -> float:
        """Estimate the time of a study and of its report.

        Args:
            study: The study, with any numbers of steps, seeds and rows, and some or all of the contestants.

        Returns:
            Seconds on this machine.
        """
        each = self._each(study, self.costs)
        last = study.training.steps * max(self.costs[name].step for name in self._names(study))
        # At the end of a study, workers wait for the last trials: on average for half of one.
        waiting = last / 2 if self.workers > 1 else 0.0
        return max(sum(each) / self.workers + waiting, max(each)) + WRITING

    def scoring_share(self, study: Study) -> float:
        """Estimate the share of a study's time that is spent on scoring.

        Args:
            study: The study.

        Returns:
            A share from 0 to 1.
        """
        free = {name: Cost(0.0, 0.0) for name in self.costs}
        scoring = sum(self._each(study, free))
        return scoring / sum(self._each(study, self.costs))

    def _names(self, study: Study) -> list[str]:
        return [entry.name for entry in study.entrants]

    def _each(self, study: Study, costs: Mapping[str, Cost]) -> list[float]:
        """Return the seconds of one worker for each contest that the study has."""
        names = {FROZEN, *self._names(study)}
        cells = {contest.resolved.cell: study.at(contest.resolved.cell) for contest in self.contests}
        scoring = self.token * self.lengths.scored(study.report.windows)
        found = {}
        for contest in self.contests:
            if contest.contestant in names:
                own = replace(contest, resolved=replace(contest.resolved, study=cells[contest.resolved.cell]))
                task, model = own.task, own.study.model
                priced = {(model, name, task): cost for name, cost in costs.items()}
                missing = (own.frozen_trial(),) if own.contestant == FROZEN else ()
                state = ContestState(own, {}, missing)
                answering = {(model, task): self.answers * study.report.metric_rows}
                found[own.key] = seconds_left([state], priced, {(model, task): scoring}, 1, answering) or 0.0
        return list(found.values())
