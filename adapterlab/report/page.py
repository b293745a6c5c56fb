"""The report: one HTML file with the answer first and everything that supports it below.

>>> file_name("rank-8-prose")
'report-rank-8-prose.html'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adapterlab import argmap
from adapterlab.files import write_text
from adapterlab.lab.analysis.board import PARTS, Board
from adapterlab.lab.analysis.matched import Along
from adapterlab.lab.analysis.rubric import POINTS, THRESHOLDS
from adapterlab.lab.run.lr_search import describe
from adapterlab.lab.statistics import Interval, Paired
from adapterlab.lab.study.sweep import level_name
from adapterlab.names import printable
from adapterlab.report import charts
from adapterlab.report.answers import mark
from adapterlab.report.forecasts import LEGEND, RULE, cells, summary, warnings
from adapterlab.report.geometry_study import SideBySide, study_section
from adapterlab.report.response_charts import response
from adapterlab.report.verdict_json import claims_to_json
from adapterlab.verdict.forecast_scores import compare_forecasters
from adapterlab.verdict.judge_map import Judgement
from adapterlab.verdict.resolution import resolution_of
from adapterlab.verdict.study_analysis import Analysis
from adapterlab.verdict.two_instruments import Beside, beside

Values = dict[str, object]
"""Values of a template's variables."""
_QUESTIONS = {
    "steps": "How long to train?",
    "rank": "Which rank is enough?",
    "budget": "Which budget is enough?",
    "targets": "Where to adapt?",
    "model": "On each model",
}
_NOTES = {
    "bayes": "a probability: what the claims predict, and the evidence for each, with shared runs counted once",
    "quadratic-energy": "an attacker can only lower a strength, a supporter only raise it; no probability",
    "df-quad": "as monotone; saturates; no probability",
    "log-odds": "the first semantics of the map; an attacker with a credence below one half raises what it attacks",
}


def write_reports(analysis: Analysis, folder: Path) -> list[Path]:
    """Write `report.html` for the main board and `report-NAME.html` for each other cell or unit.

    Each file is written whole or not at all.

    Args:
        analysis: The analysis of a study.
        folder: Folder of the results.

    Returns:
        The files, the main one first.
    """
    files = [folder / "report.html", *(folder / file_name(board_name(board)) for board in analysis.others)]
    for board, file in zip(analysis.boards, files, strict=True):
        write_report(analysis, board, file)
    return files


def board_name(board: Board) -> str:
    """Return the name of a board: the levels of its cell, if any, and its tasks.

    Args:
        board: A board of an analysis.
    """
    return "-".join([*([board.cell.slug] if board.cell.levels else []), *board.study.tasks])


def file_name(board: str) -> str:
    """Return the name of the report of a board other than the main one.

    Args:
        board: Name of the board.
    """
    return f"report-{board}.html"


def write_report(analysis: Analysis, board: Board, path: Path) -> None:
    """Write the report of one board, whole or not at all.

    Args:
        analysis: The analysis, for the map and the model's size.
        board: The board.
        path: The file.
    """
    environment = Environment(
        loader=PackageLoader("adapterlab.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(signed=_signed, interval=_interval, area=_area, level=_level)
    environment.filters.update(pvalue=_p, factor=_factor, loss=_loss)
    palette = charts.colours(board)
    scoreboard, front = board.scoreboard, board.pareto
    plane = any(math.isfinite(row.forgetting.mean) for row in scoreboard.rows)
    page = environment.get_template("page.html.jinja").render(
        title=board.study.title or board.study.name,
        study=board.study,
        answer=scoreboard.answer,
        failures=analysis.failures,
        reference=scoreboard.reference,
        rows=scoreboard.rows,
        answer_tables=scoreboard.answers,
        uneven=scoreboard.uneven,
        kept_uneven=scoreboard.kept_uneven,
        by_name={row.contestant: row for row in scoreboard.rows},
        palette=palette,
        budget_note=_budget_note(board),
        unit=board.unit,
        correction=scoreboard.lead.correction,
        plane=Markup(charts.plane(scoreboard, front, palette)) if plane else None,
        strengths=Markup(charts.strengths(front, palette)),
        pareto=front,
        equal_learning=board.equal_learning,
        ways=list(Along),
        stability=board.ranks,
        cards=board.rubric,
        dimensions=THRESHOLDS,
        points=POINTS,
        forest=Markup(charts.forest(scoreboard, palette)),
        rates=Markup(charts.rates(board, palette)),
        search=describe(board.study.tuning, board.study.training.steps),
        regret=board.regret,
        doubtful_rates=board.doubtful_rates,
        **_sweep(analysis, board, palette),
        **_argument(analysis.judgement),
        changes=_changes(board, analysis.judgement),
        model_parameters=analysis.model_parameters,
        trials=board.trials,
        parts=PARTS,
        steps=board.steps,
        minutes=board.seconds / 60,
        provenance=dict(board.provenance.facts) | ({} if analysis.design is None else analysis.design.facts),
        remarks=analysis.remarks,
        locked=analysis.locked,
        **_forecasts(analysis),
        version=version("adapterlab"),
    )
    write_text(path, printable(page))


def _sweep(analysis: Analysis, board: Board, palette: Mapping[str, str]) -> Values:
    answers, main = analysis.answers, board is analysis.main
    charts_of: list[Values] = []
    for factor in answers.factors if main else ():
        responses, shifts = answers.of(factor), [shift for shift in answers.shifts if shift.factor == factor]
        said = [
            *(found.sentence for found in responses),
            *(shift.sentence for shift in shifts),
            answers.left_out(factor),
        ]
        charts_of.append(
            {
                "factor": factor,
                "title": _QUESTIONS[factor],
                "sentences": [text for text in said if text],
                "published": answers.published if factor == "rank" else "",
                "svg": Markup(response(*responses, palette=palette, unit=board.unit)),
                "responses": responses,
                "smallest": responses[0].smallest,
            }
        )
    return {
        "answers": answers,
        "board_is_main": main,
        "cell": board.cell,
        "response_charts": charts_of,
        "level_name": level_name,
        "mark": mark,
    }


def _changes(board: Board, judgement: Judgement | None) -> Markup:
    """Return the section on the trained changes of weights; empty if none was measured."""
    rows = [] if judgement is None else [_side_by_side(each) for each in beside(judgement)]
    return study_section(board.changes.measured, board.changes.projected, rows, board.changes.drift)


def _side_by_side(both: Beside) -> SideBySide:
    contest = str(both.contest_says)
    if both.contest is not None:
        contest += f": {both.contest.test.sentence()} (Bayes factor {_factor(both.contest.bayes_factor)})"
    geometry = f"{both.geometry_says}: {both.geometry.test.sentence()}"
    if both.geometry.untested:
        geometry += f"; {both.geometry.untested}"
    elif both.geometry.effect is not None:
        geometry += f": {both.geometry.effect.mean:+.3g} (Bayes factor {_factor(both.geometry.bayes_factor)})"
    return SideBySide(both.claim, contest, geometry, both.sentence, both.disagrees)


def _argument(judgement: Judgement | None) -> Values:
    if judgement is None:
        return {"map": None, "theses": [], "claims": [], "tested": 0, "relevance": 0.0, "pooled": [], "curve": []}
    after, before = judgement.after[judgement.semantics], judgement.before[judgement.semantics]
    return {
        "map": Markup(argmap.to_svg(judgement.map, after, before)),
        "theses": [_thesis(judgement, title) for title in judgement.theses],
        "claims": sorted(judgement.verdicts, key=lambda verdict: bool(verdict.untested)),
        "tested": len(judgement.tested),
        "relevance": judgement.relevance,
        "pooled": list(judgement.pooled.values()),
        **_curve(judgement),
    }


def _curve(judgement: Judgement) -> Values:
    if not judgement.curve:
        return {"curve": []}
    title = judgement.theses[0]
    points = [(at, scores.claims[title].credence) for at, scores in judgement.curve]
    own = (judgement.relevance, judgement.thesis(title)[1])
    return {"curve": sorted({**dict(points), own[0]: own[1]}.items()), "curve_title": title, "curve_at": own[1]}


def _forecasts(analysis: Analysis) -> Values:
    """Return the scores of forecasts, if the claims were locked and any is resolved."""
    if analysis.judgement is None or analysis.lock is None:
        return {"forecasts": []}
    claims = claims_to_json(analysis.judgement)
    unlocked = () if analysis.lock.is_kept else (analysis.study.name,)
    resolution = resolution_of(claims, unlocked)
    if not resolution.outcomes:
        return {"forecasts": []}
    return {
        "forecasts": [(row, cells(row)) for row in compare_forecasters(resolution.outcomes)],
        "forecast_notes": [f"{summary(resolution)} {RULE}", *warnings(resolution)],
        "forecast_legend": LEGEND,
    }


def _thesis(judgement: Judgement, title: str) -> Values:
    before, after = judgement.thesis(title)
    ways = []
    for semantics in judgement.before:
        low, high = judgement.thesis(title, semantics)
        ways.append({"semantics": semantics, "before": low, "after": high, "note": _NOTES[semantics]})
    return {"title": title, "semantics": judgement.semantics, "before": before, "after": after, "ways": ways}


def _budget_note(board: Board) -> str:
    budget = board.study.budget
    if budget is None:
        return "Every contestant has its own size."
    return (
        f"Contestants are sized to at most {budget:,} trained parameters; one that trains more, or less than half of "
        "that, is flagged."
    )


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}" if math.isfinite(value) else "-"  # never a negative zero


def _loss(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else ""


def _interval(effect: Paired) -> Markup:
    if not math.isfinite(effect.mean):
        return Markup("-")
    if not math.isfinite(effect.low):
        return Markup(f"{_number(effect.mean)}<br><small>{'one pair' if effect.n < 2 else 'no interval'}</small>")
    return Markup(f"{_number(effect.mean)}<br><small>{_number(effect.low)} to {_number(effect.high)}</small>")


def _level(effect: Paired) -> Markup:
    """Return a value without a sign, with its interval."""
    if not math.isfinite(effect.mean):
        return Markup("-")
    if not math.isfinite(effect.low):
        return Markup(f"{effect.mean:.3f}<br><small>no interval</small>")
    return Markup(f"{effect.mean:.3f}<br><small>{effect.low:.3f} to {effect.high:.3f}</small>")


def _area(area: Interval) -> Markup:
    """Return an area in thousandths, with its interval."""
    if not math.isfinite(area.low):
        return Markup(f"{1000 * area.value:.2f}")
    return Markup(f"{1000 * area.value:.2f}<br><small>{1000 * area.low:.2f} to {1000 * area.high:.2f}</small>")


def _number(value: float) -> str:
    return _signed(value) if abs(value) < 10 else f"{value:+.0f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _factor(value: float) -> str:
    if value >= 1:
        return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
    return f"1/{1 / value:.1f}" if value > 0.01 else f"1/{1 / value:,.0f}"
