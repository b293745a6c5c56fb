"""Train a random sample of published trials again, and compare their losses with the published ones.

A trial decides its outcome but for rounding: another processor, version of torch or number of threads adds the same numbers
in another order. So two outcomes count as the same if no loss moves by more than a tenth of the seed noise of its task, the
standard deviation that another seed alone gives. The package holds itself to that bound wherever it reorders sums
(`training.precision`, batched trials): a difference of that size changes no comparison. On the same machine with the same
versions, outcomes are equal to the last bit.

>>> compare({"test": (1.2, 0.5)}, {"test": (1.2004, 0.5)}, tolerance=0.0005)
('test', 0.0004)
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance

from pydantic import ValidationError

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.records import Record
from adapterlab.lab.ledger.trial_file import TrialFile
from adapterlab.lab.run.executors.worker import perform
from adapterlab.lab.run.locate import STUDY
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.run.transfer import current_code
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks.base import Part

OF_THE_NOISE = 0.1
"""Largest difference, as a share of the seed noise."""
USUAL_NOISE = 0.0026
"""Seed noise of LoRA in the quick study, in nats per byte: for a file in which no task has two seeds of one setting, such as
that of a study whose searches have not ended."""
Scores = Mapping[str, tuple[float, float]]
"""By part, the loss and the accuracy."""


@dataclass(frozen=True)
class Sample:
    """Published trials that are trained again."""

    drawn: tuple[Record, ...]
    of: int
    """Number of published trials."""
    too_long: int
    """Trials that were left out because they take longer than the time for one."""


@dataclass(frozen=True)
class Reproduced:
    """A published trial that was trained again."""

    record: Record
    here: Outcome
    part: str
    """Part of the task whose loss differs most; empty without losses."""
    difference: float
    """Its loss here less the published one."""
    tolerance: float
    """Largest difference that counts as rounding."""
    seconds: float
    """Time that it took."""
    other_code: bool
    """True if the code that decides its outcome has changed since it was published."""
    contestant: str
    """Its contestants in the study, or its method."""

    @property
    def trial(self) -> Trial:
        """The trial."""
        return self.record.finished.trial

    @property
    def published(self) -> Outcome:
        """Its published outcome."""
        return self.record.finished.outcome

    @property
    def agrees(self) -> bool:
        """True if the statuses are equal and no loss differs by more than the tolerance."""
        return self.here.status == self.published.status and abs(self.difference) <= self.tolerance

    @property
    def verdict(self) -> str:
        """Finding in a few words."""
        if self.here.status != self.published.status:
            return f"{self.here.status}, published as {self.published.status}"
        if self.here.scores == self.published.scores:
            return "equal to the last bit"
        return "within rounding" if self.agrees else "beyond rounding"


@dataclass(frozen=True)
class Published:
    """A published study that can be trained here."""

    study: Study
    records: tuple[Record, ...]
    noise: Mapping[str, float]
    """By task, the seed noise."""
    runner: Runner
    contestants: Mapping[str, str]
    """By trial's id, its contestants; trials that the study did not use are left out."""

    @classmethod
    def open(cls, found: TrialFile) -> Published:
        """Return a published study, with its model and data looked up on this machine.

        Args:
            found: Its file of trials.

        Raises:
            AdapterlabError: If the study needs Python files of its own, its model or data are not here, or are others.
        """
        try:
            study = Study.model_validate_json(found.files.get(STUDY, ""))
        except ValidationError as error:
            raise AdapterlabError(
                f"{found.path} does not name its study: write it again with `adapterlab export`"
            ) from error
        if study.adapter_files or study.task_files:
            raise AdapterlabError(f"{found.path}: the study has Python files of its own, which the file does not carry")
        resolved = resolve(study)
        records = tuple(record for record in found.records if record.finished.outcome.status != "failed")
        for record in records:
            _check(resolved, record.finished.trial, found.path)
        limits = study.limits
        config = WorkerConfig(
            data=tuple(entry.files for entry in study.data),
            micro_batch=limits.micro_batch,
            checkpointing=limits.checkpointing,
        )
        return cls(study, records, seed_noise(found.records), Runner(config), found.contestants)

    def draw(self, share: float, least: int, seconds: float, rng: random.Random) -> Sample:
        """Draw trials at random.

        Args:
            share: Share of the trials.
            least: Fewest trials.
            seconds: Time that they may take together, by the published times.
            rng: Source of randomness.

        Returns:
            The sample. A trial that takes more than its part of the time is drawn only if too few others are there, the
            shortest of them first.
        """
        count = min(len(self.records), max(least, math.ceil(share * len(self.records))))
        each = seconds / max(1, least)
        short = [record for record in self.records if duration_of(record) <= each]
        order = rng.sample(short, len(short))
        if len(order) < least:
            order += sorted((r for r in self.records if duration_of(r) > each), key=duration_of)
        drawn: list[Record] = []
        left = seconds
        for record in order:
            if len(drawn) < count and duration_of(record) <= left:
                drawn.append(record)
                left -= duration_of(record)
        left_out = sum(duration_of(record) > each for record in self.records if record not in drawn)
        return Sample(tuple(drawn), len(self.records), left_out)

    def rerun(self, sample: Sample, seconds: float, watch: Callable[[Record], None]) -> Iterator[Reproduced]:
        """Train trials again, as long as the time suffices by what the ones before took.

        Args:
            sample: The trials.
            seconds: Time that they may take together; the first is always trained.
            watch: Called with each before it is trained.

        Yields:
            Each with its outcome here.
        """
        end, slower = time.monotonic() + seconds, 1.0
        for i, record in enumerate(sample.drawn):
            if i and time.monotonic() + slower * duration_of(record) > end:
                continue
            watch(record)
            started = time.monotonic()
            (finished,) = perform(self.runner, (record.finished.trial,))
            took = time.monotonic() - started
            slower = max(slower, took / duration_of(record))
            yield self._compared(record, finished.outcome, took)

    def _compared(self, record: Record, here: Outcome, seconds: float) -> Reproduced:
        trial, outcome = record.finished.trial, record.finished.outcome
        usual = min(self.noise.values(), default=USUAL_NOISE)  # the strictest that is known, for a task without its own
        tolerance = OF_THE_NOISE * self.noise.get(trial.task, usual)
        part, difference = compare(outcome.scores, here.scores, tolerance)
        name = self.contestants.get(trial.id, trial.method)
        return Reproduced(record, here, part, difference, tolerance, seconds, current_code(trial) != trial.code, name)


def compare(published: Scores, here: Scores, tolerance: float) -> tuple[str, float]:
    """Return the part whose loss differs most, and the difference.

    Args:
        published: The published scores.
        here: The scores here.
        tolerance: Differences are rounded to a thousandth of it.
    """
    digits = 3 - math.floor(math.log10(tolerance)) if tolerance > 0 else 6
    differences = {part: here[part][0] - loss for part, (loss, _) in published.items() if part in here}
    part = max(differences, key=lambda name: abs(differences[name]), default="")
    return part, round(differences.get(part, 0.0), digits)


def seed_noise(records: Sequence[Record]) -> dict[str, float]:
    """Return by task the standard deviation of the test loss over seeds, pooled over contestants.

    Args:
        records: Trials of a study, the reported ones among them.
    """
    groups: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for record in records:
        trial, outcome = record.finished.trial, record.finished.outcome
        if trial.rows and trial.method != FROZEN and trial.share == 1 and Part.TEST in outcome.scores:
            same = trial.task, trial.model_hash, trial.adapter, trial.targets, trial.lr, trial.steps
            groups[same].append(outcome.scores[Part.TEST][0])
    by_task: dict[str, list[float]] = defaultdict(list)
    for key, losses in groups.items():
        if len(losses) > 1:
            by_task[str(key[0])].append(variance(losses))
    return {task: math.sqrt(fmean(variances)) for task, variances in by_task.items()}


def duration_of(record: Record) -> float:
    """Return the published time of a trial in seconds.

    Args:
        record: The trial.
    """
    outcome = record.finished.outcome
    measured = (
        *(outcome.seconds, outcome.attach_seconds, outcome.scoring_seconds),
        *(outcome.generating_seconds, outcome.geometry_seconds),
    )
    return max(0.1, record.finished.wall_seconds or sum(measured))


def _check(resolved: ResolvedStudy, trial: Trial, path: Path) -> None:
    """Raise an error if the model or the data of a trial are not those of this machine."""
    base = resolved.models.get(trial.model)
    if base is None or base.hash != trial.model_hash:
        raise AdapterlabError(f"{path}: the model {trial.model} here is not the one that the trials ran with")
    if trial.task not in resolved.tasks or resolved.data_of(trial.task, trial.model) != trial.data:
        raise AdapterlabError(f"{path}: the data of task {trial.task} here are not those that the trials ran with")
