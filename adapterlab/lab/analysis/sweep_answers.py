"""Answers of a study's sweep: which rank, which modules, how long, and whether the best rate moves.

>>> from adapterlab.lab.study.sweep import Cell
>>> one = SweepAnswers((Cell(),), (), (), Settling("lora", (40,), (), 0.005), (), {})
>>> one.sentences
('One length was measured, 40 steps: whether the order of the contestants settles is not known.',)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapterlab.lab.analysis.across_cells import Prediction, predict
from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.pairwise import listed
from adapterlab.lab.analysis.rate_shift import PUBLISHED, RateShift, rate_shift
from adapterlab.lab.analysis.responses import Response, respond
from adapterlab.lab.analysis.settling import Settling, settle
from adapterlab.lab.statistics import holm
from adapterlab.lab.study.sweep import Cell, Sweep


@dataclass(frozen=True)
class SweepAnswers:
    """Response of each contestant to each factor that a study sweeps."""

    cells: tuple[Cell, ...]
    """The cells of the study, the main one last."""
    responses: tuple[Response, ...]
    """Of each factor and each contestant that it changes."""
    shifts: tuple[RateShift, ...]
    settling: Settling
    predictions: tuple[Prediction, ...]
    """Of each ranked contestant other than the reference; none without a sweep or with a single task."""
    unchanged: Mapping[str, tuple[str, ...]]
    """By factor, the contestants that it does not change, which ran once for all its levels."""

    @property
    def swept(self) -> bool:
        """True if the study has more than one cell."""
        return len(self.cells) > 1

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors with a response."""
        return tuple(dict.fromkeys(response.factor for response in self.responses))

    def left_out(self, factor: str) -> str:
        """Return a sentence about the contestants that a factor does not change; empty if it changes all.

        Args:
            factor: Name of the factor.
        """
        names = self.unchanged.get(factor, ())
        return f"The {factor} of {listed(names)} is not swept." if names else ""

    def of(self, factor: str) -> tuple[Response, ...]:
        """Return the responses to a factor.

        Args:
            factor: Name of the factor.
        """
        return tuple(response for response in self.responses if response.factor == factor)

    @property
    def published(self) -> str:
        """Published answers beside which those of a sweep of the rank are read; empty for other sweeps."""
        return PUBLISHED if any(shift.factor == "rank" for shift in self.shifts) else ""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All answers, one for each factor and contestant, then those about the rates and about the order."""
        answers = [response.sentence for response in self.responses] + [shift.sentence for shift in self.shifts]
        answers += [self.left_out(factor) for factor in self.factors]
        return *(text for text in answers if text), self.settling.sentence


def answer_sweep(effects: Sequence[Effects], sweep: Sweep) -> SweepAnswers:
    """Answer the questions of a study's sweep.

    Args:
        effects: Effects at each cell, on tasks with one unit of loss.
        sweep: The sweep of the study.

    Returns:
        The answers; without a sweep, only that one length was measured.
    """
    cells = Cells.of(effects, sweep)
    factors = [*sweep.factors]
    names = {factor: [name for name in cells.contestants if cells.responds(name, factor)] for factor in factors}
    study = cells.main.results.study
    rivals = [name for name in cells.contestants if study.competes(name) and name != study.reference]
    moved = [rate_shift(cells, name, factor) for factor in factors for name in names[factor]]
    shifts = [shift for shift in moved if shift is not None]
    p = holm({i: shift.effect.p for i, shift in enumerate(shifts)})
    predictions = [predict(cells, name) for name in rivals] if factors else []
    return SweepAnswers(
        sweep.cells,
        tuple(respond(cells, name, factor) for factor in factors for name in names[factor]),
        tuple(replace(shift, p=p[i]) for i, shift in enumerate(shifts)),
        settle(cells),
        tuple(prediction for prediction in predictions if prediction is not None),
        {factor: tuple(name for name in cells.contestants if name not in names[factor]) for factor in factors},
    )
