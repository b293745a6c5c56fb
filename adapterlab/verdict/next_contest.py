r"""Contests that have not been run, by how far they would move a thesis for the compute that they take.

A contest is between some contestants, mostly two, on some tasks; it tests all claims about them.
Its outcome is not known, so its
value is an expectation over the outcomes: each claim is found to hold or not, with the power and the error of the lab's
tests, and the network of the map says what the thesis would be. With a relevance r, what holds for the model of the contest
is what the claim means with probability r, and independent of it otherwise.

>>> from adapterlab.argmap import parse
>>> test = "{better: dora, than: lora, in: in_domain, on: [prose]}"
>>> the_map = parse(f"[T]: t {{prior: 0.3}}\n  + [C]: c {{predicted: [0.7, 0.4], credence: 0.5, test: {test}}}")
>>> [contest] = next_contests(the_map)
>>> contest.contestants, round(contest.moves, 3), round(contest.bits, 3)
(('dora', 'lora'), 0.095, 0.031)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from adapterlab.argmap import BayesFactor, Map
from adapterlab.argmap.scoring.bayes import try_compile
from adapterlab.argmap.scoring.compile_map import CompiledMap
from adapterlab.argmap.scoring.sensitivity import first_thesis
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.geometry import Geometry
from adapterlab.lab.study.spec import FULL_FT, Contestant, Reporting, Study, Training, Tuning
from adapterlab.models.fingerprint import EMBEDDED
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.claims import BY_GEOMETRY
from adapterlab.verdict.forms import REVERSAL, Form, Rate, Test, Trend
from adapterlab.verdict.geometry_forms import GEOMETRY, Correlates, MeasuredChange, OfChange, Projects
from adapterlab.verdict.wanted import Wanted

POWER, FALSE_ALARM = 0.8, 0.05
"""Probability that a claim is found to hold if it does, and if it does not."""
MOST_CLAIMS = 6
"""Claims of one contest whose outcomes are enumerated; further ones are left out of its value."""
SWEPT = {
    "steps": ("steps", (15, 30, 60)),
    "rank": ("rank", (2, 8, 32)),
    "budget": ("budgets", (20_000, 80_000, 320_000)),
}
"""By factor of a trend, the key of the sweep and its levels."""
CHEAP_HYPOTHESES, CHEAP_MEASURES = ("low_rank",), ("energy_in_top(0.1)",)
"""Hypotheses and measures of a study whose tests ask for none, since an empty list would stand for all."""
BITFIT = "bitfit"
"""Name of the adapter that trains biases alone."""
BUDGET = 160_000
"""Trained parameters of the contestants."""
TRAINING = Training(steps=60)
"""Training of the contestants."""
WIDE = 7
"""Rates that a search begins with where a claim is about the width of the range that works."""


@dataclass(frozen=True)
class NextContest:
    """A contest that could be run."""

    contestants: tuple[str, ...]
    """Its contestants, as the tests name them."""
    tests: Mapping[str, Test] = field(hash=False)
    """By title, the claims that it tests."""
    moves: float
    """Expected absolute change of the thesis' probability."""
    bits: float
    """Mutual information between the thesis and the outcome."""
    study: Study = field(hash=False)
    """The study that runs it."""

    @property
    def title(self) -> str:
        """The contest in words."""
        if self.study.geometry is not None:
            return f"geometry of {' and '.join(self.contestants)}"
        return " against ".join(self.contestants)

    @property
    def steps(self) -> int:
        """Training steps of the study, about: of the search, the reported runs, and those on a tenth of the data."""
        return sum(_steps(self.study.at(cell)) for cell in self.study.sweep.cells)

    @property
    def moves_per_thousand_steps(self) -> float:
        """Expected change for each thousand training steps."""
        return 1000 * self.moves / self.steps


def next_contests(
    the_map: Map,
    done: Collection[str] = (),
    relevance: float = 1.0,
    thesis: str | None = None,
    model: str = EMBEDDED,
    done_by_geometry: Collection[str] = (),
) -> list[NextContest]:
    """Rank the contests that a map's tests ask for.

    Args:
        the_map: The map; it must state what its claims predict.
        done: Titles of the claims whose contest was run.
        relevance: Weight of results on the model for claims about larger ones, from 0 to 1.
        thesis: Title of a claim; None for the first thesis.
        model: Model that the studies use.
        done_by_geometry: Titles of the claims whose geometry test was made.

    Returns:
        The contests, those with the largest expected change for each training step first.

    Raises:
        AdapterlabError: If the map is no Bayesian network, or a test cannot be read.
    """
    compiled, problem = try_compile(the_map)
    if compiled is None or not compiled.stated:
        raise AdapterlabError(
            f"{the_map.source.name}: {problem or 'no claim states what it predicts (predicted: [0.8, 0.4])'}"
        )
    title = thesis or first_thesis(the_map)
    groups: dict[frozenset[object], dict[str, Test]] = defaultdict(dict)
    for claim, test in read_tests(the_map).items():
        if claim not in done and the_map.claims[claim].credence is not None and not no_study(test, model):
            factors = {("along", factor) for factor in _along(test.parts)}
            groups[frozenset({*test.contestants(), *factors})][claim] = test
    for claim, by_geometry in read_tests(the_map, kind=BY_GEOMETRY).items():
        if claim not in done_by_geometry and the_map.claims[claim].credence is not None:
            groups[frozenset({*by_geometry.contestants(), GEOMETRY})][claim] = by_geometry
    found = []
    for tests in groups.values():
        valued = dict(sorted(tests.items(), key=lambda item: item[0])[:MOST_CLAIMS])
        moves, bits = _Value(compiled, title, tuple(valued), relevance).expected()
        first = next(iter(tests.values()))
        found.append(NextContest(first.contestants(), tests, moves, bits, study_of(tests, model)))
    return sorted(found, key=lambda contest: -contest.moves_per_thousand_steps)


def unwritable(the_map: Map, done: Collection[str] = (), model: str = EMBEDDED) -> dict[str, str]:
    """Return the claims that no study can be written for, each with the reason.

    Args:
        the_map: The map.
        done: Titles of the claims that were tested.
        model: Model of the studies.

    Raises:
        AdapterlabError: If a test cannot be read.
    """
    reasons = {claim: no_study(test, model) for claim, test in read_tests(the_map).items() if claim not in done}
    return {claim: reason for claim, reason in reasons.items() if reason}


def _steps(study: Study) -> int:
    training, tuning, report = study.training, study.tuning, study.report
    search = (tuning.bracket + 2) * tuning.first_steps(training.steps) + tuning.keep * training.steps
    return len(study.tasks) * len(study.entrants) * (search + report.runs * training.steps)


@dataclass
class _Value:
    """The value of an outcome that is not known."""

    compiled: CompiledMap
    thesis: str
    claims: tuple[str, ...]
    relevance: float

    def expected(self) -> tuple[float, float]:
        """Return the expected absolute change of the thesis, and the mutual information with it in bits."""
        now = self._credences({})[self.thesis]
        moves = bits = 0.0
        waiting: list[tuple[float, dict[str, BayesFactor]]] = [(1.0, {})]
        while waiting:
            share, factors = waiting.pop()
            credences = self._credences(factors)
            if len(factors) == len(self.claims):
                after = credences[self.thesis]
                moves += share * abs(after - now)
                bits += share * _divergence(after, now)
                continue
            claim = self.claims[len(factors)]
            holds = credences[claim] * POWER + (1 - credences[claim]) * FALSE_ALARM
            for probability, power, alarm in ((holds, POWER, FALSE_ALARM), (1 - holds, 1 - POWER, 1 - FALSE_ALARM)):
                either = (1 - self.relevance) * probability
                ratio = (self.relevance * power + either) / (self.relevance * alarm + either)
                factor = BayesFactor(ratio, 1 / len(self.claims))
                waiting.append((share * probability, {**factors, claim: factor}))
        return moves, bits

    def _credences(self, factors: Mapping[str, BayesFactor]) -> dict[str, float]:
        found = self.compiled.posterior(factors=factors)
        return {title: float(found[i][0]) for title, i in self.compiled.claims.items()}


def _divergence(after: float, before: float) -> float:
    """Return the relative entropy of a probability after from one before, in bits."""
    terms = ((after, before), (1 - after, 1 - before))
    return sum(a * math.log2(a / b) for a, b in terms if a > 0)


def study_of(tests: Mapping[str, Test], model: str = EMBEDDED) -> Study:
    """Return the study of the contest that tests some claims about the same contestants.

    Args:
        tests: By title, the tests.
        model: Its model.
    """
    some = [part for test in tests.values() for part in test.parts]
    tasks = tuple(dict.fromkeys(task for test in some for task in test.tasks))
    sizes = [test.share_of_size for test in some if test.share_of_size is not None]
    names = dict.fromkeys(name for test in some for name in test.contestants())
    small = {test.contestants()[0] for test in some if test.share_of_size is not None}
    entries = [
        _entry(Wanted.parse(name), int(BUDGET * min(sizes)) if name in small else None)
        for name in names
        if name != FULL_FT
    ]
    metrics = {test.metric for test in some}
    trends = _along(some)
    swept = {SWEPT[factor][0]: SWEPT[factor][1] for factor in trends if factor in SWEPT}
    full = FULL_FT in names
    reference = next((entry.name for entry in reversed(entries)), "lora")
    geometry = _geometry([test for test in some if isinstance(test, OfChange)])
    sized = not {"rank", "budget"} & trends
    return Study.model_validate(
        {
            "name": "next",
            "title": f"{' or '.join(names)}?",
            "model": model,
            "tasks": tasks,
            **({"budget": BUDGET} if sized else {}),
            "reference": reference,
            "contestants": tuple(entries) or (Contestant(adapter="lora"),),
            "full_ft": full,
            "full_ft_reason": "" if full else "the claims are about other contestants",
            **({"sweep": swept} if swept else {}),
            **({"geometry": geometry} if geometry is not None else {}),
            "training": {} if "steps" in swept else TRAINING,
            "tuning": Tuning(bracket=WIDE if "learning_rate_width" in metrics else 3, regret_sample=0),
            "report": Reporting(
                seeds=(1, 2, 3, 4, 5),
                curve_every=10,
                path=(*((-1.0,) if REVERSAL in metrics else ()), 0.25, 0.5, 0.75),
                tenth_of_data="tenth_of_data" in metrics or "data" in trends,
            ),
        }
    )


def _geometry(tests: Sequence[Form]) -> Geometry | None:
    """Return the settings by which a study measures what geometry tests ask for; None without any."""
    if not tests:
        return None
    names = dict.fromkeys(_entry(Wanted.parse(name), None).name for test in tests for name in test.contestants())
    hypotheses = dict.fromkeys(name for test in tests if isinstance(test, Projects) for name in test.hypotheses)
    named = (test.measure for test in tests if isinstance(test, MeasuredChange | Correlates))
    measures = dict.fromkeys(name for name in named if name is not None)
    return Geometry(
        of=tuple(names),
        hypotheses=tuple(hypotheses) or CHEAP_HYPOTHESES,
        measures=tuple(measures) or CHEAP_MEASURES,
    )


def no_study(test: Test, model: str = EMBEDDED) -> str:
    """Return why no study can be written for a test, or an empty string.

    Args:
        test: The test.
        model: Model of the study.
    """
    if model == EMBEDDED and any(Wanted.parse(name).name == BITFIT for name in test.contestants()):
        return "the embedded model has no biases: give --model a model with biases (adapterlab models with-biases)"
    trends = _along(test.parts)
    if "model" in trends:
        return "it needs two or more models (sweep.models), which the map does not name"
    if {"rank", "budget"} <= trends:
        return "one study cannot sweep both the rank and the budget"
    if trends & {"rank", "budget"} and any(part.share_of_size is not None for part in test.parts):
        return "one study cannot sweep the size and hold a share of it"
    return ""


def _along(tests: Sequence[Form]) -> set[str]:
    """Return the factors along which tests follow a number."""
    return {test.along for test in tests if isinstance(test, Trend | Rate) and test.along is not None}


def _entry(wanted: Wanted, budget: int | None) -> Contestant:
    settings = dict(wanted.settings)
    label = "-".join([wanted.name, *(f"{key}-{value}" for key, value in settings.items())]) if settings else ""
    return Contestant(adapter=wanted.name, label=label, budget=budget, settings=settings)
