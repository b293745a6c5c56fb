"""Where the contestants stand: one row each, every comparison paired and corrected for their number, one sentence."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.effects import compare, compare_across, gained, over_tasks
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.statistics import Across, Paired, equivalence, holm
from adapterlab.lab.run.sizing import flag

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
    """In-domain, against the reference, on these tasks; positive is better. None for the reference itself."""
    p: float
    """Of `versus`, adjusted for the number of contestants (Holm); 1 for one that does not compete."""
    same: float
    """P-value against a difference from the reference that matters; small means that they are the same."""
    across: Across | None
    """`versus`, for tasks like these."""
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
class Scoreboard:
    """The whole board, best in-domain first."""

    rows: tuple[Row, ...]
    reference: str
    answer: str
    """What was found, in a sentence or two."""
    leads: bool
    """Whether the answer says that the best one is really ahead of another adapter."""
    unit: str = "nats per byte"
    """Of gains and forgetting."""


@dataclass(frozen=True)
class Lead:
    """What the lead of the first of a ranking is worth."""

    behind: list[str]
    """Those that it is really ahead of."""
    same: list[str]
    """Those that do not differ from it by as much as matters."""
    unknown: list[str]

    @classmethod
    def of(cls, names: list[str], results: Results) -> Lead:
        """Compare the first of `names` with the others. It was picked for being best, so every pair is corrected for."""
        pairs = {(a, b): compare(results, a, b, "in_domain") for a, b in itertools.combinations(names, 2)}
        adjusted = holm({pair: result.p for pair, result in pairs.items()})
        found = cls([], [], [])
        for name in names[1:]:
            pair = names[0], name
            if adjusted[pair] < SIGNIFICANT:
                found.behind.append(name)
            elif equivalence(pairs[pair], results.study.report.smallest) < SIGNIFICANT:
                found.same.append(name)
            else:
                found.unknown.append(name)
        return found

    def said(self, smallest: float) -> str:
        """The lead in words, to go on a sentence with."""
        alike = f"as good as {_listed(self.same)} (within {smallest:g})" if self.same else ""
        untold = f"{_listed(self.unknown)}, which cannot be told from it" if self.unknown else ""
        if not self.behind:
            if not self.unknown:
                return f", {alike}" if alike else ""
            told = "no lead over another adapter can be told from chance"
            return f", but {alike}; {told}" if alike else f", but {told}"
        if not self.same and not self.unknown:
            return f", and its lead over each of the other {len(self.behind)} is real (p < 0.05 after correction)"
        if not self.same:
            return f", ahead of all but {untold}"
        return f", {alike}, and ahead of all others" + (f" but {untold}" if untold else "")


def make_scoreboard(results: Results) -> Scoreboard:
    """Compare every contestant with the reference and say what was found."""
    study = results.study
    versus = {
        name: compare(results, name, study.reference, "in_domain")
        for name in results.contestants
        if name != study.reference
    }
    adjusted = holm({name: result.p for name, result in versus.items() if study.competes(name)})
    rows = [_row(name, results, versus.get(name), adjusted.get(name, 1.0)) for name in results.contestants]
    rows.sort(key=lambda row: -row.gain.mean if math.isfinite(row.gain.mean) else math.inf)
    ranked = [row for row in rows if math.isfinite(row.gain.mean) and row.ranked]
    lead = Lead.of([row.contestant for row in ranked], results)
    return Scoreboard(tuple(rows), study.reference, _answer(ranked, lead, results), bool(lead.behind), results.unit)


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
        gain=gained(results, name, "in_domain"),
        gain_ood=gained(results, name, "out_of_domain"),
        forgetting=over_tasks(results, results.values(name, "forgetting"), (name,), "forgetting"),
        versus=versus,
        p=p,
        same=1.0 if versus is None else equivalence(versus, study.report.smallest),
        across=None if versus is None else compare_across(results, name, study.reference, "in_domain"),
        rates={c.task: c.rate for c in contests},
        tuning_steps=sum(c.tuning_steps for c in contests),
        step_seconds=fmean([o.seconds / t.steps for t, o in reported if t.steps]) if reported else math.nan,
        diverged=sum(outcome.status == "diverged" for _, outcome in trials),
        ranked=study.competes(name),
    )


def _answer(ranked: list[Row], lead: Lead, results: Results) -> str:
    if not ranked:
        return "No contestant finished a run, so there is nothing to compare."
    best, tasks = ranked[0], " and ".join(results.study.tasks)
    if best.gain.mean <= 0:
        return f"No contestant learned anything on {tasks} that the frozen model did not know."
    first = (
        f"{best.contestant} learns most on {tasks}: {best.gain.mean:.3f} {results.unit} better than the frozen model"
    )
    second = lead.said(results.study.report.smallest)
    # What learned nothing forgets nothing, so only those that learned half as much as the best can be praised for it.
    learners = [row for row in ranked if row.gain.mean >= best.gain.mean / 2]
    keeper = min(learners, key=lambda row: row.forgetting.mean)
    kept = f"{keeper.forgetting.mean:.3f} against {best.forgetting.mean:.3f}"
    known = math.isfinite(best.forgetting.mean)
    third = f". {keeper.contestant} forgets least of those that learn ({kept})" if known and keeper is not best else ""
    return first + second + third + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def settings_of(results: Results, contestant: str) -> str:
    """The contestant's adapter with what differs from its defaults, as it ran after sizing."""
    adapter = results.contests[contestant, results.study.tasks[0]].adapter
    return str(adapter) if adapter is not None else json.dumps({"name": contestant})
