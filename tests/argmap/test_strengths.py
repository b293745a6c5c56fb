"""The functions of each semantics: closed forms, numerical derivatives, and arrays against floats."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.special import logit as scipy_logit

from adapterlab.argmap.scoring.semantics import (
    DEFAULT,
    SEMANTICS,
    DFQuAD,
    LogOdds,
    QuadraticEnergy,
    Semantics,
    logit,
    products_without_each,
    semantics_named,
)
from adapterlab.errors import UnknownNameError

ALL = pytest.mark.parametrize("semantics", list(SEMANTICS.values()), ids=lambda s: s.name)
inside = st.floats(0.01, 0.99)
lists = st.lists(inside, max_size=4)


def test_the_names_and_the_default() -> None:
    assert list(SEMANTICS) == ["quadratic-energy", "df-quad", "log-odds"]
    assert all(semantics_named(name).name == name for name in SEMANTICS)
    assert DEFAULT == "quadratic-energy"
    with pytest.raises(UnknownNameError, match="unknown semantics 'df-quat': did you mean df-quad"):
        semantics_named("df-quat")


@ALL
def test_semantics_cannot_be_changed(semantics: Semantics) -> None:
    with pytest.raises(FrozenInstanceError):
        semantics.name = "other"  # type: ignore[misc]


# Potyka (2018), definition 1: h(x) = max(x, 0)^2 / (1 + max(x, 0)^2).
@pytest.mark.parametrize(
    ("base", "supporters", "attackers", "strength"),
    [
        (0.5, [1.0], [], 0.75),
        (0.5, [], [1.0], 0.25),
        (0.5, [1.0, 1.0], [], 0.9),
        (0.5, [], [1.0, 1.0], 0.1),
        (0.2, [0.9, 0.6], [0.3], 0.2 + 0.8 * 1.44 / 2.44),
        (0.8, [0.1], [0.9, 0.4], 0.8 - 0.8 * 1.44 / 2.44),
        (0.3, [0.5], [0.5], 0.3),
        (0.3, [], [], 0.3),
        (1.0, [1.0], [], 1.0),
        (0.0, [], [1.0], 0.0),
    ],
)
def test_quadratic_energy(base: float, supporters: list[float], attackers: list[float], strength: float) -> None:
    assert QuadraticEnergy().weigh(base, supporters, attackers) == pytest.approx(strength, abs=1e-12)


# Rago and others (2016), definitions 1-3: v = 1 - product(1 - s).
@pytest.mark.parametrize(
    ("base", "supporters", "attackers", "strength"),
    [
        (0.5, [1.0], [], 1.0),
        (0.5, [], [1.0], 0.0),
        (0.4, [0.5, 0.2], [], 0.4 + 0.6 * 0.6),
        (0.4, [], [0.5, 0.2], 0.4 - 0.4 * 0.6),
        (0.4, [0.5, 0.2], [0.1], 0.4 + 0.6 * 0.5),
        (0.4, [0.1], [0.5, 0.2], 0.4 - 0.4 * 0.5),
        (0.4, [0.5, 0.2], [0.6], 0.4),
        (0.4, [1.0], [1.0], 0.4),
        (0.4, [], [], 0.4),
    ],
)
def test_df_quad(base: float, supporters: list[float], attackers: list[float], strength: float) -> None:
    assert DFQuAD().weigh(base, supporters, attackers) == pytest.approx(strength, abs=1e-12)


@settings(max_examples=60)
@given(inside, lists, lists)
def test_log_odds_are_sums_of_logits(base: float, supporters: list[float], attackers: list[float]) -> None:
    total = scipy_logit(base) + sum(map(scipy_logit, supporters)) - sum(map(scipy_logit, attackers))
    expected = float(np.clip(expit(total), 0.001, 0.999))
    assert LogOdds().weigh(base, supporters, attackers) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("count", [1, 3, 50, 200])
def test_log_odds_are_clamped_without_overflow(count: int) -> None:
    strong, weak = [1.0] * count, [0.0] * count
    for supporters, attackers, expected in (
        ([0.5, *strong], [], 0.999),
        ([0.5, *weak], [], 0.001),
        ([], [0.5, *strong], 0.001),
        ([], [0.5, *weak], 0.999),
        (strong, strong, 0.5),
    ):
        assert LogOdds().weigh(0.5, supporters, attackers) == pytest.approx(expected, abs=1e-9)
        arrays = [np.array([s]) for s in supporters], [np.array([a]) for a in attackers]
        assert LogOdds().weigh(np.array([0.5]), *arrays) == pytest.approx([expected], abs=1e-9)


@ALL
def test_a_base_alone_is_the_strength(semantics: Semantics) -> None:
    for base in (0.0, 0.0005, 0.3, 1.0):
        assert semantics.weigh(base, [], []) == base
        assert semantics.slopes(base, [], []) == (1.0, [], [])


@ALL
@settings(max_examples=60)
@given(base=inside, supporters=lists, attackers=lists)
def test_slopes_are_the_numerical_derivatives(
    semantics: Semantics, base: float, supporters: list[float], attackers: list[float]
) -> None:
    by_base, up, down = semantics.slopes(base, supporters, attackers)
    numbers, size = [base, *supporters, *attackers], len(supporters)

    def strength(changed: list[float]) -> float:
        return float(semantics.weigh(changed[0], changed[1 : size + 1], changed[size + 1 :]))

    at, h = strength(numbers), 1e-7
    if semantics.name == "log-odds" and not 0.0011 < at < 0.9989:
        return  # near the clamp the numerical derivative covers the kink
    lead = math.prod(1 - a for a in attackers) - math.prod(1 - s for s in supporters)
    if semantics.name == "df-quad" and abs(lead) < 1e-5 and (supporters or attackers):
        return  # a kink
    assert (len(up), len(down)) == (len(supporters), len(attackers))
    for i, slope in enumerate([by_base, *up, *down]):
        above, below = numbers.copy(), numbers.copy()
        above[i] += h
        below[i] -= h
        assert slope == pytest.approx((strength(above) - strength(below)) / (2 * h), abs=1e-5)


@ALL
@settings(max_examples=40)
@given(
    columns=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=5,
    )
)
def test_arrays_give_the_strengths_of_floats(semantics: Semantics, columns: list[tuple[float, ...]]) -> None:
    base, s1, s2, a1, a2 = np.array(columns).T
    cases = [([s1, s2], [a1, a2]), ([s1], []), ([], [a1]), ([0.4], [a1]), ([s1, 0.0], [1.0])]
    for supporters, attackers in cases:
        for start in (base, 0.3):
            found = semantics.weigh(start, supporters, attackers)
            for k in range(len(columns)):
                pick = lambda x, k=k: float(np.broadcast_to(x, len(columns))[k])  # noqa: E731
                single = semantics.weigh(pick(start), [*map(pick, supporters)], [*map(pick, attackers)])
                assert pick(found) == pytest.approx(single, abs=1e-12)
    together = semantics.noisy_or([s1, s2])
    assert [*together] == pytest.approx([semantics.noisy_or([c[1], c[2]]) for c in columns], abs=1e-12)


@ALL
def test_the_derivative_at_a_tie_is_the_one_on_the_attackers_side(semantics: Semantics) -> None:
    by_base, up, down = semantics.slopes(0.3, [0.5], [0.5])
    expected = {
        "quadratic-energy": (1.0, [0.0], [0.0]),
        "df-quad": (1.0, [0.3], [-0.3]),
        "log-odds": (1.0, [0.3 * 0.7 / 0.25], [-0.3 * 0.7 / 0.25]),
    }[semantics.name]
    assert (by_base, up, down) == (
        pytest.approx(expected[0]),
        pytest.approx(expected[1], abs=1e-12),
        pytest.approx(expected[2], abs=1e-12),
    )


def test_in_log_odds_a_clamped_number_has_no_derivative() -> None:
    slopes = LogOdds().slopes
    # The strength is clamped.
    assert slopes(0.9, [0.99, 0.99], [0.5]) == (0.0, [0.0, 0.0], [0.0])
    assert slopes(0.1, [0.5], [0.99, 0.99]) == (0.0, [0.0], [0.0, 0.0])
    # The base, a supporter or an attacker is clamped; the strength is 0.5.
    assert slopes(0.0005, [0.9995, 0.5], [0.5]) == (0.0, [0.0, pytest.approx(1.0)], [pytest.approx(-1.0)])
    assert slopes(0.5, [0.001], [0.0005]) == (pytest.approx(1.0), [0.0], [-0.0])
    assert slopes(0.5, [0.999], [0.9999]) == (pytest.approx(1.0), [0.0], [-0.0])


@pytest.mark.parametrize(
    ("probability", "clamped"), [(0.0, 0.001), (0.0009, 0.001), (0.3, 0.3), (0.9991, 0.999), (1.0, 0.999), (1, 0.999)]
)
def test_logit_of_a_clamped_probability(probability: float, clamped: float) -> None:
    assert logit(probability) == pytest.approx(scipy_logit(clamped), abs=1e-12)
    assert logit(np.array([probability, 0.5])) == pytest.approx([scipy_logit(clamped), 0.0], abs=1e-12)


@ALL
@given(strengths=st.lists(st.floats(0, 1), max_size=5))
def test_several_arguments_for_one_conclusion_are_a_noisy_or(semantics: Semantics, strengths: list[float]) -> None:
    assert semantics.noisy_or(strengths) == pytest.approx(1 - math.prod(1 - s for s in strengths), abs=1e-12)
    expected = [math.prod(1 - s for j, s in enumerate(strengths) if j != i) for i in range(len(strengths))]
    assert semantics.noisy_or_slopes(strengths) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.one_of(st.just(0.0), st.floats(-2, 2)), max_size=6))
def test_products_without_each_factor(factors: list[float]) -> None:
    expected = [math.prod(f for j, f in enumerate(factors) if j != i) for i in range(len(factors))]
    assert products_without_each(factors) == pytest.approx(expected, abs=1e-9)
