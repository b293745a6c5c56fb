"""The lab's calibration: studies in which nothing is to be found, and studies with an effect of a known size.

A simulated study is played by the code that plays a real one: the rates are tuned, the grid grows, the choice is made on
validation and reported on fresh seeds, `make_scoreboard` compares. Only the trials' outcomes are drawn from the noise of a
real ledger instead of trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.noise_model import QUICK, Noise, World, fit_noise
from adapterlab.lab.analysis.pairwise import SIGNIFICANT
from adapterlab.lab.analysis.scoreboard import make_scoreboard
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import finish, make_contests
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.study.spec import Study

TWIN = "twin"
"""The name under which the reference's adapter runs a second time."""


PLANTED = (0.0, 0.0025, 0.005, 0.01, 0.02)
"""Effects planted in the twin, in nats per byte; 0 is the A/A study."""


@dataclass(frozen=True)
class DetectionRates:
    """In what share of simulated studies something was found, by each of the ways in which a report says so."""

    effect: float
    """What was planted in the twin, in nats per byte. Every other contestant is the reference's adapter as it is."""
    correlated: bool
    """Whether a seed's batches do the same to every contestant, or each run's noise is all its own."""
    studies: int
    interval: float
    """The twin's 95 % interval left out zero."""
    holm: float
    """Some contestant's corrected p-value was below 0.05; where nothing was planted, each of these is a false alarm."""
    lead: float
    """The study's sentence called a lead real."""
    across: float
    """The interval for tasks like these left out zero."""
    same: float
    """The twin was called the same as the reference within the study's smallest difference that matters."""

    def bounds(self, share: float, level: float = 0.95) -> tuple[float, float]:
        """The interval of one of the shares (Clopper and Pearson 1934)."""
        found = stats.binomtest(round(share * self.studies), self.studies).proportion_ci(level)
        return float(found.low), float(found.high)


def detection_rates(
    study: Study, noise: Mapping[str, Noise], effect: float, *, correlated: bool, studies: int = 200, seed: int = 0
) -> DetectionRates:
    """Play `studies` simulated studies with `effect` planted in the twin and count what they find.

    The best learning rate lies anywhere between two of the grid's, so that the choice is now easy and now a toss-up.
    """
    plan = twins(study.model_copy(update={"tasks": tuple(noise)}))
    resolved = resolve(plan)
    middle, step = _grid(plan)
    found = np.zeros(5)
    for i in range(studies):
        rng = np.random.default_rng([seed, i, correlated])
        world = World(noise, {TWIN: effect}, correlated, rng, middle + step * rng.uniform(-0.5, 0.5))
        scoreboard = make_scoreboard(Effects.of(simulate(resolved, world)))
        twin = next(row for row in scoreboard.rows if row.contestant == TWIN)
        rivals = [row for row in scoreboard.rows if row.versus is not None]
        assert twin.versus is not None
        assert twin.across is not None
        found += [
            twin.versus.real,
            min(row.p for row in rivals) < SIGNIFICANT,
            scoreboard.leads,
            twin.across.overall.real,
            twin.same < SIGNIFICANT,
        ]
    return DetectionRates(effect, correlated, studies, *map(float, found / studies))


def _grid(study: Study) -> tuple[float, float]:
    """The middle of the grid of learning rates and its spacing, in decades."""
    rates = [math.log10(rate) for rate in study.tuning.start]
    return rates[len(rates) // 2], rates[1] - rates[0]


def twins(study: Study) -> Study:
    """The study with its reference's adapter as every contestant, under the others' names, and once more as the twin."""
    model = next(c for c in study.contestants if c.name == study.reference)
    names = [c.name for c in study.contestants if c.name not in (study.reference, TWIN)]
    same = tuple(model.model_copy(update={"label": name}) for name in (study.reference, TWIN, *names[:-1]))
    return study.model_copy(update={"contestants": same})


def simulate(resolved: ResolvedStudy, world: World) -> Results:
    """One study played to its end in a simulated world."""
    contests = make_contests(resolved, {c.name: c.build() for c in resolved.study.entrants})
    for contest in contests:
        finish(contest, partial(world.outcome, contest.contestant))
    return Results.of(contests)


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
    """Simulate studies in which nothing is to be found, or an effect of a known size, and count what they find.

    Args:
        study: The study to simulate.
        ledger: Ledger of a finished study to take the noise from; the quick study's noise if None.
        studies: Simulated studies for each effect.
        watch: Called with each effect before it is simulated.

    Raises:
        AdapterlabError: If there is no such ledger, or too little in it.
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
