"""The results of a study in a folder, opened once and read once or again as they grow.

>>> map_of(None).source.name.endswith(BUILT_IN_MAP)
True
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapterlab import argmap
from adapterlab.errors import AdapterlabError
from adapterlab.evidence.store import Store
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.design import read_design
from adapterlab.lab.run.locate import StudySource, called, existing_ledger, open_study, run_command
from adapterlab.lab.run.prepare import PreparedStudy, prepare
from adapterlab.lab.run.status import StudyStatus, study_status
from adapterlab.resources import shipped
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.from_ledger import FinishedPart, read_ledger
from adapterlab.verdict.lock import LockStatus, find_lock
from adapterlab.verdict.study_analysis import Analysis

BUILT_IN_MAP = "natural_manifold.argdown"
"""File of the argument map that ships with the package."""


@dataclass(frozen=True)
class StoredResults:
    """The results of a study in a folder, to be read once or again as they grow."""

    folder: Path
    """Folder of the results."""
    command: str
    """Command that continues the study."""
    prepared: PreparedStudy
    ledger: Ledger
    the_map: argmap.Map
    store: Store
    relevance: float | None
    lock: Path | None

    @classmethod
    def open(
        cls,
        study: StudySource = None,
        out: str | Path | None = None,
        map: str | Path | argmap.Map | None = None,  # noqa: A002
        evidence: str | Path | None = None,
        relevance: float | None = None,
        lock: str | Path | None = None,
    ) -> StoredResults:
        """Return the results of a study.

        Args:
            study: As for `report`, like the other arguments.
            out: Folder of the results.
            map: Argument map.
            evidence: Folder with tables of other results.
            relevance: Relevance of the results.
            lock: Lock of the map.

        Raises:
            AdapterlabError: As for `report`.
        """
        the_map, store = map_of(map), store_of(evidence, relevance)
        spec, folder = open_study(study, None if out is None else Path(out), reading=True)
        name = called(study, spec)
        ledger = existing_ledger(folder, name)
        read_tests(the_map, [entry.name for entry in spec.entrants])
        command = run_command(name, folder)
        place = None if lock is None else Path(lock)
        return cls(folder, command, prepare(spec, folder), ledger, the_map, store, relevance, place)

    def read(self) -> FinishedPart | None:
        """Return the contests that are finished at present; None if they are too few for a report."""
        return read_ledger(self.prepared, self.ledger)

    def require(self) -> FinishedPart:
        """Return the contests that are finished at present.

        Raises:
            AdapterlabError: If they are too few for a report.
        """
        found = self.read()
        if found is None:
            raise AdapterlabError(
                f"{self.folder} has too few finished contests for a report: `{self.command}` continues the study, and "
                "`adapterlab status` shows how far it is"
            )
        return found

    def mark(self) -> tuple[int, bool]:
        """Return a value that changes when another process writes to the ledger, and when a run begins or ends."""
        return self.ledger.data_version(), self.ledger.is_locked()

    def status(self) -> StudyStatus:
        """Return the status of the study at present."""
        return study_status(self.prepared, self.ledger, self.command)

    def analyse(self, found: FinishedPart) -> Analysis:
        """Return the analysis of finished contests.

        Args:
            found: What `read` returned.

        Raises:
            AdapterlabError: If the lock or the record of the design cannot be read.
        """
        status, locked = None, find_lock(self.the_map, self.folder, self.lock)
        if locked is not None:
            changed = locked.changes(self.the_map, self.prepared.resolved)
            status = LockStatus(locked, tuple(changed), self.ledger.ended_by(locked.date))
        design = read_design(self.folder)
        return found.analyse(self.ledger, self.the_map, design, status, self.store, self.relevance)


def map_of(given: str | Path | argmap.Map | None) -> argmap.Map:
    """Return a map.

    Args:
        given: The map or its file; None for the built-in one.

    Raises:
        AdapterlabError: If it cannot be read.
    """
    if isinstance(given, argmap.Map):
        return given
    return argmap.load(Path(given) if given else shipped("maps", BUILT_IN_MAP))


def store_of(evidence: str | Path | None, relevance: float | None) -> Store:
    """Return the tables of evidence, read at once so that a mistake in them surfaces.

    Args:
        evidence: Folder of the user's tables, besides those of the package.
        relevance: Weight of a study's results beside them, which is checked too.

    Raises:
        AdapterlabError: If a table cannot be read, or the relevance is not from 0 to 1.
    """
    if relevance is not None and not 0 <= relevance <= 1:
        raise AdapterlabError(f"relevance is {relevance}: give a correlation from 0 to 1")
    store = Store(None if evidence is None else Path(evidence))
    _ = store.tables
    return store
