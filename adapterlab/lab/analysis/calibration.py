"""Calibration of the lab: how often it reports an effect, in simulated studies without one and with one of known size.

Simulated studies run through the code of real ones: learning rates are searched for, selected by validation loss, reported
with other seeds, and `make_scoreboard` compares the contestants. Only the outcomes of the trials are drawn from a noise
model fitted to a real ledger, instead of trained.

>>> rates = DetectionRates(0.0, True, 200, interval=0.05, holm=0.04, lead=0.02, across=0.03, same=0.9)
>>> [round(bound, 3) for bound in rates.bounds(rates.interval)]
[0.024, 0.09]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.noise_model import QUICK, Noise, World, fit_noise
from adapterlab.lab.analysis.pairwise import SIGNIFICANT
from adapterlab.lab.analysis.scoreboard import make_scoreboard
from adapterlab.lab.analysis.selection import ROUGH_REPLAYS
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.lr_search import HALF_DECADE, PER_DECADE
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.study.spec import Study

TWIN = "twin"
"""Name under which the reference's adapter runs a second time."""
PLANTED = (0.0, 0.0025, 0.005, 0.01, 0.02)
"""Effects planted in the twin, in nats per byte; 0 makes an A/A study."""


@dataclass(frozen=True)
class DetectionRates:
    """Shares of simulated studies in which an effect was found, by each criterion of the report.

    Without a planted effect, each of them but `same` is a rate of false alarms.
    """

    effect: float
    """Effect planted in the twin, in nats per byte. All other contestants equal the reference."""
    correlated: bool
    """True if part of the noise is shared by all runs with one seed, as by their batches; False if it is independent."""
    studies: int
    """Number of simulated studies."""
    interval: float
    """The 95 % interval of the twin against the reference excludes zero."""
    holm: float
    """The adjusted p-value of some contestant is below 0.05."""
    lead: float
    """The answer calls a lead real."""
    across: float
    """The interval for tasks like these excludes zero."""
    same: float
    """The twin is equivalent to the reference within the study's smallest difference that matters."""

    def bounds(self, share: float, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of one of the shares (Clopper and Pearson 1934).

        Args:
            share: One of the shares.
            level: Level of the interval.
        """
        interval = stats.binomtest(round(share * self.studies), self.studies).proportion_ci(level)
        return float(interval.low), float(interval.high)


def detection_rates(
    study: Study, noise: Mapping[str, Noise], effect: float, *, correlated: bool, studies: int = 200, seed: int = 0
) -> DetectionRates:
    """Simulate studies with an effect planted in the twin, and count the criteria that find it.

    The best learning rate is drawn uniformly within a quarter of a decade of the rate at which the search starts, so the
    selection is clear in some studies and a toss-up in others.

    Args:
        study: Study to simulate, on the tasks of `noise`.
        noise: By task, the noise model.
        effect: Effect planted in the twin, in nats per byte.
        correlated: True to share part of the noise between runs with one seed.
        studies: Number of simulated studies.
        seed: Seed of the simulation.

    Returns:
        The share of studies in which each criterion finds an effect.
    """
    twinned = twins(study.model_copy(update={"tasks": tuple(noise)}))
    resolved = resolve(twinned)
    middle, step = math.log10(_start(resolved)), HALF_DECADE / PER_DECADE
    counts = np.zeros(5)
    for i in range(studies):
        rng = np.random.default_rng([seed, i, correlated])
        world = World(noise, {TWIN: effect}, correlated, rng, middle + step * rng.uniform(-0.5, 0.5))
        scoreboard = make_scoreboard(Effects.of(simulate(resolved, world), ROUGH_REPLAYS))
        twin = next(row for row in scoreboard.rows if row.contestant == TWIN)
        rivals = [row for row in scoreboard.rows if row.versus is not None]
        assert twin.versus is not None
        assert twin.across is not None
        counts += [
            twin.versus.real,
            min(row.p for row in rivals) < SIGNIFICANT,
            scoreboard.leads,
            twin.across.overall.real,
            twin.same < SIGNIFICANT,
        ]
    return DetectionRates(effect, correlated, studies, *map(float, counts / studies))


def _start(resolved: ResolvedStudy) -> float:
    """Return the rate at which the search of every contestant starts, since they all are the reference's adapter."""
    reference = next(entry for entry in resolved.study.contestants if entry.name == resolved.study.reference)
    return resolved.start(reference.name, reference.build()).rate


def twins(study: Study) -> Study:
    """Return the study with every adapter replaced by the reference's, and one contestant named `TWIN`.

    Args:
        study: The study.
    """
    reference = next(c for c in study.contestants if c.name == study.reference)
    names = [c.name for c in study.contestants if c.name not in (study.reference, TWIN)]
    equal = tuple(reference.model_copy(update={"label": name}) for name in (study.reference, TWIN, *names[:-1]))
    return study.model_copy(update={"contestants": equal})


def simulate(resolved: ResolvedStudy, world: World) -> Results:
    """Return the results of one simulated study.

    Args:
        resolved: The study.
        world: Source of the outcomes.
    """
    contests = make_contests(resolved, {c.name: c.build() for c in resolved.study.entrants})
    return Results.of(play_study(contests, lambda contest, trial: world.outcome(contest.contestant, trial)))


@dataclass(frozen=True)
class Calibration:
    """Detection rates of simulated studies like one study, for several planted effects."""

    study: Study
    tasks: tuple[str, ...]
    noise_source: str
    """Origin of the noise, in words."""
    rates: tuple[DetectionRates, ...]


def calibrate(
    study: Study, ledger: Path | None = None, studies: int = 200, watch: Callable[[float], None] = lambda _: None
) -> Calibration:
    """Simulate studies without an effect and with one of known size, and count how often an effect is found.

    Args:
        study: The study to simulate.
        ledger: Ledger of a finished study to take the noise from; the quick study's noise if None.
        studies: Simulated studies for each effect.
        watch: Called with each effect before it is simulated.

    Returns:
        The detection rates for each planted effect, with shared and with independent noise.

    Raises:
        AdapterlabError: If there is no such ledger, or it has too few trials.
    """
    if ledger is not None and not ledger.is_file():
        raise AdapterlabError(f"no ledger at {ledger}: give the ledger.sqlite of a finished study")
    noise = QUICK if ledger is None else fit_noise(Ledger(ledger))
    rates = []
    for correlated, effect in itertools.product((True, False), PLANTED):
        watch(effect)
        rates.append(detection_rates(study, noise, effect, correlated=correlated, studies=studies))
    source = "the quick study's" if ledger is None else f"that of {ledger}"
    return Calibration(study, tuple(noise), source, tuple(rates))
