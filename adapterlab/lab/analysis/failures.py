"""Failed trials of a study, grouped by contestant, task and reason.

>>> failure = Failure("mine", "prose", Cell(), 5, "ValueError: no such start (mine.py, line 12, in init)", decisive=False)
>>> print(failure)
mine on prose: 5 trials failed: ValueError: no such start (mine.py, line 12, in init)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adapterlab.lab.run.contest import Contest
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.spec import FROZEN


@dataclass(frozen=True)
class Failure:
    """Trials of one contest that failed for the same reason."""

    contestant: str
    task: str
    cell: Cell
    trials: int
    """Number of trials."""
    reason: str
    decisive: bool
    """True for the frozen model and the reference, which every other contestant is compared with."""

    def __str__(self) -> str:
        """Return a sentence."""
        where = f" at {self.cell.words}" if self.cell.levels else ""
        count = "a trial" if self.trials == 1 else f"{self.trials} trials"
        return f"{self.contestant} on {self.task}{where}: {count} failed: {self.reason}"


def failures_of(contests: Iterable[Contest]) -> tuple[Failure, ...]:
    """Return the failures of a study, those of the frozen model and the reference first.

    Args:
        contests: The contests of the study, played as far as they are.
    """
    counts: dict[tuple[str, str, Cell, str, bool], int] = {}
    for contest in contests:
        decisive = contest.contestant in (FROZEN, contest.study.reference)
        for _, outcome in (*contest.runs, *contest.tenth.values()):
            if outcome.status == "failed":
                key = contest.contestant, contest.task, contest.resolved.cell, outcome.note, decisive
                counts[key] = counts.get(key, 0) + 1
    found = [Failure(*key[:3], count, *key[3:]) for key, count in counts.items()]
    return tuple(sorted(found, key=lambda failure: not failure.decisive))
