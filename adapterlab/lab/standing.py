"""Where the contestants stand: one row each, every comparison paired and corrected for their number, one sentence."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.metrics import Results
from adapterlab.lab.sizing import flag
from adapterlab.lab.statistics import Paired, holm, paired

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Row:
    """One contestant, over all tasks."""

    contestant: str
    parameters: int
    over_budget: bool
    """Whether it could not be sized down to the budget."""
    under_budget: bool
    """Whether it has no size near the budget: less than half of it."""
    gain: Paired
    """In-domain: nats per byte better than the frozen model."""
    gain_ood: Paired
    forgetting: Paired
    versus: Paired | None
    """In-domain, against the reference; positive is better. None for the reference itself."""
    p: float
    """Of `versus`, adjusted for the number of contestants (Holm); 1 for one that does not compete."""
    rates: dict[str, float | None]
    """By task, the learning rate that was chosen; None if every one diverged."""
    tuning_steps: int
    step_seconds: float
    diverged: int
    """Trials whose loss left the finite numbers."""
    ranked: bool = True
    """Whether it competes; full fine-tuning runs along to show what there is to learn."""

    @property
    def comparable(self) -> bool:
        """Whether it trains about as many parameters as the study's budget asks for."""
        return not (self.over_budget or self.under_budget)


@dataclass(frozen=True)
class Standing:
    """The whole board, best in-domain first."""

    rows: tuple[Row, ...]
    reference: str
    answer: str
    """What was found, in a sentence or two."""


def stand(results: Results) -> Standing:
    """Compare every contestant with the reference and say what was found."""
    study = results.study
    versus = {
        name: paired(list(results.differences(name, study.reference, "in_domain").values()))
        for name in results.contestants
        if name != study.reference
    }
    adjusted = holm({name: result.p for name, result in versus.items() if study.competes(name)})
    rows = [_row(name, results, versus.get(name), adjusted.get(name, 1.0)) for name in results.contestants]
    rows.sort(key=lambda row: -row.gain.mean if math.isfinite(row.gain.mean) else math.inf)
    return Standing(tuple(rows), study.reference, _answer(rows, results))


def _row(name: str, results: Results, versus: Paired | None, p: float) -> Row:
    study = results.study
    contests = [results.contests[name, task] for task in study.tasks]
    trials = [run for c in contests for rung in (c.first, c.second, c.reported) for run in rung.values()]
    reported = [run for c in contests for run in c.reported.values()]
    parameters = max((outcome.parameters for _, outcome in trials), default=0)
    return Row(
        contestant=name,
        parameters=parameters,
        over_budget=flag(parameters, study.budget) == "above",
        under_budget=flag(parameters, study.budget) == "below",
        gain=paired(list(results.gains(name, "in_domain").values())),
        gain_ood=paired(list(results.gains(name, "out_of_domain").values())),
        forgetting=paired(list(results.values(name, "forgetting").values())),
        versus=versus,
        p=p,
        rates={c.task: c.rate for c in contests},
        tuning_steps=sum(c.tuning_steps for c in contests),
        step_seconds=fmean([o.seconds / t.steps for t, o in reported if t.steps]) if reported else math.nan,
        diverged=sum(outcome.status == "diverged" for _, outcome in trials),
        ranked=study.competes(name),
    )


def _answer(rows: list[Row], results: Results) -> str:
    ranked = [row for row in rows if math.isfinite(row.gain.mean) and row.ranked]
    if not ranked:
        return "No contestant finished a run, so there is nothing to compare."
    best, tasks = ranked[0], " and ".join(results.study.tasks)
    if best.gain.mean <= 0:
        return f"No contestant learned anything on {tasks} that the frozen model did not know."
    first = f"{best.contestant} learns most on {tasks}: {best.gain.mean:.3f} nats per byte better than the frozen model"
    rivals = {
        row.contestant: paired(list(results.differences(best.contestant, row.contestant, "in_domain").values()))
        for row in ranked[1:]
    }
    adjusted = holm({name: result.p for name, result in rivals.items()})
    even = [name for name in rivals if adjusted[name] >= SIGNIFICANT]
    if not rivals:
        second = ""
    elif not even:
        second = f", and its lead over each of the other {len(rivals)} is real (p < 0.05 after correction)"
    elif len(even) == len(rivals):
        second = ", but no lead over another adapter can be told from chance"
    else:
        second = f", ahead of all but {_listed(even)}, which cannot be told from it"
    # What learned nothing forgets nothing, so only those that learned half as much as the best can be praised for it.
    learners = [row for row in ranked if row.gain.mean >= best.gain.mean / 2]
    keeper = min(learners, key=lambda row: row.forgetting.mean)
    kept = f"{keeper.forgetting.mean:.3f} against {best.forgetting.mean:.3f}"
    third = f". {keeper.contestant} forgets least of those that learn ({kept})" if keeper is not best else ""
    return first + second + third + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def settings_of(results: Results, contestant: str) -> str:
    """The contestant's adapter with what differs from its defaults, as it ran after sizing."""
    adapter = results.contests[contestant, results.study.tasks[0]].adapter
    return str(adapter) if adapter is not None else json.dumps({"name": contestant})
