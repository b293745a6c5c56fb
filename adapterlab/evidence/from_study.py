"""Results of a study of one's own as a table of evidence.

>>> NAMES
('in_domain', 'out_of_domain', 'forgetting', 'tenth_of_data', 'answers_in_domain', 'answers_out_of_domain')
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.evidence.table import Score, Table
from adapterlab.lab.analysis.metrics import ANSWERS, LOSS, METRICS, Results, by_cell, measure, smallest_difference
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.trial.spec import FROZEN

NAMES = ("in_domain", "out_of_domain", "forgetting", "tenth_of_data", "answers_in_domain", "answers_out_of_domain")
"""Metrics that a table holds."""


def table_of(prepared: PreparedStudy, contests: Sequence[Contest], date: str = "") -> Table:
    """Return the scores of a study: the mean over the seeds for each contestant, task and metric.

    Of a study that sweeps its model, the main cell is taken, since the table gives one number of parameters.

    Args:
        prepared: The study.
        contests: Its contests, as far as they are finished.
        date: Date of the results.

    Returns:
        The table, whose source is the study's name.

    Raises:
        AdapterlabError: If no contest is finished.
    """
    study = prepared.study
    finished = [contest for contest in contests if contest.finished]
    cells = by_cell(finished) if finished else []
    if any("model" in results.resolved.cell.by_factor for results in cells):
        cells = cells[-1:]
    scores = [score for results in cells for score in _scores(prepared, results)]
    if not scores:
        raise AdapterlabError(f"no contest of {study.name} is finished: run `adapterlab run` to its end first")
    about = {
        "title": study.title,
        "date": date,
        "licence": "own results",
        "flaws": "one model; settings of the study are in its folder",
    }
    return Table(study.name, tuple(scores), {key: value for key, value in about.items() if value})


def _scores(prepared: PreparedStudy, results: Results) -> Iterable[Score]:
    study, measured = results.study, measure(results)
    shared: dict[str, Any] = {
        "source": prepared.study.name,
        "model": str(study.model),
        "parameters": float(prepared.model_parameters),
        "examples": float(study.training.steps * study.training.batch),
        "setting": results.resolved.cell.slug if results.resolved.cell.levels else "",
    }
    for (contestant, name), values in measured.items():
        if name not in NAMES or (contestant == FROZEN and name == "forgetting"):
            continue
        metric = METRICS[name]
        for task in study.tasks:
            found = [value for (where, _), value in values.items() if where == task]
            if not found:
                continue
            yield Score(
                **shared,
                task=task,
                method=contestant,
                metric=name,
                value=fmean(found),
                unit=_unit(results, name, task),
                better="higher" if metric.sign == 1 else "lower",
                smallest=smallest_difference(metric, results),
                sd=stdev(found) if len(found) > 1 else None,
                seeds=1 if contestant == FROZEN else len(found),
                learning_rate=_rate(results, contestant, task),
                tuned=None if contestant == FROZEN else True,
                trained=_trained(results, contestant, task),
            )


def _unit(results: Results, name: str, task: str) -> str:
    metric = METRICS[name]
    if metric.unit == LOSS:
        return results.resolved.unit(task)
    if metric.unit == ANSWERS:
        return results.resolved.tasks[task].metric or metric.unit
    return metric.unit


def _rate(results: Results, contestant: str, task: str) -> float | None:
    rates = {trial.lr for trial, _ in results.contests[contestant, task].reported.values()}
    return rates.pop() if len(rates) == 1 and contestant != FROZEN else None


def _trained(results: Results, contestant: str, task: str) -> float | None:
    counts = [outcome.parameters for _, outcome in results.contests[contestant, task].reported.values()]
    return float(max(counts)) if counts and max(counts) > 0 else None
