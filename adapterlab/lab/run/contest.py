"""Contests: one contestant on one task, from the first learning rate to the reported scores.

`play` is a generator that yields the trials it needs next and receives their outcomes. The scheduler runs many contests at
once; the analysis replays the same generator over the ledger, so it reports the decisions that the run made.

>>> from adapterlab.lab.run.resolve import resolve
>>> from adapterlab.lab.study.spec import Contestant, Study
>>> study = Study(name="mine", tasks=("prose",), contestants=(Contestant(adapter="lora"),))
>>> frozen, lora, _ = make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})
>>> [trial.lr for trial in next(play(lora))]
[0.001, 0.01]
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace

from adapterlab.adapters.base import Adapter
from adapterlab.lab.run.lr_search import search
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.study.spec import Contestant, Study
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial

Outcomes = Mapping[Trial, Outcome]
Play = Generator[list[Trial], Outcomes, None]
"""A contest under way: it yields the trials that it needs, and is sent their outcomes."""
Runs = dict[int, tuple[Trial, Outcome]]
"""Reported runs by seed."""


@dataclass
class Contest:
    """One contestant on one task, and the trials run so far."""

    contestant: str
    task: str
    adapter: Adapter | None
    """The adapter after sizing; None for the frozen model."""
    targets: str | tuple[str, ...]
    resolved: ResolvedStudy
    """The study, at one budget."""
    first: dict[float, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By learning rate, the trials of the search's short first rung."""
    second: dict[float, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By learning rate, the trials of its longer second rung."""
    rate: float | None = None
    """Chosen learning rate; None until it is chosen, and if every rate diverged."""
    reported: Runs = field(default_factory=dict)
    """By seed, the reported runs."""
    tenth: Runs = field(default_factory=dict)
    """By seed, the same runs on a tenth of the training data, if the study asks for them."""
    finished: bool = False
    """True once no more trials are needed."""

    @property
    def study(self) -> Study:
        """The study, at one budget."""
        return self.resolved.study

    @property
    def key(self) -> tuple[str, Adapter | None, str | tuple[str, ...]]:
        """Equal for contests that run the same trials, such as those of a method with a single size at two budgets."""
        return self.task, self.adapter, self.targets

    @property
    def tuning_steps(self) -> int:
        """Training steps spent on the search: the study's `tuning.budget_steps` once a rate is chosen."""
        return sum(trial.steps for trial, _ in self.searched)

    @property
    def searched(self) -> list[tuple[Trial, Outcome]]:
        """Trials of the learning-rate search."""
        return [*self.first.values(), *self.second.values()]

    @property
    def runs(self) -> list[tuple[Trial, Outcome]]:
        """Every trial so far except those on a tenth of the data: the search's, then the reported ones."""
        return [*self.searched, *self.reported.values()]

    @property
    def trials(self) -> list[Trial]:
        """Every trial so far, those on a tenth of the data included."""
        return [trial for trial, _ in (*self.runs, *self.tenth.values())]

    @property
    def parameters(self) -> int:
        """Number of trained parameters, of the trials so far."""
        return max((outcome.parameters for _, outcome in self.runs), default=0)

    def trial(self, lr: float, seed: int, steps: int, *, reported: bool, share: float = 1.0) -> Trial:
        """Return a trial of this contest.

        Args:
            lr: Peak learning rate.
            seed: Seed of the run.
            steps: Optimizer steps.
            reported: True for a run whose scores are reported.
            share: Share of the training data used.
        """
        return self.resolved.trial(
            self.task, self.adapter, self.targets, lr, seed, steps, reported=reported, share=share
        )

    def frozen_trial(self) -> Trial:
        """Return the trial that scores the model as it is."""
        return replace(self.trial(0.0, 0, 0, reported=True), curve_every=0)


def play(contest: Contest) -> Play:
    """Find a learning rate, then run the reported seeds at it.

    Args:
        contest: The contest; it is filled in as outcomes arrive.

    Yields:
        The trials needed next; the generator must be sent their outcomes.
    """
    study, tuning = contest.study, contest.study.tuning
    if contest.adapter is None:
        trial = contest.frozen_trial()
        contest.reported[0] = (trial, (yield [trial])[trial])
        contest.finished = True
        return

    searching, losses = search(tuning), None
    while True:
        try:
            rung, wanted = searching.send(losses) if losses is not None else next(searching)
        except StopIteration as end:
            contest.rate = end.value
            break
        results, seed = (contest.first, tuning.seeds[0]) if rung == 1 else (contest.second, tuning.seeds[1])
        trials = {lr: contest.trial(lr, seed, steps, reported=False) for lr, steps in wanted.items()}
        outcomes = yield list(trials.values())
        results.update((lr, (trial, outcomes[trial])) for lr, trial in trials.items())
        losses = {lr: outcomes[trial].validation for lr, trial in trials.items()}

    if contest.rate is not None:
        rate, steps, seeds = contest.rate, study.training.steps, study.report.seeds
        finals = {seed: contest.trial(rate, seed, steps, reported=True) for seed in seeds}
        repeated = seeds if study.report.tenth_of_data else ()
        tenths = {seed: contest.trial(rate, seed, steps, reported=True, share=0.1) for seed in repeated}
        outcomes = yield [*finals.values(), *tenths.values()]
        contest.reported = {seed: (trial, outcomes[trial]) for seed, trial in finals.items()}
        contest.tenth = {seed: (trial, outcomes[trial]) for seed, trial in tenths.items()}
    contest.finished = True


def finish(contest: Contest, run: Callable[[Trial], Outcome]) -> None:
    """Play a contest to its end in this process.

    Args:
        contest: The contest; it is filled in.
        run: Returns the outcome of a trial.
    """
    playing, outcomes = play(contest), None
    while True:
        try:
            trials = playing.send(outcomes) if outcomes is not None else next(playing)
        except StopIteration:
            return
        outcomes = {trial: run(trial) for trial in trials}


def expected_steps(study: Study) -> int:
    """Return the training steps of one contest, if not every rate diverges.

    Args:
        study: The study, at one budget.
    """
    return study.tuning.budget_steps + study.report.runs * study.training.steps


def make_contests(resolved: ResolvedStudy, adapters: Mapping[str, Adapter]) -> list[Contest]:
    """Return every contest of a study, not yet played, the frozen model's first.

    Args:
        resolved: The study, at one budget.
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
