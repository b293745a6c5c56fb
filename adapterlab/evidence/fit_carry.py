"""Fit of how the differences between methods carry from one model size and amount of training to another.

The tables' values are one Gaussian process (`adapterlab.lab.statistics.carry`): a method's value in a cell is its mean,
which changes with the model's size and the number of training examples, plus a deviation on the task, one of the source,
and one of the setting. The two lengths and the variances maximize the likelihood times a prior. The prior of both lengths
is log-normal about the former convention, a straight line in the logarithm from a million to ten thousand million
parameters: both give one half at two decades.

>>> from adapterlab.evidence.store import Store
>>> shown = fit_carry([cell for cell in cells_of(Store().scores) if cell.source == "lr-matters"])
>>> shown.carry.size > 0.5
True
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats

from adapterlab.evidence.cells import Cell, cells_of
from adapterlab.evidence.store import SHIPPED, Store
from adapterlab.evidence.tuning import TuningLoss, shipped_tuning_loss
from adapterlab.lab.statistics.carry import Carry, Place, example_decades, size_decades

FITTED = SHIPPED / "carry.json"
"""File with the lengths of the fit to the package's tables."""
HALF = 2.0
"""Decades at which the former convention, and so the prior, gives one half."""
LENGTH = HALF / math.log(2)
"""Prior median of both lengths, in decades."""
PRIOR_SD = 1.0
"""Prior standard deviation of the logarithm of each length and of each variance."""
FREE = 100.0
"""Standard deviation of the common level of a cell, in units of the smallest difference that matters."""
_START = np.log([LENGTH, LENGTH, 4.0, 2.0, 2.0, 0.5])


@dataclass(frozen=True)
class CarryFit:
    """The fit, with its error."""

    carry: Carry
    size_interval: tuple[float, float]
    """Ninety percent interval of the size's length, in decades."""
    examples_interval: tuple[float, float]
    """The same of the length of the number of examples."""
    contestant: float
    """Standard deviation of the contestants' means, in units of the smallest difference that matters."""
    task: float
    """Standard deviation of a contestant's deviation on a task."""
    source: float
    """Standard deviation of its deviation in a source."""
    setting: float
    """Standard deviation of its deviation in one setting, such as a rank and a batch size."""
    values: int
    """Values that it was fitted to."""
    cells: int


@dataclass(frozen=True)
class Predicted:
    """A value that was predicted from the tables without its place."""

    held_out: str
    """Model that was held out."""
    method: str
    rival: str
    predicted: float
    """Predicted difference of the method to the rival, in units of the smallest difference that matters."""
    error: float
    """Its standard deviation, with the sampling error of the measured one."""
    measured: float


def fit_carry(cells: Sequence[Cell], loss: TuningLoss | None = None) -> CarryFit:
    """Fit the lengths and variances.

    Args:
        cells: Cells of one metric. Only methods that were measured with several models are used.
        loss: Correction of values that were not tuned; that of the package's tables if None.

    Returns:
        The fit, with Laplace's approximation for its intervals.
    """
    data = _Data.of(cells, loss or shipped_tuning_loss())
    found = optimize.minimize(
        data.loss,
        _START,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-4.6, 4.6)] * len(_START),
        options={"ftol": 1e-12, "gtol": 1e-7},
    )
    at = found.x
    error = np.sqrt(np.diag(np.linalg.inv(_hessian(lambda x: data.loss(x)[0], at))))
    half = float(stats.norm.ppf(0.95))
    low, high = np.exp(at - half * error), np.exp(at + half * error)
    size, examples, contestant, task, source, setting = (float(v) for v in np.exp(at))
    return CarryFit(
        Carry(size, examples),
        (float(low[0]), float(high[0])),
        (float(low[1]), float(high[1])),
        contestant,
        task,
        source,
        setting,
        values=len(data.y),
        cells=len(data.cells),
    )


@cache
def shipped_carry() -> Carry:
    """Return the lengths that were fitted to the package's tables of the score in-domain, from the file beside them.

    `tools/evidence_tables.py` writes the file.
    """
    found = json.loads(FITTED.read_text("utf-8"))
    return Carry(found["size"], found["examples"])


def fit_shipped() -> CarryFit:
    """Fit the package's tables of the score in-domain.

    Returns:
        The fit.
    """
    return fit_carry([cell for cell in cells_of(Store().scores) if cell.metric == "in_domain"])


def predict_held_out(
    cells: Sequence[Cell], rival: str = "lora", loss: TuningLoss | None = None, fixed: CarryFit | None = None
) -> list[Predicted]:
    """Predict the differences to a rival of each model from the results with the other models, which are fitted without it.

    Args:
        cells: Cells of one metric.
        rival: The method that the others are compared with.
        loss: Correction of values that were not tuned; that of the package's tables if None.
        fixed: A fit to use instead of one to the other models.

    Returns:
        The predictions, the mean over the cells of a model, for every method that was measured elsewhere too.
    """
    correction = loss or shipped_tuning_loss()
    models = list(dict.fromkeys(cell.model for cell in cells))
    found = []
    for model in models:
        rest, out = [c for c in cells if c.model != model], [c for c in cells if c.model == model and rival in c.worked]
        elsewhere = {method for cell in rest for method in cell.worked if rival in cell.worked}
        methods = [m for m in dict.fromkeys(m for c in out for m in c.worked) if m in elsewhere and m != rival]
        if methods and len({c.model for c in rest}) > 1:
            fit = fixed or fit_carry(rest, correction)
            found += [_predict(fit, rest, out, method, rival, correction) for method in methods]
    return found


def _predict(
    fit: CarryFit, rest: Sequence[Cell], out: Sequence[Cell], method: str, rival: str, loss: TuningLoss
) -> Predicted:
    with_method = [cell for cell in out if method in cell.worked]
    both = _Data.of([*rest, *with_method], loss, min_methods=1)
    covariance, noise = both.covariance(_log(fit)), both.noise
    held = np.array([cell.model == out[0].model for cell in both.cells])[both.cell]
    weights = np.zeros(len(both.y))
    for i in np.flatnonzero(held):
        name = both.methods[both.method[i]]
        weights[i] = (float(name == method) - float(name == rival)) / len(with_method)
    known = ~held
    total = covariance[np.ix_(known, known)] + np.diag(noise[known])
    cross = weights @ covariance[:, known]
    solved = np.linalg.solve(total, np.column_stack([both.y[known], cross]))
    variance = weights @ covariance @ weights - cross @ solved[:, 1] + weights**2 @ noise
    return Predicted(
        out[0].model, method, rival, float(cross @ solved[:, 0]), math.sqrt(float(variance)), float(weights @ both.y)
    )


def _log(fit: CarryFit) -> np.ndarray:
    found: np.ndarray = np.log([fit.carry.size, fit.carry.examples, fit.contestant, fit.task, fit.source, fit.setting])
    return found


@dataclass
class _Data:
    """Values of methods in cells, and the distances between the cells."""

    cells: list[Cell]
    methods: list[str]
    y: np.ndarray
    noise: np.ndarray
    cell: np.ndarray
    method: np.ndarray

    @classmethod
    def of(cls, cells: Sequence[Cell], loss: TuningLoss, min_methods: int = 2) -> _Data:
        seen = Counter(method for model in _by_model(cells).values() for method in model)
        twice = {method for method in seen if seen[method] > 1}
        kept = [cell for cell in cells if len(twice & set(cell.worked)) >= min_methods]
        rows = [(i, m) for i, cell in enumerate(kept) for m in cell.worked if m in twice]
        methods = list(dict.fromkeys(method for _, method in rows))
        found = [loss.corrected(kept[i].best(m), kept[i].metric) for i, m in rows]
        return cls(
            kept,
            methods,
            np.array([one.value for one in found]),
            np.array([one.variance for one in found]),
            np.array([i for i, _ in rows]),
            np.array([methods.index(m) for _, m in rows]),
        )

    def __post_init__(self) -> None:
        places = [Place(cell.parameters, cell.examples) for cell in self.cells]
        at = self.cell
        self._size = _between(size_decades, places)[np.ix_(at, at)]
        self._examples = _between(example_decades, places)[np.ix_(at, at)]
        self._task = _alike([cell.task for cell in self.cells])[np.ix_(at, at)]
        self._source = _alike([cell.source for cell in self.cells])[np.ix_(at, at)]
        self._cell = (at[:, None] == at[None, :]).astype(float)
        self._method = (self.method[:, None] == self.method[None, :]).astype(float)

    def covariance(self, at: np.ndarray) -> np.ndarray:
        """Return the covariance of the values without their noise."""
        found: np.ndarray = sum(self._parts(at)) + FREE**2 * self._cell
        return found

    def _parts(self, at: np.ndarray) -> list[np.ndarray]:
        """Return the parts of the covariance: of the contestants' means, the tasks, the sources and the settings."""
        size, examples, *deviations = np.exp(at)
        near = np.exp(-self._size / size - self._examples / examples)
        same = (near, near * self._task, self._source, self._cell)
        return [self._method * where * sd**2 for where, sd in zip(same, deviations, strict=True)]

    def loss(self, at: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the negative logarithm of the posterior density, and its gradient."""
        parts = self._parts(at)
        total = sum(parts) + FREE**2 * self._cell + np.diag(self.noise)
        precision = np.linalg.inv(total)
        weights = precision @ self.y
        carried = parts[0] + parts[1]
        size, examples = np.exp(at[:2])
        slopes = [carried * self._size / size, carried * self._examples / examples, *(2 * part for part in parts)]
        change = (precision - np.outer(weights, weights)) / 2
        away = (at - _START) / PRIOR_SD**2
        value = float(self.y @ weights) / 2 + float(np.linalg.slogdet(total)[1]) / 2 + float(away @ (at - _START)) / 2
        return value, np.array([float((change * slope).sum()) for slope in slopes]) + away


def _by_model(cells: Sequence[Cell]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        found[cell.model] |= set(cell.worked)
    return found


def _between(distance: Callable[[Place, Place], float], places: Sequence[Place]) -> np.ndarray:
    return np.array([[distance(a, b) for b in places] for a in places])


def _alike(labels: Sequence[Hashable]) -> np.ndarray:
    return np.array([[float(a == b) for b in labels] for a in labels])


def _hessian(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Return the second derivatives by central differences."""
    size = len(at)
    found = np.zeros((size, size))
    steps = np.eye(size) * step
    for i in range(size):
        for j in range(i + 1):
            found[i, j] = found[j, i] = (
                function(at + steps[i] + steps[j])
                - function(at + steps[i] - steps[j])
                - function(at - steps[i] + steps[j])
                + function(at - steps[i] - steps[j])
            ) / (4 * step**2)
    return found
