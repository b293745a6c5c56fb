"""Intervals: quantiles of Beta distributions, and closed forms of what follows from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, qmc

from adapterlab import argmap
from adapterlab.argmap.scoring import uncertainty
from adapterlab.argmap.scoring.uncertainty import Interval, intervals
from adapterlab.errors import AdapterlabError


def quantiles(c: float, n: float, level: float = 0.9) -> tuple[float, float, float]:
    """The central interval of Beta(c n, (1 - c) n), with the mean between."""
    low, high = beta.ppf([(1 - level) / 2, (1 + level) / 2], c * n, (1 - c) * n)
    return (float(low), c, float(high))


CLAIM = "[X]: x {credence: 0.8}\n"
ARGUMENT = """
<A>

(1) [P]: premise {credence: 1}
----
(2) [I]: between {inference: 0.6, n: 40}
-- rule {inference: 0.7, n: 100} --
(3) [C]: end
"""


@pytest.mark.parametrize("size", [1.0, 10.0, 250.0])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_a_credence_has_the_quantiles_of_its_beta_distribution(size: float, level: float) -> None:
    found = intervals(argmap.parse(CLAIM), size=size, level=level)["X"]
    assert found == pytest.approx(quantiles(0.8, size, level), abs=2e-3)


def test_the_defaults_are_ten_observations_and_ninety_percent() -> None:
    read = argmap.parse(CLAIM)
    assert intervals(read)["X"] == pytest.approx(quantiles(0.8, 10), abs=2e-3)
    assert intervals(read) == intervals(read, "quadratic-energy", 10.0, 0.9, seed=0)
    assert intervals(read) != intervals(read, seed=1)


def test_a_stated_sample_size_is_used_for_its_own_number_only() -> None:
    read = argmap.parse("[X]: x {credence: 0.8, n: 50}\n\n[Y]: y {credence: 0.8}\n")
    found = intervals(read, size=5)
    assert found["X"] == pytest.approx(quantiles(0.8, 50), abs=2e-3)
    assert found["Y"] == pytest.approx(quantiles(0.8, 5), abs=2e-3)


def test_each_step_of_an_argument_has_its_own_sample_size() -> None:
    found = intervals(argmap.parse(ARGUMENT), "df-quad")
    assert found["P"] == Interval(1.0, 1.0, 1.0)
    assert found["I"] == pytest.approx(quantiles(0.6, 40), abs=2e-3)
    # The product of independent Beta variables with these moments; its mean is the product of the means.
    first, second = beta(0.6 * 40, 0.4 * 40), beta(0.7 * 100, 0.3 * 100)
    rng = np.random.default_rng(1)
    product = first.rvs(400_000, random_state=rng) * second.rvs(400_000, random_state=rng)
    low, high = np.quantile(product, [0.05, 0.95])
    assert found["C"] == pytest.approx((low, 0.42, high), abs=4e-3)


def test_the_sample_size_of_an_inference_beside_its_conclusion() -> None:
    text = "<A>\n\n(1) [P]: p {credence: 1}\n----\n(2) [C]: c {inference: 0.7, n: 60}\n"
    assert intervals(argmap.parse(text), "df-quad")["C"] == pytest.approx(quantiles(0.7, 60), abs=2e-3)
    # A mention of the conclusion in another argument has no effect on this one.
    other = "\n<B>\n\n(1) [P]\n----\n(2) [C] {inference: 0, n: 2}\n"
    assert intervals(argmap.parse(text + other), "df-quad")["C"] == pytest.approx(quantiles(0.7, 60), abs=2e-3)
    first = "<B>\n\n(1) [P]: p {credence: 1}\n----\n(2) [C]: c {inference: 0, n: 2}\n"
    second = "\n<A>\n\n(1) [P]\n----\n(2) [C] {inference: 0.7, n: 60}\n"
    assert intervals(argmap.parse(first + second), "df-quad")["C"] == pytest.approx(quantiles(0.7, 60), abs=2e-3)


def test_the_sample_size_on_an_inference_line_has_priority() -> None:
    text = "<A>\n\n(1) [P]: p {credence: 1}\n-- r {inference: 0.7, n: 60} --\n(2) [C]: c {n: 3}\n"
    assert intervals(argmap.parse(text), "df-quad")["C"] == pytest.approx(quantiles(0.7, 60), abs=2e-3)


def test_a_mention_of_the_conclusion_outside_any_argument_can_give_the_sample_size() -> None:
    text = "<A>\n\n(1) [P]: p {credence: 1}\n-- r {inference: 0.7} --\n(2) [C]: c\n\n[C] {n: 60}\n"
    assert intervals(argmap.parse(text), "df-quad")["C"] == pytest.approx(quantiles(0.7, 60), abs=2e-3)


def test_the_sample_size_of_an_argument_without_structure() -> None:
    text = "[T]: thesis {prior: 0}\n  + <A>\n\n<A>: described {credence: 0.3, n: 80}\n"
    found = intervals(argmap.parse(text), "df-quad")
    assert found["T"] == pytest.approx(quantiles(0.3, 80), abs=2e-3)


def test_numbers_of_zero_and_one_are_certain() -> None:
    found = intervals(argmap.parse("[X]: x {credence: 1}\n\n[Y]: y {credence: 0}\n"))
    assert found == {"X": Interval(1.0, 1.0, 1.0), "Y": Interval(0.0, 0.0, 0.0)}
    mixed = intervals(argmap.parse("[X]: x {credence: 1}\n\n[Y]: y {credence: 0}\n\n[Z]: z {credence: 0.5}\n"))
    assert (mixed["X"], mixed["Y"]) == (Interval(1.0, 1.0, 1.0), Interval(0.0, 0.0, 0.0))
    assert mixed["Z"] == pytest.approx(quantiles(0.5, 10), abs=2e-3)


def test_an_interval_follows_a_monotonic_function_of_one_number() -> None:
    # T = 0.5 + 0.5 x^2 / (1 + x^2) rises with x, so its quantiles are those of x transformed.
    found = intervals(argmap.parse("[T]: thesis\n  + [X]: x {credence: 0.6}\n"))["T"]
    low, _, high = quantiles(0.6, 10)
    f = lambda x: 0.5 + 0.5 * x * x / (1 + x * x)  # noqa: E731
    assert (found.low, found.high) == pytest.approx((f(low), f(high)), abs=2e-3)
    mean = beta(6, 4).expect(f)
    assert found.mean == pytest.approx(mean, abs=1e-3)


def test_an_interval_through_a_cycle() -> None:
    # x = a (1 - b) / (1 - a b) falls with b; a is certain enough to be a constant.
    text = "[A]: a {credence: 0.9, n: 100000000}\n  >< [B]: b {credence: 0.4}\n"
    found = intervals(argmap.parse(text), "df-quad")["A"]
    low, _, high = quantiles(0.4, 10)
    f = lambda b: 0.9 * (1 - b) / (1 - 0.9 * b)  # noqa: E731
    assert (found.low, found.high) == pytest.approx((f(high), f(low)), abs=2e-3)


def test_numbers_are_drawn_independently() -> None:
    # The variance of a sum of independent numbers is the sum of the variances.
    text = "<A>\n\n(1) [P]: p {credence: 0.6}\n(2) [Q]: q {credence: 0.6}\n----\n(3) [C]: c {inference: 1}\n"
    found = intervals(argmap.parse(text), "df-quad")["C"]
    rng = np.random.default_rng(2)
    product = rng.beta(6, 4, 400_000) * rng.beta(6, 4, 400_000)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(product, [0.05, 0.95])), abs=8e-3)
    assert found.mean == pytest.approx(0.36, abs=2e-3)


def many(count: int) -> str:
    return "".join(f"[X{i}]: x {{credence: 0.3}}\n\n" for i in range(count))


def test_maps_of_any_size_are_drawn_with_stratification(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stratified draws give the mean of each number almost exactly; the standard error of the mean of 200 plain draws is
    # 0.138 / sqrt(200) = 0.0098.
    monkeypatch.setattr(uncertainty, "MAX_NUMBERS", 1)
    for count in (uncertainty.FEW, uncertainty.FEW + 1):
        found = intervals(argmap.parse(many(count)))
        assert np.mean([abs(i.mean - 0.3) for i in found.values()]) < 1e-3
        assert np.mean([i.low for i in found.values()]) == pytest.approx(quantiles(0.3, 10)[0], abs=3e-3)
        assert intervals(argmap.parse(many(count))) == found


def test_the_number_of_draws_shrinks_with_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def evaluate(network, rules, given):  # type: ignore[no-untyped-def]
        drawn.append(len(next(iter(given.values()))))
        return original(network, rules, given)

    original = uncertainty.evaluate
    monkeypatch.setattr(uncertainty, "evaluate", evaluate)
    read = argmap.parse(many(3))  # six nodes: three claims and three numbers
    for limit in (20_000_000, 6 * 1000, 6 * 1000 - 1, 6):
        monkeypatch.setattr(uncertainty, "MAX_NUMBERS", limit)
        intervals(read)
    assert drawn == [4000, 1000, 999, 200]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, 90])
def test_the_level_is_between_0_and_1(level: float) -> None:
    with pytest.raises(AdapterlabError, match=rf"level of an interval must be between 0 and 1, not {level:g}"):
        intervals(argmap.parse(CLAIM), level=level)


@pytest.mark.parametrize(("n", "shown"), [("0", "0"), ("-3", "-3"), ("ten", "'ten'"), ("true", "True")])
def test_a_sample_size_is_a_positive_number(n: str, shown: str) -> None:
    with pytest.raises(AdapterlabError, match=rf"\[X\]: a sample size \(n:\) must be a positive number, not {shown}"):
        intervals(argmap.parse(CLAIM.replace("0.8", f"0.8, n: {n}")))
    assert intervals(argmap.parse(CLAIM.replace("0.8", "0.8, n: 0.5")))["X"].low < 0.1


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan])
def test_the_general_sample_size_is_positive_too(size: float) -> None:
    with pytest.raises(AdapterlabError, match="positive number"):
        intervals(argmap.parse(CLAIM), size=size)


def test_other_numbers_and_broken_maps() -> None:
    assert intervals(argmap.parse(CLAIM), credences={"X": 0.4})["X"] == pytest.approx(quantiles(0.4, 10), abs=2e-3)
    broken = argmap.parse(CLAIM + "\n[Z] is so\n")
    with pytest.raises(AdapterlabError, match="without a colon"):
        intervals(broken)
    assert intervals(broken, skip_broken=True)["X"] == pytest.approx(quantiles(0.8, 10), abs=2e-3)


def test_the_draws_of_a_small_map_are_scipys_latin_hypercube() -> None:
    text = "".join(f"[X{i}]: x {{credence: 0.{i + 10}, n: {i + 1}}}\n\n" for i in range(30))
    shares = qmc.LatinHypercube(30, rng=np.random.default_rng(5)).random(uncertainty.DRAWS)
    found = intervals(argmap.parse(text), seed=5)
    for i in range(30):
        mean, size = (i + 10) / 100, i + 1
        draws = beta.ppf(shares[:, i], mean * size, (1 - mean) * size)
        low, high = np.quantile(draws, [0.05, 0.95])
        assert found[f"X{i}"] == pytest.approx((low, draws.mean(), high), abs=1e-12)


def test_equal_numbers_of_a_large_map_are_independent() -> None:
    claims = [f"[X{i}]: x {{credence: 0.3, n: 5}}" for i in range(uncertainty.FEW + 2)]
    argument = "<A>\n\n(1) [X0]\n(2) [X1]\n----\n(3) [C]: c {inference: 1}"
    found = intervals(argmap.parse("\n\n".join([*claims, argument])), "df-quad")
    assert found["X7"] == pytest.approx(quantiles(0.3, 5), abs=2e-3)
    # The product of two independent draws; of equal draws, it would be the square of the quantiles.
    draws = np.random.default_rng(1).beta(1.5, 3.5, size=(2, 10**6)).prod(axis=0)
    low, high = np.quantile(draws, [0.05, 0.95])
    assert found["C"] == pytest.approx((low, 0.09, high), abs=0.012)
    assert found["C"].high < 0.9 * found["X7"].high ** 2
