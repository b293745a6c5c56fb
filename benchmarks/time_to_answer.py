"""Hours to an answer: a fixed number of seeds beside a race, in simulated studies with the differences of the quick study.

    python -m benchmarks.time_to_answer --studies 100

A comparison with the leader or the reference counts as answered if one of the two is better or if they are equivalent, at an
error of 5 % for all comparisons together. Outcomes are drawn from the noise model of the quick study, its search, its
statistics and its design are the lab's own. The result is written to `benchmarks/results/time_to_answer.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.noise_model import QUICK, World
from adapterlab.lab.analysis.pairwise import SIGNIFICANT, PairTable
from adapterlab.lab.analysis.selection import ROUGH_REPLAYS
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.statistics import equivalence
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training, Tuning
from adapterlab.lab.trial.spec import FROZEN

RESULT = Path(__file__).parent / "results" / "time_to_answer.md"
GAINS: Mapping[str, float] = {"lora": 0.0, "dora": 0.0, "oft": -0.008, "pissa": -0.012, "vera": -0.017, "ia3": -0.028}
"""Gain against the reference, in nats per byte, as the quick study found it."""
SECONDS = 0.2
"""Of a training step on one core, about the quick study's mean."""
MOST = 10
"""Seeds of the longest design."""


@dataclass(frozen=True)
class Row:
    """Costs and answers of a design, as means over the studies."""

    design: str
    answered: float
    """Share of the comparisons with the leader or the reference that are answered."""
    wrong: float
    """Share of those answers that are wrong by sign, or call different what is equal."""
    width: float
    """Half of the width of their intervals."""
    runs: float
    """Reported runs."""
    steps: float
    """Training steps, with the search."""

    @property
    def hours(self) -> float:
        """Hours of one core."""
        return self.steps * SECONDS / 3600


def plan(design: str, seeds: int) -> Study:
    """Return a study whose contestants differ by their simulated gains alone.

    Args:
        design: `fixed` or `racing`.
        seeds: Seeds, in a race at most.
    """
    return Study(
        name="time-to-answer",
        tasks=tuple(QUICK),
        contestants=tuple(Contestant(adapter="lora", label=name) for name in GAINS),
        full_ft=False,
        full_ft_reason="not compared",
        training=Training(steps=40),
        tuning=Tuning(regret_sample=0),
        report=Reporting(seeds=tuple(range(1, seeds + 1)), design=design, windows=128),
    )


def measure(design: str, seeds: int, studies: int) -> Row:
    """Simulate studies of one design.

    Args:
        design: `fixed` or `racing`.
        seeds: Seeds, in a race at most.
        studies: Number of studies.
    """
    resolved, found = resolve(plan(design, seeds)), []
    for number in range(studies):
        rng = np.random.default_rng(number)
        world = World(QUICK, GAINS, correlated=True, rng=rng, centre=-2.0 + 0.25 * rng.uniform(-0.5, 0.5))
        results = simulate(resolved, world)
        effects = Effects.of(results, ROUGH_REPLAYS)
        names = sorted(GAINS, key=lambda name: -effects.gained(name, "in_domain").mean)
        pairs = PairTable.of(effects, names)
        asked = {pair: effect for pair, effect in pairs.effects.items() if names[0] in pair or "lora" in pair}
        better = [pair for pair in asked if pairs.adjusted[pair] < SIGNIFICANT]
        same = [pair for pair in asked if pair not in better and equivalence(asked[pair], pairs.smallest) < SIGNIFICANT]
        false = [(a, b) for a, b in better if asked[a, b].mean * (GAINS[a] - GAINS[b]) <= 0]
        false += [(a, b) for a, b in same if abs(GAINS[a] - GAINS[b]) >= pairs.smallest]
        contests = [contest for contest in results.contests.values() if contest.contestant != FROZEN]
        found.append(
            (
                (len(better) + len(same)) / len(asked),
                len(false) / len(asked),
                fmean((effect.high - effect.low) / 2 for effect in asked.values()),
                sum(len(contest.reported) for contest in contests),
                sum(trial.steps for contest in contests for trial in contest.trials),
            )
        )
    name = f"fixed, {seeds} seeds" if design == "fixed" else f"race, 2 to {seeds} seeds"
    return Row(name, *(float(column) for column in np.mean(found, axis=0)))


def table(rows: list[Row], studies: int) -> str:
    """Return the page.

    Args:
        rows: One for each design.
        studies: Number of studies of each.
    """
    lines = [
        "# Time to an answer",
        "",
        f"Means over {studies} simulated studies of six contestants on two tasks, with the differences and the noise of",
        "the quick study (`python -m benchmarks.time_to_answer`). Answered: comparisons with the leader or the reference",
        "in which one is better or both are equivalent, at an error of 5 % for all together; wrong: answered wrongly.",
        "",
        "| design | answered | wrong | half-width | reported runs | steps | hours of one core |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        cells = (
            f"{r.answered:.0%}",
            f"{r.wrong:.1%}",
            f"{r.width:.4f}",
            f"{r.runs:.0f}",
            f"{r.steps:,.0f}",
            f"{r.hours:.2f}",
        )
        lines.append(f"| {' | '.join((r.design, *cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all designs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    designs = [("fixed", n) for n in (2, 3, 5, 8, MOST)] + [("racing", n) for n in (3, 5, 8, MOST)]
    text = table([measure(design, seeds, given.studies) for design, seeds in designs], given.studies)
    given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
