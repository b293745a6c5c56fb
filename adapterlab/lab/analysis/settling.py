"""Settling of the order over the length of training: whether differences from the reference still move.

The change of each difference from the last length but one to the last is given per doubling of the steps, paired over seeds
and rows. The order has settled if each change is shown to be smaller than the smallest difference that matters (two
one-sided tests); it has not if a change is significant (Holm over the contestants) and not shown to be that small. Otherwise
it is not known: a lack of evidence settles nothing.

>>> Settling("lora", (40,), (), 0.005).sentence
'One length was measured, 40 steps: whether the order of the contestants settles is not known.'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapterlab.lab.analysis.cells import Cells, Place, line_of
from adapterlab.lab.analysis.pairwise import SIGNIFICANT, listed
from adapterlab.lab.statistics import Paired, equivalence
from adapterlab.lab.study.sweep import Cell


@dataclass(frozen=True)
class Drift:
    """Movement of one contestant's difference from the reference over the length of training."""

    contestant: str
    differences: tuple[Paired, ...]
    """Difference from the reference at each length; positive is better."""
    trend: Paired
    """Slope over all lengths, per doubling of the steps."""
    last: Paired
    """Change from the last length but one to the last, per doubling of the steps."""
    p: float
    """P-value of `last`, adjusted over the contestants."""
    small: float
    """P-value of `last` being as large as the smallest difference that matters; small means that it is not."""

    @property
    def settled(self) -> bool:
        """True if the change is shown to be smaller than what matters."""
        return self.small < SIGNIFICANT

    @property
    def moves(self) -> bool:
        """True if the difference still moves, and may move by what matters."""
        return self.p < SIGNIFICANT and not self.settled


@dataclass(frozen=True)
class Settling:
    """Movement of all ranked contestants' differences from the reference."""

    reference: str
    lengths: tuple[int, ...]
    """Training steps, rising."""
    drifts: tuple[Drift, ...]
    smallest: float
    """Smallest difference that matters, in the unit of the loss."""

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """By length, the contestants from best to worst."""
        found = []
        for i in range(len(self.lengths) if self.drifts else 0):
            means = {self.reference: 0.0, **{drift.contestant: drift.differences[i].mean for drift in self.drifts}}
            found.append(tuple(sorted(means, key=lambda name: -means[name])))
        return tuple(found)

    @property
    def sentence(self) -> str:
        """Answer in a sentence or two."""
        if len(self.lengths) < 2:
            only = f"One length was measured, {self.lengths[0]:,} steps"
            return f"{only}: whether the order of the contestants settles is not known."
        before, last = self.lengths[-2:]
        between = f"from {before:,} to {last:,} steps"
        moving = [drift for drift in self.drifts if drift.moves]
        if moving:
            return f"The order has not settled: {between}, {'; '.join(map(self._moving, moving))}."
        if not self.drifts:
            return "No contestant was compared with the reference at two lengths."
        if all(drift.settled for drift in self.drifts):
            still = f"no difference from {self.reference} moves by {self.smallest:g} or more per doubling"
            return f"The order has settled: {between}, {still}."
        names = listed([drift.contestant for drift in self.drifts if not drift.settled])
        return (
            f"Whether the order has settled is not known: {between}, the difference from {self.reference} may still move by "
            f"{self.smallest:g} or more per doubling for {names}."
        )

    def _moving(self, drift: Drift) -> str:
        last = drift.last
        return (
            f"{drift.contestant}'s difference from {self.reference} still moves by {last.mean:+.3f} per doubling "
            f"({last.low:+.3f} to {last.high:+.3f})"
        )


def settle(cells: Cells) -> Settling:
    """Return the movement of the differences from the reference over the lengths of a study.

    Args:
        cells: Effects at every cell.
    """
    study = cells.main.results.study
    if "steps" not in cells.sweep.factors:
        return Settling(study.reference, (study.training.steps,), (), study.report.smallest)
    line = line_of(cells.sweep, "steps")
    lengths, at = tuple(int(str(level)) for level in line), list(line.values())
    names = [
        name
        for name in cells.contestants
        if study.competes(name) and name != study.reference and all(_finished(cells, name, cell) for cell in at)
    ]
    x = np.log2(lengths)
    slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    change = [0.0] * (len(x) - 2) + [-1 / (x[-1] - x[-2]), 1 / (x[-1] - x[-2])]
    if not all(_finished(cells, study.reference, cell) for cell in at):
        names = []
    last = {name: cells.pool.estimate(_difference(name, study.reference, at, change)) for name in names}
    adjusted = cells.main.adjust({name: effect.p for name, effect in last.items()})
    drifts = [
        Drift(
            name,
            tuple(cells.by_cell[cell].compare(name, study.reference, "in_domain") for cell in at),
            cells.pool.estimate(_difference(name, study.reference, at, slope.tolist())),
            last[name],
            adjusted[name],
            equivalence(last[name], study.report.smallest),
        )
        for name in names
    ]
    return Settling(study.reference, lengths, tuple(drifts), study.report.smallest)


def _finished(cells: Cells, name: str, cell: Cell) -> bool:
    return math.isfinite(cells.by_cell[cell].gained(name, "in_domain").mean)


def _difference(name: str, reference: str, at: Sequence[Cell], weights: Sequence[float]) -> dict[Place, float]:
    own = {(name, cell): weight for cell, weight in zip(at, weights, strict=True)}
    return own | {(reference, cell): -weight for cell, weight in zip(at, weights, strict=True)}
