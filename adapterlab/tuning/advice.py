"""Advice from a tuning study: which adapter to use, at which learning rate, whether its lead is real, what it costs.

>>> megabytes(84e6)
'84 MB'
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.pairwise import listed
from adapterlab.lab.analysis.scoreboard import Row
from adapterlab.report.counts import thousands
from adapterlab.tuning.winner import Winner
from adapterlab.verdict.study_analysis import Analysis

NORMAL = 1.96
"""Standard errors on either side of an estimate that a 95 % interval has, if the error is well known."""


@dataclass(frozen=True)
class Advice:
    """Answer to a tuning request."""

    text: str
    """Recommendation in a few sentences."""
    contestant: str | None
    """Recommended adapter; None if none learned anything."""
    rate: float | None
    """Its learning rate."""
    analysis: Analysis
    notes: tuple[str, ...]
    """Remarks on how the study was planned."""
    winner: Winner | None
    """The saved winner; None if no adapter learned anything."""
    how_to_load: str
    """Python code that loads the winner; empty without one."""
    folder: Path
    """Folder with the ledger, the report and the winner."""

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """Return the recommendation and the scoreboard for a notebook."""
        return f"<p>{html.escape(self.text)}</p>{self.analysis._repr_html_()}"


def winner_of(board: Board) -> Row | None:
    """Return the row of the best adapter, by the loss or the metric of answers, or None if none learned anything.

    Args:
        board: The board of the study.
    """
    best = next(iter(board.scoreboard.ranked), None)
    return best if best is not None and board.scoreboard.improved(best) else None


def advise(board: Board) -> str:
    """Return which adapter and learning rate to use, whether the difference is real, and what it costs.

    Args:
        board: The board of the study.
    """
    rows = board.scoreboard.ranked
    best = winner_of(board)
    if best is None:
        nothing = (
            "No adapter learned anything here that the untrained model did not know: give more time, or better rows."
        )
        return f"{nothing} {board.scoreboard.without_improvement}".strip()
    rate = best.rates[board.study.tasks[0]]
    gain = best.gain.mean
    change = f"{abs(gain):.3f} {board.unit} {'better' if gain > 0 else 'worse'}"
    sure = f" (95 % interval {best.gain.low:.3f} to {best.gain.high:.3f})" if best.gain.real else ""
    doubt = "" if best.gain.real else ", which cannot be told from chance"
    first = (
        f"Take {best.contestant} at a learning rate of {rate:.2g}: {change} than the untrained model on test "
        f"rows{sure}{doubt}."
    )
    if flag := best.search_flags.get(board.study.tasks[0]):
        first += f" The rate is {flag.text}."
    return " ".join(
        [
            first,
            *_answers(best, board),
            *_lead(board),
            *_excess(best, rows, board),
            _costs(best, rows, board),
            *more_time(board),
        ]
    )


def more_time(board: Board) -> list[str]:
    """Return what more time would buy: the interval of a difference with twice the seeds, and what else limits it more.

    Args:
        board: The board of the study.

    Returns:
        Sentences; none if the variance is unknown.
    """
    sources, seeds = board.sources, len(board.study.report.seeds)
    if sources is None or sources.error == 0:
        return []
    twice = sources._replace(seeds=sources.seeds / 2)
    found = (
        f"A difference between two adapters is known to ±{NORMAL * sources.error:.2g} {board.unit} with {seeds} seeds; "
        f"twice as many, in about twice the time, would give ±{NORMAL * twice.error:.2g}."
    )
    share = max(sources) / sum(sources)
    if sources.rows == max(sources):
        rows = board.study.report.windows
        found += f" The choice of the {rows} test rows makes {share:.0%} of its variance: more rows would help more."
    elif sources.search == max(sources):
        found += (
            f" The choice of the learning rates makes {share:.0%} of its variance, which more seeds leave as it is."
        )
    return [found]


def _answers(best: Row, board: Board) -> list[str]:
    """Return sentences about the metric of the adapter's answers, and what is chosen by what."""
    found = []
    for table in board.scoreboard.answers:
        own = table.row(best.contestant)
        low, high = own.value.low, own.value.high
        interval = f" (95 % interval {low:.3f} to {high:.3f})" if math.isfinite(low) else ""
        if table.constant is None:
            untrained = f"those of the untrained model {table.frozen:.3f}"
            found.append(f"Its answers have {table.title} {own.value.mean:.3f}{interval}, {untrained}.")
        found.append(table.reason)
    return found


def _lead(board: Board) -> list[str]:
    lead = board.scoreboard.lead
    behind, even = list(lead.behind), [*lead.same, *lead.unknown]
    if not behind and not even:
        return []
    if not even:
        return [f"Its lead over {listed(behind)} is real (p < 0.05, corrected for the number of comparisons)."]
    equal = f"It cannot be told from {listed(even)}"
    return [f"{equal}; its lead over {listed(behind)} is real." if behind else f"{equal}: any of them will do."]


def _excess(best: Row, rows: Sequence[Row], board: Board) -> list[str]:
    """Return a sentence if the best is above the budget, naming the best adapter within it."""
    budget, task = board.study.budget, board.study.tasks[0]
    if budget is None or best.parameters <= budget:
        return []
    excess = f"It trains {thousands(best.parameters)} parameters, more than the {thousands(budget)} asked for"
    within = next((row for row in rows if row.parameters <= budget and row.gain.mean > 0), None)
    if within is None:
        return [f"{excess}, as all do."]
    return [f"{excess}; the best within that is {within.contestant}, at {within.rates[task]:.2g}."]


def _costs(best: Row, rows: Sequence[Row], board: Board) -> str:
    fastest = min(rows, key=lambda row: row.step_seconds)
    step = f"A step takes {best.step_seconds * 1000:.0f} ms"
    if fastest is not best and best.step_seconds > 1.1 * fastest.step_seconds:
        step += f", {best.step_seconds / fastest.step_seconds:.1f} times that of {fastest.contestant}"
    peak = best.peak_bytes[board.study.tasks[0]]
    memory = f" and {megabytes(peak)} beyond the model" if peak >= 1e6 else ""
    if not math.isfinite(best.forgetting.mean):
        return f"{step}{memory}."
    lost = best.forgetting
    forgetting = (
        f"it forgets {lost.mean:.3f} {board.unit} of what the model knew"
        if lost.low > 0
        else "no forgetting of what the model knew can be told from chance"
    )
    return f"{step}{memory}; {forgetting}."


def megabytes(number: float) -> str:
    """Return a number of bytes in MB or GB.

    Args:
        number: Bytes.
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
