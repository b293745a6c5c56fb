"""A noise model fitted to the trials of a ledger, and simulated outcomes drawn from it.

>>> trial = Trial("embedded", "1f", "prose", "2a", '{"name": "lora"}', "all-linear", lr=1e-2, seed=1, steps=40, batch=4,
...               length=128, parts=("test",), windows=8, curve_every=0, code="3c")
>>> world = World(QUICK, {}, correlated=False, rng=np.random.default_rng(0), centre=-2.0)
>>> loss, _ = world.outcome("lora", trial).scores["test"]
>>> round(loss, 3)
1.135
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np

from adapterlab.errors import AdapterlabError
from adapterlab.lab.statistics import row_component
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.tasks.base import Part


@dataclass(frozen=True)
class Noise:
    """Losses of a typical contestant on one task, and their variation, in nats per byte."""

    frozen: float
    """Loss of the frozen model."""
    gain: float
    """Decrease of the loss at the best learning rate after `steps` steps."""
    steps: int
    """Training steps of a reported run."""
    growth: float
    """Exponent of the gain as a power of the number of steps."""
    sharpness: float
    """Share of the gain lost one decade away from the best learning rate; the loss grows with the square of the distance."""
    shared: float
    """Standard deviation of the effect that a seed, through its batches, has on all contestants together."""
    own: float
    """Standard deviation of the remaining variation of a single run."""
    rows: float = 0.0
    """Standard deviation over test rows of the difference between two contestants; not part of simulated outcomes."""


QUICK = {
    "prose": Noise(1.1803, 0.0455, 40, 0.63, 3.30, 0.0, 0.0022, rows=0.0152),
    "restyle": Noise(1.0156, 0.0651, 40, 0.46, 2.20, 0.0021, 0.0023, rows=0.0112),
}
"""Result of `fit_noise` on a ledger of `studies/quick.toml` (142 trials on two cores), for use without a ledger; `rows` is
that of a later one of 169 trials."""


def fit_noise(rows: Iterable[tuple[Trial, Outcome, Mapping[str, str]]]) -> dict[str, Noise]:
    """Fit the noise model to the ledger of a finished study.

    The shared and the own variance are those of a two-way layout, contestants by seeds, of the reported test losses.

    Args:
        rows: Trials with their outcomes and environments, as a ledger yields them.

    Returns:
        By task, its noise.

    Raises:
        AdapterlabError: If no trial finished, or if on some task nothing was learned, or no two contestants were reported
            with the same two seeds.
    """
    by_task: dict[str, list[tuple[Trial, Outcome]]] = defaultdict(list)
    for trial, outcome, _ in rows:
        if outcome.status == "ok":
            by_task[trial.task].append((trial, outcome))
    if not by_task:
        raise AdapterlabError("the ledger has no finished trial: run a study first")
    return {task: _fit_task(task, runs) for task, runs in by_task.items()}


def _fit_task(task: str, runs: list[tuple[Trial, Outcome]]) -> Noise:
    frozen = next((o for t, o in runs if t.method == FROZEN), None)
    reported: dict[str, dict[int, tuple[Trial, Outcome]]] = defaultdict(dict)
    tuned: dict[str, dict[int, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for trial, outcome in runs:
        if trial.rows:
            if trial.method != FROZEN:
                reported[trial.adapter][trial.seed] = trial, outcome
        else:
            tuned[trial.adapter][trial.steps][trial.lr] = outcome.validation
    seeds = sorted(set.union(*(set(r) for r in reported.values()))) if reported else []
    whole = [adapter for adapter, by_seed in reported.items() if set(by_seed) == set(seeds)]
    if frozen is None or len(whole) < 2 or len(seeds) < 2:
        raise AdapterlabError(
            f"the ledger has too few trials on {task}: at least two contestants must be reported with the same two seeds"
        )
    table = np.array([[reported[a][s][1].scores[Part.TEST][0] for s in seeds] for a in whole])
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    own = float((rest**2).sum()) / ((len(whole) - 1) * (len(seeds) - 1))
    between = len(whole) * float(table.mean(axis=0).var(ddof=1))
    start = frozen.scores[Part.TEST][0]
    learners = [a for a, losses in zip(whole, table, strict=True) if start - losses.mean() >= (start - table.min()) / 2]
    if not learners:
        raise AdapterlabError(f"no contestant learned anything on {task}, so the noise of learning cannot be estimated")
    steps = next(iter(reported[whole[0]].values()))[0].steps
    gain = start - fmean(float(table[whole.index(a)].mean()) for a in learners)
    return Noise(
        frozen=start,
        gain=gain,
        steps=steps,
        growth=_growth([tuned[a] for a in learners], frozen.validation, gain, steps),
        sharpness=_sharpness([tuned[a] for a in learners], frozen.validation),
        shared=math.sqrt(max(0.0, (between - own) / len(whole))),
        own=math.sqrt(own),
        rows=_over_rows([[reported[a][s][1] for s in seeds] for a in learners]),
    )


def _over_rows(runs: list[list[Outcome]]) -> float:
    """Return the standard deviation of a row's difference, over all pairs of contestants; 0 if no rows were recorded."""
    tables = [np.array([outcome.rows.get(Part.TEST.value, ()) for outcome in by_seed]) for by_seed in runs]
    recorded = [table for table in tables if table.size]
    found = [row_component(a - b).variance * a.shape[1] for a, b in itertools.combinations(recorded, 2)]
    return math.sqrt(fmean(found)) if found else 0.0


def _growth(tuned: list[dict[int, dict[float, float]]], frozen: float, gain: float, steps: int) -> float:
    """Return the exponent that takes the best gain of each rung of the search to the gain of the reported runs."""
    powers = [
        math.log(gain / (frozen - min(losses.values()))) / math.log(steps / short)
        for rungs in tuned
        for short, losses in rungs.items()
        if 0 < short < steps and frozen > min(losses.values())
    ]
    return min(1.5, max(0.1, median(powers))) if powers else 0.5


def _sharpness(tuned: list[dict[int, dict[float, float]]], frozen: float) -> float:
    """Return the sharpness from the two best rates of the last rung; their distance costs on average half of a grid step."""
    found = []
    for rungs in tuned:
        losses = rungs[max(rungs)]
        (best, lr), *others = sorted((loss, lr) for lr, loss in losses.items())
        if others and best < frozen:
            apart = math.log10(others[0][1] / lr) ** 2
            found.append(2 * (others[0][0] - best) / apart / (frozen - best))
    return median(found) if found else 1.0


def noise_scale(share: float) -> float:
    """Return the factor on the noise of a run at a learning rate other than the best one.

    The standard deviation over seeds is proportional to the gain: over six seeds of LoRA on `restyle` it was 0.12 to 0.16
    of the gain after ten steps, for gains from 0.003 to 0.036 nats per byte.

    Args:
        share: Gain at the learning rate, as a share of the gain at the best one.
    """
    return min(1.0, abs(share))


@dataclass
class World:
    """Source of outcomes for one simulated study; each trial of each contestant is drawn separately."""

    noise: Mapping[str, Noise]
    """By task, the noise model."""
    effects: Mapping[str, float]
    """By contestant, its additional gain over the typical one, in nats per byte after the steps of a reported run."""
    correlated: bool
    """True to draw the effect of a seed once for all contestants; False to draw it for each run separately."""
    rng: np.random.Generator
    """Source of random numbers."""
    centre: float
    """Decimal logarithm of the best learning rate."""
    by_task: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By contestant and task, a further gain after the steps of a reported run that does not depend on the rate, in nats per
    byte."""
    tails: float = math.inf
    """Degrees of freedom of the noise of single runs, Student's t with the standard deviation `Noise.own`; above 2."""

    def __post_init__(self) -> None:
        self._shared: dict[tuple[str, int, int], float] = {}

    def outcome(self, contestant: str, trial: Trial) -> Outcome:
        """Return a simulated outcome.

        Args:
            contestant: Name of the contestant, for its effect.
            trial: The trial.
        """
        noise = self.noise[trial.task]
        if trial.steps == 0:
            scores = dict.fromkeys(trial.parts, (noise.frozen, 0.5))
            return Outcome("ok", scores, (), 0, 0.0, 0.0)
        growth = (trial.steps / noise.steps) ** noise.growth
        share = 1 - noise.sharpness * (math.log10(trial.lr) - self.centre) ** 2
        gain = (noise.gain + self.effects.get(contestant, 0.0)) * growth * share
        gain += self.by_task.get((contestant, trial.task), 0.0) * growth
        loss = noise.frozen - gain + self._draw(trial, noise) * noise_scale(share)
        scores = {part: (loss if part != Part.BASE else noise.frozen + gain, 0.5) for part in trial.parts}
        looks = range(trial.curve_every, trial.steps, trial.curve_every) if trial.curve_every else ()
        curve = tuple((step, noise.frozen) for step in looks)
        return Outcome("ok", scores, curve, 1, 1.0, 0.0)

    def _draw(self, trial: Trial, noise: Noise) -> float:
        if not self.correlated:
            return self._own(math.hypot(noise.shared, noise.own))
        key = trial.task, trial.seed, trial.steps
        if key not in self._shared:
            self._shared[key] = float(self.rng.normal(0, noise.shared))
        return self._shared[key] + self._own(noise.own)

    def _own(self, deviation: float) -> float:
        """Return the noise of one run, with a standard deviation."""
        if math.isinf(self.tails):
            return float(self.rng.normal(0, deviation))
        return deviation * math.sqrt((self.tails - 2) / self.tails) * float(self.rng.standard_t(self.tails))
