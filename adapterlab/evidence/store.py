"""Tables of results: those that come with the package, and those in a folder of the user's.

>>> sorted(table.source for table in Store().tables if not table.source.startswith(OWN))[:2]
['lr-matters', 'peft-arena']
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.evidence.table import Score, Table, read_table, write_table
from adapterlab.files import write_text

SHIPPED = Path(__file__).parent / "data"
"""Folder of the tables that come with the package."""
OWN = "adapterlab-"
"""Beginning of the names of the package's tables of its own studies."""


@dataclass(frozen=True)
class Store:
    """Results as data."""

    folder: Path | None = None
    """Folder with the user's tables (`*.csv`); None for the package's tables alone."""

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """All tables, those of the package first.

        A table of the user's takes the place of the package's table of the same name.

        Raises:
            AdapterlabError: If a table cannot be read.
        """
        return tuple({table.source: table for table in self._read()}.values())

    @property
    def scores(self) -> list[Score]:
        """Scores of all tables."""
        return [score for table in self.tables for score in table.scores]

    def without_study(self, study: str) -> list[Score]:
        """Return the scores without those of one study, by its own table or the package's.

        Args:
            study: Name of the study.
        """
        own = {study, f"{OWN}{study}"}
        return [score for score in self.scores if score.source not in own]

    def add(self, table: Table) -> Path:
        """Write a table into the folder; one of the same name is replaced.

        Args:
            table: The table.

        Returns:
            The file.

        Raises:
            AdapterlabError: If there is no folder, or the file cannot be written.
        """
        if self.folder is None:
            raise AdapterlabError("there is no folder for the table: give --store FOLDER")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{table.source}.csv"
            write_text(file, write_table(table))
        except OSError as error:
            raise AdapterlabError(f"{self.folder} cannot be written: {error}") from error
        return file

    def _read(self) -> Iterator[Table]:
        folders = [SHIPPED] if self.folder is None else [SHIPPED, self.folder]
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise AdapterlabError(f"{self.folder} is no folder: give one with tables (*.csv)")
        for folder in folders:
            for file in sorted(folder.glob("*.csv")):
                yield _read_once(file, file.stat().st_mtime_ns) if folder == SHIPPED else read_table(file)


@cache
def _read_once(file: Path, changed: int) -> Table:
    """Return a table of the package, which is read once in a process unless the file changes.

    Args:
        file: The CSV file.
        changed: Time of its last change in nanoseconds.
    """
    return read_table(file)


def tuned_share() -> float:
    """Return the share of papers on variants of LoRA that tuned the learning rate of LoRA: 18 of 64.

    The list is the package's table `audit/lora-papers.csv`.
    """
    lines = (SHIPPED / "audit" / "lora-papers.csv").read_text("utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    tuned = [row for row in rows if row["tuned_learning_rate"] == "yes"]
    return len(tuned) / len(rows)
