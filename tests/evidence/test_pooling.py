"""Cells, the correction of untuned values, the fit of lengths, and the Bayes factor, against other ways to compute them."""

import math

import numpy as np
import pytest
from scipy import stats

from adapterlab.evidence.cells import Measured, cells_of
from adapterlab.evidence.fit_carry import fit_carry, predict_held_out
from adapterlab.evidence.table import Score
from adapterlab.evidence.tuning import TuningLoss, seeming_gain, tuning_loss
from adapterlab.lab.analysis.evidence import BETWEEN
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics.carry import Carry, Place
from adapterlab.verdict.claims import read_test
from adapterlab.verdict.other_evidence import Effect, bayes_factor, effects_of
from adapterlab.verdict.relevance import TARGET

NONE = TuningLoss(0.0, 0.0, 0, ())
BETTER = read_test("A", {"better": "oft", "than": "lora", "in": "in_domain", "on": ["prose"]})


def score(method, value, **others):
    fields = {"source": "s", "model": "m", "parameters": 1e9, "task": "math", "tuned": True}
    return Score.model_validate({**fields, **others, "method": method, "value": value})


def sweep(method, values):
    return [score(method, v, learning_rate=10**-i, tuned=None) for i, v in enumerate(values)]


def test_the_loss_at_a_rivals_rate_is_that_of_the_curves():
    """By hand: lora is best at the second rate, pissa at the fourth; they lose 5 and 8 points at each other's."""
    cells = cells_of([*sweep("lora", [40, 50, 48, 45, 20]), *sweep("pissa", [10, 42, 47, 50, 49])])
    loss = tuning_loss(cells)
    assert (loss.pairs, loss.mean, loss.sd) == (2, 6.5, 1.5)
    assert seeming_gain(loss, "pissa", "lora") == (5, 8)
    assert math.isnan(seeming_gain(loss, "pissa", "oft")[0])


def test_an_untuned_value_is_corrected_and_less_certain():
    loss, found = TuningLoss(1.0, 1.5, 2, ()), Measured(10.0, 0.25, None, None)
    tuned, untuned, unknown = (
        loss.corrected(Measured(10.0, 0.25, state, None), "in_domain") for state in (True, False, None)
    )
    assert (tuned.value, tuned.variance) == (10.0, 0.25)
    assert (untuned.value, untuned.variance) == (11.0, 0.25 + 1.5**2)
    share = 1 - 18 / 64  # of a mixture: with probability `share` a loss of mean 1 and sd 1.5, else none
    assert unknown.value == pytest.approx(10 + share)
    assert unknown.variance == pytest.approx(0.25 + share * (1.5**2 + 1) - share**2)
    assert loss.corrected(found, "forgetting").value == 10.0


def test_a_value_below_the_model_before_training_is_no_evidence():
    scores = [score("frozen", 30.0), score("lora", 40.0), score("oft", 45.0), score("pissa", 12.0)]
    cells = cells_of(scores)
    assert cells[0].worked == ["lora", "oft"]
    assert len(effects_of(BETTER, cells, NONE)) == 1
    against_pissa = BETTER.naming("lora", "pissa")
    assert effects_of(against_pissa, cells, NONE) == []


def test_a_share_of_the_gain_is_measured_from_the_model_before_training():
    test = read_test("A", {"reaches": 0.8, "who": "oft", "of": "lora", "in": "in_domain", "on": "prose"})
    scores = [score("lora", 40.0), score("oft", 39.0)]
    assert effects_of(test, cells_of(scores), NONE) == []
    (effect,) = effects_of(test, cells_of([score("frozen", 30.0), *scores]), NONE)
    assert effect.value == pytest.approx(9 - 0.8 * 10)
    assert effect.variance == pytest.approx(1 + 0.8**2)


def test_a_claim_about_a_smaller_size_takes_results_of_that_size_alone():
    test = read_test("A", {"better": "oft", "than": "lora", "size": 0.5, "in": "in_domain", "on": "prose"})
    for trained, count in ((500, 1), (900, 0), (None, 0)):
        scores = [score("lora", 40.0, trained=1000), score("oft", 45.0, trained=trained)]
        assert len(effects_of(test, cells_of(scores), NONE)) == count


def simulated(rng, length, models, methods=12):
    """Values of methods on models, by an Ornstein-Uhlenbeck process along the size."""
    sizes = np.linspace(6, 11, models)
    near = np.exp(-np.abs(sizes[:, None] - sizes[None, :]) / length)
    values = np.linalg.cholesky(near) @ rng.normal(0, 2, (models, methods)) + rng.normal(50, 5, (models, 1))
    return [
        score(f"m{j}", values[i, j], model=f"model {i}", parameters=10.0**size, sd=0.3, seeds=3)
        for i, size in enumerate(sizes)
        for j in range(methods)
    ]


def test_the_length_of_a_simulated_process_is_found():
    fits = {length: fit_carry(cells_of(simulated(np.random.default_rng(1), length, 8)), NONE) for length in (0.7, 6.0)}
    for length, fit in fits.items():
        assert fit.size_interval[0] < length < fit.size_interval[1]
    assert fits[0.7].size_interval[1] < fits[6.0].size_interval[0]


def test_held_out_models_are_predicted_with_their_error():
    found = predict_held_out(cells_of(simulated(np.random.default_rng(1), 6.0, 6, 10)), "m0", NONE)
    z = np.array([(p.predicted - p.measured) / p.error for p in found])
    measured = np.array([p.measured for p in found])
    assert len(found) == 6 * 9
    assert np.sqrt(np.mean((z * [p.error for p in found]) ** 2)) < 0.8 * np.sqrt(np.mean(measured**2))
    assert 0.5 < z.std() < 1.6


def by_importance(effects, carry, margin=1.0, draws=400_000):
    """The Bayes factor by weighting draws of the prior with the likelihood of the effects."""
    rng = np.random.default_rng(5)
    spread = TYPICAL / np.abs(rng.standard_normal(draws))  # a normal with this standard deviation is a Cauchy variable
    task, source = (BETWEEN * np.abs(rng.standard_cauchy(draws)) for _ in range(2))
    places = [TARGET, *(e.place for e in effects)]
    near = np.array([[carry.correlation(a, b) for b in places] for a in places])
    mean = (rng.normal(size=(draws, len(places))) @ np.linalg.cholesky(near + 1e-9 * np.eye(len(places))).T) * spread[
        :, None
    ]
    # Each cell here has a task of its own; the target is one task, and stands for another one like it.
    own = rng.normal(size=(draws, len(places))) * task[:, None]
    elsewhere = rng.normal(size=draws) * task
    sources = {s: rng.normal(size=draws) * source for s in {e.source for e in effects} if s is not None}
    log = np.zeros(draws)
    for i, effect in enumerate(effects, 1):
        value = mean[:, i] + own[:, i] + (sources[effect.source] if effect.source else 0)
        log += stats.norm.logpdf(effect.value, value, math.sqrt(effect.variance))
    holds = mean[:, 0] + own[:, 0] + elsewhere > margin
    weights = np.exp(log - log.max())
    after, before = (holds * weights).sum() / weights.sum(), holds.mean()
    return after / (1 - after) / (before / (1 - before))


def test_the_bayes_factor_is_that_of_the_model():
    carry = Carry(3.0, 3.0)
    near = [Effect("a", "x", TARGET, 4.0, 0.5), Effect("a", "y", TARGET, 5.0, 0.5), Effect("b", "z", TARGET, 3.0, 1.0)]
    assert bayes_factor(BETTER, near, carry=carry) == pytest.approx(by_importance(near, carry), rel=0.12)
    far = [Effect("a", "x", Place(1e7), -6.0, 0.5), Effect(None, "y", Place(1e9), -3.0, 0.5)]
    found = bayes_factor(BETTER, far, carry=carry)
    assert found == pytest.approx(by_importance(far, carry), rel=0.25)  # learns less of the scales than the whole model


def test_what_is_far_says_little_however_precise_it_is():
    carry = Carry(1.0, 3.0)
    effects = [Effect(None, "prose", Place(10.0**size), 8.0, 1e-4) for size in (4, 8, 9.5)]
    factors = [bayes_factor(BETTER, [effect], carry=carry) for effect in effects]
    assert factors == sorted(factors)
    assert factors[0] == pytest.approx(1, abs=0.05)
    assert bayes_factor(BETTER, [], carry=carry) == 1


def test_many_results_of_one_source_are_worth_less_than_few_of_several():
    def factor(sources):
        return bayes_factor(BETTER, [Effect(s, f"t{i}", TARGET, 2.5, 1.0) for i, s in enumerate(sources)])

    thirty, hundred, six = factor(["a"] * 30), factor(["a"] * 100), factor(list("abcdef"))
    assert 1 < factor(["a"]) < thirty < six
    assert hundred < 1.3 * thirty


def test_places_always_have_a_covariance():
    """Also where the number of examples is not known: no correlation matrix has a negative eigenvalue."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        carry = Carry(float(rng.uniform(0.3, 9)), float(rng.uniform(0.3, 9)))
        places = [
            Place(10 ** rng.uniform(6, 12), None if rng.random() < 0.3 else 10 ** rng.uniform(2, 6)) for _ in range(12)
        ]
        matrix = np.array([[carry.correlation(a, b) for b in places] for a in places])
        assert np.linalg.eigvalsh(matrix).min() > -1e-10
