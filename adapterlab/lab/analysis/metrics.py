"""Metrics: one number for each contestant, task and seed, read from finished contests.

>>> METRICS["forgetting"].unit, METRICS["forgetting"].better
('nats per byte', 'lower')
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.spec import FROZEN, FULL_STRENGTH, Outcome, Trial
from adapterlab.tasks.base import Part
from adapterlab.tasks.steer import Steer

LOSS = "nats per byte"
"""Unit of a metric that is a loss, and therefore in the unit of its task."""
ANSWERS = "metric of answers"
"""Unit of a metric that is the mean of the task's metric over generated answers."""
REVERSED_STRENGTH = -1.0
"""Strength of the adapter with its sign turned."""
ANSWERS_IN_DOMAIN, ANSWERS_OUT_OF_DOMAIN = "answers_in_domain", "answers_out_of_domain"
"""Names of the metrics of generated answers."""
Score = tuple[float, float]
"""Loss and accuracy."""
Key = tuple[str, int]
"""Task and seed; the seed is 0 for a metric with one number for a whole task."""


@dataclass(frozen=True)
class Metric:
    """A quantity measured of each contest."""

    name: str
    title: str
    """Name in the report."""
    unit: str
    """Unit of its values; `LOSS` stands for the unit of the task, `ANSWERS` for the task's metric of answers."""
    better: str
    """`lower` or `higher`."""
    read: Callable[[Results, Contest], dict[int, float]]
    """Function that returns a contest's values by seed."""
    part: Part | None = None
    """Part of the task whose rows it is a mean over; None for other metrics."""
    censored: bool = False
    """True if a value of the study's number of steps means that the event was not seen."""
    smallest: float = 0.0
    """Smallest difference that matters, in its unit; for steps and costs, as a share. A loss has the study's."""

    @property
    def sign(self) -> int:
        """+1 if higher is better, else -1."""
        return 1 if self.better == "higher" else -1


@dataclass(frozen=True)
class Results:
    """Contests of a study at one cell, looked up by contestant and task."""

    contests: Mapping[tuple[str, str], Contest]
    """By contestant and task."""
    resolved: ResolvedStudy
    """The study at this cell, restricted to the tasks of these results."""

    @classmethod
    def of(cls, contests: Sequence[Contest], tasks: Sequence[str] | None = None) -> Results:
        """Return the results of contests at one cell.

        Args:
            contests: The contests.
            tasks: Tasks to restrict the results to; all of the study if None.
        """
        resolved = contests[0].resolved
        if tasks is not None:
            resolved = replace(resolved, study=resolved.study.model_copy(update={"tasks": tuple(tasks)}))
        return cls({(c.contestant, c.task): c for c in contests}, resolved)

    @property
    def study(self) -> Study:
        """The study at this cell, with the tasks of these results."""
        return self.resolved.study

    @property
    def contestants(self) -> list[str]:
        """Names of the trained contestants, in the study's order."""
        return [c.name for c in self.study.entrants]

    @property
    def unit(self) -> str:
        """Unit of the losses."""
        return self.resolved.unit(self.study.tasks[0])

    def frozen(self, task: str) -> Outcome:
        """Return the scores of the model before training.

        Args:
            task: Name of the task.
        """
        return next(iter(self.contests[FROZEN, task].reported.values()))[1]


def by_cell(contests: Sequence[Contest]) -> list[Results]:
    """Return the results at each cell of a study, the main cell last.

    Args:
        contests: Contests of all cells.
    """
    groups: dict[Cell, list[Contest]] = {}
    for contest in contests:
        groups.setdefault(contest.resolved.cell, []).append(contest)
    return [Results.of(group) for group in groups.values()]


def by_unit(results: Results) -> list[Results]:
    """Return the results for each unit of loss, which cannot be averaged with another, in the order of the tasks.

    Args:
        results: Results on all tasks.
    """
    groups: dict[str, list[str]] = {}
    for task in results.study.tasks:
        groups.setdefault(results.resolved.unit(task), []).append(task)
    return [Results.of(list(results.contests.values()), tasks) for tasks in groups.values()]


def _loss_on(part: str) -> Callable[[Results, Contest], dict[int, float]]:
    """Return a function that reads the loss on a part.

    A run that diverged leaves the user with the base model, so on the task it counts as the frozen model does; it has no
    value for other parts.
    """

    def read(results: Results, contest: Contest) -> dict[int, float]:
        instead = results.frozen(contest.task).scores if part in (Part.TEST, Part.OOD) else {}
        scores = {seed: instead if o.status == "diverged" else o.scores for seed, (_, o) in contest.reported.items()}
        return {seed: found[part][0] for seed, found in scores.items() if part in found}

    return read


def _answers_on(part: str) -> Callable[[Results, Contest], dict[int, float]]:
    """Return a function that reads the mean metric of the answers on a part; a run that diverged has the frozen model's."""

    def read(results: Results, contest: Contest) -> dict[int, float]:
        instead = results.frozen(contest.task).answers
        found = {s: instead if o.status == "diverged" else o.answers for s, (_, o) in contest.reported.items()}
        return {seed: fmean(answers[part]) for seed, answers in found.items() if answers.get(part)}

    return read


def _forgetting(results: Results, contest: Contest) -> dict[int, float]:
    if Part.BASE not in results.frozen(contest.task).scores:
        return {}  # a classifier has no base domain
    before = results.frozen(contest.task).scores[Part.BASE][0]
    return {seed: loss - before for seed, loss in _loss_on(Part.BASE)(results, contest).items()}


def _steps_to_reference(results: Results, contest: Contest) -> dict[int, float]:
    """Return the steps until the validation loss reaches the reference's final one; all steps if it never does."""
    return {
        seed: _crossing(points, goal, points[-1][0]) for seed, (points, goal) in _beside_reference(results, contest)
    }


def reached_reference(results: Results, contest: Contest) -> dict[int, bool]:
    """Return by seed whether the validation loss was ever as low as the reference's final one.

    Args:
        results: Results that the contest is part of.
        contest: The contest.
    """
    return {
        seed: min(loss for _, loss in points) <= goal for seed, (points, goal) in _beside_reference(results, contest)
    }


def _beside_reference(
    results: Results, contest: Contest
) -> Iterator[tuple[int, tuple[list[tuple[int, float]], float]]]:
    """Yield each seed with the curve of its run and the final loss of the reference's run, if neither run failed."""
    reference = results.contests.get((results.study.reference, contest.task))
    for seed, (trial, outcome) in contest.reported.items() if reference is not None else ():
        goal = None if reference is None else reference.reported.get(seed, (None, None))[1]
        if outcome.status == "ok" and goal is not None and goal.status == "ok":
            start = results.frozen(contest.task).validation
            yield seed, ([(0, start), *outcome.curve, (trial.steps, outcome.validation)], goal.validation)


def _crossing(points: Sequence[tuple[int, float]], goal: float, never: float) -> float:
    for (step, loss), (next_step, next_loss) in itertools.pairwise(points):
        if next_loss <= goal:
            share = 1.0 if loss == next_loss else (loss - goal) / (loss - next_loss)
            return step + max(0.0, share) * (next_step - step)
    return float(never)


def _rate_width(results: Results, contest: Contest) -> dict[int, float]:
    """Return the decades between the lowest and highest rate that keep half of the best gain in the first rung.

    A search about a trusted prediction tries rates beside the best alone, which shows no width.
    """
    if contest.narrow:
        return {}
    frozen = results.frozen(contest.task).validation
    gains = {lr: frozen - outcome.validation for lr, (_, outcome) in contest.first.items()}
    best = max(gains.values(), default=-math.inf)
    working = [lr for lr, gain in gains.items() if best > 0 and gain >= best / 2]
    return {0: math.log10(max(working) / min(working))} if working else {}


def _accuracy(results: Results, contest: Contest) -> dict[int, float]:
    return {seed: o.scores[Part.TEST][1] for seed, (_, o) in _finished(contest).items() if Part.TEST in o.scores}


def _parameters(results: Results, contest: Contest) -> dict[int, float]:
    return {seed: float(o.parameters) for seed, (_, o) in _finished(contest).items()}


def _attach_time(results: Results, contest: Contest) -> dict[int, float]:
    return {seed: o.attach_seconds for seed, (_, o) in _finished(contest).items()}


def _step_time(results: Results, contest: Contest) -> dict[int, float]:
    return {seed: 1000 * o.seconds / trial.steps for seed, (trial, o) in _finished(contest).items() if trial.steps}


def _peak_memory(results: Results, contest: Contest) -> dict[int, float]:
    return {seed: o.peak_bytes / 2**20 for seed, (_, o) in _finished(contest).items() if o.peak_bytes}


def _tenth_of_data(results: Results, contest: Contest) -> dict[int, float]:
    if contest.contestant == FROZEN:
        return _loss_on(Part.TEST)(results, contest)
    return {seed: o.scores[Part.TEST][0] for seed, (_, o) in contest.tenth.items() if Part.TEST in o.scores}


def _finished(contest: Contest) -> dict[int, tuple[Trial, Outcome]]:
    return {seed: run for seed, run in contest.reported.items() if run[1].status == "ok"}


def path_of(results: Results, contest: Contest, seed: int) -> dict[float, dict[str, tuple[float, float]]]:
    """Return the scores by part of one reported run along its strength path, from 0 (the frozen model) upwards.

    Args:
        results: Results that the contest is part of.
        contest: The contest.
        seed: Seed of the run.
    """
    outcome, frozen = contest.reported[seed][1], results.frozen(contest.task)
    scored = {**dict(frozen.path), **dict(outcome.path)}
    whole = {0.0: frozen.scores, 1.0: outcome.scores}
    if whole.keys() <= scored.keys():  # the path was scored on fewer rows, its ends on both
        scored = {strength: _on_all_rows(strength, scored, whole) for strength in scored}
    points = {**scored, **whole}
    return {strength: points[strength] for strength in sorted(points) if strength >= 0}


def training_of(results: Results, contest: Contest, seed: int) -> dict[float, dict[str, Score]]:
    """Return the scores by part of one reported run while it was trained, by the share of its steps, from 0 to 1.

    Args:
        results: Results that the contest is part of.
        contest: The contest.
        seed: Seed of the run.
    """
    (trial, outcome), frozen = contest.reported[seed], results.frozen(contest.task)
    whole = {0.0: frozen.scores, 1.0: outcome.scores}
    scored = {step / trial.steps: scores for step, scores in outcome.along}
    fewer = {0.0: dict(frozen.path).get(0.0), 1.0: dict(outcome.path).get(1.0)}
    if fewer[0.0] and fewer[1.0]:  # scored on fewer rows during training, the ends on both
        ends = {share: scores for share, scores in fewer.items() if scores}
        scored = {share: _on_all_rows(share, {**ends, share: scores}, whole) for share, scores in scored.items()}
    points = {**scored, **whole}
    return {share: points[share] for share in sorted(points)}


def _on_all_rows(
    strength: float, fewer: Mapping[float, Mapping[str, Score]], whole: Mapping[float, Mapping[str, Score]]
) -> dict[str, Score]:
    """Estimate the scores on all rows at a strength that was scored on fewer rows.

    The deviation from the line between strengths 0 and 1 is measured on the fewer rows and added to the line of all rows.
    So the path ends where the run is, and rows that are hard at every strength do not move it.
    """

    def estimate(part: str, which: int) -> float:
        (few_0, few_1), (all_0, all_1) = ((s[0.0][part][which], s[1.0][part][which]) for s in (fewer, whole))
        deviation = fewer[strength][part][which] - (few_0 + strength * (few_1 - few_0))
        return all_0 + strength * (all_1 - all_0) + deviation

    return {part: (estimate(part, 0), estimate(part, 1)) for part in fewer[strength]}


def _operating_point(results: Results, contest: Contest) -> dict[int, float]:
    """Return the strength with the smallest validation loss; the test part is not used."""
    chosen = {}
    for seed, (_, outcome) in _finished(contest).items():
        if outcome.path:
            losses = {strength: s[Part.VALIDATION][0] for strength, s in path_of(results, contest, seed).items()}
            chosen[seed] = min(losses, key=lambda strength: losses[strength])
    return chosen


def _rewound(part: str) -> Callable[[Results, Contest], dict[int, float]]:
    """Return a function that reads the loss at the operating point; for the frozen model, its own loss."""

    def read(results: Results, contest: Contest) -> dict[int, float]:
        if contest.contestant == FROZEN:
            return _loss_on(part)(results, contest)
        points = _operating_point(results, contest)
        rewound = {seed: path_of(results, contest, seed)[strength] for seed, strength in points.items()}
        return {seed: scores[part][0] for seed, scores in rewound.items() if part in scores}

    return read


def _forgetting_rewound(results: Results, contest: Contest) -> dict[int, float]:
    if Part.BASE not in results.frozen(contest.task).scores:
        return {}
    before = results.frozen(contest.task).scores[Part.BASE][0]
    return {seed: loss - before for seed, loss in _rewound(Part.BASE)(results, contest).items()}


def _reversal(results: Results, contest: Contest) -> dict[int, float]:
    """Return by seed the effect of the weaker way of a trait as a share of the stronger one's, from -1 to 1.

    The score of a task that turns a trait up and down is the effect of its weaker way, and at strength -1, where the ways
    change places, that of the stronger one with the opposite sign. Both are read on the rows of the strength path. A run
    that moves the trait one way at both strengths has a negative share; a way that moves it wrong by more than the other
    moves it right, or two wrong ones, count as -1.
    """
    if not isinstance(results.resolved.tasks[contest.task], Steer):
        return {}
    found = {}
    for seed, (_, outcome) in _finished(contest).items():
        scored = dict(outcome.path)
        ahead = scored.get(FULL_STRENGTH, outcome.scores)
        if REVERSED_STRENGTH in scored and Part.TEST in ahead:
            weaker, stronger = -ahead[Part.TEST][0], scored[REVERSED_STRENGTH][Part.TEST][0]
            if weaker or stronger:
                found[seed] = max(-1.0, weaker / stronger) if stronger > 0 else -1.0
    return found


METRICS = {
    metric.name: metric
    for metric in (
        Metric("in_domain", "loss, in-domain", "nats per byte", "lower", _loss_on(Part.TEST), Part.TEST),
        Metric("out_of_domain", "loss, out-of-domain", "nats per byte", "lower", _loss_on(Part.OOD), Part.OOD),
        Metric("forgetting", "forgetting", "nats per byte", "lower", _forgetting, Part.BASE),
        Metric(
            "steps_to_reference",
            "steps to the reference's score",
            "steps",
            "lower",
            _steps_to_reference,
            censored=True,
            smallest=0.1,
        ),
        Metric(
            "learning_rate_width", "width of working learning rates", "decades", "higher", _rate_width, smallest=0.25
        ),
        Metric("accuracy", "accuracy, in-domain", "share of tokens", "higher", _accuracy, smallest=0.01),
        Metric("tenth_of_data", "loss after a tenth of the data", "nats per byte", "lower", _tenth_of_data, Part.TEST),
        Metric("in_domain_rewound", "loss, in-domain, rewound", "nats per byte", "lower", _rewound(Part.TEST)),
        Metric("forgetting_rewound", "forgetting, rewound", "nats per byte", "lower", _forgetting_rewound),
        Metric("operating_point", "operating point", "strength", "higher", _operating_point, smallest=0.1),
        Metric("reversal", "reversal at strength -1", "share", "higher", _reversal, smallest=0.1),
        Metric(ANSWERS_IN_DOMAIN, "answers, in-domain", ANSWERS, "higher", _answers_on(Part.TEST), Part.TEST),
        Metric(ANSWERS_OUT_OF_DOMAIN, "answers, out-of-domain", ANSWERS, "higher", _answers_on(Part.OOD), Part.OOD),
        Metric("parameters", "trained parameters", "parameters", "lower", _parameters, smallest=0.05),
        Metric("step_time", "time of a step", "milliseconds", "lower", _step_time, smallest=0.05),
        Metric("attach_time", "time to attach", "seconds", "lower", _attach_time, smallest=0.05),
        Metric("peak_memory", "peak memory", "MiB", "lower", _peak_memory, smallest=0.05),
    )
}
"""Every metric, by the name that claims and commands use."""


def smallest_difference(metric: Metric, results: Results) -> float:
    """Return the smallest difference in a metric that matters, in its unit.

    Args:
        metric: The metric.
        results: Results of the study, which states it for losses and for answers.
    """
    study = results.study
    stated = stated_difference(metric, study)
    if stated is not None:
        return stated
    reference = [
        value
        for (name, _), contest in results.contests.items()
        if name == study.reference
        for value in metric.read(results, contest).values()
    ]
    return metric.smallest * max(reference, default=1.0)


def stated_difference(metric: Metric, study: Study) -> float | None:
    """Return the smallest difference in a metric that matters, as far as it is known before a study runs.

    Args:
        metric: The metric.
        study: The study, at its main cell.

    Returns:
        The difference in the metric's unit; None if it is a share, `metric.smallest`, of the reference's largest value.
    """
    if metric.unit == LOSS:
        return study.report.smallest
    if metric.unit == ANSWERS:
        return study.report.smallest_metric
    if metric.unit == "steps":
        return metric.smallest * study.training.steps
    return metric.smallest if metric.read in (_rate_width, _accuracy, _operating_point, _reversal) else None


Measurements = Mapping[tuple[str, str], Mapping[Key, float]]
"""By contestant and metric, the values by task and seed."""


def measure(results: Results) -> Measurements:
    """Return every metric of every contestant, without runs that diverged or have not ended.

    Args:
        results: The contests.
    """
    measured: dict[tuple[str, str], dict[Key, float]] = {}
    for contest in results.contests.values():
        for metric in METRICS.values() if contest.finished else ():
            values = measured.setdefault((contest.contestant, metric.name), {})
            for seed, value in metric.read(results, contest).items():
                if math.isfinite(value):
                    values[contest.task, seed] = value
    return measured
