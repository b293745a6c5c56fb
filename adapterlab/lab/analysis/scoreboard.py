"""The scoreboard: one row for each contestant, every comparison paired and corrected for multiplicity, and one sentence.

>>> Scoreboard((), "lora", "No contestant finished a run, so there is nothing to compare.", Lead()).leads
False
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.pairwise import Lead, PairTable
from adapterlab.lab.analysis.statistics import Across, Paired, equivalence, holm
from adapterlab.lab.analysis.undertuned import undertuned
from adapterlab.lab.run.sizing import budget_flag


@dataclass(frozen=True)
class Row:
    """One contestant, over all tasks."""

    contestant: str
    adapter: str
    """Method and settings after sizing, without the defaults."""
    parameters: int
    """Number of trained parameters."""
    over_budget: bool
    """True if its smallest size is above the budget."""
    under_budget: bool
    """True if it has no size of at least half the budget."""
    gain: Paired
    """In-domain improvement over the frozen model, in the unit of the loss."""
    gain_ood: Paired
    """Out-of-domain improvement over the frozen model."""
    forgetting: Paired
    """Increase of the loss on the base model's own domain."""
    versus: Paired | None
    """In-domain difference from the reference; positive is better. None for the reference itself."""
    p: float
    """P-value of `versus`, adjusted over the contestants (Holm); 1 for a contestant that is not ranked."""
    same: float
    """P-value of the equivalence test against the smallest difference that matters; small means equivalent."""
    across: Across | None
    """`versus` on tasks like these."""
    rates: dict[str, float | None]
    """By task, the selected learning rate; None if every rate diverged."""
    tuning_steps: int
    """Training steps of the learning-rate search."""
    step_seconds: float
    """Mean time of a training step."""
    diverged: int
    """Number of trials that diverged."""
    peak_bytes: dict[str, float]
    """By task, the mean memory of a training step beyond the model's; 0 if unknown."""
    undertuned: str = ""
    """Remark if a random search found much better settings than the method's defaults; empty if it did not."""
    ranked: bool = True
    """False for full fine-tuning, which shows how much there is to learn."""

    @property
    def comparable(self) -> bool:
        """True if its number of trained parameters is near the study's budget."""
        return not (self.over_budget or self.under_budget)

    @property
    def finished(self) -> bool:
        """True if at least one reported run did not diverge."""
        return math.isfinite(self.gain.mean)


@dataclass(frozen=True)
class Scoreboard:
    """All rows, best in-domain first, and the answer."""

    rows: tuple[Row, ...]
    reference: str
    answer: str
    """Finding in a sentence or two."""
    lead: Lead
    """Comparison of the best contestant with the other ranked ones."""
    unit: str = "nats per byte"
    """Unit of gains and forgetting."""

    @property
    def leads(self) -> bool:
        """True if the best contestant is significantly ahead of another one."""
        return bool(self.lead.behind)

    @property
    def ranked(self) -> list[Row]:
        """Rows of the ranked contestants that finished, best first."""
        return [row for row in self.rows if row.ranked and row.finished]

    def row(self, contestant: str) -> Row:
        """Return the row of a contestant.

        Args:
            contestant: Name of the contestant.

        Raises:
            KeyError: If there is no such contestant.
        """
        for row in self.rows:
            if row.contestant == contestant:
                return row
        raise KeyError(contestant)

    def to_frame(self) -> pd.DataFrame:
        """Return the scoreboard as a table, one row for each contestant, best first.

        `gain`, `gain_ood`, `forgetting` and `versus` come with the limits of their 95 % intervals, as `gain_low` and so on;
        there is one column `rate_TASK` for each task.
        """
        return pd.DataFrame([_plain(row) for row in self.rows])


def _plain(row: Row) -> dict[str, object]:
    cells: dict[str, object] = {
        "contestant": row.contestant,
        "adapter": row.adapter,
        "parameters": row.parameters,
        "comparable": row.comparable,
        "ranked": row.ranked,
    }
    for name in ("gain", "gain_ood", "forgetting", "versus"):
        effect: Paired | None = getattr(row, name)
        cells[name] = math.nan if effect is None else effect.mean
        cells[f"{name}_low"] = math.nan if effect is None else effect.low
        cells[f"{name}_high"] = math.nan if effect is None else effect.high
    return cells | {
        "p": math.nan if row.versus is None or not row.ranked else row.p,
        **{f"rate_{task}": rate for task, rate in row.rates.items()},
        "tuning_steps": row.tuning_steps,
        "step_seconds": row.step_seconds,
        "diverged": row.diverged,
    }


def make_scoreboard(effects: Effects) -> Scoreboard:
    """Compare every contestant with the reference, and state the finding.

    Args:
        effects: Effects estimated from finished contests.

    Returns:
        The scoreboard, best contestant first.
    """
    results = effects.results
    study = results.study
    versus = {
        name: effects.compare(name, study.reference, "in_domain")
        for name in results.contestants
        if name != study.reference
    }
    adjusted = holm({name: result.p for name, result in versus.items() if study.competes(name)})
    rows = [_row(name, effects, versus.get(name), adjusted.get(name, 1.0)) for name in results.contestants]
    rows.sort(key=lambda row: -row.gain.mean if row.finished else math.inf)
    ranked = [row for row in rows if row.ranked and row.finished]
    pairs = PairTable.of(effects, [row.contestant for row in ranked])
    lead = Lead.of(pairs)
    return Scoreboard(tuple(rows), study.reference, _answer(ranked, lead, effects), lead, results.unit)


def _row(name: str, effects: Effects, versus: Paired | None, p: float) -> Row:
    results = effects.results
    study = results.study
    contests = [results.contests[name, task] for task in study.tasks]
    trials = [run for contest in contests for run in contest.runs]
    reported = [run for contest in contests for run in contest.reported.values()]
    parameters = max((outcome.parameters for _, outcome in trials), default=0)
    flag = budget_flag(parameters, study.budget)
    adapter = contests[0].adapter
    return Row(
        contestant=name,
        adapter=str(adapter) if adapter is not None else json.dumps({"name": name}),
        parameters=parameters,
        over_budget=flag == "above",
        under_budget=flag == "below",
        gain=effects.gained(name, "in_domain"),
        gain_ood=effects.gained(name, "out_of_domain"),
        forgetting=effects.over_tasks(effects.values(name, "forgetting"), (name,), "forgetting"),
        versus=versus,
        p=p,
        across=None if versus is None else effects.compare_across(name, study.reference, "in_domain"),
        same=1.0 if versus is None else equivalence(versus, study.report.smallest),
        rates={c.task: c.rate for c in contests},
        tuning_steps=sum(c.tuning_steps for c in contests),
        step_seconds=fmean([o.seconds / t.steps for t, o in reported if t.steps]) if reported else math.nan,
        diverged=sum(outcome.status == "diverged" for _, outcome in trials),
        peak_bytes={c.task: fmean([o.peak_bytes for _, o in c.reported.values()] or [0]) for c in contests},
        undertuned=undertuned(adapter.name) if adapter is not None else "",
        ranked=study.competes(name),
    )


def _answer(ranked: list[Row], lead: Lead, effects: Effects) -> str:
    results = effects.results
    if not ranked:
        return "No contestant finished a run, so there is nothing to compare."
    best, tasks = ranked[0], " and ".join(results.study.tasks)
    if best.gain.mean <= 0:
        return f"No contestant learned anything on {tasks} that the frozen model did not know."
    first = (
        f"{best.contestant} learns most on {tasks}: {best.gain.mean:.3f} {results.unit} better than the frozen model"
    )
    second = lead.clause(results.study.report.smallest)
    # A contestant that learned nothing forgets nothing, so only those with half the best gain are considered.
    learners = [row for row in ranked if row.gain.mean >= best.gain.mean / 2]
    keeper = min(learners, key=lambda row: row.forgetting.mean)
    figures = f"{keeper.forgetting.mean:.3f} against {best.forgetting.mean:.3f}"
    known = math.isfinite(best.forgetting.mean)
    third = (
        f". {keeper.contestant} forgets least of those that learn ({figures})" if known and keeper is not best else ""
    )
    return first + second + third + "."
