"""The report: one HTML file with the answer first and everything that it rests on below."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adapterlab import argmap
from adapterlab.lab.analysis.effects import gained, over_tasks
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.pareto import frontier
from adapterlab.lab.analysis.rank_stability import order
from adapterlab.lab.analysis.rubric import POINTS, THRESHOLDS, grade
from adapterlab.lab.analysis.scoreboard import Scoreboard, settings_of
from adapterlab.lab.analysis.statistics import Interval, Paired
from adapterlab.lab.run.contest import Contest
from adapterlab.report import charts
from adapterlab.tasks.base import Part
from adapterlab.verdict.bayes_update import Judgement

PARTS = (Part.VALIDATION, Part.TEST, Part.OOD, Part.BASE)
DEFAULT = "quadratic-energy"
_NOTES = {
    "quadratic-energy": "the default: a weak attacker can only lower, a weak supporter only raise",
    "df-quad": "as monotone, saturating",
    "log-odds": "what the map was first written for; not sound: an attacker below one half raises what it attacks",
}


def write_report(
    results: Results,
    scoreboard: Scoreboard,
    judgement: Judgement | None,
    environments: Iterable[dict[str, Any]],
    model_parameters: int,
    path: Path,
) -> None:
    """Write the report to `path`, whole or not at all; without a judgement there is no map in it."""
    environment = Environment(
        loader=PackageLoader("adapterlab.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(signed=_signed, interval=_interval, area=_area, pvalue=_p, factor=_factor, loss=_loss)
    palette = charts.colours(results)
    trials = _trials(results)
    front = frontier(results)
    forgotten = any(math.isfinite(row.forgetting.mean) for row in scoreboard.rows)
    page = environment.get_template("page.html.jinja").render(
        title=results.study.title or results.study.name,
        study=results.study,
        answer=scoreboard.answer,
        reference=scoreboard.reference,
        rows=scoreboard.rows,
        by_name={row.contestant: row for row in scoreboard.rows},
        settings={name: settings_of(results, name) for name in results.contestants},
        palette=palette,
        budget_note=_budget_note(results),
        unit=results.unit,
        plane=Markup(charts.plane(scoreboard, front, palette)) if forgotten else None,
        strengths=Markup(charts.strengths(front, palette)),
        frontier=front,
        rewound={c.contestant: _rewound(results, c.contestant) for c in front.covered if c.path},
        order=order(results),
        cards=grade(results, model_parameters),
        dimensions=THRESHOLDS,
        points=POINTS,
        forest=Markup(charts.forest(scoreboard, palette)),
        rates=Markup(charts.rates(results, palette)),
        **_argument(judgement),
        model_parameters=model_parameters,
        trials=trials,
        parts=PARTS,
        steps=sum(t["steps"] for t in trials),
        minutes=sum(t["seconds"] for t in trials) / 60,
        provenance=_provenance(results, environments),
        version=version("adapterlab"),
    )
    partial = path.with_suffix(".partial")
    partial.write_text(page, "utf-8")
    partial.replace(path)


def _rewound(results: Results, contestant: str) -> dict[str, Any]:
    """Where a contestant is best turned down to, and what it learned and forgot there."""
    points = list(results.values(contestant, "operating_point").values())
    return {
        "low": min(points),
        "high": max(points),
        "learned": gained(results, contestant, "in_domain_rewound"),
        "forgotten": over_tasks(
            results, results.values(contestant, "forgetting_rewound"), (contestant,), "forgetting_rewound"
        ),
    }


def _argument(judgement: Judgement | None) -> dict[str, Any]:
    if judgement is None:
        return {"map": None, "theses": [], "claims": [], "tested": 0, "relevance": 0.0}
    return {
        "map": Markup(argmap.to_svg(judgement.map, judgement.after[DEFAULT], judgement.before[DEFAULT])),
        "theses": [_thesis(judgement, title) for title in judgement.theses],
        "claims": sorted(judgement.verdicts, key=lambda v: bool(v.untested)),
        "tested": sum(not v.untested for v in judgement.verdicts),
        "relevance": judgement.relevance,
    }


def _thesis(judgement: Judgement, title: str) -> dict[str, Any]:
    ways = [
        {
            "semantics": name,
            "before": judgement.before[name].claims[title].credence,
            "after": judgement.after[name].claims[title].credence,
            "note": _NOTES.get(name, ""),
        }
        for name in judgement.before
    ]
    shown = next(way for way in ways if way["semantics"] == DEFAULT)
    return {"title": title, "before": shown["before"], "after": shown["after"], "ways": ways}


def _trials(results: Results) -> list[dict[str, Any]]:
    rows = []
    for contest in results.contests.values():
        for trial, outcome in _runs(contest):
            rows.append(
                {
                    "id": trial.id,
                    "contestant": contest.contestant,
                    "task": trial.task,
                    "lr": trial.lr,
                    "seed": trial.seed,
                    "steps": trial.steps,
                    "status": outcome.status,
                    "seconds": outcome.seconds,
                    "scores": {part: outcome.scores.get(part, (math.nan, 0))[0] for part in PARTS},
                }
            )
    return rows


def _runs(contest: Contest) -> Iterable[Any]:
    yield from contest.first.values()
    yield from contest.second.values()
    yield from contest.reported.values()


def _budget_note(results: Results) -> str:
    budget = results.study.budget
    if budget is None:
        return "Every contestant ran in its own size."
    return f"Sized to at most {budget:,} trained parameters; what has no size near that is flagged."


def _provenance(results: Results, environments: Iterable[dict[str, Any]]) -> dict[str, str]:
    study = results.study
    trial = next(iter(results.contests.values())).reported
    first = next(iter(trial.values()))[0] if trial else None
    seen = list(environments)
    where = {key: sorted({str(e.get(key, "?")) for e in seen}) for key in (seen[0] if seen else {})}
    return {
        "model": f"{study.model}, weights {first.model_hash if first else '?'}",
        "tasks": ", ".join(f"{c.task} ({_data(c)})" for c in results.contests.values() if c.adapter is None),
        "training": f"{study.training.steps} steps of {study.training.batch} x {study.training.length} tokens; AdamW, "
        "no weight decay, gradients clipped at 1, a tenth warm-up, then linear to zero",
        "seeds": f"tuned with {', '.join(map(str, study.tuning.seeds))}, reported with "
        f"{', '.join(map(str, study.report.seeds))}",
        "statistics": "paired by task, seed and batches; t intervals of 95 % from the seeds within each task and, for what "
        "was learned in-domain, the luck of the choice of a learning rate; Holm's correction over contestants, for the best "
        "one's lead over all pairs",
        **{key: ", ".join(values) for key, values in where.items()},
    }


def _data(contest: Contest) -> str:
    return next(iter(contest.reported.values()))[0].data


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


def _area(found: Interval) -> Markup:
    """An area in thousandths, with its interval."""
    if not math.isfinite(found.low):
        return Markup(f"{1000 * found.value:.2f}")
    return Markup(f"{1000 * found.value:.2f}<br><small>{1000 * found.low:.2f} to {1000 * found.high:.2f}</small>")


def _number(value: float) -> str:
    return _signed(value) if abs(value) < 10 else f"{value:+.0f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _factor(value: float) -> str:
    if value >= 1:
        return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
    return f"1/{1 / value:.1f}" if value > 0.01 else f"1/{1 / value:,.0f}"
