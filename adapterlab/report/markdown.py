r"""The report as Markdown of GitHub, short enough for a pull request.

>>> escape("a|b *c* <d>")
'a\\|b \\*c\\* &lt;d&gt;'
>>> table(["name", "gain"], [["lora", "+0.1"]]).splitlines()
['| name | gain |', '|:--|--:|', '| lora | +0.1 |']
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from adapterlab.lab.analysis.board import Board
from adapterlab.lab.statistics import Paired
from adapterlab.names import printable
from adapterlab.report.counts import thousands
from adapterlab.report.progress import duration
from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.judge_map import Judgement
from adapterlab.verdict.study_analysis import Analysis

MOVED = 0.005
"""Smallest change of a credence that is listed."""
UNTESTED = 12
"""Claims listed as not tested; the others are counted."""


def to_markdown(analysis: Analysis) -> str:
    """Return the answer, the scoreboards, the claims that moved and what was not tested.

    Args:
        analysis: The analysis of a study.
    """
    study = analysis.study
    parts = [f"## {escape(study.title or study.name)}", f"**{escape(analysis.answer)}**"]
    parts += [f"> **Failed:** {escape(str(failure))}" for failure in analysis.failures]
    parts += [_board(analysis, analysis.main)]
    if analysis.others:
        others = "\n\n".join(_board(analysis, board) for board in analysis.others)
        parts += [_folded("Other budgets, settings and units", others)]
    if analysis.judgement is not None:
        parts += [_claims(analysis, analysis.judgement)]
    parts += [_untested(analysis), *(f"> {escape(remark)}" for remark in analysis.remarks)]
    return printable("\n\n".join(filter(None, parts)) + "\n")


def escape(text: str) -> str:
    """Return text such that Markdown shows it as it is, in one line.

    Args:
        text: The text.
    """
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", flat)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose others are numbers.

    Args:
        header: Names of the columns, as Markdown.
        rows: The cells, as Markdown.
    """
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    text = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([text[0], text[1].replace(" ", ""), *text[2:]])


def _board(analysis: Analysis, board: Board) -> str:
    scoreboard, reference = board.scoreboard, board.scoreboard.reference
    header = [
        "contestant",
        "trained",
        "learned (95 %)",
        "out of domain",
        "forgot",
        f"vs {escape(reference)} (95 %)",
        "p",
    ]
    rows = [
        [
            escape(row.contestant) + ("" if row.comparable else "\\*"),
            thousands(row.parameters),
            interval(row.gain),
            signed(row.gain_ood.mean),
            signed(row.forgetting.mean),
            "reference" if row.versus is None else interval(row.versus),
            _p(row.p) if row.versus is not None and row.ranked else "",
        ]
        for row in scoreboard.rows
    ]
    tasks = ", ".join(board.study.tasks)
    where = f", {board.cell.words}" if board.cell.levels else ""
    notes = [
        f"{scoreboard.unit} against the model before training; p: {scoreboard.lead.correction} over all pairs of ranked "
        "contestants.",
        "\\*: its size is not near the budget." if not all(row.comparable for row in scoreboard.rows) else "",
        "Full fine-tuning is not ranked." if not all(row.ranked for row in scoreboard.rows) else "",
    ]
    said = [] if board is analysis.main else [escape(board.scoreboard.answer)]
    caption = f"**{escape(analysis.study.model)}, {escape(tasks)}{escape(where)}**"
    return "\n\n".join([caption, *said, table(header, rows), " ".join(filter(None, notes))])


def _claims(analysis: Analysis, judgement: Judgement) -> str:
    lines = ["### The map"]
    for title in judgement.theses:
        before, after = judgement.thesis(title)
        lines.append(
            f"Thesis *{escape(title)}*: {before:.3f} to **{after:.3f}** ({judgement.semantics}, at a relevance of "
            f"{judgement.relevance:.2f}). {escape(analysis.locked)}".rstrip()
        )
    moved = sorted(judgement.verdicts, key=lambda verdict: -abs(verdict.after - verdict.before))
    rows = [
        [escape(verdict.claim), f"{verdict.before:.2f} to **{verdict.after:.2f}**", _finding(verdict)]
        for verdict in moved
        if abs(verdict.after - verdict.before) >= MOVED
    ]
    text = table(["claim", "credence", "tested by"], rows) if rows else "No claim moved."
    return "\n\n".join([*lines, text.replace("|:--|--:|--:|", "|:--|--:|:--|")])


def _finding(verdict: Verdict) -> str:
    if verdict.untested:
        return "other studies alone"
    if not math.isfinite(verdict.bayes_factor):
        return escape(verdict.test.sentence())
    return f"{escape(verdict.test.sentence())} (Bayes factor {verdict.bayes_factor:.2g})"


def _untested(analysis: Analysis) -> str:
    """Return what the study says nothing about, and what it cost."""
    boards = analysis.boards
    trials = {trial.id: trial for board in boards for trial in board.trials}
    cost = (
        f"{len(trials):,} trials, {sum(t.steps for t in trials.values()):,} steps, "
        f"{duration(sum(t.seconds for t in trials.values()))} of training on one worker."
    )
    models = ", ".join(analysis.study.sweep.models or (analysis.study.model,))
    limits = (
        f"Not tested: models other than {escape(models)} ({thousands(analysis.model_parameters)} parameters), and tasks "
        f"other than {escape(', '.join(analysis.study.tasks))}."
    )
    parts = ["### Cost and limits", f"{cost} {limits}"]
    untested = [] if analysis.judgement is None else [v for v in analysis.judgement.verdicts if v.untested]
    if untested and analysis.judgement is not None:
        listed = [f"- {escape(verdict.claim)}: {escape(verdict.untested)}" for verdict in untested[:UNTESTED]]
        if rest := len(untested) - UNTESTED:
            listed += [f"- and {rest} more"] if rest > 0 else []
        title = f"{len(untested)} of the map's {len(analysis.judgement.verdicts)} claims were not tested"
        parts.append(_folded(title, "\n".join(listed)))
    return "\n\n".join(parts)


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def signed(value: float) -> str:
    """Return a number with its sign, or `-` if it is not finite.

    Args:
        value: The number.
    """
    return f"{round(value, 3) + 0.0:+.3f}" if math.isfinite(value) else "-"  # never a negative zero


def interval(effect: Paired) -> str:
    """Return an effect with its interval, if it has one.

    Args:
        effect: The effect.
    """
    if not math.isfinite(effect.low):
        return signed(effect.mean)
    return f"{signed(effect.mean)} ({signed(effect.low)} to {signed(effect.high)})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
