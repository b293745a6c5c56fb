"""Contests: one contestant on one task, from the first learning rate to the reported scores.

`play` is a generator that yields the trials it needs next and receives their outcomes. `StudyPlay` runs all contests of a
study at once; the analysis replays the same generators over the ledger, so it reports the decisions that the run made.

>>> from adapterlab.lab.run.resolve import resolve
>>> from adapterlab.lab.study.spec import Contestant, Study
>>> study = Study(name="mine", tasks=("prose",), contestants=(Contestant(adapter="ia3"),), reference="ia3")
>>> frozen, ia3, _ = make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})
>>> [(trial.lr, trial.steps) for trial in next(play(ia3))]
[(0.01, 30), (0.018, 30), (0.032, 30)]
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace

from adapterlab.adapters.base import Adapter
from adapterlab.lab.run.lr_search import Flag, Search, Stage, neighbours, search
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.study.spec import Contestant, Study
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial

Outcomes = Mapping[Trial, Outcome]
Play = Generator[list[Trial], Outcomes, None]
"""A contest under way: it yields the trials that it needs and is sent their outcomes. If it yields none, it waits for other
contests."""
Runs = dict[int, tuple[Trial, Outcome]]
"""Runs by seed."""
Extends = Callable[[int], bool | None]
"""Decides whether the searches are extended once more, given the number of extensions so far; None if not yet known."""
GoesOn = Callable[[str, int], bool | None]
"""Decides whether a contestant gets another seed, given its name and its number of seeds so far; None if not yet known."""


@dataclass
class Contest:
    """One contestant on one task, and the trials run so far."""

    contestant: str
    task: str
    adapter: Adapter | None
    """The adapter after sizing; None for the frozen model."""
    targets: str | tuple[str, ...]
    resolved: ResolvedStudy
    """The study, at one cell."""
    first: dict[float, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By learning rate, the trials of the search's short first rung."""
    second: dict[float, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By learning rate, the trials of its second rung, at full length."""
    rate: float | None = None
    """Chosen learning rate; None until it is chosen, and if every rate diverged."""
    search_flag: Flag = Flag.NONE
    """Reason to doubt that the chosen rate is near the best one."""
    extensions: int = 0
    """Times that the search was extended because the study's regret was too large."""
    beside: dict[float, Runs] = field(default_factory=dict)
    """By learning rate and seed, the runs at the chosen rate and beside it that measure the regret."""
    reported: Runs = field(default_factory=dict)
    """By seed, the reported runs."""
    tenth: Runs = field(default_factory=dict)
    """By seed, the same runs on a tenth of the training data, if the study asks for them."""
    stage: Stage | None = None
    """Stage of the trials that were asked for last; None before the first."""
    waiting: bool = False
    """True while it waits for the regret of other contests, or in a race for their reported runs."""
    finished: bool = False
    """True once no more trials are needed."""

    @property
    def study(self) -> Study:
        """The study, at one cell."""
        return self.resolved.study

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for contests that run the same trials, such as those of a method with a single size at two budgets."""
        if self.adapter is None:
            return self.study.model, self.task
        steps = self.study.training.steps
        decides = self.adapter, self.targets, steps, self.start, self.trusted, self.sampled
        return self.study.model, self.task, *decides, self.resolved.geometry_of(self.contestant)

    @property
    def start(self) -> float:
        """Learning rate at which the search starts."""
        return self.resolved.start(self.contestant, self.adapter).rate

    @property
    def trusted(self) -> bool:
        """True if the search starts at a trusted prediction."""
        return self.resolved.start(self.contestant, self.adapter).trusted

    @property
    def narrow(self) -> bool:
        """True if the search begins with rates a quarter of a decade apart."""
        return self.trusted and self.study.tuning.narrow

    @property
    def sampled(self) -> bool:
        """True if the regret of this contestant is measured."""
        return self.contestant in self.study.regret_sample

    @property
    def tuning_steps(self) -> int:
        """Training steps spent on the search, with its growth and its extensions."""
        return sum(trial.steps for trial, _ in self.searched)

    @property
    def searched(self) -> list[tuple[Trial, Outcome]]:
        """Trials of the learning-rate search."""
        return [*self.first.values(), *self.second.values()]

    @property
    def measured(self) -> list[tuple[Trial, Outcome]]:
        """Trials that measure the regret."""
        return [run for runs in self.beside.values() for run in runs.values()]

    @property
    def runs(self) -> list[tuple[Trial, Outcome]]:
        """Every trial so far except those on a tenth of the data: the search's, the regret's, then the reported ones."""
        return [*self.searched, *self.measured, *self.reported.values()]

    @property
    def trials(self) -> list[Trial]:
        """Every trial so far, those on a tenth of the data included."""
        return [trial for trial, _ in (*self.runs, *self.tenth.values())]

    @property
    def parameters(self) -> int:
        """Number of trained parameters, of the trials so far."""
        return max((outcome.parameters for _, outcome in self.runs), default=0)

    def trial(
        self, lr: float, seed: int, steps: int, *, reported: bool, all_parts: bool = False, share: float = 1.0
    ) -> Trial:
        """Return a trial of this contest.

        Args:
            lr: Peak learning rate.
            seed: Seed of the run.
            steps: Optimizer steps.
            reported: True for a run whose scores are reported.
            all_parts: True to score another run on all parts too.
            share: Share of the training data used.
        """
        return self.resolved.trial(
            self.task,
            self.adapter,
            self.targets,
            lr,
            seed,
            steps,
            reported=reported,
            all_parts=all_parts,
            share=share,
            contestant=self.contestant,
        )

    def frozen_trial(self) -> Trial:
        """Return the trial that scores the model as it is."""
        return replace(self.trial(0.0, 0, 0, reported=True), curve_every=0)


def play(contest: Contest, extends: Extends = lambda _: False, goes_on: GoesOn = lambda _name, _seeds: True) -> Play:
    """Find a learning rate, measure its regret if the contestant is in the sample, then run the reported seeds at it.

    Args:
        contest: The contest; it is filled in as outcomes arrive.
        extends: Decides whether the search is extended.
        goes_on: Decides in a race whether the contestant gets another seed.

    Yields:
        The trials needed next, or none while a decision is not known; the generator must be sent their outcomes.
    """
    study, tuning = contest.study, contest.study.tuning
    if contest.adapter is None:
        trial = contest.frozen_trial()
        contest.stage = Stage.REPORT
        contest.reported[0] = (trial, (yield [trial])[trial])
        contest.finished = True
        return
    while True:
        yield from _search(contest)
        if contest.rate is None:
            contest.finished = True
            return
        if contest.sampled:
            yield from _measure_regret(contest)
        if not study.regret_sample or contest.extensions == tuning.extensions:
            break
        contest.waiting = True
        while (extended := extends(contest.extensions)) is None:
            yield []
        contest.waiting = False
        if not extended:
            break
        contest.extensions += 1
    yield from _report(contest, contest.rate, goes_on)
    contest.finished = True


def _search(contest: Contest) -> Play:
    """Search for a rate; outcomes that are already known are not asked for again."""
    tuning, steps = contest.study.tuning, contest.study.training.steps
    searching: Search = search(tuning, steps, contest.start, contest.extensions, trusted=contest.trusted)
    losses: dict[float, float] | None = None
    while True:
        try:
            wanted = searching.send(losses) if losses is not None else next(searching)
        except StopIteration as end:
            contest.rate, contest.search_flag = end.value.rate, end.value.flag
            return
        results, seed = (contest.first, contest.second)[wanted.rung - 1], tuning.seeds[wanted.rung - 1]
        if not set(wanted.rates) <= set(results):
            contest.stage = wanted.stage
            whole = wanted.rung == 2
            trials = {
                lr: contest.trial(lr, seed, steps, reported=False, all_parts=whole)
                for lr, steps in wanted.rates.items()
            }
            outcomes = yield list(trials.values())
            results.update((lr, (trial, outcomes[trial])) for lr, trial in trials.items())
        losses = {lr: results[lr][1].validation for lr in wanted.rates}


def _measure_regret(contest: Contest) -> Play:
    """Train the chosen rate and its neighbours at full length with the seeds kept for the regret.

    They are scored on all parts, so that the response of every metric to the rate is known.
    """
    assert contest.rate is not None
    low, high = neighbours(contest.rate)
    new = {
        (lr, seed): contest.trial(lr, seed, contest.study.training.steps, reported=False, all_parts=True)
        for lr in (low, contest.rate, high)
        if lr not in contest.beside
        for seed in contest.study.tuning.regret_seeds
    }
    if new:
        contest.stage = Stage.REGRET
        outcomes = yield list(new.values())
        for (lr, seed), trial in new.items():
            contest.beside.setdefault(lr, {})[seed] = trial, outcomes[trial]


def _report(contest: Contest, rate: float, goes_on: GoesOn) -> Play:
    """Run the reported seeds, round by round; in a race, wait after each round for the decision whether to go on."""
    report, steps = contest.study.report, contest.study.training.steps
    for number, seeds in enumerate(report.rounds):
        if number:
            contest.waiting = True
            while (going := goes_on(contest.contestant, len(contest.reported))) is None:
                yield []
            contest.waiting = False
            if not going:
                return
        finals = {seed: contest.trial(rate, seed, steps, reported=True) for seed in seeds}
        repeated = seeds if report.tenth_of_data else ()
        tenths = {seed: contest.trial(rate, seed, steps, reported=True, share=0.1) for seed in repeated}
        contest.stage = Stage.REPORT
        outcomes = yield [*finals.values(), *tenths.values()]
        contest.reported |= {seed: (trial, outcomes[trial]) for seed, trial in finals.items()}
        contest.tenth |= {seed: (trial, outcomes[trial]) for seed, trial in tenths.items()}


def make_contests(resolved: ResolvedStudy, adapters: Mapping[str, Adapter]) -> list[Contest]:
    """Return every contest of a study, not yet played, the frozen model's first.

    Args:
        resolved: The study, at one cell.
        adapters: By contestant, its adapter after sizing.
    """

    def of(task: str, entry: Contestant) -> Contest:
        return Contest(entry.name, task, adapters[entry.name], entry.targets, resolved)

    study = resolved.study
    frozen = [Contest(FROZEN, task, None, "all-linear", resolved) for task in study.tasks]
    return frozen + [of(task, entry) for entry in study.entrants for task in study.tasks]


def distinct(contests: Iterable[Contest]) -> list[Contest]:
    """Return the contests without those that run the same trials as another.

    Args:
        contests: Contests of one study; of equal ones the last is returned.
    """
    return list({contest.key: contest for contest in contests}.values())
