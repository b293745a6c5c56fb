"""The effects of a whole study, from which the statements of claims are tested.

>>> [field for field in MeasuredStudy.__dataclass_fields__ if not field.startswith("_")]
['effects', 'cells']
"""

from __future__ import annotations

from dataclasses import dataclass, field

from adapterlab.lab.analysis.cells import Cells, Pool
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.matched import METRIC_OF, Matched


@dataclass(frozen=True)
class MeasuredStudy:
    """A study's effects; what several claims need is computed once."""

    effects: Effects
    """Effects at the main cell, where claims that name no factor are judged."""
    cells: Cells | None = None
    """Effects at all cells of the sweep; None if they are not known."""
    _matched: dict[str, Matched] = field(default_factory=dict, compare=False, repr=False)
    _pools: dict[str, Pool] = field(default_factory=dict, compare=False, repr=False)

    def matched(self, metric: str) -> Matched:
        """Return the comparisons at equal learning, along the strength path.

        Args:
            metric: A value of `METRIC_OF`.
        """
        if metric not in self._matched:
            part = next(part for part, name in METRIC_OF.items() if name == metric)
            self._matched[metric] = Matched.of(self.effects, part)
        return self._matched[metric]

    def pool(self, cells: Cells, metric: str) -> Pool:
        """Return the contestants at several cells, compared as contestants of one study.

        Args:
            cells: The cells of this study.
            metric: Name of the metric.
        """
        if metric not in self._pools:
            self._pools[metric] = cells.pooled(metric)
        return self._pools[metric]
