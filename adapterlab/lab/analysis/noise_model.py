"""What a ledger says of the noise of its trials, and outcomes drawn from that instead of trained."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.tasks.base import Part


@dataclass(frozen=True)
class Noise:
    """One task as a source of outcomes: a typical contestant's losses, in nats per byte, and what varies about them."""

    frozen: float
    """Loss before training."""
    gain: float
    """What a contestant gains at its best rate in `steps`."""
    steps: int
    growth: float
    """The gain goes as this power of the steps."""
    sharpness: float
    """Share of the gain that is lost one decade away from the best rate; it grows as the square."""
    shared: float
    """Standard deviation of what a seed does to every contestant alike: its batches."""
    own: float
    """Standard deviation of what it does to one run beside that."""


QUICK = {
    "prose": Noise(1.1803, 0.0455, 40, 0.63, 3.30, 0.0, 0.0022),
    "restyle": Noise(1.0156, 0.0651, 40, 0.46, 2.20, 0.0021, 0.0023),
}
"""What `fit_noise` gave on the ledger of `studies/quick.toml`, 142 trials on two cores; for where no ledger is at hand."""


def fit_noise(rows: Iterable[tuple[Trial, Outcome, Any]]) -> dict[str, Noise]:
    """By task, the noise of a finished study's ledger.

    Shared and own variance are those of a two-way layout, contestants by seeds, of the reported test losses. Raises
    `AdapterlabError` where no two contestants were reported with the same two seeds.
    """
    by_task: dict[str, list[tuple[Trial, Outcome]]] = defaultdict(list)
    for trial, outcome, _ in rows:
        if outcome.status == "ok":
            by_task[trial.task].append((trial, outcome))
    found = {task: _fit_task(task, runs) for task, runs in by_task.items()}
    if not found:
        raise AdapterlabError("the ledger holds no finished trial: run a study first")
    return found


def _fit_task(task: str, runs: list[tuple[Trial, Outcome]]) -> Noise:
    frozen = next((o for t, o in runs if t.method == FROZEN), None)
    reported: dict[str, dict[int, tuple[Trial, Outcome]]] = defaultdict(dict)
    tuned: dict[str, dict[int, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for trial, outcome in runs:
        if Part.TEST in outcome.scores:
            if trial.method != FROZEN:
                reported[trial.adapter][trial.seed] = trial, outcome
        else:
            tuned[trial.adapter][trial.steps][trial.lr] = outcome.validation
    seeds = sorted(set.union(*(set(r) for r in reported.values()))) if reported else []
    whole = [adapter for adapter, by_seed in reported.items() if set(by_seed) == set(seeds)]
    if frozen is None or len(whole) < 2 or len(seeds) < 2:
        raise AdapterlabError(f"the ledger has too little on {task}: it takes two contestants with the same two seeds")
    table = np.array([[reported[a][s][1].scores[Part.TEST][0] for s in seeds] for a in whole])
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    own = float((rest**2).sum()) / ((len(whole) - 1) * (len(seeds) - 1))
    between = len(whole) * float(table.mean(axis=0).var(ddof=1))
    start = frozen.scores[Part.TEST][0]
    learners = [a for a, losses in zip(whole, table, strict=True) if start - losses.mean() >= (start - table.min()) / 2]
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
    )


def _growth(tuned: list[dict[int, dict[float, float]]], frozen: float, gain: float, steps: int) -> float:
    """The power by which the gain of the tuning rounds' best rates leads to that of the reported runs."""
    powers = [
        math.log(gain / (frozen - min(losses.values()))) / math.log(steps / short)
        for rounds in tuned
        for short, losses in rounds.items()
        if 0 < short < steps and frozen > min(losses.values())
    ]
    return min(1.5, max(0.1, median(powers))) if powers else 0.5


def _sharpness(tuned: list[dict[int, dict[float, float]]], frozen: float) -> float:
    """From the last round, where the best rate and a neighbour meet: on average half of what a whole step costs."""
    found = []
    for rounds in tuned:
        losses = rounds[max(rounds)]
        (best, lr), *others = sorted((loss, lr) for lr, loss in losses.items())
        if others and best < frozen:
            apart = math.log10(others[0][1] / lr) ** 2
            found.append(2 * (others[0][0] - best) / apart / (frozen - best))
    return median(found) if found else 1.0


def noise_scale(share: float) -> float:
    """The noise of a run beside that at the best rate, where its gain is this share of the gain there.

    What varies from seed to seed is what was learned: over six seeds of LoRA on `restyle` it was 0.12 to 0.16 of the gain
    after ten steps, whether that gain was 0.003 or 0.036 nats per byte.
    """
    return min(1.0, abs(share))


@dataclass
class World:
    """Outcomes for one simulated study, drawn anew for every trial and contestant."""

    noise: Mapping[str, Noise]
    effects: Mapping[str, float]
    """By contestant, how much more it gains than the typical one, in nats per byte at the reported steps."""
    correlated: bool
    """Whether what a seed does to all alike is drawn once, or as part of each run's own noise."""
    rng: np.random.Generator
    centre: float
    """Decimal logarithm of the best learning rate."""

    def __post_init__(self) -> None:
        self._shared: dict[tuple[str, int, int], float] = {}

    def outcome(self, contestant: str, trial: Trial) -> Outcome:
        """What comes of one trial of a contestant."""
        noise = self.noise[trial.task]
        if trial.steps == 0:
            scores = dict.fromkeys(trial.parts, (noise.frozen, 0.5))
            return Outcome("ok", scores, (), 0, 0.0, 0.0)
        growth = (trial.steps / noise.steps) ** noise.growth
        share = 1 - noise.sharpness * (math.log10(trial.lr) - self.centre) ** 2
        gain = (noise.gain + self.effects.get(contestant, 0.0)) * growth * share
        loss = noise.frozen - gain + self._draw(trial, noise) * noise_scale(share)
        scores = {part: (loss if part != Part.BASE else noise.frozen + gain, 0.5) for part in trial.parts}
        curve = tuple((step, noise.frozen) for step in range(trial.curve_every, trial.steps, trial.curve_every or 1))
        return Outcome("ok", scores, curve, 1, 1.0, 0.0)

    def _draw(self, trial: Trial, noise: Noise) -> float:
        if not self.correlated:
            return float(self.rng.normal(0, math.hypot(noise.shared, noise.own)))
        key = trial.task, trial.seed, trial.steps
        if key not in self._shared:
            self._shared[key] = float(self.rng.normal(0, noise.shared))
        return self._shared[key] + float(self.rng.normal(0, noise.own))
