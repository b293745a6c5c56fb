"""A contest: one contestant on one task, from the first learning rate to the reported scores.

`play` is a generator: it gives the trials that it needs next and takes their outcomes. The driver runs many at once; the
report replays the same generator over the ledger, so what is shown is what was decided.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace

from adapterlab.adapters.base import Adapter
from adapterlab.lab.run.lr_search import search
from adapterlab.lab.study.spec import Contestant, Study
from adapterlab.lab.trial.code_version import code_version
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.models.loading import fingerprint
from adapterlab.tasks import task
from adapterlab.tasks.base import Part

Outcomes = Mapping[Trial, Outcome]
Play = Generator[list[Trial], Outcomes, None]


@dataclass
class Contest:
    """One contestant on one task, and what is known of it so far."""

    contestant: str
    task: str
    adapter: Adapter | None
    """After sizing; None for the frozen model."""
    targets: str | tuple[str, ...]
    study: Study
    first: dict[float, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By learning rate, the short first round."""
    second: dict[float, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By learning rate, the longer second round."""
    rate: float | None = None
    """The learning rate that was chosen, if any did not diverge."""
    reported: dict[int, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By seed, the runs that are reported."""
    tenth: dict[int, tuple[Trial, Outcome]] = field(default_factory=dict)
    """By seed, the same runs on a tenth of the training data, if the study asks for them."""
    finished: bool = False

    @property
    def tuning_steps(self) -> int:
        """Training steps spent on the choice of the learning rate: the study's `tuning.budget_steps` once it is made."""
        return sum(trial.steps for rung in (self.first, self.second) for trial, _ in rung.values())

    def trial(self, lr: float, seed: int, steps: int, *, reported: bool, share: float = 1.0) -> Trial:
        """The trial of this contest at one learning rate and seed, trained on a share of the data."""
        study = self.study
        parts = task(self.task).parts if reported else (Part.VALIDATION,)
        settings = {"name": FROZEN} if self.adapter is None else self.adapter.settings()
        return Trial(
            model=study.model,
            model_hash=fingerprint(study.model),
            task=self.task,
            data=task(self.task).fingerprint(),
            adapter=json.dumps(settings, sort_keys=True),
            targets=self.targets,
            lr=lr,
            seed=seed,
            steps=steps,
            batch=study.training.batch,
            length=study.training.length,
            parts=tuple(part.value for part in parts),
            windows=study.report.windows,
            curve_every=study.report.curve_every if reported else 0,
            code=code_version(settings["name"], self.task),
            dtype=study.training.dtype,
            path=study.report.path if reported and share == 1 else (),
            share=share,
        )


def play(contest: Contest) -> Play:
    """Tune, choose, report. Yields the trials needed next; is sent their outcomes."""
    study, tuning = contest.study, contest.study.tuning
    if contest.adapter is None:
        trial = replace(contest.trial(0.0, 0, 0, reported=True), curve_every=0, path=())
        contest.reported[0] = (trial, (yield [trial])[trial])
        contest.finished = True
        return

    searching, losses = search(tuning), None
    while True:
        try:
            number, wanted = searching.send(losses) if losses is not None else next(searching)
        except StopIteration as end:
            contest.rate = end.value
            break
        rung, seed = (contest.first, tuning.seeds[0]) if number == 1 else (contest.second, tuning.seeds[1])
        trials = {lr: contest.trial(lr, seed, steps, reported=False) for lr, steps in wanted.items()}
        outcomes = yield list(trials.values())
        rung.update((lr, (trial, outcomes[trial])) for lr, trial in trials.items())
        losses = {lr: outcomes[trial].validation for lr, trial in trials.items()}

    if contest.rate is not None:
        rate, steps, seeds = contest.rate, study.training.steps, study.report.seeds
        finals = {seed: contest.trial(rate, seed, steps, reported=True) for seed in seeds}
        shared = seeds if study.report.tenth_of_data else ()
        tenths = {seed: contest.trial(rate, seed, steps, reported=True, share=0.1) for seed in shared}
        outcomes = yield [*finals.values(), *tenths.values()]
        contest.reported = {seed: (trial, outcomes[trial]) for seed, trial in finals.items()}
        contest.tenth = {seed: (trial, outcomes[trial]) for seed, trial in tenths.items()}
    contest.finished = True


def finish(contest: Contest, run: Callable[[Trial], Outcome]) -> None:
    """Play a contest to its end, with whatever `run` says comes of a trial."""
    playing, outcomes = play(contest), None
    while True:
        try:
            trials = playing.send(outcomes)  # type: ignore[arg-type]
        except StopIteration:
            return
        outcomes = {trial: run(trial) for trial in trials}


def expected_steps(study: Study) -> int:
    """The training steps of one contest, unless every rate diverges."""
    runs = len(study.report.seeds) * (2 if study.report.tenth_of_data else 1)
    return study.tuning.budget_steps + runs * study.training.steps


def make_contests(study: Study, sized: Mapping[str, Adapter]) -> list[Contest]:
    """Every contest of the study, the frozen model's first; `sized` gives each contestant's adapter by name."""

    def of(task_name: str, entry: Contestant) -> Contest:
        return Contest(entry.name, task_name, sized[entry.name], entry.targets, study)

    frozen = [Contest(FROZEN, name, None, "all-linear", study) for name in study.tasks]
    return frozen + [of(name, entry) for entry in study.entrants for name in study.tasks]
