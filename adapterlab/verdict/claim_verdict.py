"""Verdict of a study on one claim.

>>> from adapterlab.verdict.claims import read_test
>>> test = read_test("DoRA Beats LoRA", {"better": "dora", "than": "lora", "in": "in_domain", "on": "prose"})
>>> Verdict("DoRA Beats LoRA", test, before=0.5, after=0.5, untested="dora did not run in this study").pairs
()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapterlab.lab.analysis.evidence import Region
from adapterlab.lab.analysis.metrics import ANSWERS, LOSS, METRICS, Results
from adapterlab.lab.statistics import Paired
from adapterlab.verdict.forms import All, Form, Test
from adapterlab.verdict.measured import MeasuredStudy
from adapterlab.verdict.statements import Pair, Statement, state
from adapterlab.verdict.wanted import Wanted

SLACK = 0.1
"""Share by which a contestant may exceed the size that a claim allows it: sizes come in steps."""


@dataclass(frozen=True)
class Verdict:
    """Result of testing one claim."""

    claim: str
    test: Test
    before: float
    """Credence stated in the map."""
    after: float
    """Credence after the contests; the same if untested."""
    parts: tuple[Statement, ...] = ()
    """Results on each of its statements; none if untested."""
    bayes_factor: float = 1.0
    """Posterior over prior odds of the claim by the results alone, at full relevance, for tasks like these."""
    relevance: float = 0.0
    """Correlation of the contests' results with what claims are about."""
    untested: str = ""
    """Reason why the claim was not tested; empty if it was."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The paired differences of all its statements."""
        return tuple(pair for part in self.parts for pair in part.pairs)

    @property
    def effect(self) -> Paired | None:
        """Mean paired difference, without the claim's margin; None of a claim that makes several statements."""
        return self.parts[0].effect if len(self.parts) == 1 else None

    @property
    def same(self) -> float | None:
        """For a claim of equivalence, the p-value of two one-sided tests against its margin; else None."""
        return self.parts[0].same if len(self.parts) == 1 else None

    @property
    def regions(self) -> tuple[Region, ...]:
        """Values for which it holds: those in all of the regions."""
        return tuple(part.region for part in self.parts)


def judge_claim(claim: str, test: Test, credence: float, study: MeasuredStudy) -> Verdict:
    """Return what a study measured of one claim, before any update.

    Args:
        claim: Title of the claim.
        test: Its test.
        credence: Its credence stated in the map.
        study: The study's effects.
    """
    placed, found = [], []
    for i, part in enumerate(test.parts, 1):
        named, missing = _placed(part, study.effects.results)
        missing = missing or _missing(named, study.effects.results)
        statement = missing or state(named, study)
        placed.append(named)
        if isinstance(statement, str):
            where = f"part {i}: " if isinstance(test, All) else ""
            return Verdict(claim, test if where else named, credence, credence, untested=f"{where}{statement}")
        found.append(statement)
    test = All(all=tuple(placed)) if isinstance(test, All) else placed[0]
    return Verdict(claim, test, credence, credence, tuple(found))


def _placed(test: Form, results: Results) -> tuple[Form, str]:
    """Return the test with the names that its contestants have in a study, and the reason why it has none for them."""
    wanted = [Wanted.parse(text) for text in test.contestants()]
    found = [one.find(results) for one in wanted]
    absent = [str(one) for one, names in zip(wanted, found, strict=True) if not names]
    if absent:
        return test, f"{' and '.join(absent)} did not run in this study"
    for one, names in zip(wanted, found, strict=True):
        if one.settings and len(names) > 1:
            return test, f"{' and '.join(names)} are both {one}: name one by its label"
    first, *rest = [names[0] for names in found]
    if test.share_of_size is not None:
        first = _largest_within(found[0], rest[0], test.share_of_size, test.tasks, results)
    return test.naming(first, *rest), ""


def _largest_within(names: Sequence[str], other: str, size: float, tasks: Sequence[str], results: Results) -> str:
    """Return the contestant with the most parameters that has at most a share of another's; the first if none has."""
    limit = (1 + SLACK) * size * _parameters(other, tasks, results)
    counts = {name: _parameters(name, tasks, results) for name in names}
    within = [name for name in names if counts[name] <= limit]
    return max(within, key=counts.__getitem__) if within else names[0]


def _missing(test: Form, results: Results) -> str:
    """Return why the study cannot test a claim, or an empty string."""
    tasks = [task for task in test.tasks if task not in results.study.tasks]
    if tasks:
        return f"this study does not include {' and '.join(tasks)}"
    unit = METRICS[test.metric].unit if test.metric in METRICS else ""
    if unit == LOSS and len({results.resolved.unit(name) for name in test.tasks}) > 1:
        return f"the losses of {' and '.join(test.tasks)} have different units"
    if unit == ANSWERS and len({results.resolved.tasks[name].metric for name in test.tasks}) > 1:
        return f"the answers of {' and '.join(test.tasks)} have different metrics"
    return _too_large(test, results)


def _too_large(test: Form, results: Results) -> str:
    """Return a sentence if the first contestant has more parameters than the claim allows it, or an empty string."""
    if test.share_of_size is None:
        return ""
    first, second = (_parameters(name, test.tasks, results) for name in test.contestants())
    if not first or not second or first <= (1 + SLACK) * test.share_of_size * second:
        return ""
    names = test.contestants()
    return (
        f"{names[0]} trains {first / second:.2g} times the parameters of {names[1]}, but the claim is about at most "
        f"{test.share_of_size:.2g} of them"
    )


def _parameters(contestant: str, tasks: Sequence[str], results: Results) -> float:
    """Return the mean number of trained parameters of a contestant's reported runs; 0 without any."""
    counts = [
        outcome.parameters
        for task in tasks
        if (contestant, task) in results.contests
        for _, outcome in results.contests[contestant, task].reported.values()
        if outcome.status == "ok"
    ]
    return sum(counts) / len(counts) if counts else 0.0
