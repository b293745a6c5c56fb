"""The report: one HTML file with the answer first and everything that supports it below.

Its text and tables are written here; its charts, the map and the lists are drawn in the browser from the data in the file,
by the scripts of `frontend/`, which are built into `assets/`.

>>> "adapterlab" in asset("LICENSES.txt"), "d3-zoom" in asset("LICENSES.txt")
(False, True)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adapterlab import argmap
from adapterlab.files import write_text
from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.matched import Along
from adapterlab.lab.analysis.rubric import POINTS, THRESHOLDS
from adapterlab.lab.run.lr_search import describe
from adapterlab.lab.statistics import Interval, Paired
from adapterlab.lab.study.sweep import level_name
from adapterlab.names import printable
from adapterlab.report import charts
from adapterlab.report.answers import mark
from adapterlab.report.data.document import document, embedded
from adapterlab.report.first_screen import cost, how_sure, not_tested, theses
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


def write_report(analysis: Analysis, path: Path) -> None:
    """Write the report of a study, whole or not at all.

    Args:
        analysis: The analysis of a study.
        path: The file.
    """
    write_text(path, report_text(analysis))


def report_text(analysis: Analysis) -> str:
    """Return the report of a study, with all of its cells, as HTML.

    Args:
        analysis: The analysis of a study.
    """
    environment = Environment(
        loader=PackageLoader("adapterlab.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(signed=_signed, interval=_interval, area=_area, level=_level, pvalue=_p, factor=_factor)
    main, judgement, names = analysis.main, analysis.judgement, board_names(analysis.boards)
    data = document(analysis, names)
    boards = [_board(environment, analysis, *pair) for pair in zip(analysis.boards, names, strict=True)]
    page = environment.get_template("page.html.jinja").render(
        title=main.study.title or main.study.name,
        study=main.study,
        **_answer(analysis.answer),
        sure=how_sure(main),
        cost=cost(analysis),
        not_tested=not_tested(analysis),
        failures=analysis.failures,
        budget_note=_budget_note(main),
        unit=main.unit,
        search=describe(main.study.tuning, main.study.training.steps),
        boards=Markup("".join(boards)),
        **_sweep(analysis, charts.colours(main)),
        **_argument(judgement),
        slugs={} if judgement is None else {title: claim["slug"] for title, claim in data["map"]["claims"].items()},
        model_parameters=analysis.model_parameters,
        trials=len(data["trials"].get("id", ())),
        provenance=dict(main.provenance.facts) | ({} if analysis.design is None else analysis.design.facts),
        remarks=analysis.remarks,
        locked=analysis.locked,
        **_forecasts(analysis),
        version=version("adapterlab"),
        data=Markup(embedded(data)),
        style=Markup(asset("report.css")),
        script=Markup(asset("report.js")),
        licences=asset("LICENSES.txt"),
    )
    return printable(page)


def _answer(answer: str) -> Values:
    """Return the answer's first sentence, which is shown large, and the others."""
    first, end, others = answer.partition(". ")
    return {"lead": f"{first}." if end else first, "further": others}


def asset(name: str) -> str:
    """Return the text of a file that is built from `frontend/`.

    Args:
        name: Name of the file.
    """
    return (resources.files("adapterlab.report") / "assets" / name).read_text(encoding="utf-8")


def board_names(boards: Sequence[Board]) -> list[str]:
    """Return a name for each board, the levels of its cell, if any, and its tasks, each name once.

    Args:
        boards: Boards of an analysis.
    """
    found: list[str] = []
    for board in boards:
        name = "-".join([*([board.cell.slug] if board.cell.levels else []), *board.study.tasks])
        found.append(name if name not in found else f"{name}-{len(found)}")
    return found


def _board(environment: Environment, analysis: Analysis, board: Board, name: str) -> str:
    """Return the tables of one board; those of others than the main one are hidden until they are chosen."""
    scoreboard, front, is_main = board.scoreboard, board.pareto, board is analysis.main
    section = environment.get_template("board.html.jinja").render(
        name=name,
        board_is_main=is_main,
        cell=board.cell,
        answers=analysis.answers,
        study=board.study,
        answer=scoreboard.answer,
        reference=scoreboard.reference,
        correction=scoreboard.lead.correction,
        rows=scoreboard.rows,
        answer_tables=scoreboard.answers,
        uneven=scoreboard.uneven,
        kept_uneven=scoreboard.kept_uneven,
        by_name={row.contestant: row for row in scoreboard.rows},
        strengths=Markup(charts.strengths(front, charts.colours(board))),
        pareto=front,
        equal_learning=board.equal_learning,
        ways=list(Along),
        stability=board.ranks,
        cards=board.rubric,
        dimensions=THRESHOLDS,
        points=POINTS,
        regret=board.regret,
        doubtful_rates=board.doubtful_rates,
        changes=_changes(board, analysis.judgement),
    )
    return section if is_main else re.sub(r' id="[^"]*"', "", section)


def _sweep(analysis: Analysis, palette: Mapping[str, str]) -> Values:
    answers = analysis.answers
    charts_of: list[Values] = []
    for factor in answers.factors:
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
                "svg": Markup(response(*responses, palette=palette, unit=analysis.main.unit)),
                "responses": responses,
                "smallest": responses[0].smallest,
            }
        )
    return {
        "answers": answers,
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
        return {"map": None, "theses": [], "claims": [], "relevance": 0.0, "pooled": [], "curve": ()}
    after, before = judgement.after[judgement.semantics], judgement.before[judgement.semantics]
    return {
        "map": Markup(argmap.to_svg(judgement.map, after, before)),
        "theses": theses(judgement),
        "ways": {title: _ways(judgement, title) for title in judgement.theses},
        "claims": sorted(judgement.verdicts, key=lambda verdict: bool(verdict.untested)),
        "relevance": judgement.relevance,
        "pooled": list(judgement.pooled.values()),
        "curve": judgement.curve,
    }


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


def _ways(judgement: Judgement, title: str) -> list[Values]:
    """Return the credence of a thesis by each semantics."""
    found = []
    for semantics in judgement.before:
        before, after = judgement.thesis(title, semantics)
        found.append({"semantics": semantics, "before": before, "after": after, "note": _NOTES[semantics]})
    return found


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
