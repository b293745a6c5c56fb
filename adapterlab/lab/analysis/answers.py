"""Contestants compared by the metric of their generated answers, and the order that follows from it.

The contestant to choose is the one with the lowest loss among those that the metric cannot tell from the best by it.

>>> AnswerTable("exact_match", ("arithmetic",), (), 0.0, None, PairTable((), {}, {}, 0.01), 0, constant=0.0).title
'exact match'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.contrast import value
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import ANSWERS_IN_DOMAIN, ANSWERS_OUT_OF_DOMAIN
from adapterlab.lab.analysis.pairwise import SIGNIFICANT, Lead, PairTable
from adapterlab.lab.statistics import Paired, equivalence
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.tasks.answer_metrics import title_of


@dataclass(frozen=True)
class AnswerRow:
    """One contestant; higher values are better."""

    contestant: str
    value: Paired
    """Mean over the answers, in-domain, with its interval."""
    value_ood: Paired
    """The same out-of-domain; not a number if that part is not scored."""
    gain: Paired
    """In-domain improvement over the frozen model."""
    versus: Paired | None
    """In-domain difference from the reference; positive is better. None for the reference itself."""
    p: float
    """P-value of `versus`, adjusted over all pairs of ranked contestants; 1 for a contestant that is not ranked."""
    versus_ood: Paired | None
    """Out-of-domain difference from the reference; not adjusted for several tests."""
    ranked: bool


@dataclass(frozen=True)
class AnswerTable:
    """All contestants on the tasks that have one metric."""

    metric: str
    tasks: tuple[str, ...]
    rows: tuple[AnswerRow, ...]
    """The contestant with the highest mean first."""
    frozen: float
    """Mean of the frozen model, in-domain."""
    frozen_ood: float | None
    """Mean of the frozen model, out-of-domain; None if that part is not scored."""
    pairs: PairTable
    """In-domain differences of all pairs of ranked contestants."""
    answers: int
    """Answers scored in-domain for each run, over all tasks."""
    constant: float | None = None
    """Value of every in-domain answer of every run, if they are all the same; else None."""
    whole: bool = True
    """True if all tasks of the board have this metric."""

    @property
    def title(self) -> str:
        """Name of the metric in reports."""
        return title_of(self.metric)

    @property
    def decides(self) -> bool:
        """True if the order of the contestants follows this metric: all tasks have it, and its values differ."""
        return self.whole and self.constant is None and bool(self.pairs.names)

    @property
    def reason(self) -> str:
        """Sentence about what is chosen by what."""
        if self.constant is not None:
            return (
                f"The metric ({self.title}) is {self.constant:g} for every answer of every run, so there is nothing to "
                "compare by it: the order is by the loss."
            )
        if not self.whole:
            return f"Not all tasks have the metric {self.title}, so the order is by the loss."
        return (
            f"Learning rates are chosen by validation loss; the order is by {self.title}, and by the loss among those that "
            "it cannot tell from the best."
        )

    def row(self, contestant: str) -> AnswerRow:
        """Return the row of a contestant.

        Args:
            contestant: Name of the contestant.

        Raises:
            KeyError: If it has no answers.
        """
        for row in self.rows:
            if row.contestant == contestant:
                return row
        raise KeyError(contestant)

    @property
    def tied(self) -> tuple[str, ...]:
        """Ranked contestants that the metric cannot tell from the best by it, which is the first of them."""
        best, *others = self.pairs.names
        return best, *(name for name in others if not self.is_ahead(best, name))

    def is_ahead(self, a: str, b: str) -> bool:
        """Return True if one contestant is significantly better than another by the metric.

        Args:
            a: Name of a ranked contestant.
            b: Name of another.
        """
        effect = self.pairs.effects.get((a, b))
        if effect is None:
            back = self.pairs.effects.get((b, a))
            return back is not None and self.pairs.adjusted[b, a] < SIGNIFICANT and back.mean < 0
        return self.pairs.adjusted[a, b] < SIGNIFICANT and effect.mean > 0


def answer_tables(effects: Effects) -> tuple[AnswerTable, ...]:
    """Return the comparison of the contestants by each metric that the tasks of these results have.

    Args:
        effects: Effects estimated from finished contests.
    """
    results = effects.results
    tasks: dict[str, list[str]] = {}
    for task in results.study.tasks:
        if effects.values(FROZEN, ANSWERS_IN_DOMAIN, [task]):
            tasks.setdefault(results.resolved.tasks[task].metric, []).append(task)
    return tuple(_table(effects, metric, found) for metric, found in tasks.items())


def _table(effects: Effects, metric: str, tasks: Sequence[str]) -> AnswerTable:
    study = effects.results.study
    answered = [name for name in effects.results.contestants if effects.values(name, ANSWERS_IN_DOMAIN, tasks)]
    means = {name: effects.estimate(value(name, ANSWERS_IN_DOMAIN), tasks).mean for name in answered}
    order = sorted(answered, key=lambda name: -means[name])
    ranked = [name for name in order if study.competes(name)]
    pairs = PairTable.of(effects, ranked, ANSWERS_IN_DOMAIN, tasks)
    frozen, frozen_ood = (
        [*effects.values(FROZEN, name, tasks).values()] for name in (ANSWERS_IN_DOMAIN, ANSWERS_OUT_OF_DOMAIN)
    )
    tables = [effects.rows.get((name, ANSWERS_IN_DOMAIN), {}) for name in (FROZEN, *answered)]
    runs = [values for table in tables for (task, _), values in table.items() if task in tasks]
    single = {float(value) for values in runs for value in values}
    of_frozen = effects.rows.get((FROZEN, ANSWERS_IN_DOMAIN), {})
    return AnswerTable(
        metric,
        tuple(tasks),
        tuple(_row(effects, name, tasks, pairs) for name in order),
        fmean(frozen),
        fmean(frozen_ood) if frozen_ood else None,
        pairs,
        sum(len(values) for (task, _), values in of_frozen.items() if task in tasks),
        single.pop() if len(single) == 1 else None,
        len(tasks) == len(study.tasks),
    )


def _row(effects: Effects, name: str, tasks: Sequence[str], pairs: PairTable) -> AnswerRow:
    study = effects.results.study
    other = name != study.reference
    return AnswerRow(
        name,
        effects.estimate(value(name, ANSWERS_IN_DOMAIN), tasks),
        effects.estimate(value(name, ANSWERS_OUT_OF_DOMAIN), tasks),
        effects.gained(name, ANSWERS_IN_DOMAIN, tasks),
        effects.compare(name, study.reference, ANSWERS_IN_DOMAIN, tasks) if other else None,
        pairs.p(name, study.reference),
        effects.compare(name, study.reference, ANSWERS_OUT_OF_DOMAIN, tasks) if other else None,
        study.competes(name),
    )


def ordered_by(table: AnswerTable, by_loss: Sequence[str]) -> list[str]:
    """Return the contestants in the order that a metric decides, and the loss where the metric cannot.

    Args:
        table: The table of a metric that decides.
        by_loss: All contestants, the one with the lowest loss first.

    Returns:
        The ranked contestants that the metric cannot tell from the best, by their loss; then the others by the metric, and
        those without answers last. A contestant that is not ranked stands before them if it has the highest mean.
    """
    tied = [name for name in by_loss if name in table.tied]
    others = [row.contestant for row in table.rows if row.contestant not in tied]
    best = table.row(table.pairs.names[0]).value.mean
    above = [name for name in others if not table.row(name).ranked and table.row(name).value.mean > best]
    rest = [name for name in others if name not in above]
    return [*above, *tied, *rest, *(name for name in by_loss if name not in {*above, *tied, *rest})]


def lead_by(table: AnswerTable, order: Sequence[str], losses: PairTable) -> Lead:
    """Compare the chosen contestant with the other ranked ones: by the metric, then by the loss.

    Args:
        table: The table of a metric that decides.
        order: Ranked contestants, the chosen one first.
        losses: Differences of all pairs in the loss.

    Returns:
        The lead; a contestant is behind if it is significantly behind by the metric, or, not being ahead by it, by the loss.
    """
    best, groups = order[0], dict[str, list[str]](behind=[], same=[], unknown=[])
    for name in order[1:]:
        effect, p = losses.effects.get((best, name)), losses.p(best, name)
        if effect is None:
            back = losses.effects.get((name, best))
            ahead = back is not None and p < SIGNIFICANT and back.mean < 0
            even = back is not None and equivalence(back, losses.smallest) < SIGNIFICANT
        else:
            ahead, even = p < SIGNIFICANT and effect.mean > 0, equivalence(effect, losses.smallest) < SIGNIFICANT
        behind = table.is_ahead(best, name) or (ahead and not table.is_ahead(name, best))
        groups["behind" if behind else "same" if even else "unknown"].append(name)
    return Lead(**{key: tuple(names) for key, names in groups.items()}, correction=losses.correction)
