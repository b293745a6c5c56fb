"""Power of a study before it runs: how wide its intervals will be, and which differences it can find.

Studies of twins are simulated with the search and the statistics of the real one, as in
`adapterlab.lab.analysis.calibration`; the choice of the test rows is added. The power is that of the first step of Holm's
correction over all pairs of contestants, so it is a lower bound.

>>> power = Power(error=0.003, df=20.0, pairs=15, difference=0.01, noise="made up")
>>> round(power.half_width, 4), round(power.smallest_found, 4), round(power.of(0.01), 2)
(0.0063, 0.0127, 0.52)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean, median

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.calibration import TWIN, simulate, twins
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.noise_model import QUICK, Noise, World, fit_noise
from adapterlab.lab.analysis.pairwise import SIGNIFICANT
from adapterlab.lab.analysis.selection import ROUGH_REPLAYS
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.lr_search import PER_DECADE
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.run.resolve import ResolvedStudy

STUDIES = 12
"""Number of simulated studies."""
MOST = 6
"""Contestants simulated, at most: more hardly change the error."""
ENOUGH = 0.8
"""Power at which a difference counts as one that the study finds."""
TOO_LITTLE = 0.2
"""Power below which a study is said to find nothing."""
NODES = 1000
"""Points of the integral over the estimated error."""


@dataclass(frozen=True)
class Power:
    """Power of the in-domain comparison of two contestants, averaged over the tasks of the main unit."""

    error: float
    """Expected standard error of a difference; infinite if the design leaves it unknown."""
    df: float
    """Its degrees of freedom."""
    pairs: int
    """Pairs of contestants, whose p-values are corrected together."""
    difference: float
    """A typical difference."""
    noise: str
    """Origin of the noise, in words."""

    @property
    def half_width(self) -> float:
        """Expected half of the width of a 95 % interval."""
        return float(stats.t.ppf(0.975, self.df)) * self.error if math.isfinite(self.error) else math.inf

    @property
    def smallest_found(self) -> float:
        """Smallest difference that is found in 80 % of studies; infinite if none is."""
        if not math.isfinite(self.error):
            return math.inf
        reach = self.error * (self._critical + 10)
        return float(brentq(lambda difference: self.of(difference) - ENOUGH, 0.0, reach))

    @property
    def finds_nothing(self) -> bool:
        """True if a typical difference would be found in less than 20 % of studies."""
        return self.of(self.difference) < TOO_LITTLE

    @property
    def _critical(self) -> float:
        return float(stats.t.ppf(1 - SIGNIFICANT / 2 / self.pairs, self.df))

    def of(self, difference: float) -> float:
        """Return the share of studies in which a difference is found, by the noncentral t distribution.

        Args:
            difference: The true difference.
        """
        if not math.isfinite(self.error):
            return 0.0
        # An integral over the estimated error; scipy's own noncentral t is nan for some fractional degrees of freedom.
        shares = (np.arange(NODES) + 0.5) / NODES
        limits = self._critical * np.sqrt(stats.chi2.ppf(shares, self.df) / self.df)
        shift = difference / self.error
        return float(np.mean(stats.norm.sf(limits - shift) + stats.norm.cdf(-limits - shift)))


def power_of(resolved: ResolvedStudy, ledger: Ledger | None = None) -> Power:
    """Return the power of a study at its main cell.

    Args:
        resolved: The study.
        ledger: Ledger whose noise is taken, if it has enough trials; that of the quick study otherwise.
    """
    resolved = resolved.main
    study = resolved.study
    tasks = tuple(task for task in study.tasks if resolved.unit(task) == resolved.unit(study.tasks[0]))
    noise, source = _noise(ledger)
    usual = next(iter(noise.values()))
    by_task = {task: noise.get(task, usual) for task in tasks}
    ranked = [entry for entry in study.contestants if study.competes(entry.name)]
    pairs = max(1, len(ranked) * (len(ranked) - 1) // 2)
    small = study.model_copy(update={"contestants": _few(resolved), "tasks": tasks, "full_ft": False})
    error, df = _error(replace(resolved, study=twins(small)), by_task)
    rows = sum(by_task[task].rows ** 2 for task in tasks) / study.report.windows / len(tasks) ** 2
    return Power(math.sqrt(error**2 + rows), df, pairs, TYPICAL * study.report.smallest, source)


def _few(resolved: ResolvedStudy) -> tuple[object, ...]:
    """Return the reference and a few others, at least two contestants in all."""
    study = resolved.study
    reference = next(c for c in study.contestants if c.name == study.reference)
    others = [c for c in study.contestants if c.name != study.reference][: MOST - 1]
    return (reference, *(others or [reference.model_copy(update={"label": TWIN})]))


def _noise(ledger: Ledger | None) -> tuple[Mapping[str, Noise], str]:
    if ledger is not None:
        try:
            return fit_noise(ledger), "this study's trials so far"
        except AdapterlabError:  # too few trials
            pass
    return QUICK, "that of the quick study"


def _error(resolved: ResolvedStudy, noise: Mapping[str, Noise]) -> tuple[float, float]:
    """Return the root of the mean squared error of a twin's difference, and the median of its degrees of freedom."""
    entry = resolved.study.contestants[0]
    centre = math.log10(resolved.start(entry.name, entry.build()).rate)
    found = []
    for i in range(STUDIES):
        rng = np.random.default_rng([7, i])
        world = World(noise, {}, correlated=True, rng=rng, centre=centre + rng.uniform(-0.5, 0.5) / PER_DECADE)
        effects = Effects.of(simulate(resolved, world), ROUGH_REPLAYS)
        found.append(effects.compare(TWIN, resolved.study.reference, "in_domain"))
    if not all(math.isfinite(effect.error) for effect in found):
        return math.inf, 1.0
    return math.sqrt(fmean(effect.error**2 for effect in found)), median(effect.df for effect in found)
