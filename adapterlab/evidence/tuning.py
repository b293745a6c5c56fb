"""Correction of values whose learning rate was not tuned, by what tuning is known to change.

Where a source swept the rate for several methods in the same setting, each method's value at its best rate is compared with
its value at the best rate of another method. The mean of this loss is what a method lacks that ran at a rate chosen for
another one, and its spread is the error of that correction.

>>> from adapterlab.evidence.store import Store
>>> loss = tuning_loss(cells_of(Store().scores))
>>> round(loss.mean, 2), round(loss.sd, 2), loss.pairs
(1.08, 1.43, 380)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from statistics import fmean, pstdev

from adapterlab.evidence.cells import Cell, Measured, cells_of
from adapterlab.evidence.store import Store, tuned_share

FEWEST_RATES = 5
"""Rates of each method in a cell that the loss is estimated from."""
GAINS = ("in_domain", "out_of_domain", "accuracy")
"""Metrics that a better learning rate improves; for others the rate adds spread without a known sign."""


@dataclass(frozen=True)
class TuningLoss:
    """Loss of a method at the best learning rate of another one, in units of the smallest difference that matters."""

    mean: float
    sd: float
    pairs: int
    """Pairs of methods in a cell that it was estimated from."""
    by_pair: tuple[tuple[str, str, float, float, int], ...]
    """Method, the other one whose rate it had, mean loss, its standard deviation, and cells."""

    def corrected(self, found: Measured, metric: str) -> Measured:
        """Return a value as it would be expected with its rate tuned.

        Args:
            found: The value; of one whose tuning is not known, the share of papers that tuned is assumed.
            metric: Name of its metric.
        """
        untuned = {True: 0.0, False: 1.0, None: 1 - tuned_share()}[found.tuned]
        lost = untuned * self.mean
        spread = untuned * (self.sd**2 + self.mean**2) - lost**2
        if metric not in GAINS:
            return Measured(found.value, found.variance + spread + lost**2, found.tuned, found.trained)
        return Measured(found.value + lost, found.variance + spread, found.tuned, found.trained)


def tuning_loss(cells: Iterable[Cell]) -> TuningLoss:
    """Estimate the loss from cells with swept rates.

    Args:
        cells: Cells of any tables; those with fewer than `FEWEST_RATES` common rates, or of one method, are left out.

    Returns:
        The loss over all ordered pairs of methods; zero if there is no such cell.
    """
    losses: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in cells:
        curves = {name: cell.curve(name) for name in cell.runs if cell.metric == "in_domain"}
        swept = {name: curve for name, curve in curves.items() if len(curve) >= FEWEST_RATES and "(" not in name}
        best = {name: max(curve, key=curve.__getitem__) for name, curve in swept.items()}
        for own, curve in swept.items():
            for other, rate in best.items():
                if own != other and rate in curve:
                    losses[own, other].append(curve[best[own]] - curve[rate])
    every = [loss for found in losses.values() for loss in found]
    if not every:
        return TuningLoss(0.0, 0.0, 0, ())
    rows = tuple((own, other, fmean(found), pstdev(found), len(found)) for (own, other), found in losses.items())
    return TuningLoss(fmean(every), pstdev(every), len(every), rows)


@cache
def shipped_tuning_loss() -> TuningLoss:
    """Return the loss that the tables of the package show."""
    return tuning_loss(cells_of(Store().scores))


def seeming_gain(loss: TuningLoss, method: str, rival: str) -> tuple[float, float]:
    """Return the errors of a method's lead over a rival at one rate for both: at the method's best rate, and at the rival's.

    Args:
        loss: The loss.
        method: A method.
        rival: Another one.

    Returns:
        By how much the lead is overstated at the method's rate, and understated at the rival's, in units of the smallest
        difference that matters; not a number for methods that were not swept together.
    """
    by_pair = {(own, other): mean for own, other, mean, _, _ in loss.by_pair}
    return by_pair.get((rival, method), math.nan), by_pair.get((method, rival), math.nan)
