"""Evidence of other studies and of published tables on one claim, by itself and together with a study of one's own.

The difference that the claim is about is one number in each cell of the tables, in units of the smallest difference that
matters. The cells' numbers and the one that the claim means are one Gaussian process (`adapterlab.lab.statistics.joint`):
they are correlated by model size and training (`carry`), and those of one task or one source have a deviation in common. A
random-effects meta-analysis shows the mean over the studies and their heterogeneity.

>>> from adapterlab.verdict.claims import read_test
>>> test = read_test("PiSSA Beats LoRA", {"better": "pissa", "than": "lora", "in": "in_domain", "on": "prose"})
>>> from adapterlab.evidence import Store
>>> from adapterlab.evidence.cells import cells_of
>>> found = other_evidence(test, cells_of(s for s in Store().scores if s.source != "adapterlab-quick"))
>>> found.sources, found.meta is not None and found.meta.studies
(('lr-matters', 'peft-arena'), 20)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from adapterlab.evidence.cells import FROZEN, Cell
from adapterlab.evidence.fit_carry import shipped_carry
from adapterlab.evidence.tuning import TuningLoss, shipped_tuning_loss
from adapterlab.lab.analysis.evidence import BETWEEN, SAMPLES, odds
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics.carry import Carry, Place
from adapterlab.lab.statistics.joint import Columns, JointModel
from adapterlab.lab.statistics.meta_analysis import MetaAnalysis, random_effects
from adapterlab.verdict.claim_verdict import SLACK
from adapterlab.verdict.forms import Comparison, Equivalent, Matchable, Reaches, Test
from adapterlab.verdict.relevance import TARGET, place_of
from adapterlab.verdict.wanted import Wanted


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
    lengths = carry or shipped_carry()
    tasks = len(test.tasks)
    places = [TARGET] * tasks + [effect.place for effect in effects]
    correlation = np.array([[lengths.correlation(a, b) for b in places] for a in places])
    columns = Columns(
        tasks,
        correlation,
        (*test.tasks, *(effect.task for effect in effects)),
        tuple(range(len(places))),
        (*(None for _ in test.tasks), *(effect.source for effect in effects)),
    )
    # One contrast takes the place of a contestant, whose variances are half of a difference's.
    model = JointModel(math.sqrt(2) * TYPICAL, math.sqrt(2) * BETWEEN, level=0)
    values = np.array([[effect.value for effect in effects]])
    variances = np.array([[effect.variance for effect in effects]])
    posterior = model.condition(values, variances, columns)
    known = float(correlation[:tasks, tasks:].max())
    over = range(tasks)
    draws = (
        posterior.draw(SAMPLES, seed=1, scales=known).over(over)[:, 0],
        model.prior(1, tasks, SAMPLES, seed=0).over(over)[:, 0],
    )
    after, before = (odds(_holds(test, values, smallest).mean()) for values in draws)
    return float(after / before)


def _holds(test: Comparison, values: np.ndarray, smallest: float) -> np.ndarray:
    if isinstance(test, Equivalent):
        found: np.ndarray = np.abs(values) <= test.within / smallest
        return found
    if isinstance(test, Reaches):
        return values > 0
    by: float | None = getattr(test, "by", None)
    margin = 1.0 if by is None else by / smallest
    return values > margin
