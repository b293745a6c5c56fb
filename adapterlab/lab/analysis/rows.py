"""Losses of single test rows, and metrics of single answers, for the variance that other rows would add to a metric.

>>> from adapterlab.lab.analysis.metrics import METRICS
>>> [name for name, metric in METRICS.items() if metric.part is not None]
['in_domain', 'out_of_domain', 'forgetting', 'tenth_of_data', 'answers_in_domain', 'answers_out_of_domain']
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adapterlab.lab.analysis.metrics import ANSWERS, METRICS, Key, Metric, Results
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.trial.spec import FROZEN, Outcome

Rows = Mapping[tuple[str, str], Mapping[Key, np.ndarray]]
"""By contestant and metric, the losses (or metrics of answers) of each row by task and seed."""


def measure_rows(results: Results) -> Rows:
    """Return the losses of the rows that each metric is a mean over.

    Args:
        results: The contests.

    Returns:
        The losses of every contestant, without runs whose ledger has no losses of rows. A run that diverged has the frozen
        model's where its metric has.
    """
    found: dict[tuple[str, str], dict[Key, np.ndarray]] = {}
    for contest in results.contests.values():
        for name, metric in METRICS.items() if contest.finished else ():
            values = found.setdefault((contest.contestant, name), {})
            for seed in metric.read(results, contest) if metric.part is not None else ():
                losses = _of_run(results, contest, metric, seed)
                if losses is not None:
                    values[contest.task, seed] = losses
    return found


def _of_run(results: Results, contest: Contest, metric: Metric, seed: int) -> np.ndarray | None:
    runs = contest.tenth if metric.name == "tenth_of_data" and contest.contestant != FROZEN else contest.reported
    outcome, frozen = runs[seed][1], results.frozen(contest.task)
    losses = _losses(frozen if outcome.status == "diverged" else outcome, metric)
    if metric.name != "forgetting" or losses is None:
        return losses
    before = _losses(frozen, metric)
    return None if before is None else losses - before


def _losses(outcome: Outcome, metric: Metric) -> np.ndarray | None:
    assert metric.part is not None
    values = outcome.answers if metric.unit == ANSWERS else outcome.rows
    losses = values.get(metric.part.value)
    return None if losses is None else np.array(losses)
