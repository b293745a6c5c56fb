"""Comparable results: the methods that one source measured with one model, task and setting.

Values are in units of the smallest difference that matters, higher is better, so that they can be pooled over units.

>>> from adapterlab.evidence.table import Score
>>> row = {"source": "s", "model": "m", "parameters": 1e9, "task": "math", "better": "lower", "smallest": 0.01}
>>> rows = [Score(**row, method="lora", learning_rate=rate, value=v) for rate, v in ((1, 2.0), (2, 1.5), (3, 1.8))]
>>> [cell] = cells_of(rows)
>>> cell.best("lora").value, cell.best("lora").tuned
(-150.0, True)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adapterlab.evidence.table import Score

FROZEN = "frozen"
"""Name of the model before training."""
SWEEP = 3
"""Learning rates that count as a sweep."""


@dataclass(frozen=True)
class Measured:
    """Value of one method in one cell."""

    value: float
    """In units of the smallest difference that matters; higher is better."""
    variance: float
    """Its sampling variance, in squared units."""
    tuned: bool | None
    """True if its learning rate was tuned, False if not, None if not known."""
    trained: float | None
    """Trained parameters; None if not known."""


@dataclass(frozen=True)
class Cell:
    """Results that can be compared with each other."""

    source: str
    model: str
    parameters: float
    """Parameters of the base model."""
    examples: float | None
    """Training examples that were seen, about; None if not known."""
    task: str
    metric: str
    setting: str
    unit: str
    smallest: float
    """Smallest difference that matters, in the unit."""
    runs: Mapping[str, tuple[Score, ...]]
    """By method, its rows, one for each learning rate."""

    def best(self, method: str) -> Measured:
        """Return the value of a method at its best learning rate.

        Args:
            method: A key of `runs`.
        """
        rows = self.runs[method]
        best = max(rows, key=lambda row: row.sign * row.value)
        rates = {row.learning_rate for row in rows if row.learning_rate is not None}
        tuned = best.tuned if best.tuned is not None else (True if len(rates) >= SWEEP else None)
        return Measured(best.sign * best.value / self.smallest, best.variance / self.smallest**2, tuned, best.trained)

    @property
    def worked(self) -> list[str]:
        """Methods whose value is not below that of the model before training, where that is known, on the trained task.

        Others are runs that failed, mostly for their learning rate, and no evidence of how good a method is.
        """
        trained = [method for method in self.runs if method != FROZEN]
        if FROZEN not in self.runs or self.metric != "in_domain":
            return trained
        before = self.best(FROZEN).value
        return [method for method in trained if self.best(method).value >= before]

    def curve(self, method: str) -> dict[float, float]:
        """Return the values of a method by learning rate, as in `Measured`.

        Args:
            method: A key of `runs`.
        """
        rows = self.runs[method]
        return {r.learning_rate: r.sign * r.value / self.smallest for r in rows if r.learning_rate is not None}


def cells_of(scores: Iterable[Score]) -> list[Cell]:
    """Group scores into cells.

    Args:
        scores: Rows of tables.

    Returns:
        The cells, in the order of their first rows.
    """
    groups: dict[tuple[str, ...], dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        key = (score.source, score.model, score.task, score.metric, score.setting)
        groups[key][score.method].append(score)
    return [_cell({method: tuple(rows) for method, rows in runs.items()}) for runs in groups.values()]


def _cell(runs: Mapping[str, tuple[Score, ...]]) -> Cell:
    first = next(iter(runs.values()))[0]
    return Cell(
        first.source,
        first.model,
        first.parameters,
        first.examples,
        first.task,
        first.metric,
        first.setting,
        first.unit,
        first.smallest,
        runs,
    )
