"""The analysis of a ledger as it is: of the whole study if it is finished, else of the contests that are.

A study that is still running is analysed as if it had only the contestants and tasks that are finished: the tasks on which
the frozen model and the reference are, and the contestants that are on all of these. In a race, a contest that waits for
the others counts as it stands, since intervals and p-values of races hold whenever they are computed.

>>> from adapterlab.lab.run.prepare import prepare
>>> study = Study(name="mine", tasks=("prose",), contestants=({"adapter": "lora"},), full_ft=False, full_ft_reason="-")
>>> read_ledger(prepare(study), None) is None  # no trial has been run
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapterlab import argmap
from adapterlab.evidence.store import Store
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.design import DesignHistory
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.progress import replay
from adapterlab.lab.study.spec import FULL_FT, Study
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.verdict.lock import LockStatus
from adapterlab.verdict.study_analysis import Analysis, analyse


@dataclass(frozen=True)
class FinishedPart:
    """The finished contests of a study."""

    prepared: PreparedStudy
    """The study; one with fewer contestants and tasks if some are not finished."""
    contests: Sequence[Contest]
    """All of its contests."""
    remark: str = ""
    """Sentence that says what is missing; empty if nothing is."""

    def analyse(
        self,
        ledger: Ledger,
        the_map: argmap.Map | None = None,
        design: DesignHistory | None = None,
        lock: LockStatus | None = None,
        store: Store | None = None,
        weight: float | None = None,
    ) -> Analysis:
        """Return the analysis of the contests; a remark says what is missing.

        Args:
            ledger: The ledger that they were read from.
            the_map: Map whose claims are tested; None for none.
            design: When the study was designed, and how that changed.
            lock: Lock of the map's claims, if there is one.
            store: Results of other studies and published tables for the claims; the package's tables if None.
            weight: Relevance of the results for what claims are about; by model size and training if None.
        """
        analysis = analyse(self.prepared, self.contests, ledger, the_map, design, lock, store, weight)
        return replace(analysis, notes=(*filter(None, [self.remark]), *analysis.notes))


def read_ledger(prepared: PreparedStudy, ledger: Ledger | None) -> FinishedPart | None:
    """Return the finished contests of a study; no trial is run.

    Args:
        prepared: The study.
        ledger: Its ledger; None for an empty one.

    Returns:
        The contests, or None if fewer than two contestants are finished on a task.
    """
    contests = [state.contest for state in replay(prepared.contests(), ledger)]
    if all(contest.finished for contest in contests):
        return FinishedPart(prepared, contests)
    done = [contest for contest in contests if _has_results(contest)]
    study = finished_part(prepared.study, done)
    if study is None:
        return None
    smaller = replace(prepared, resolved=replace(prepared.resolved, study=study))
    cells = {part.cell: part for part in smaller.resolved.cells}
    names = {FROZEN, *(entry.name for entry in study.entrants)}
    kept = [
        replace(contest, resolved=cells[contest.resolved.cell], finished=True)
        for contest in done
        if contest.contestant in names and contest.task in study.tasks
    ]
    whole = prepared.study
    remark = (
        f"This study is not finished. The report has {len(study.entrants)} of its {len(whole.entrants)} contestants and "
        f"{len(study.tasks)} of its {len(whole.tasks)} tasks; its numbers change as the others finish."
    )
    return FinishedPart(smaller, kept, remark)


def finished_part(study: Study, done: Sequence[Contest]) -> Study | None:
    """Return a study with the contestants and tasks that have results at every cell of its sweep.

    Args:
        study: The study.
        done: Contests that have results.

    Returns:
        The smaller study, or None if fewer than two contestants have results on a task of the reference.
    """
    cells = study.sweep.count
    counts: dict[tuple[str, str], int] = {}
    for contest in done:
        counts[contest.contestant, contest.task] = counts.get((contest.contestant, contest.task), 0) + 1

    def whole(name: str, tasks: Sequence[str]) -> bool:
        return all(counts.get((name, task), 0) == cells for task in tasks)

    tasks = [task for task in study.tasks if whole(FROZEN, [task]) and whole(study.reference, [task])]
    entries = tuple(entry for entry in study.contestants if whole(entry.name, tasks))
    if not tasks or len(entries) < 2:
        return None
    names = [entry.name for entry in entries]
    sample = [name for name in study.regret_sample if name in names]
    tuning = {
        "regret_sample": len(sample),
        "regret_contestants": tuple(name for name in sample if name != study.reference),
    }
    added = study.full_ft and FULL_FT not in [entry.adapter for entry in study.contestants]
    full_ft = study.full_ft and (whole(FULL_FT, tasks) if added else FULL_FT in [entry.adapter for entry in entries])
    return study.model_copy(
        update={
            "tasks": tuple(tasks),
            "contestants": entries,
            "full_ft": full_ft,
            "full_ft_reason": study.full_ft_reason or ("" if full_ft else "it is not finished"),
            "tuning": study.tuning.model_copy(update=tuning),
        }
    )


def _has_results(contest: Contest) -> bool:
    """Return True for a contest that is finished, or waits in a race with reported runs."""
    return contest.finished or (contest.waiting and bool(contest.reported))
