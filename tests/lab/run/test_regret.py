"""The regret of a chosen rate, against values by hand and over simulated losses whose means are known."""

from __future__ import annotations

import math
from statistics import fmean, variance

import numpy as np
import pytest

from adapterlab.lab.run.regret import Regret, cross_validated, regret_of
from tests.lab.unplayed import outcome_of, prepared_of, study_of

LOW, CHOSEN, HIGH = 5.6e-3, 1e-2, 1.8e-2


def losses(low, chosen, high) -> dict[float, dict[int, float]]:
    return {rate: dict(enumerate(runs, 201)) for rate, runs in ((LOW, low), (CHOSEN, chosen), (HIGH, high))}


def test_the_best_rate_is_picked_on_the_other_seeds():
    """On seed 202 the lower rate looks best, so on seed 201 the chosen rate is compared with it, and the other way round."""
    found = cross_validated(losses(low=[1.05, 0.98], chosen=[1.0, 1.0], high=[0.95, 1.01]), CHOSEN)
    assert found == {201: pytest.approx(1.0 - 1.05), 202: pytest.approx(1.0 - 1.01)}
    three = cross_validated(losses(low=[1.2] * 3, chosen=[1.0, 1.02, 1.01], high=[0.98, 0.99, 1.0]), CHOSEN)
    assert three == {201: pytest.approx(0.02), 202: pytest.approx(0.03), 203: pytest.approx(0.01)}


def test_a_chosen_rate_that_is_best_has_no_regret():
    assert cross_validated(losses([1.1, 1.2], [1.0, 1.1], [1.05, 1.15]), CHOSEN) == {201: 0.0, 202: 0.0}
    assert cross_validated(losses([1.0, 1.0], [1.0, 1.0], [1.0, 1.0]), CHOSEN) == {201: 0.0, 202: 0.0}


def test_a_neighbour_that_diverges_is_no_alternative_and_a_chosen_rate_that_does_is_regretted_without_end():
    lost = math.inf
    assert cross_validated(losses([1.1, 1.1], [1.0, 1.0], [0.5, lost]), CHOSEN) == {201: 0.0, 202: 0.0}
    assert cross_validated(losses([1.1, 1.1], [1.0, lost], [lost, lost]), CHOSEN) == {201: lost, 202: lost}
    assert cross_validated(losses([lost, 1.1], [1.0, lost], [lost, lost]), CHOSEN) == {201: 0.0, 202: 0.0}


def simulated(means: tuple[float, float, float], seeds: int, noise: float = 0.002, studies: int = 4000) -> np.ndarray:
    """Means over seeds of the regret, in so many simulated contests; a seed has an effect on all three rates as well."""
    rng = np.random.default_rng(0)
    runs = (
        np.array(means)[None, :, None]
        + rng.normal(0, noise, (studies, 3, seeds))
        + rng.normal(0, 0.01, (studies, 1, seeds))
    )
    return np.array([fmean(cross_validated(losses(*contest), CHOSEN).values()) for contest in runs.tolist()])


@pytest.mark.parametrize("seeds", [2, 3])
def test_three_equal_rates_have_no_regret_on_average(seeds):
    """The best of three means would be better than the chosen one by 0.8 of a standard error."""
    found = simulated((1.0, 1.0, 1.0), seeds)
    assert found.mean() == pytest.approx(0, abs=3 * found.std() / math.sqrt(len(found)))


@pytest.mark.parametrize(
    ("means", "regret"),
    [((1.02, 1.0, 1.02), 0), ((1.003, 1.0, 1.01), 0), ((1.01, 1.0, 0.99), 0.01), ((0.994, 1.0, 1.03), 0.006)],
)
def test_the_regret_is_unbiased_within_its_error(means, regret):
    """It is a little too small if a pick is ever wrong, by less than the error of one study."""
    found = simulated(means, seeds=2)
    assert regret - found.std() / 2 <= found.mean() <= regret + 3 * found.std() / math.sqrt(len(found))


def contests_with(by_task: dict[str, dict[float, dict[int, float]]]):
    """Contests of LoRA whose chosen rate and its neighbours ended at these losses."""
    prepared = prepared_of(study_of("lora", tasks=tuple(by_task)))
    contests = [contest for contest in prepared.contests() if contest.contestant == "lora"]
    for contest in contests:
        contest.rate = CHOSEN
        for rate, runs in by_task[contest.task].items():
            trials = {seed: contest.trial(rate, seed, 20, reported=False) for seed in runs}
            contest.beside[rate] = {seed: (trial, outcome_of(trial, runs[seed])) for seed, trial in trials.items()}
    return contests


def test_tasks_weigh_the_same_and_the_error_is_that_of_a_mean_of_means():
    prose, restyle = losses([1.2] * 2, [1.0, 1.02], [0.99, 0.99]), losses([1.2] * 2, [1.0, 1.0], [0.92, 0.94])
    found = regret_of(contests_with({"prose": prose, "restyle": restyle}))
    parts = [0.01, 0.03], [0.08, 0.06]
    assert found.mean == pytest.approx((0.02 + 0.07) / 2)
    assert found.error == pytest.approx(math.sqrt(sum(variance(part) / 2 for part in parts)) / 2)
    assert found.floored == found.mean
    assert Regret(-0.001, 0.001).floored == 0


def test_a_contest_without_a_rate_or_without_runs_beside_it_has_no_regret():
    (contest,) = contests_with({"prose": losses([1.1] * 2, [1.0] * 2, [0.9] * 2)})
    assert regret_of([contest]).mean == pytest.approx(0.1)
    contest.rate = None
    assert regret_of([contest]) is None
    (contest,) = contests_with({"prose": {}})
    assert regret_of([contest]) is None


def test_a_regret_without_end_has_no_error():
    found = regret_of(contests_with({"prose": losses([1.1] * 2, [1.0, math.inf], [1.2] * 2)}))
    assert found.mean == math.inf
    assert math.isnan(found.error)
