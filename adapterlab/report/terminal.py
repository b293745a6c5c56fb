"""Results of a study on a terminal of 80 columns: the answer, the scoreboard, the rubric, and the claims.

>>> _signed(-0.0001)
'+0.000'
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from adapterlab.lab.analysis.answers import AnswerTable
from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.rubric import POINTS, Card, Finding
from adapterlab.lab.statistics import Paired
from adapterlab.report.answers import show_answers
from adapterlab.report.counts import thousands
from adapterlab.report.plain import add_plain_row, plain
from adapterlab.verdict.judge_map import Judgement
from adapterlab.verdict.study_analysis import Analysis
from adapterlab.verdict.two_instruments import disagreements


def show(analysis: Analysis, console: Console) -> None:
    """Print the trials that failed, each board, the rubric, and the claims that were tested.

    Args:
        analysis: The analysis of a study.
        console: Where to print.
    """
    for failure in analysis.failures:
        console.print(plain(str(failure)), style="red", highlight=False)
    for board in analysis.others:
        where = f" at {board.cell.words}" if board.cell.levels else ""
        console.print(plain(f"\n{' and '.join(board.study.tasks)}{where}, in {board.unit}:"))
        show_board(board, console)
    main = analysis.main
    if main.cell.levels:
        console.print(plain(f"\nat {main.cell.words}, where the map's claims are judged:"))
    show_board(main, console)
    show_answers(analysis.answers, console)
    console.print()
    _show_rubric(main.rubric, console)
    if analysis.judgement is not None:
        _show_judgement(analysis.judgement, console)
        if analysis.lock is None or analysis.lock.is_kept:  # a broken lock is among the remarks
            console.print(f"[dim]{plain(analysis.locked)}[/dim]", highlight=False)
    for remark in analysis.remarks:
        console.print(plain(f"\n{remark}"), highlight=False)


def _show_judgement(judgement: Judgement, console: Console) -> None:
    for title in judgement.theses:
        before, after = judgement.thesis(title)
        console.print(
            f"\\[{plain(title)}] {before:.3f} -> [bold]{after:.3f}[/bold] ({judgement.semantics})", highlight=False
        )
    moved = [verdict for verdict in judgement.verdicts if verdict.untested and verdict.after != verdict.before]
    for verdict in (*judgement.tested, *moved):
        change = f"{verdict.before:.2f} -> {verdict.after:.2f}"
        by = f" (by {', '.join(judgement.pooled[verdict.claim].new)} alone)" if verdict.untested else ""
        console.print(
            plain(f"  {change}  {verdict.test.sentence()}{by}"), highlight=False, overflow="ellipsis", no_wrap=True
        )
    for text in disagreements(judgement):
        console.print(plain(f"  {text}"), style="yellow", highlight=False)
    for pooled in judgement.pooled.values():
        if pooled.contradiction:
            console.print(plain(f"  [{pooled.claim}] {pooled.contradiction}"), style="yellow", highlight=False)
    untested = len(judgement.verdicts) - len(judgement.tested) - len(moved)
    if untested:
        console.print(f"[dim]  {untested} claims need contestants, tasks or metrics that this study lacks[/dim]")


def show_board(board: Board, console: Console) -> None:
    """Print the answer, the scoreboard, the tuning regret, and the learning rates that may be far from the best.

    Args:
        board: The board.
        console: Where to print.
    """
    scoreboard = board.scoreboard
    console.print()
    console.print(f"[bold]{plain(scoreboard.answer)}[/bold]")
    console.print()
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("contestant", no_wrap=True)
    for heading in ("trained", "learned", "ood", "forgot", f"vs {plain(scoreboard.reference)} (95%)", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in scoreboard.rows:
        mark = "" if row.comparable else "*"
        table.add_row(
            plain(row.contestant) + mark if row.ranked else f"[dim]{plain(row.contestant)}{mark}[/dim]",
            thousands(row.parameters),
            _signed(row.gain.mean),
            _signed(row.gain_ood.mean),
            _signed(row.forgetting.mean),
            _interval(row.versus),
            _p(row.p) if row.versus and row.ranked else "",
        )
    console.print(table)
    for metric in scoreboard.answers:
        show_answer_table(metric, scoreboard.reference, console)
    console.print(f"[dim]{plain(scoreboard.unit)} against the frozen model; *: size not near the budget[/dim]")
    correction = scoreboard.lead.correction
    console.print(f"[dim]p: {correction} over all pairs of ranked contestants, as in the sentence above[/dim]")
    for row in scoreboard.rows:
        if row.undertuned:
            console.print(f"[dim]{plain(row.contestant)} is {plain(row.undertuned)}[/dim]")
    if not all(row.ranked for row in scoreboard.rows):
        console.print("[dim]full_ft shows how much there is to learn; it is not ranked[/dim]")
    if board.regret.sentence:
        console.print(plain(board.regret.sentence), highlight=False)
    for curve in board.doubtful_rates:
        console.print(
            f"[yellow]{plain(curve.contestant)} on {plain(curve.task)}: rate {curve.chosen:.2g} is doubtful, "
            f"{plain(curve.flag.text)}[/yellow]",
            highlight=False,
        )


def show_answer_table(table: AnswerTable, reference: str, console: Console) -> None:
    """Print the contestants by a metric of generated answers, and what is chosen by what.

    Args:
        table: The comparison by the metric.
        reference: The contestant that the others are compared with.
        console: Where to print.
    """
    console.print()
    found = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    found.add_column(plain(table.title), overflow="fold")
    ood = table.frozen_ood is not None
    for heading in ("value (95%)", *(["ood"] if ood else []), f"vs {plain(reference)} (95%)", "p"):
        found.add_column(heading, justify="right", no_wrap=True)
    for row in table.rows:
        cells = [_level(row.value), *([f"{row.value_ood.mean:.3f}"] if ood else []), _interval(row.versus)]
        p = _p(row.p) if row.versus and row.ranked else ""
        add_plain_row(found, row.contestant, *cells, p, style="" if row.ranked else "dim")
    frozen = [f"{table.frozen:.3f}", *([f"{table.frozen_ood:.3f}"] if ood else [])]
    add_plain_row(found, "frozen", *frozen, "", "", style="dim")
    console.print(found)
    console.print(f"[dim]{table.answers} answers of each run; higher is better. {plain(table.reason)}[/dim]\n")


def _show_rubric(cards: Sequence[Card], console: Console) -> None:
    """Print the grades of each contestant and those of the survey; nothing if nothing was measured."""
    if all(grade.finding is Finding.UNMEASURED for card in cards for grade in card.grades.values()):
        return
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("rubric", no_wrap=True)
    for name in POINTS:
        table.add_column(name)
    table.add_column("points", justify="right")
    table.add_column("in the survey", no_wrap=True)
    marks = {Finding.YES: "yes", Finding.NO: "no", Finding.OPEN: "?", Finding.UNMEASURED: "-"}
    for card in cards:
        survey = "not graded" if card.literature is None else f"{card.literature_points:g} {'+'.join(card.literature)}"
        grades = [marks[card.grades[name].finding] for name in POINTS]
        add_plain_row(table, card.contestant, *grades, f"{card.points:g}", survey)
    console.print(table)
    console.print("[dim]?: the interval includes both; -: not measured; the report has the conditions[/dim]")
    console.print()


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}" if math.isfinite(value) else "-"  # never a negative zero


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _level(effect: Paired) -> str:
    if not math.isfinite(effect.low):
        return f"{effect.mean:.3f}" if math.isfinite(effect.mean) else "-"
    return f"{effect.mean:.3f} [{effect.low:.3f},{effect.high:.3f}]"


def _interval(effect: Paired | None) -> str:
    if effect is None:
        return "reference"
    if not math.isfinite(effect.low):
        return _signed(effect.mean)
    return f"{_signed(effect.mean)} [{_signed(effect.low)},{_signed(effect.high)}]"
