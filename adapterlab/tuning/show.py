"""Tuning advice on a terminal of 80 columns: the ranking, the recommendation, and the files of the winner.

>>> from pathlib import Path
>>> from adapterlab.tuning.winner import Winner
>>> winner = Winner("lora", peft=True, merged=False, why="")
>>> advice = Advice("Take lora.", "lora", 1e-3, None, (), winner, "model = ...", Path("runs/mine"))
>>> show_winner(advice, Console(width=80))
lora, trained: runs/mine/winner/adapterlab
for PEFT: runs/mine/winner/peft
<BLANKLINE>
To load it:
model = ...
"""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from adapterlab.lab.analysis.board import Board
from adapterlab.lab.statistics import Paired
from adapterlab.report.counts import thousands
from adapterlab.report.plain import add_plain_row, plain
from adapterlab.report.terminal import show_answer_table
from adapterlab.tasks.base import Part
from adapterlab.tuning.advice import Advice


def show_advice(advice: Advice, console: Console) -> None:
    """Print the ranking and the recommendation.

    Args:
        advice: The advice.
        console: Where to print.
    """
    board = advice.analysis.main
    for failure in advice.analysis.failures:
        console.print(plain(str(failure)), style="red", highlight=False)
    console.print()
    console.print(ranking(board), highlight=False)
    console.print(f"[dim]{plain(_legend(board))}[/dim]\n", highlight=False)
    for metric in board.scoreboard.answers:
        show_answer_table(metric, board.scoreboard.reference, console)
    if board.regret.sentence:
        console.print(plain(board.regret.sentence), highlight=False)
    for line in board.incidents:
        console.print(plain(line), style="dim", highlight=False)
    console.print(f"[bold]{plain(advice.text)}[/bold]", highlight=False)
    console.print(plain(f"\nThe report: {advice.folder / 'report.html'}"), highlight=False, soft_wrap=True)


def show_winner(advice: Advice, console: Console) -> None:
    """Print where the winner is saved and how to load it; nothing if there is none.

    Args:
        advice: The advice.
        console: Where to print.
    """
    winner, folder = advice.winner, advice.folder / "winner"
    if winner is None:
        return
    console.print(plain(f"{winner.contestant}, trained: {folder / 'adapterlab'}"), highlight=False, soft_wrap=True)
    for exists, title, name in ((winner.peft, "for PEFT", "peft"), (winner.merged, "merged into the model", "merged")):
        if exists:
            console.print(plain(f"{title}: {folder / name}"), highlight=False, soft_wrap=True)
    if winner.why:
        console.print(f"[dim]{plain(winner.why)}[/dim]", highlight=False)
    console.print("\nTo load it:", highlight=False)
    console.print(plain(advice.how_to_load), highlight=False, soft_wrap=True)


def ranking(board: Board) -> Table:
    """Return the ranking as a table, best first.

    Args:
        board: The board of the study.
    """
    task = board.study.tasks[0]
    forgets, ood = Part.BASE in board.parts, Part.OOD in board.parts
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("contestant", no_wrap=True)
    headings = ["rate", "trained", "learned (95 %)", *(["ood"] if ood else []), *(["forgot"] if forgets else [])]
    for heading in (*headings, "ms", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    order = {row.contestant: str(i) for i, row in enumerate(board.scoreboard.ranked, 1)}
    for row in board.scoreboard.rows:
        rate = row.rates[task]
        cells = [
            order.get(row.contestant, ""),
            row.contestant + ("" if row.comparable or not row.ranked else "*"),
            (f"{rate:.2g}" if rate else "diverged") + ("?" if row.search_flags.get(task) else ""),
            thousands(row.parameters),
            _interval(row.gain),
            *([_signed(row.gain_ood.mean)] if ood else []),
            *([_signed(row.forgetting.mean)] if forgets else []),
            f"{row.step_seconds * 1000:.0f}" if math.isfinite(row.step_seconds) else "-",
            f"{peak / 1e6:.0f}" if (peak := row.peak_bytes[task]) else "-",
        ]
        add_plain_row(table, *cells, style="" if row.contestant in order else "dim")
    return table


def _interval(effect: Paired) -> str:
    if not math.isfinite(effect.low):
        return _signed(effect.mean)
    return f"{_signed(effect.mean)} [{_signed(effect.low)},{_signed(effect.high)}]"


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}" if math.isfinite(value) else "-"


def _legend(board: Board) -> str:
    rows = board.scoreboard.rows
    learned = f"learned: {board.unit} better than the untrained model on test rows"
    units = "; ms: time of a step; MB: memory of a step beyond the model"
    full = "; full_ft is not ranked" if any(not row.ranked for row in rows) else ""
    flagged = "; *: size not near the budget" if any(not r.comparable for r in board.scoreboard.ranked) else ""
    doubtful = "; ?: no worse rate was tried near it on one side" if any(r.search_flags for r in rows) else ""
    return learned + units + full + flagged + doubtful
