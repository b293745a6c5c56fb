"""The analysis as JSON: `verdict.json`, every number of a claim with the ids of the trials that it came from.

>>> finite(float("nan")) is None, finite(0.5)
(True, 0.5)
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapterlab.argmap.scoring.semantics import BAYES
from adapterlab.files import write_text
from adapterlab.lab.analysis.answers import AnswerTable
from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.equal_learning import EqualLearning
from adapterlab.lab.analysis.geometry import Changes, Mean
from adapterlab.lab.analysis.regret import TuningRegret
from adapterlab.lab.ledger.origins import Origin
from adapterlab.lab.statistics import Paired
from adapterlab.report.answers import answers_to_json
from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.judge_map import Judgement
from adapterlab.verdict.pool import Pooled
from adapterlab.verdict.resolution import is_resolved
from adapterlab.verdict.statements import Pair, Statement
from adapterlab.verdict.study_analysis import Analysis
from adapterlab.verdict.two_instruments import Beside, beside

Json = dict[str, Any]
"""Plain data by key."""


def write_verdict(analysis: Analysis, path: Path) -> None:
    """Write the analysis as JSON, whole or not at all.

    Args:
        analysis: The analysis of a study.
        path: The file.
    """
    write_text(path, json.dumps(to_json(analysis), indent=2) + "\n")


def to_json(analysis: Analysis) -> Json:
    """Return the analysis as plain data.

    Args:
        analysis: The analysis of a study.

    Returns:
        `study`, `design` with its hashes and dates, `precision` with its measurements, `failures`, `answer`, `boards`
        with their scoreboards, and, if a map was tested, `relevance`, `semantics` of the headline, `theses`
        (and `by_relevance`), `claims`, `elsewhere` with other studies' evidence on them, and `lock`.
        Numbers that are not finite are null.
    """
    judgement = analysis.judgement
    return {
        "study": analysis.study.name,
        "design": None if analysis.design is None else analysis.design.to_json(),
        "precision": None if analysis.precision is None else analysis.precision.to_json(),
        "failures": [asdict(failure) | {"cell": failure.cell.by_factor} for failure in analysis.failures],
        "answer": analysis.answer,
        **({} if judgement is None else {**_judgement(judgement), "lock": _lock(analysis)}),
        "geometry": _changes(analysis.main.changes),
        "boards": [_board(board) for board in analysis.boards],
        "sweep": answers_to_json(analysis.answers, _effect),
        "origins": [_origin(origin) for origin in analysis.origins],
        "unused_trials": asdict(analysis.unused),
        "remarks": analysis.remarks,
    }


def _changes(changes: Changes) -> Json:
    return {
        "measures": [
            {
                "contestant": each.contestant,
                "task": each.task,
                "measure": each.measure,
                "value": _mean(each.mean),
                "random": None if each.null is None else finite(each.null),
            }
            for each in changes.measured
        ],
        "projections": [
            {
                "contestant": each.contestant,
                "task": each.task,
                "hypothesis": each.hypothesis,
                "parameters": each.parameters,
                "expressed": _mean(each.expressed),
                "share_of_gain": _mean(each.gain),
                "share_of_gain_out_of_domain": _mean(each.ood),
                "forgetting": _mean(each.forgetting),
                "converged": each.converged,
            }
            for each in changes.projected
        ],
        "drift_against_forgetting": None if changes.drift is None else changes.drift._asdict(),
    }


def _mean(mean: Mean | None) -> Json | None:
    if mean is None:
        return None
    return {"mean": finite(mean.value), "low": finite(mean.low), "high": finite(mean.high), "seeds": mean.seeds}


def finite(value: float) -> float | None:
    """Return a number, or None if it is not finite, since JSON has neither nan nor infinity.

    Args:
        value: The number.
    """
    return value if math.isfinite(value) else None


def _origin(origin: Origin) -> Json:
    return asdict(origin) | {"first": origin.first.isoformat(), "last": origin.last.isoformat()}


def _judgement(judgement: Judgement) -> Json:
    theses = {
        thesis: {
            semantics: dict(zip(("before", "after"), judgement.thesis(thesis, semantics), strict=True))
            for semantics in judgement.before
        }
        for thesis in judgement.theses
    }
    return {
        "relevance": judgement.relevance,
        "semantics": judgement.semantics,
        "theses": theses,
        "by_relevance": [
            {"relevance": at, **{title: scores.claims[title].credence for title in judgement.theses}}
            for at, scores in judgement.curve
        ],
        "claims": claims_to_json(judgement),
        "elsewhere": [_pooled(pooled) for pooled in judgement.pooled.values()],
    }


def _pooled(pooled: Pooled) -> Json:
    meta = pooled.others.meta
    found = None
    if meta is not None:
        found = {key: value for key, value in asdict(meta).items() if key != "df"}
        found |= {"interval": [finite(limit) for limit in meta.interval]}
    return {
        "claim": pooled.claim,
        "sources": list(pooled.others.sources),
        "counted": list(pooled.counted),
        "comparisons": len(pooled.others.effects),
        "meta_analysis": found,
        "bayes_factor": {"study": pooled.own, "tables": pooled.others.factor, "together": pooled.together},
        "contradiction": pooled.contradiction,
    }


def claims_to_json(judgement: Judgement) -> list[Json]:
    """Return the verdicts as plain data.

    Args:
        judgement: The verdicts on a map.

    Returns:
        Claims with their tests and credences, and of those tested the effect, the Bayes factor and the runs. `inferred` is
        the credence that the whole map gave before the contests; `instruments` of a claim with a geometry test has what
        contest and geometry say, and the effect, the Bayes factor and the runs of the geometry test.
    """
    inferred = judgement.before.get(BAYES)
    both = {each.claim: _beside(each) for each in beside(judgement)}
    return [
        _claim(verdict)
        | ({"instruments": both[verdict.claim]} if verdict.claim in both else {})
        | ({} if inferred is None else {"inferred": inferred.claims[verdict.claim].credence})
        for verdict in judgement.verdicts
    ]


def _beside(each: Beside) -> Json:
    geometry = {key: value for key, value in _claim(each.geometry).items() if key not in ("claim", "before", "after")}
    return {
        "contest_says": each.contest_says.value,
        "geometry_says": each.geometry_says.value,
        "sentence": each.sentence,
        "geometry": geometry,
    }


def _lock(analysis: Analysis) -> Json:
    locked = {} if analysis.lock is None else analysis.lock.to_json()
    return {"remark": analysis.locked, **locked}


def _board(board: Board) -> Json:
    pareto = {entry.contestant: entry for entry in board.pareto.entries}
    return {
        "budget": board.study.budget,
        "cell": board.cell.by_factor,
        "tasks": list(board.study.tasks),
        "unit": board.unit,
        "reference": board.scoreboard.reference,
        "answer": board.scoreboard.answer,
        "contestants": [
            {
                "name": row.contestant,
                "adapter": row.adapter,
                "parameters": row.parameters,
                "ranked": row.ranked,
                "comparable": row.comparable,
                "gain": _effect(row.gain),
                "gain_ood": _effect(row.gain_ood),
                "forgetting": _effect(row.forgetting),
                "versus_reference": _effect(row.versus),
                "p_holm": row.p if row.versus is not None and row.ranked else None,
                "p_same_on_all_tasks": None if row.versus is None else row.interaction,
                "less_forgetting_at_equal_learning": None
                if row.kept is None
                else {
                    **(_effect(row.kept) or {}),
                    "p_holm": row.kept_p if row.ranked else None,
                    "p_same_on_all_tasks": row.kept_interaction,
                },
                "rates": row.rates,
                "search_flags": row.search_flags,
                "tuning_steps": row.tuning_steps,
                "step_seconds": finite(row.step_seconds),
                "diverged": row.diverged,
                "undertuned": row.undertuned or None,
                "on_pareto_front": pareto[row.contestant].on_front if row.contestant in pareto else None,
            }
            for row in board.scoreboard.rows
        ],
        "answers": [_answers(table) for table in board.scoreboard.answers],
        "order_by": "loss" if board.scoreboard.decided_by is None else board.scoreboard.decided_by.metric,
        "rates_by": "validation loss",
        "at_equal_learning": {row.contestant: _equal_learning(row) for row in board.equal_learning},
        "tuning_regret": _regret(board.regret),
        "provenance": dict(board.provenance.facts),
    }


def _answers(table: AnswerTable) -> Json:
    return {
        "metric": table.metric,
        "tasks": list(table.tasks),
        "answers_of_each_run": table.answers,
        "frozen": table.frozen,
        "frozen_ood": table.frozen_ood,
        "constant": table.constant,
        "decides": table.decides,
        "reason": table.reason,
        "not_told_from_the_best": list(table.tied) if table.decides else [],
        "contestants": [
            {
                "name": row.contestant,
                "ranked": row.ranked,
                "value": _effect(row.value),
                "value_ood": _effect(row.value_ood),
                "better_than_frozen": _effect(row.gain),
                "versus_reference": _effect(row.versus),
                "p_holm": row.p if row.versus is not None and row.ranked else None,
                "versus_reference_ood": _effect(row.versus_ood),
            }
            for row in table.rows
        ],
    }


def _equal_learning(row: EqualLearning) -> Json:
    kept = {"forgetting": row.forgetting, "out_of_domain": row.out_of_domain}
    return {
        name: {
            "as_trained": _effect(each.as_trained),
            **{along.value: _effect(effect) for along, effect in each.matched.items()},
        }
        for name, each in kept.items()
    } | {
        "steps_to_reference": finite(row.reached.steps),
        "runs_that_reach_it": row.reached.runs,
        "runs": row.reached.of,
        "seconds_to_reference": finite(row.reached.seconds),
    }


def _regret(regret: TuningRegret) -> Json:
    return {
        "contestants": {
            name: {"mean": finite(found.mean), "error": finite(found.error)} for name, found in regret.regrets.items()
        },
        "smallest": regret.smallest,
        "extensions": regret.extensions,
        "too_large": list(regret.too_large),
    }


def _claim(verdict: Verdict) -> Json:
    common = {
        "claim": verdict.claim,
        "test": verdict.test.model_dump(by_alias=True, mode="json"),
        "before": verdict.before,
        "after": verdict.after,
    }
    if verdict.untested:
        return common | {"untested": verdict.untested}
    return common | {
        **({"effect": _effect(verdict.effect)} if len(verdict.parts) == 1 else {}),
        **({"parts": [_part(part) for part in verdict.parts]} if len(verdict.parts) > 1 else {}),
        "bayes_factor": verdict.bayes_factor,
        "resolved": (verdict.bayes_factor > 1) if is_resolved(verdict.bayes_factor) else None,
        **({} if verdict.same is None else {"p_not_equivalent": verdict.same}),
        "relevance": verdict.relevance,
        **({"pairs": _pairs(verdict.pairs)} if len(verdict.parts) == 1 else {}),
    }


def _part(part: Statement) -> Json:
    return {
        "test": part.test.model_dump(by_alias=True, mode="json"),
        "effect": _effect(part.effect),
        **({} if part.same is None else {"p_not_equivalent": part.same}),
        "pairs": _pairs(part.pairs),
    }


def _pairs(pairs: Sequence[Pair]) -> list[Json]:
    return [{"task": p.task, "seed": p.seed, "difference": p.difference, "trials": list(p.trials)} for p in pairs]


def _effect(effect: Paired | None) -> Json | None:
    if effect is None:
        return None
    return {
        "mean": finite(effect.mean),
        "low": finite(effect.low),
        "high": finite(effect.high),
        "p": finite(effect.p),
        "error": finite(effect.error),
        "df": finite(effect.df),
        "pairs": effect.n,
    }
