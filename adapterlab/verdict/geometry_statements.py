"""Results of a study on a geometry test: paired numbers of its reported runs, their mean, and what the test asks of it.

Every reported run of the contestant gives one number: the measure of its change less that of a random change, or the score
of one projection less that of another. Runs are paired with themselves, so the numbers vary over seeds by what training
varies.

>>> data = {"geometry": "stable_rank", "of": "lora", "below": 2, "on": "prose"}
>>> number_of(MeasuredChange.model_validate(data), {"stable_rank": 1.5})
0.5
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from adapterlab.lab.analysis.contrast import Contrast, Term
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import MEASURED, ZERO, Evidence, Region
from adapterlab.lab.analysis.metrics import METRICS, Key, Results, smallest_difference
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics import Component, Paired, at_any_time, average, from_error, paired
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.correlations import PARTS, correlation
from adapterlab.verdict.forms import All, Form, Test
from adapterlab.verdict.geometry_forms import (
    GEOMETRY,
    RESIDUAL,
    SMALLEST_OF_VALUE,
    SMALLEST_OVER_RANDOM,
    SMALLEST_SHARE,
    Correlates,
    MeasuredChange,
    Projects,
)
from adapterlab.verdict.measured import MeasuredStudy
from adapterlab.verdict.statements import MIN_PAIRS, Pair, Statement
from adapterlab.verdict.wanted import Wanted


def judge_geometry(claim: str, test: Test, credence: float, study: MeasuredStudy) -> Verdict:
    """Return what a study measured of one geometry test, before any update.

    Args:
        claim: Title of the claim.
        test: Its geometry test.
        credence: Its credence stated in the map.
        study: The study's effects.
    """
    placed, found = [], []
    for i, part in enumerate(test.parts, 1):
        named, statement = _placed(part, study.effects)
        placed.append(named)
        if isinstance(statement, str):
            where = f"part {i}: " if isinstance(test, All) else ""
            return Verdict(claim, test if where else named, credence, credence, untested=f"{where}{statement}")
        found.append(statement)
    test = All(all=tuple(placed)) if isinstance(test, All) else placed[0]
    return Verdict(claim, test, credence, credence, tuple(found))


def _placed(test: Form, effects: Effects) -> tuple[Form, Statement | str]:
    """Return a test with the names that its contestants have in a study, and what was measured of it, or why nothing."""
    names = {wanted: Wanted.parse(wanted).find(effects.results) for wanted in test.contestants()}
    if absent := [wanted for wanted, found in names.items() if not found]:
        return test, f"{' and '.join(absent)} did not run in this study"
    named = test.naming(*(found[0] for found in names.values()))
    if missing := [task for task in named.tasks if task not in effects.results.study.tasks]:
        return named, f"this study does not include {' and '.join(missing)}"
    resolved = effects.results.resolved
    if named.metric in PARTS and len({resolved.unit(name) for name in named.tasks}) > 1:
        return named, f"the losses of {' and '.join(named.tasks)} have different units"
    if isinstance(named, Correlates):
        return named, correlation(named, effects.results)
    assert isinstance(named, MeasuredChange | Projects)
    return named, _state(named, effects)


def number_of(test: MeasuredChange | Projects, geometry: Mapping[str, float]) -> float | None:
    """Return the number of one run that a test is about, positive if it points the claim's way.

    Args:
        test: The test.
        geometry: Numbers of the run's change (`Outcome.geometry`).

    Returns:
        The number, without the margin; None if the run lacks what it is computed from.
    """
    if isinstance(test, Projects):
        own, other = (geometry.get(_projected(test, name)) for name in test.hypotheses)
        return None if own is None or other is None else other - own
    value, beside = geometry.get(test.measure), test.value
    if beside is None:
        beside = geometry.get(f"{test.measure} random")
    return None if value is None or beside is None else test.sign * (value - beside)


def _projected(test: Projects, name: str) -> str:
    return f"residual({name})" if test.metric == RESIDUAL else f"loss({name}, {PARTS[test.metric].value})"


def _state(test: MeasuredChange | Projects, effects: Effects) -> Statement | str:
    """Return what a study measured of a test, or why it cannot be tested."""
    results = effects.results
    runs = _runs(test, results)
    if not runs:
        return f"this study did not measure the geometry of {test.of}: name it in geometry.of"
    numbers = {key: n for key, (_, outcome) in runs.items() if (n := number_of(test, outcome.geometry)) is not None}
    if not numbers:
        return _lacking(test, [outcome for _, outcome in runs.values()])
    if len(numbers) < MIN_PAIRS:
        return f"only {len(numbers)} run with a number to compare"
    smallest = _smallest(test, results, [runs[key][1] for key in numbers])
    by_task = _by_task(numbers, results, smallest)
    if missing := [task for task in test.tasks if task not in by_task]:
        return f"no run on {' and '.join(missing)} has a number to compare"
    pairs = tuple(Pair(task, seed, n, (runs[task, seed][0].id,)) for (task, seed), n in sorted(numbers.items()))
    return Statement(test, pairs, _over_tasks(by_task, len(numbers)), _region(test, by_task, smallest))


def _runs(test: MeasuredChange | Projects, results: Results) -> dict[Key, tuple[Trial, Outcome]]:
    """Return by task and seed the reported runs whose change was measured."""
    contests = {task: results.contests[test.of, task] for task in test.tasks if (test.of, task) in results.contests}
    return {
        (task, seed): run
        for task, contest in contests.items()
        for seed, run in contest.reported.items()
        if run[1].status == "ok" and run[1].geometry
    }


def _lacking(test: MeasuredChange | Projects, outcomes: list[Outcome]) -> str:
    if isinstance(test, MeasuredChange):
        return f"this study did not compute {test.measure}: name it in geometry.measures"
    without = [
        name
        for name in test.hypotheses
        if not any(number.startswith(f"residual({name})") for outcome in outcomes for number in outcome.geometry)
    ]
    if without:
        names = " and ".join(without)
        return f"this study has no projection on {names}: name it in geometry.hypotheses, or raise geometry.budget"
    return f"this study did not measure {METRICS[test.metric].title}"


def _smallest(test: MeasuredChange | Projects, results: Results, outcomes: list[Outcome]) -> float:
    """Return the smallest difference that matters."""
    if isinstance(test, Projects):
        return SMALLEST_SHARE if test.metric == RESIDUAL else smallest_difference(METRICS[test.metric], results)
    if test.value is not None:
        return SMALLEST_OF_VALUE * abs(test.value) or SMALLEST_SHARE
    values = (outcome.geometry[f"{test.measure} random"] for outcome in outcomes)
    return SMALLEST_OVER_RANDOM * abs(fmean(values)) or SMALLEST_SHARE


def _by_task(numbers: Mapping[Key, float], results: Results, smallest: float) -> dict[str, Paired]:
    values: dict[str, list[float]] = defaultdict(list)
    for (task, _), number in sorted(numbers.items()):
        values[task].append(number)
    found = {task: paired(each) for task, each in values.items()}
    if results.study.report.racing:
        return {task: at_any_time(effect, TYPICAL * smallest) for task, effect in found.items()}
    return found


def _over_tasks(by_task: Mapping[str, Paired], count: int) -> Paired:
    """Return the mean over tasks with equal weights; of unknown error if that of a task is unknown."""
    means = [effect.mean for effect in by_task.values()]
    if any(effect.df <= 0 for effect in by_task.values()):
        return from_error(fmean(means), float("inf"), 0, count)
    return average(means, [[Component(effect.error**2, effect.df)] for effect in by_task.values()], count)


def _region(test: MeasuredChange | Projects, by_task: Mapping[str, Paired], smallest: float) -> Region:
    """Return where a test holds. Tests of one number have one topic, so that two that exclude each other do so here."""
    if isinstance(test, Projects):
        first, second = test.hypotheses
        turned = first > second
        number = f"{test.metric} of {min(first, second)} against {max(first, second)}"
        margin = smallest if test.by is None else test.by
    else:
        turned = test.sign < 0
        number = f"{test.measure} over {'random' if test.value is None else f'{test.value:g}'}"
        margin = test.by if test.by is not None else smallest if test.value is None else 0.0
    topic = f"geometry: {number} of {test.of} on {' and '.join(by_task)}"
    found = {task: replace(effect, mean=-effect.mean) if turned else effect for task, effect in by_task.items()}
    one = -1.0 if turned else 1.0
    contrast = Contrast((Term(MEASURED, GEOMETRY, one), Term(ZERO, GEOMETRY, -one))).beyond(margin)
    return Region(contrast, tuple(by_task), None, Evidence.on_number(topic, found, smallest))
