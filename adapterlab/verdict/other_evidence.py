"""Evidence of other studies and of published tables on one claim, by itself and together with a study of one's own.

The difference that the claim is about is one number in each cell of the tables, in units of the smallest difference that
matters. The cells' numbers and the one that the claim means are one Gaussian process (`adapterlab.lab.statistics.joint`):
they are correlated by model size and training (`carry`), and those of one task or one source have a deviation in common. A
random-effects meta-analysis shows the mean over the studies and their heterogeneity.

>>> from adapterlab.verdict.claims import read_test
>>> test = read_test("PiSSA Beats LoRA", {"better": "pissa", "than": "lora", "in": "in_domain", "on": "prose"})
>>> from adapterlab.evidence import Store
>>> from adapterlab.evidence.cells import cells_of
>>> found = other_evidence(test, cells_of(s for s in Store().scores if not s.source.startswith("adapterlab")))
>>> found.sources, found.meta is not None and found.meta.studies
(('lr-matters', 'peft-arena'), 20)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeGuard

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from adapterlab.evidence.cells import FROZEN, Cell
from adapterlab.evidence.fit_carry import shipped_carry
from adapterlab.evidence.tuning import TuningLoss, shipped_tuning_loss
from adapterlab.lab.analysis.evidence import BETWEEN, odds
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics.carry import Carry, Place
from adapterlab.lab.statistics.joint import JointModel
from adapterlab.lab.statistics.meta_analysis import MetaAnalysis, random_effects
from adapterlab.verdict.claim_verdict import SLACK
from adapterlab.verdict.forms import Comparison, Equivalent, Matchable, Reaches, Test
from adapterlab.verdict.relevance import TARGET, place_of
from adapterlab.verdict.wanted import Wanted

SOURCE_NODES = 6
"""Nodes of the grid over the scale of sources."""


@dataclass(frozen=True)
class Effect:
    """The difference that a claim is about, in one cell."""

    source: str | None
    """None for a study of one's own."""
    task: str
    place: Place
    value: float
    """In units of the smallest difference that matters; positive if the first contestant is better."""
    variance: float
    label: str = ""
    """Model and setting, for lists."""


@dataclass(frozen=True)
class OtherEvidence:
    """Evidence of tables on one claim."""

    effects: tuple[Effect, ...]
    meta: MetaAnalysis | None
    """Meta-analysis of the effects by source; None without effects."""
    factor: float
    """Posterior over prior odds that the claim holds where claims are about, by the tables alone."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources with an effect."""
        return tuple(dict.fromkeys(effect.source for effect in self.effects if effect.source is not None))


def is_about_a_difference(test: Test) -> TypeGuard[Comparison]:
    """Return True if a claim is about the difference of two contestants as they were trained, which tables have.

    Args:
        test: The claim's test.
    """
    return isinstance(test, Comparison) and not (isinstance(test, Matchable) and test.at is not None)


def other_evidence(test: Comparison, cells: Sequence[Cell], smallest: float = 1.0) -> OtherEvidence:
    """Collect and pool what tables say of one claim.

    Args:
        test: The claim's test, with its contestants as the map names them.
        cells: Cells of the tables.
        smallest: Smallest difference that matters in the unit of the test's own margin.

    Returns:
        The effects, their meta-analysis, and the Bayes factor.
    """
    effects = tuple(effects_of(test, cells))
    meta = None
    if effects:
        meta = random_effects(
            [effect.value for effect in effects],
            [effect.variance for effect in effects],
            [effect.source for effect in effects],
        )
    return OtherEvidence(effects, meta, bayes_factor(test, effects, smallest))


def effects_of(test: Comparison, cells: Sequence[Cell], loss: TuningLoss | None = None) -> list[Effect]:
    """Return the difference that a test is about in each cell that has both contestants.

    Args:
        test: The test.
        cells: Cells of the tables.
        loss: Correction of values that were not tuned; that of the package's tables if None.

    Returns:
        The effects. Cells of another metric are left out, those where a contestant ended below the model before training,
        and those where the first contestant has more parameters than the test allows, or an unknown number of them.
    """
    correction = loss or shipped_tuning_loss()
    first, second = (str(Wanted.parse(name)) for name in test.contestants())
    found = []
    for cell in cells:
        if cell.metric != test.metric or not {first, second} <= set(cell.worked):
            continue
        a, b = (correction.corrected(cell.best(name), cell.metric) for name in (first, second))
        size = test.share_of_size
        if size is not None and not (a.trained and b.trained and a.trained <= (1 + SLACK) * size * b.trained):
            continue
        share = 1.0
        base = 0.0
        if isinstance(test, Reaches):
            if FROZEN not in cell.runs:
                continue
            share, base = test.reaches, cell.best(FROZEN).value
        value = (a.value - base) - share * (b.value - base)
        variance = a.variance + share**2 * b.variance
        label = ", ".join(part for part in (cell.model, cell.setting) if part)
        found.append(Effect(cell.source, cell.task, place_of(cell.parameters, cell.examples), value, variance, label))
    return found


def bayes_factor(
    test: Comparison, effects: Sequence[Effect], smallest: float = 1.0, carry: Carry | None = None
) -> float:
    """Return the posterior over prior odds that a claim holds for large models, by effects at several places.

    Args:
        test: The claim's test.
        effects: Effects in cells of tables, and of a study of one's own.
        smallest: Smallest difference that matters in the unit of the test's own margin.
        carry: Correlation between places; the fit to the package's tables if None.

    Returns:
        The Bayes factor; 1 without effects.
    """
    if not effects:
        return 1.0
    grid = _Grid.of(test, effects, carry or shipped_carry())
    after, before = grid.after(*_region(test, smallest)), grid.before(*_region(test, smallest))
    return float(odds(after) / odds(before))


def _region(test: Comparison, smallest: float) -> tuple[float, float]:
    """Return the ends of the values for which a claim holds, in units of the smallest difference that matters."""
    if isinstance(test, Equivalent):
        return -test.within / smallest, test.within / smallest
    if isinstance(test, Reaches):
        return 0.0, math.inf
    by: float | None = getattr(test, "by", None)
    return (1.0 if by is None else by / smallest), math.inf


@dataclass(frozen=True)
class _Grid:
    """Normal distribution of the difference that a claim is about, at each node of a grid over the scales."""

    mean: np.ndarray
    variance: np.ndarray
    prior: np.ndarray
    """Variance before the effects."""
    shares: np.ndarray
    """Posterior weight of each node."""

    @classmethod
    def of(cls, test: Comparison, effects: Sequence[Effect], carry: Carry) -> _Grid:
        tasks = len(test.tasks)
        places = [TARGET] * tasks + [effect.place for effect in effects]
        near = np.array([[carry.correlation(a, b) for b in places] for a in places])
        task = _same([*test.tasks, *(effect.task for effect in effects)])
        source = _same([*(None for _ in test.tasks), *(effect.source for effect in effects)])
        mu, u, s = _nodes()
        covariance = near * (mu + u * task) + s * source  # (nodes, places, places)
        values = np.array([effect.value for effect in effects])
        total = covariance[:, tasks:, tasks:] + np.diag([effect.variance for effect in effects])
        cross = covariance[:, :tasks, tasks:].mean(axis=1)
        solved = np.linalg.solve(total, np.stack([np.broadcast_to(values, cross.shape), cross], axis=2))
        log = -0.5 * (solved[:, :, 0] @ values + np.linalg.slogdet(total)[1])
        # What is far says little of the scales too.
        log = float(near[:tasks, tasks:].max()) * log
        prior = covariance[:, :tasks, :tasks].mean(axis=(1, 2)) + u.ravel() / tasks  # as on as many other tasks
        variance = prior - (cross * solved[:, :, 1]).sum(axis=1)
        return cls((cross * solved[:, :, 0]).sum(axis=1), variance, prior, np.exp(log - logsumexp(log)))

    def after(self, low: float, high: float) -> np.ndarray:
        """Return the posterior probability of a range."""
        return np.asarray(self.shares @ _between(self.mean, self.variance, low, high))

    def before(self, low: float, high: float) -> np.ndarray:
        """Return the prior probability of a range."""
        return np.asarray(_between(0 * self.mean, self.prior, low, high).mean())


def _between(mean: np.ndarray, variance: np.ndarray, low: float, high: float) -> np.ndarray:
    sd = np.sqrt(variance)
    found: np.ndarray = stats.norm.cdf((high - mean) / sd) - stats.norm.cdf((low - mean) / sd)
    return found


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the variances of a difference's mean, of its deviation on a task and in a source: `(nodes, 1, 1)` each.

    They are those of the joint model of a study's contestants, whose variances are half of a difference's.
    """
    at = (np.arange(SOURCE_NODES) + 0.5) / SOURCE_NODES
    sources = (BETWEEN * stats.halfcauchy.ppf(at)) ** 2
    pairs = JointModel(TYPICAL, BETWEEN).nodes()
    nodes = np.array([(2 * mu, 2 * u, source) for mu, u in pairs for source in sources])
    mu, u, source = nodes.T[:, :, None, None]
    return mu, u, source


def _same(labels: Sequence[str | None]) -> np.ndarray:
    return np.array([[float(a is not None and a == b) for b in labels] for a in labels])
