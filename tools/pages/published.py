"""Published studies: the folders of `results/` that hold a verdict and its trials.

>>> number(0.0123456), number(-881.3), number(1.2)
('0.012', '-881', '1.200')
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from adapterlab.lab.study.sweep import level_words

ROOT = Path(__file__).parents[2]
MODELS = {"embedded": "embedded model (4 M)", "smollm2": "SmolLM2 (135 M)"}
"""Names of models with their parameters; others are named as the study names them."""
TOLD_APART = 0.05
"""Corrected p-value below which a difference is told apart from chance, as in the report."""

Row = Mapping[str, Any]
"""A contestant in a verdict."""


@dataclass(frozen=True)
class Board:
    """A scoreboard of a study: one budget, one set of tasks with losses in one unit."""

    study: PublishedStudy
    data: Mapping[str, Any]

    @property
    def reference(self) -> str:
        """Label of the contestant that the others are compared with."""
        return str(self.data["reference"])

    @property
    def rows(self) -> list[Row]:
        """All contestants, those that learned most first."""
        return list(self.data["contestants"])

    @property
    def ranked(self) -> list[Row]:
        """Contestants that are compared for rank, without the reference and those that have no result."""
        return [
            row for row in self.rows if row["ranked"] and row["name"] != self.reference and has(row["versus_reference"])
        ]

    def row(self, name: str) -> Row:
        """Return a contestant.

        Args:
            name: Its label.
        """
        return next(row for row in self.rows if row["name"] == name)

    @property
    def cell(self) -> str:
        """Levels of the sweep; empty if the study has none."""
        return ", ".join(level_words(factor, level) for factor, level in self.data["cell"].items())

    @property
    def heading(self) -> str:
        """Heading of the scoreboard."""
        heading = f"Study {self.study.settings['name']}: {self.study.model}, {listed(self.data['tasks'])}"
        return f"{heading}, {self.cell}" if self.cell else heading

    @property
    def link(self) -> str:
        """Short name of the scoreboard, which leads to its table."""
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", self.heading).strip().lower())
        return f"[{self.heading.partition(': ')[2]}](which-adapter.md#{slug})"

    @property
    def steps(self) -> int:
        """Training steps of a reported run."""
        return int(self.data["cell"].get("steps", self.study.settings["training"]["steps"]))

    @property
    def conditions(self) -> str:
        """Size, length and number of runs, as a sentence."""
        training = self.study.settings["training"]
        budget = self.data["budget"]
        size = "Each adapter has its own size" if budget is None else f"At most {budget:,} trained parameters"
        return f"{size}; {self.steps} steps of {training['batch']} examples of at most {training['length']} tokens."


@dataclass(frozen=True)
class PublishedStudy:
    """A study in a folder of `results/`."""

    folder: Path

    @cached_property
    def verdict(self) -> Mapping[str, Any]:
        """Content of `verdict.json`."""
        return json.loads((self.folder / "verdict.json").read_text("utf-8"))

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Content of `study.json`."""
        return json.loads((self.folder / "study.json").read_text("utf-8"))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial."""
        return pd.read_parquet(self.folder / "trials.parquet")

    @property
    def model(self) -> str:
        """Name of the model in a sentence."""
        return MODELS.get(self.settings["model"], self.settings["model"])

    @property
    def report(self) -> str:
        """Path of the report from the folder of the pages."""
        return f"../{self.folder.relative_to(ROOT).as_posix()}/report.html" if self.inside else "report.html"

    @property
    def inside(self) -> bool:
        """True if the study's folder is in this repository."""
        return self.folder.is_relative_to(ROOT)

    @cached_property
    def boards(self) -> list[Board]:
        """Scoreboards of the study, the main one first; other ranks are left out, at which sizes are not equal."""
        found = [Board(self, data) for data in self.verdict["boards"]]
        return [board for board in found if board.data["cell"].get("rank") == found[0].data["cell"].get("rank")]

    @property
    def smallest(self) -> float:
        """Smallest difference that matters, in the unit of the losses."""
        return float(self.settings["report"]["smallest"])

    def runs(self, board: Board, name: str) -> pd.DataFrame:
        """Return the reported runs of a contestant, by task and seed.

        Args:
            board: One of the study's scoreboards.
            name: The contestant.
        """
        trials = self.of(board, name)
        return trials[trials["round"] == "report"].sort_values(["task", "seed"])

    def of(self, board: Board, name: str) -> pd.DataFrame:
        """Return all trials of a contestant: the search for its learning rates, and the reported runs.

        Args:
            board: One of the study's scoreboards.
            name: The contestant.
        """
        trials = self.trials[(self.trials["contestant"] == name) & self.trials["task"].isin(board.data["tasks"])]
        return trials[trials["cell"].fillna("") == board.cell]


def published_studies(results: Path = ROOT / "results") -> list[PublishedStudy]:
    """Return the published studies: by how far their results carry to large models, and of about as far, by contestants.

    Args:
        results: Folder with the published results.
    """
    found = [PublishedStudy(path.parent) for path in sorted(results.rglob("verdict.json"))]
    return sorted(
        found, key=lambda study: (-int(study.verdict.get("relevance", 0.0) / 0.05), -len(study.boards[0].rows))
    )


def boards_of(studies: list[PublishedStudy]) -> Iterator[Board]:
    """Yield the scoreboards of all studies.

    Args:
        studies: The studies.
    """
    for study in studies:
        yield from study.boards


def number(value: float) -> str:
    """Return a number with as many digits as a difference of losses needs.

    Args:
        value: The number.
    """
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(effect: Mapping[str, float | None] | None, sign: float = 1.0) -> str:
    """Return an estimate with its interval of 95 %.

    Args:
        effect: `mean`, `low` and `high`; None if it was not measured.
        sign: -1 for the difference the other way round.

    >>> interval({"mean": 0.5, "low": None, "high": None}), interval({"mean": 0.5, "low": 0.4, "high": 0.75}, -1)
    ('0.500 (no interval)', '-0.500 (-0.750 to -0.400)')
    """
    if effect is None or effect["mean"] is None:
        return "-"
    low, high = effect["low"], effect["high"]
    if low is None or high is None:
        return f"{number(sign * effect['mean'])} (no interval)"
    low, high = sorted((sign * low, sign * high))
    return f"{number(sign * effect['mean'])} ({number(low)} to {number(high)})"


def has(effect: Mapping[str, float | None] | None) -> bool:
    """Return True if an effect was measured; a run that diverged has no forgetting, for example.

    Args:
        effect: `mean` and its interval, or None.

    >>> has(None), has({"mean": None}), has({"mean": 0.0})
    (False, False, True)
    """
    return effect is not None and effect["mean"] is not None


def is_told_apart(effect: Mapping[str, float | None] | None, p: float | None) -> bool:
    """Return True if a difference is told apart from chance after correction for the number of comparisons.

    Args:
        effect: The difference; None if it was not measured.
        p: Its corrected p-value.
    """
    return effect is not None and p is not None and p < TOLD_APART


def listed(names: list[str]) -> str:
    """Return names as a list in a sentence.

    Args:
        names: The names.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return "".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} and {names[-1]}"
