"""The tuning regret that a study measured of a sample of its contestants.

>>> measured = TuningRegret({"lora": Regret(-0.0002, 0.0011), "oft": Regret(0.0018, 0.0009)}, 0.005, 0, "nats per byte")
>>> measured.sentence
'Tuning regret: lora 0.000 ± 0.001, oft 0.002 ± 0.001 nats per byte.'
>>> measured.too_large
()
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.run.regret import Regret, regret_of


@dataclass(frozen=True)
class TuningRegret:
    """Regret of the sampled contestants, at one cell, over tasks with one unit of loss."""

    regrets: Mapping[str, Regret]
    """By contestant, the reference first; without those for which no rate was found."""
    smallest: float
    """Smallest difference that matters; regret above it extends all searches."""
    extensions: int
    """Times that all searches were extended."""
    unit: str
    """Unit of the losses."""

    @property
    def too_large(self) -> tuple[str, ...]:
        """Contestants whose regret is still above the smallest difference that matters."""
        return tuple(name for name, regret in self.regrets.items() if regret.mean > self.smallest)

    @property
    def sentence(self) -> str:
        """Regrets with their standard errors, in a sentence; empty if none was measured."""
        if not self.regrets:
            return ""
        values = ", ".join(f"{name} {_value(regret)}" for name, regret in self.regrets.items())
        text = f"Tuning regret: {values} {self.unit}"
        if self.extensions:
            text += f", after {self.extensions} extension{'s' * (self.extensions > 1)} of all searches"
        if self.too_large:
            above = f"above {self.smallest:g}, the smallest difference that matters"
            text += f"; that of {' and '.join(self.too_large)} is {above}"
        return f"{text}."


def _value(regret: Regret) -> str:
    if not math.isfinite(regret.mean):
        return "infinite (the chosen rate diverged)"
    return f"{regret.floored:.3f} ± {regret.error:.3f}"


def tuning_regret(results: Results) -> TuningRegret:
    """Return the regret of the sampled contestants.

    Args:
        results: Finished contests, on tasks with one unit of loss.
    """
    study = results.study
    regrets = {
        name: regret_of([results.contests[name, task] for task in study.tasks if (name, task) in results.contests])
        for name in study.regret_sample
    }
    contests = [contest for contest in results.contests.values() if contest.task in study.tasks]
    return TuningRegret(
        {name: regret for name, regret in regrets.items() if regret is not None},
        study.report.smallest,
        max((contest.extensions for contest in contests), default=0),
        results.unit,
    )
