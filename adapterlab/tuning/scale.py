"""Scale of a tuning study: the steps, seeds, rows and extras that fit in the time.

>>> LADDER[0].seeds, LADDER[-1].seeds
(5, 2)
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from adapterlab.lab.study.spec import FULL_FT, Study
from adapterlab.tuning.clock import Clock

MIN_STEPS, MAX_STEPS = 20, 5000
"""Steps of a reported run, at least and at most."""
ENOUGH_STEPS, FAIR_STEPS = 100, 40
"""Steps above which more seeds are preferred to more steps; steps below which contestants are left out instead."""
FEWEST_SEEDS, USUAL_SEEDS, MAX_SEEDS = 2, 3, 10
"""Seeds of a reported contestant: at least, where time is short but not very, and at most."""
FEWEST_CONTESTANTS = 2
"""Contestants of a shortlist that are left in, at least, if time is short."""
MIN_ROWS, MAX_ROWS = 16, 512
"""Rows scored of each part, at least and at most."""
ROWS_PER_SEED = 24
"""Rows per seed with which the choice of the rows adds as much to the variance of a difference as the seeds do."""
SCORING_SHARE = 1 / 3
"""Share of the time that scoring may take."""
PLANNED_SHARE = 0.9
"""Share of the time that is planned for; the rest is for what cannot be foreseen."""
NO_TIME_FOR_FULL_FT = "there is no time for it"


@dataclass(frozen=True)
class Scale:
    """Seeds and extras of a study."""

    seeds: int
    keep: int = 1
    """Rates of a search that are trained again at full length."""
    regret: bool = False
    """True to measure the regret of the search."""
    full_ft: bool = False
    """True to run full fine-tuning too."""
    curve: int = 1
    """Parts into which the curve over training divides a reported run; 1 for no curve."""


LADDER = (
    Scale(seeds=5, keep=2, regret=True, full_ft=True, curve=5),
    Scale(seeds=4, keep=2, regret=True, full_ft=True, curve=5),
    Scale(seeds=3, keep=2, regret=True, full_ft=True, curve=5),
    Scale(seeds=3, keep=2, full_ft=True, curve=2),
    Scale(seeds=3, keep=2, curve=2),
    Scale(seeds=3),
    Scale(seeds=2),
)
"""Scales of a study, the largest first; the first with enough steps is chosen."""


class Fitted(NamedTuple):
    """A study that fits in the time."""

    study: Study
    left_out: tuple[str, ...]
    """Contestants at the end of the shortlist, for which there is no time."""


class Fit(NamedTuple):
    """Requirements of one round of looking for a study that fits."""

    steps: int
    """Steps at least."""
    seeds: int
    """Seeds at least."""
    contestants: int
    """Contestants that are left in at least."""


def rows_for(seeds: int, most: int) -> int:
    """Return the rows to score of each part: as many as let the seeds dominate the intervals, and no more.

    Args:
        seeds: Reported runs of each contestant.
        most: Rows that there are.

    >>> rows_for(3, most=1000), rows_for(3, most=50)
    (72, 50)
    """
    return min(most, max(MIN_ROWS, ROWS_PER_SEED * seeds), MAX_ROWS)


def fit(
    draft: Study, clock: Clock, seconds: float, *, most: int, seeds: int | None = None, chosen: bool = True
) -> Fitted | None:
    """Return the largest study that fits in the time.

    Fewer seeds, then fewer extras, then fewer contestants are taken, until there is time for enough steps.

    Args:
        draft: The study with all contestants.
        clock: Times measured here.
        seconds: The time.
        most: Steps of a reported run, at most.
        seeds: Reported runs of each contestant, if the user chose them.
        chosen: True if the user chose the contestants, so that none is left out.

    Returns:
        The study; None if not even the smallest one fits.
    """
    count = len(draft.contestants)
    few = count if chosen else min(count, FEWEST_CONTESTANTS)
    rounds = [
        Fit(ENOUGH_STEPS, USUAL_SEEDS, count),
        Fit(FAIR_STEPS, USUAL_SEEDS, count),
        Fit(FAIR_STEPS, USUAL_SEEDS, max(few, count - 2)),
        Fit(FAIR_STEPS, FEWEST_SEEDS, few),
        Fit(MIN_STEPS, FEWEST_SEEDS, few),
    ]
    room = seconds * PLANNED_SHARE
    for least in rounds:
        for study, left_out in _fewer(draft, least.contestants):
            for scale in _scales(least.seeds, seeds):
                if found := _longest(study, scale, clock, room, min(least.steps, most), most):
                    return Fitted(_with_more_seeds(found, clock, room, most, seeds), left_out)
    return None


def least_seconds(draft: Study, clock: Clock, *, seeds: int | None = None, chosen: bool = True) -> float:
    """Return the time of the smallest useful study.

    Args:
        draft: The study with all contestants.
        clock: Times measured here.
        seeds: Reported runs of each contestant, if the user chose them.
        chosen: True if the user chose the contestants.
    """
    few = len(draft.contestants) if chosen else min(len(draft.contestants), FEWEST_CONTESTANTS)
    study, _ = list(_fewer(draft, few))[-1]
    scale = replace(LADDER[-1], seeds=seeds or FEWEST_SEEDS)
    for steps in itertools.count(MIN_STEPS):
        smallest = at_scale(study, scale, steps, min(MIN_ROWS, clock.lengths.most))
        if steps == MAX_STEPS or clock.scoring_share(smallest) <= SCORING_SHARE:
            return clock.seconds(smallest) / PLANNED_SHARE
    raise AssertionError


def at_scale(study: Study, scale: Scale, steps: int, rows: int) -> Study:
    """Return a study with other numbers of steps, seeds and rows.

    Args:
        study: The study.
        scale: Seeds and extras.
        steps: Steps of a reported run.
        rows: Rows scored of each part, at most.
    """
    fewest = study.report.fewest_seeds + 1 if study.report.racing else 1
    report = {
        "seeds": seeds_to(max(scale.seeds, fewest)),
        "windows": rows,
        "metric_rows": rows,
        "curve_every": steps if scale.curve == 1 else max(1, steps // scale.curve),
    }
    changes: dict[str, object] = {
        "training": study.training.model_copy(update={"steps": steps}),
        "tuning": study.tuning.model_copy(update={"keep": scale.keep, "regret_sample": int(scale.regret)}),
        "report": study.report.model_copy(update=report),
    }
    if study.full_ft and not scale.full_ft:
        changes |= {"full_ft": False, "full_ft_reason": NO_TIME_FOR_FULL_FT}
    return study.model_copy(update=changes)


def with_seeds(study: Study, seeds: int) -> Study:
    """Return a study with another number of seeds.

    Args:
        study: The study.
        seeds: Reported runs of each contestant.
    """
    return study.model_copy(update={"report": study.report.model_copy(update={"seeds": seeds_to(seeds)})})


def seeds_to(count: int) -> tuple[int, ...]:
    """Return the first seeds.

    Args:
        count: Their number.
    """
    return tuple(range(1, count + 1))


def _scales(fewest: int, seeds: int | None) -> Sequence[Scale]:
    """Return the scales to try: those with at least the fewest seeds, or all with the number that the user chose."""
    if seeds is None:
        return [scale for scale in LADDER if scale.seeds >= fewest]
    return list(dict.fromkeys(replace(scale, seeds=seeds) for scale in LADDER))


def _fewer(draft: Study, few: int) -> Iterator[tuple[Study, tuple[str, ...]]]:
    """Yield the study with ever fewer contestants, without the last ones; the reference is the first."""
    for count in range(len(draft.contestants), few - 1, -1):
        kept, left_out = draft.contestants[:count], draft.contestants[count:]
        yield draft.model_copy(update={"contestants": kept}), tuple(entry.name for entry in left_out)


def _longest(study: Study, scale: Scale, clock: Clock, room: float, least: int, most: int) -> Study | None:
    """Return the study at a scale with the most steps that fit, and with as many rows as leave the scoring its share."""
    if scale.full_ft and FULL_FT not in clock.costs:
        scale = replace(scale, full_ft=False)
    if clock.seconds(at_scale(study, scale, least, min(MIN_ROWS, clock.lengths.most))) > room:
        return None
    rows = rows_for(scale.seeds, clock.lengths.most)
    lengths = range(least, most + 1)
    while True:

        def seconds(steps: int, rows: int = rows) -> float:
            return clock.seconds(at_scale(study, scale, steps, rows))

        if seconds(least) <= room:
            found = at_scale(study, scale, lengths[bisect_right(lengths, room, key=seconds) - 1], rows)
            if clock.scoring_share(found) <= SCORING_SHARE:
                return found
        if rows <= MIN_ROWS:
            return None
        rows = max(MIN_ROWS, math.floor(rows / 1.5))


def _with_more_seeds(study: Study, clock: Clock, room: float, most: int, seeds: int | None) -> Study:
    """Return the study with more seeds if there is time left after the most steps."""
    if seeds is None and study.training.steps == most:
        while len(study.report.seeds) < MAX_SEEDS:
            more = with_seeds(study, len(study.report.seeds) + 1)
            if clock.seconds(more) > room:
                break
            study = more
    return study
