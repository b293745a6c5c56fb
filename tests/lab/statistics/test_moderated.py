"""Moderated variances, held to the limma package of R (version 3.54.1: `squeezeVar` and `fitFDist`)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from adapterlab.lab.statistics import NO_PRIOR, fit_prior, fit_priors

VARIANCES = (0.11, 2.9, 0.7, 8.4, 0.02, 1.3, 5.5, 0.4)
"""Variances that differ by more than chance at three degrees of freedom."""
ALIKE = (0.8, 1.2, 0.5, 2.2, 1.7, 0.3, 0.9, 3.1, 1.1, 0.6)
"""Variances that do not."""
SQUEEZED = (
    0.204465278881,
    2.155408336021,
    0.617030298133,
    6.001353430740,
    0.141531631877,
    1.036587944830,
    3.973491471706,
    0.407251474785,
)
"""`squeezeVar(VARIANCES, 3)$var.post`"""


def test_prior_and_combined_variances_are_those_of_limma():
    prior = fit_prior(VARIANCES, df=3)
    assert (prior.df, prior.variance) == pytest.approx((1.29023285399, 0.424112326132), rel=1e-9)
    assert [prior.combine(v, 3, most=21)[0] for v in VARIANCES] == pytest.approx(list(SQUEEZED), rel=1e-9)


def test_variances_that_differ_by_chance_alone_are_pooled_as_in_limma():
    prior = fit_prior(ALIKE, df=2)
    assert (prior.df, prior.variance) == (math.inf, pytest.approx(1.24))
    assert prior.combine(0.3, 2, most=18)[0] == pytest.approx(1.24)


def test_half_of_the_priors_degrees_of_freedom_count_up_to_half_of_all_others():
    differ, alike = fit_prior(VARIANCES, df=3), fit_prior(ALIKE, df=2)
    assert differ.combine(1.0, 3, most=21)[1] == pytest.approx(3 + 1.29023285399 / 2)
    assert differ.combine(1.0, 3, most=4)[1] == 3.5
    assert differ.combine(1.0, 3, most=3)[1] == 3
    assert alike.combine(0.3, 2, most=18)[1] == 10


def test_degrees_of_freedom_may_differ_between_variances():
    """The moments of Smyth (2004, section 6.2), which are those of log-variances with a degree of freedom for each."""
    df = np.array([3.0] * len(VARIANCES))
    assert fit_prior(VARIANCES, df) == fit_prior(VARIANCES, 3)
    df[::2] = 7
    e = np.log(VARIANCES) - special.digamma(df / 2) + np.log(df / 2)
    found = fit_prior(VARIANCES, df)
    assert special.polygamma(1, found.df / 2) == pytest.approx(e.var(ddof=1) - special.polygamma(1, df / 2).mean())
    expected = np.exp(e.mean() + special.digamma(found.df / 2) - np.log(found.df / 2))
    assert found.variance == pytest.approx(expected)


def test_too_few_variances_leave_each_as_it_is():
    assert fit_prior([1.0, 2.0], df=2) == NO_PRIOR
    assert fit_prior([1.0, 0.0, 0.0, 2.0], df=2) == NO_PRIOR
    assert NO_PRIOR.combine(0.7, 2, most=10) == (0.7, 2)


def test_tasks_have_their_own_typical_variance_and_share_the_degrees_of_freedom():
    scaled = {"prose": list(VARIANCES), "restyle": [100 * v for v in VARIANCES]}
    priors = fit_priors(scaled, dict.fromkeys(scaled, 3))
    assert priors["prose"].df == priors["restyle"].df > 0
    assert priors["restyle"].variance == pytest.approx(100 * priors["prose"].variance)
    assert fit_priors({"prose": list(VARIANCES)}, {"prose": 3})["prose"] == fit_prior(VARIANCES, df=3)


@pytest.mark.parametrize("contestants", [4, 7])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_moderated_intervals_cover_as_often_as_they_say(contestants, spread):
    """In simulated studies with three seeds, whose contestants vary alike or by a factor of about 1.6."""
    rng, covered, narrower = np.random.default_rng(0), [], []
    for _ in range(1500):
        y = rng.normal(size=(contestants, 3)) * np.exp(rng.normal(0, spread, size=(contestants, 1)))
        pairs = [y[i] - y[j] for i, j in itertools.combinations(range(contestants), 2)]
        variances = [float(np.var(pair, ddof=1)) for pair in pairs]
        variance, df = fit_prior(variances, df=2).combine(variances[0], 2, most=2 * (contestants - 1))
        reach = stats.t.ppf(0.975, df) * math.sqrt(variance / 3)
        covered.append(abs(pairs[0].mean()) <= reach)
        narrower.append(reach < stats.t.ppf(0.975, 2) * math.sqrt(variances[0] / 3))
    assert 0.93 < np.mean(covered) < 0.97
    assert np.mean(narrower) > 0.6
