"""The scoreboard: one row for each contestant, every comparison paired and corrected for multiplicity, and one sentence.

>>> Scoreboard((), "lora", "No contestant finished a run, so there is nothing to compare.", Lead()).leads
False
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import pandas as pd

from adapterlab.lab.analysis.answers import AnswerTable, answer_tables, lead_by, ordered_by
from adapterlab.lab.analysis.contrast import value
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.matched import Along, Matched
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.pairwise import NAMED, SIGNIFICANT, Lead, PairTable, listed
from adapterlab.lab.analysis.undertuned import undertuned
from adapterlab.lab.run.lr_search import Flag
from adapterlab.lab.run.sizing import budget_flag
from adapterlab.lab.statistics import Across, Paired, equivalence, heterogeneity, holm

FASTER = 0.05
"""Share of the time of a step by which a contestant is called faster than another."""


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
    """P-value of `versus`, adjusted over all pairs of ranked contestants (Holm); 1 for a contestant that is not ranked."""
    interaction: float
    """P-value of `versus` being the same on all tasks."""
    kept: Paired | None
    """Difference from the reference in forgetting, at equal in-domain gain; positive is less forgetting. None for the
    reference, and if no strength path was scored."""
    kept_p: float
    """P-value of `kept`, adjusted over the ranked contestants (Holm)."""
    kept_interaction: float
    """P-value of `kept` being the same on all tasks."""
    kept_in_training: Paired | None
    """As `kept`, with the one that learned more taken back to an earlier step of its training, not to a lower strength."""
    same: float
    """P-value of the equivalence test against the smallest difference that matters; small means equivalent."""
    across: Across | None
    """`versus` on tasks like these."""
    rates: dict[str, float | None]
    """By task, the selected learning rate; None if every rate diverged."""
    search_flags: dict[str, Flag]
    """By task, a reason to doubt that the selected rate is near the best one; only tasks with such a reason."""
    tuning_steps: int
    """Training steps of the learning-rate search, with its growth and its extensions."""
    step_seconds: float
    """Mean time of a training step."""
    diverged: int
    """Number of trials that diverged."""
    peak_bytes: dict[str, float]
    """By task, the mean memory of a training step beyond the model's; 0 if unknown."""
    tenth: Paired | None = None
    """In-domain improvement after training on a tenth of the data; None if the study does not ask for it."""
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
    """All rows, the best first, by the loss in-domain or by the metric of answers, and the answer."""

    rows: tuple[Row, ...]
    reference: str
    answer: str
    """Finding in a sentence or two."""
    lead: Lead
    """Comparison of the best contestant with the other ranked ones."""
    unit: str = "nats per byte"
    """Unit of gains and forgetting."""
    answers: tuple[AnswerTable, ...] = ()
    """Comparisons by the metrics of generated answers; none if no task has a metric."""

    @property
    def leads(self) -> bool:
        """True if the best contestant is significantly ahead of another one."""
        return bool(self.lead.behind)

    @property
    def decided_by(self) -> AnswerTable | None:
        """The metric of answers that the order follows; None if it follows the loss."""
        return next((table for table in self.answers if table.decides), None)

    def improved(self, row: Row) -> bool:
        """Return True if a contestant is better than the frozen model: by the metric that decides, else by the loss.

        Where the metric cannot tell it from the frozen model, the loss decides here too.

        Args:
            row: Row of a contestant that finished.
        """
        table = self.decided_by
        if table is None:
            return row.gain.mean > 0
        answers = table.row(row.contestant).gain
        return answers.mean > 0 or (not answers.high < 0 and row.gain.mean > 0)

    @property
    def without_improvement(self) -> str:
        """Sentences about the metrics of answers for a study in which no contestant is better than the frozen model."""
        table = self.decided_by
        found = [other.reason for other in self.answers if not other.decides]
        if table is not None:
            best = table.row(table.pairs.names[0])
            found.append(
                f"The frozen model has {table.title} {table.frozen:.3f}, the best contestant ({best.contestant}) "
                f"{best.value.mean:.3f}."
            )
        return " ".join(found)

    @property
    def uneven(self) -> frozenset[str]:
        """Contestants whose difference from the reference is not the same on all tasks, after Holm's correction."""
        return _uneven({row.contestant: row.interaction for row in self.rows if row.versus is not None}, self.rows)

    @property
    def half_width(self) -> float:
        """Median half width of the 95 % intervals of the differences from the reference; NaN if none is known."""
        halves = [(row.versus.high - row.versus.low) / 2 for row in self.ranked if row.versus is not None]
        known = [half for half in halves if math.isfinite(half)]
        return median(known) if known else math.nan

    @property
    def kept_uneven(self) -> frozenset[str]:
        """The same of forgetting at equal learning."""
        return _uneven({row.contestant: row.kept_interaction for row in self.rows if row.kept is not None}, self.rows)

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

        `gain`, `gain_ood`, `forgetting`, `versus` and `kept` come with the limits of their 95 % intervals, as `gain_low` and
        so on; there are columns `rate_TASK` and `search_flag_TASK` for each task; the flag is empty for a rate without
        doubts. With a metric of answers there are `answers`, `answers_ood` and `answers_versus` with their limits, and
        `answers_p`; with several, each of these names ends with the name of its metric.
        """
        return pd.DataFrame([_plain(row) | _answer_cells(row.contestant, self.answers) for row in self.rows])


def _uneven(p: Mapping[str, float], rows: Sequence[Row]) -> frozenset[str]:
    """Return the names with a small p-value, corrected over the ranked contestants; others are tested by themselves."""
    ranked = {row.contestant for row in rows if row.ranked and row.finished}
    adjusted = {**p, **holm({name: value for name, value in p.items() if name in ranked})}
    return frozenset(name for name, value in adjusted.items() if value < SIGNIFICANT)


def _plain(row: Row) -> dict[str, object]:
    cells: dict[str, object] = {
        "contestant": row.contestant,
        "adapter": row.adapter,
        "parameters": row.parameters,
        "comparable": row.comparable,
        "ranked": row.ranked,
    }
    for name in ("gain", "gain_ood", "forgetting", "versus", "kept"):
        effect: Paired | None = getattr(row, name)
        cells[name] = math.nan if effect is None else effect.mean
        cells[f"{name}_low"] = math.nan if effect is None else effect.low
        cells[f"{name}_high"] = math.nan if effect is None else effect.high
    return cells | {
        "p": math.nan if row.versus is None or not row.ranked else row.p,
        "kept_p": math.nan if row.kept is None or not row.ranked else row.kept_p,
        "interaction": math.nan if row.versus is None else row.interaction,
        **{f"rate_{task}": rate for task, rate in row.rates.items()},
        **{f"search_flag_{task}": row.search_flags.get(task, Flag.NONE).value for task in row.rates},
        "tuning_steps": row.tuning_steps,
        "step_seconds": row.step_seconds,
        "diverged": row.diverged,
    }


def _answer_cells(name: str, tables: Sequence[AnswerTable]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for table in tables:
        end = f"_{table.metric}" if len(tables) > 1 else ""
        row = next((row for row in table.rows if row.contestant == name), None)
        found: dict[str, Paired | None] = dict.fromkeys(("answers", "answers_ood", "answers_versus"))
        if row is not None:
            found = {"answers": row.value, "answers_ood": row.value_ood, "answers_versus": row.versus}
        for key, effect in found.items():
            cells[f"{key}{end}"] = math.nan if effect is None else effect.mean
            cells[f"{key}_low{end}"] = math.nan if effect is None else effect.low
            cells[f"{key}_high{end}"] = math.nan if effect is None else effect.high
        cells[f"answers_p{end}"] = math.nan if row is None or row.versus is None or not row.ranked else row.p
    return cells


def make_scoreboard(effects: Effects) -> Scoreboard:
    """Compare every contestant with the reference, and state the finding.

    Args:
        effects: Effects estimated from finished contests.

    Returns:
        The scoreboard, best contestant first.
    """
    results = effects.results
    study = results.study
    matched, earlier = Matched.of(effects), Matched.of(effects, along=Along.TRAINING)
    order = sorted(results.contestants, key=lambda name: -_order(effects.gained(name, "in_domain").mean))
    ranked = [name for name in order if study.competes(name) and effects.values(name, "in_domain")]
    pairs = PairTable.of(effects, ranked)
    kept = {name: matched.compare(name, study.reference) for name in ranked if name != study.reference}
    kept_p = effects.adjust({name: effect.p for name, effect in kept.items() if effect.n})
    answers, lead = answer_tables(effects), Lead.of(pairs)
    if (table := next((table for table in answers if table.decides and table.pairs.names), None)) is not None:
        order = ordered_by(table, order)
        lead = lead_by(table, [name for name in order if name in ranked], pairs)
    rows = tuple(
        _row(name, effects, (matched, earlier), pairs.p(name, study.reference), kept_p.get(name, 1.0)) for name in order
    )
    found = Scoreboard(rows, study.reference, "", lead, results.unit, answers)
    return replace(found, answer=_answer(found, results))


def _order(gain: float) -> float:
    return gain if math.isfinite(gain) else -math.inf


def _row(name: str, effects: Effects, ways: tuple[Matched, Matched], p: float, kept_p: float) -> Row:
    results = effects.results
    study = results.study
    (matched, earlier), versus, across, kept, kept_in_training = ways, None, None, None, None
    interaction = kept_interaction = 1.0
    if name != study.reference:
        versus = effects.compare(name, study.reference, "in_domain")
        across = effects.compare_across(name, study.reference, "in_domain")
        interaction = heterogeneity(list(across.tasks.values()))
        kept = matched.compare(name, study.reference)
        kept_in_training = earlier.compare(name, study.reference)
        kept_interaction = heterogeneity(list(matched.by_task(name, study.reference).values()))
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
        forgetting=effects.estimate(value(name, "forgetting")),
        versus=versus,
        p=p,
        interaction=interaction,
        kept=kept if kept is not None and kept.n else None,
        kept_p=kept_p,
        kept_interaction=kept_interaction,
        kept_in_training=kept_in_training if kept_in_training is not None and kept_in_training.n else None,
        across=across,
        same=1.0 if versus is None else equivalence(versus, study.report.smallest),
        rates={c.task: c.rate for c in contests},
        search_flags={c.task: c.search_flag for c in contests if c.search_flag},
        tuning_steps=sum(c.tuning_steps for c in contests),
        step_seconds=fmean([o.seconds / t.steps for t, o in reported if t.steps]) if reported else math.nan,
        diverged=sum(outcome.status == "diverged" for _, outcome in trials),
        peak_bytes={c.task: fmean([o.peak_bytes for _, o in c.reported.values()] or [0]) for c in contests},
        tenth=effects.gained(name, "tenth_of_data") if study.report.tenth_of_data else None,
        undertuned=undertuned(adapter.name) if adapter is not None else "",
        ranked=study.competes(name),
    )


def _answer(scoreboard: Scoreboard, results: Results) -> str:
    ranked, lead, smallest = scoreboard.ranked, scoreboard.lead, results.study.report.smallest
    if not ranked:
        return "No contestant finished a run, so there is nothing to compare."
    best, tasks = ranked[0], listed(results.study.tasks)
    if not scoreboard.improved(best):
        nothing = f"No contestant learned anything on {tasks} that the frozen model did not know."
        return f"{nothing} {scoreboard.without_improvement}".strip()
    first = (
        f"{best.contestant} learns most on {tasks}: {best.gain.mean:.3f} {results.unit} better than the frozen model"
    )
    if (table := scoreboard.decided_by) is not None:
        own = table.row(best.contestant)
        first = (
            f"{best.contestant} answers best on {tasks}: {table.title} {own.value.mean:.3f}, where the frozen model has "
            f"{table.frozen:.3f}; its loss is {_change(best, results.unit)}"
        )
    sentences = [
        f"{first}{lead.clause(smallest)}.",
        *(_tied(best, table) for table in scoreboard.answers if table.decides),
        *(table.reason for table in scoreboard.answers),
        _cheaper(best, [row for row in ranked if row.contestant in lead.same]),
        _budgets(ranked),
        _kept(ranked, results.study.reference, lead.correction),
        _interactions(ranked, results.study.reference),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _change(best: Row, unit: str) -> str:
    """Return the change of the loss in words."""
    gain = best.gain.mean
    return f"{abs(gain):.3f} {unit} {'better' if gain > 0 else 'worse'} than the frozen model's"


def _tied(best: Row, table: AnswerTable) -> str:
    """Return a sentence about the contestants that the metric cannot tell from the best by it."""
    highest = table.row(table.pairs.names[0])
    if len(table.tied) < 2:
        return ""
    others = [name for name in table.tied if name != best.contestant]
    top = (
        ""
        if highest.contestant == best.contestant
        else f" (the highest is {highest.contestant}'s {highest.value.mean:.3f})"
    )
    return f"By {table.title} it cannot be told from {listed(others, NAMED)}{top}; of these it has the lowest loss."


def _cheaper(best: Row, equals: Sequence[Row]) -> str:
    """Return a sentence about the fastest of those as good as the best, if it is clearly faster."""
    timed = [row for row in equals if math.isfinite(row.step_seconds)]
    fastest = min(timed, key=lambda row: row.step_seconds, default=best)
    if not fastest.step_seconds < (1 - FASTER) * best.step_seconds:
        return ""
    return (
        f"Of these, {fastest.contestant} trains fastest: {1000 * fastest.step_seconds:.0f} ms a step, "
        f"{best.contestant} {1000 * best.step_seconds:.0f}."
    )


def _budgets(ranked: Sequence[Row]) -> str:
    """Return a sentence about contestants that are not near the budget."""
    small = [row.contestant for row in ranked if row.under_budget]
    large = [row.contestant for row in ranked if row.over_budget]
    parts = [f"{listed(small, NAMED)} with less than half of the budget"] if small else []
    parts += [f"{listed(large, NAMED)} with more than the budget"] if large else []
    return f"Not at equal budgets: {' and '.join(parts)}." if parts else ""


def _kept(ranked: Sequence[Row], reference: str, correction: str) -> str:
    """Return a sentence about forgetting at equal learning."""
    compared = [row for row in ranked if row.kept is not None]
    if not compared:
        return ""
    found = [(row, row.kept) for row in compared if row.kept is not None and row.kept_p < SIGNIFICANT]
    less = [row.contestant for row, kept in found if kept.mean > 0]
    more = [row.contestant for row, kept in found if kept.mean < 0]
    parts = [f"{listed(less, NAMED)} forget{'s' * (len(less) == 1)} less than {reference}"] if less else []
    parts += (
        [f"{listed(more, NAMED)} forget{'s' * (len(more) == 1)} more{'' if less else f' than {reference}'}"]
        if more
        else []
    )
    if not parts:
        return f"At equal learning, no difference in forgetting from {reference} can be told from chance."
    said = f"At equal learning, {' and '.join(parts)} (p < {SIGNIFICANT:g}, {correction} over {len(compared)})."
    turned = [row.contestant for row, kept in found if _turned(kept, row.kept_in_training)]
    if not turned:
        return said
    return (
        f"{said} That is with a reduced strength of what learned more. Stopped earlier in training instead, "
        f"{listed(turned, NAMED)} show{'s' * (len(turned) == 1)} the opposite (95 % interval, not corrected): the way back "
        "decides."
    )


def _turned(kept: Paired, in_training: Paired | None) -> bool:
    """Return True if the other way back gives a difference of the other sign that its interval tells from none."""
    if in_training is None:
        return False
    return in_training.low > 0 if kept.mean < 0 else in_training.high < 0


def _interactions(ranked: Sequence[Row], reference: str) -> str:
    """Return a sentence about contestants whose difference from the reference is not the same on all tasks."""
    found = _uneven({row.contestant: row.interaction for row in ranked if row.versus is not None}, ranked)
    names = [row.contestant for row in ranked if row.contestant in found]
    return f"The difference from {reference} is not the same on all tasks for {listed(names, NAMED)}." if names else ""
