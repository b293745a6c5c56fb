"""Random-effects meta-analysis against metafor's worked examples.

The expected numbers are those of metafor 3.8.1 for its own examples (`dat.bcg`, `dat.konstantopoulos2011`), to more digits
than its documentation prints: -0.7145 (0.1798), tau2 0.3132, Q 152.233, I2 92.22 %; and 0.1847 (0.0846), 0.0651, 0.0327.
"""

import numpy as np
import pytest

from adapterlab.lab.statistics.meta_analysis import random_effects

BCG = {
    -0.8893113339: 0.325584765004,
    -1.5853886572: 0.194581121398,
    -1.3480731483: 0.415367965368,
    -1.4415511900: 0.020010031902,
    -0.2175473222: 0.051210172170,
    -0.7861155858: 0.006905618456,
    -1.6208982236: 0.223017247572,
    0.0119523335: 0.003961579298,
    -0.4694176487: 0.056434210463,
    -1.3713448035: 0.073024793613,
    -0.3393588283: 0.012412213972,
    0.4459134006: 0.532505845200,
    -0.0173139482: 0.071404659684,
}
"""Log risk ratios of tuberculosis after vaccination in 13 trials, and their variances."""
SCHOOLS = {
    11: ([-0.18, -0.22, 0.23, -0.3], [0.118, 0.118, 0.144, 0.144]),
    12: ([0.13, -0.26, 0.19, 0.32], [0.014, 0.014, 0.015, 0.024]),
    18: ([0.45, 0.38, 0.29], [0.023, 0.043, 0.012]),
    27: ([0.16, 0.65, 0.36, 0.6], [0.02, 0.004, 0.004, 0.007]),
    56: ([0.08, 0.04, 0.19, -0.06], [0.019, 0.007, 0.005, 0.004]),
    58: (
        [-0.18, 0, 0, -0.28, -0.04, -0.3, 0.07, 0, 0.05, -0.08, -0.09],
        [0.02, 0.018, 0.019, 0.022, 0.02, 0.021, 0.006, 0.007, 0.007, 0.007, 0.007],
    ),
    71: ([0.3, 0.98, 1.19], [0.015, 0.011, 0.01]),
    86: ([-0.07, -0.05, -0.01, 0.02, -0.03, 0, 0.01, -0.1], [0.001] * 8),
    91: ([0.5, 0.66, 0.2, 0, 0.05, 0.07], [0.01, 0.011, 0.01, 0.009, 0.013, 0.013]),
    108: ([-0.52, 0.7, -0.03, 0.27, -0.34], [0.031, 0.031, 0.03, 0.03, 0.03]),
    644: ([0.12, 0.61, 0.04, -0.05], [0.087, 0.082, 0.067, 0.067]),
}
"""Effects of a modified school calendar and their variances, by school district."""


def test_the_vaccine_trials_equal_metafor():
    found = random_effects(list(BCG), list(BCG.values()))
    assert found.mean == pytest.approx(-0.714532342, abs=1e-6)
    assert found.error == pytest.approx(0.180791744, abs=1e-6)  # Knapp and Hartung
    assert found.interval == pytest.approx((-1.108443714, -0.320620971), abs=1e-6)
    assert found.between_studies == pytest.approx(0.313243258, abs=1e-6)
    assert found.heterogeneity == pytest.approx(152.233008082, abs=1e-6)
    assert found.i2 == pytest.approx(0.92221384521, abs=1e-6)


def test_schools_in_districts_equal_metafor():
    effects, variances, districts = [], [], []
    for district, (y, v) in SCHOOLS.items():
        effects += y
        variances += v
        districts += [district] * len(y)
    found = random_effects(effects, variances, districts)
    assert found.mean == pytest.approx(0.184713164, abs=1e-6)
    assert found.error == pytest.approx(0.084555920, abs=1e-6)
    assert found.between_sources == pytest.approx(0.065061947, abs=1e-6)
    assert found.between_studies == pytest.approx(0.032736516, abs=1e-6)
    assert found.heterogeneity == pytest.approx(578.864017958, abs=1e-5)
    assert (found.studies, found.sources, found.df) == (56, 11, 10)
    assert found.interval == pytest.approx((-0.003689166, 0.373115495), abs=1e-6)  # test = "t", dfs = "contain"


def test_a_hundred_studies_of_one_source_are_no_certainty():
    rng = np.random.default_rng(0)
    one = random_effects([*rng.normal(1.0, 0.1, 100), 0.0, 0.1], [0.01] * 102, ["one"] * 100 + ["two", "three"])
    apart = random_effects([1.0, 0.0, 0.1], [0.01] * 3)
    assert one.error > 0.5 * apart.error
    assert one.interval[0] < 0 < one.interval[1]


def test_one_study_has_no_interval():
    found = random_effects([0.3], [0.04])
    assert (found.mean, found.error, found.p) == (0.3, 0.2, 1.0)
    assert all(np.isnan(found.interval))


def test_equal_effects_have_no_heterogeneity():
    found = random_effects([0.3, 0.3, 0.3], [0.04, 0.01, 0.02])
    assert found.between_studies == 0
    assert found.heterogeneity == pytest.approx(0, abs=1e-12)
    assert found.p_heterogeneity == 1
    assert found.error == pytest.approx((1 / (25 + 100 + 50)) ** 0.5)  # never below that of the common effect


@pytest.mark.parametrize(
    ("effects", "variances"), [([], []), ([1.0], [0.0]), ([1.0, 2.0], [1.0]), ([float("nan")], [1.0])]
)
def test_what_cannot_be_pooled_is_refused(effects, variances):
    with pytest.raises(ValueError):
        random_effects(effects, variances)
