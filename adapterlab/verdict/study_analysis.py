"""Analysis of a whole study, computed once for all renderers.

>>> import numpy as np
>>> from adapterlab.lab.analysis.calibration import simulate
>>> from adapterlab.lab.analysis.noise_model import QUICK, World
>>> from adapterlab.lab.run.resolve import resolve
>>> names = ({"adapter": "lora"}, {"adapter": "oft"})
>>> study = Study(name="mine", tasks=("prose",), contestants=names, full_ft=False, full_ft_reason="not needed")
>>> prepared = PreparedStudy(resolve(study), {}, model_parameters=3_000_000)
>>> world = World(QUICK, {"oft": 0.02}, correlated=True, rng=np.random.default_rng(0), centre=-2.5)
>>> contests = list(simulate(prepared.resolved, world).contests.values())  # outcomes are drawn, not trained
>>> analyse(prepared, contests).scoreboard["contestant"].tolist()
['oft', 'lora']
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from adapterlab import argmap
from adapterlab.evidence.cells import cells_of
from adapterlab.evidence.store import Store
from adapterlab.lab.analysis.board import Board, make_board
from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.failures import Failure, failures_of
from adapterlab.lab.analysis.metrics import by_cell, by_unit
from adapterlab.lab.analysis.sweep_answers import SweepAnswers, answer_sweep
from adapterlab.lab.ledger.origins import Origin, Unused, mixed_origins
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.data_notes import data_notes
from adapterlab.lab.run.design import DesignHistory
from adapterlab.lab.run.precision_choice import PrecisionChoice
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import level_name
from adapterlab.verdict.judge_map import Judgement, judge
from adapterlab.verdict.lock import UNLOCKED, LockStatus
from adapterlab.verdict.relevance import relevance

WIDE = 5.0
"""Half width of intervals, in units of the smallest difference that matters, above which verdicts lean on the prior."""
GRID = tuple(i / 20 for i in range(21))
"""Relevances for which the map is scored besides; the report's slider stops at them."""


@dataclass(frozen=True)
class Analysis:
    """Analysis of the results of a study."""

    study: Study
    main: Board
    """The main cell of the sweep, on the tasks with the unit of the first task."""
    others: tuple[Board, ...]
    """Other cells and units, the main cell last."""
    judgement: Judgement | None
    """Verdicts on the claims of a map, at the main cell; None without a map."""
    model_parameters: int
    """Number of parameters of the base model."""
    answers: SweepAnswers
    """Response to the factors that the study sweeps, on the tasks of the main board."""
    origins: tuple[Origin, ...] = ()
    """Environments that the study's trials ran in, the one with the most trials first."""
    unused: Unused = field(default_factory=lambda: Unused(0, 0))
    """Trials in the ledger that the study does not use."""
    design: DesignHistory | None = None
    """Dates of the study's design and of its changes; None if they were not recorded."""
    failures: tuple[Failure, ...] = ()
    """Trials that failed, those of the frozen model and the reference first."""
    precision: PrecisionChoice | None = None
    """Precision of the trials, with the measurements that it was chosen by."""
    notes: tuple[str, ...] = ()
    """Notes on the study's own data."""
    lock: LockStatus | None = None
    """Lock of the map's claims; None if they were not locked."""

    @property
    def remarks(self) -> list[str]:
        """Sentences to read before the answer: changes of the design, a broken lock, wide intervals, and the like."""
        changes = [] if self.design is None else self.design.remarks
        if self.lock is not None and not self.lock.is_kept:
            changes.append(self.lock.remark)
        if self.judgement is not None and self.judgement.tested:
            changes.append(_wide(self.main))
        return [text for text in (*changes, mixed_origins(self.origins), str(self.unused), *self.notes) if text]

    @property
    def locked(self) -> str:
        """Sentences about the lock under which the claims were judged; empty without a map."""
        if self.judgement is None:
            return ""
        return UNLOCKED if self.lock is None else self.lock.remark

    @property
    def is_incomplete(self) -> bool:
        """True if trials of the frozen model or the reference failed, so that comparisons may lack their ground."""
        return any(failure.decisive for failure in self.failures)

    @property
    def boards(self) -> tuple[Board, ...]:
        """All boards, the main one first."""
        return self.main, *self.others

    @property
    def answer(self) -> str:
        """Finding in a sentence or two."""
        return self.main.scoreboard.answer

    @property
    def scoreboard(self) -> pd.DataFrame:
        """Scoreboard as a table, one row for each contestant, cell and group of tasks with one unit.

        Columns are those of `Scoreboard.to_frame`, after `budget`, the other factors that the study sweeps, `tasks` and
        `unit`.
        """
        frames = []
        for board in self.boards:
            frame = board.scoreboard.to_frame()
            frame.insert(0, "unit", board.unit)
            frame.insert(0, "tasks", "+".join(board.study.tasks))
            for factor, level in reversed(board.cell.without("budget")):
                frame.insert(0, factor, level if isinstance(level, int) else level_name(level))
            frame.insert(0, "budget", board.study.budget)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def _repr_html_(self) -> str:
        """Return the answer and the main scoreboard for a notebook."""
        columns = ["contestant", "parameters", "gain", "gain_ood", "forgetting", "versus", "p"]
        table = self.main.scoreboard.to_frame()[columns].to_html(
            index=False, float_format="{:+.4f}".format, formatters={"p": "{:.4f}".format}, na_rep=""
        )
        return f"<p><b>{html.escape(self.answer)}</b></p>{table}"


def _wide(board: Board) -> str:
    """Return a sentence if the intervals of a study are far wider than the smallest difference that matters."""
    half, smallest = board.scoreboard.half_width, board.study.report.smallest
    if not half > WIDE * smallest:
        return ""
    return (
        f"The 95 % intervals are about ±{half:.2g} {board.unit}, {half / smallest:.0f} times the smallest difference that "
        f"matters (report.smallest = {smallest:g}), by which adapters are expected to differ. Claims that two are level, or "
        "that one reaches a share of another, lean on that expectation more than on these runs: give report.smallest for "
        "these tasks."
    )


def analyse(
    prepared: PreparedStudy,
    contests: Sequence[Contest],
    ledger: Ledger | None = None,
    the_map: argmap.Map | None = None,
    design: DesignHistory | None = None,
    lock: LockStatus | None = None,
    store: Store | None = None,
    weight: float | None = None,
) -> Analysis:
    """Analyse the finished contests of a study.

    Args:
        prepared: The study.
        contests: All of its contests, finished.
        ledger: The ledger that the contests were played over, for the origins of their trials; None for made-up contests.
        the_map: Map whose claims are tested; None for none.
        design: When the study was designed, and how that changed.
        lock: Lock of the map's claims, if there is one.
        store: Results of other studies and published tables for the claims; the package's tables if None.
        weight: Relevance of the results for what claims are about, from 0 to 1; by model size and training if None.

    Returns:
        The analysis.

    Raises:
        AdapterlabError: If a claim's test cannot be read.
    """
    used = [trial for contest in contests for trial in contest.trials]
    origins = () if ledger is None else tuple(ledger.origins(used))
    unused = Unused(0, 0) if ledger is None else ledger.unused(used)
    cells = [Effects.of(results) for results in by_cell(contests)]
    boards = [
        [
            make_board(replace(effects, results=part), prepared.model_parameters, origins)
            for part in by_unit(effects.results)
        ]
        for effects in cells
    ]
    main, *units = boards[-1]
    other_cells = [board for part in boards[:-1] for board in part]
    judgement = None
    if the_map is not None:
        training = prepared.study.training
        at = relevance(prepared.model_parameters, training.steps * training.batch) if weight is None else weight
        known = cells_of((store or Store()).without_study(prepared.study.name))
        judgement = judge(the_map, cells[-1], at, Cells.of(cells, prepared.study.sweep), known, GRID)
    others = (*other_cells, *units)
    in_main_unit = [replace(effects, results=by_unit(effects.results)[0]) for effects in cells]
    answers = answer_sweep(in_main_unit, prepared.study.sweep)
    return Analysis(
        prepared.study,
        main,
        others,
        judgement,
        prepared.model_parameters,
        answers,
        origins,
        unused,
        design,
        failures_of(contests),
        prepared.resolved.precision,
        data_notes(prepared.study),
        lock,
    )
