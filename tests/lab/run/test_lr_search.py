"""Searches over loss curves that hypothesis or a random generator makes up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapterlab.lab.run.lr_search import Flag, Found, Stage, Wanted, describe, neighbours, position_of, rate_at, search
from adapterlab.lab.study.spec import Tuning

STEPS = 40
positions = st.integers(-24, 8)
tunings = st.builds(
    Tuning,
    first_rung=st.sampled_from([0.5, 0.75, 1.0]),
    bracket=st.sampled_from([3, 5, 7]),
    growth=st.integers(0, 12),
    keep=st.integers(1, 5),
)
losses = st.floats(0, 5) | st.just(math.inf)


def play(
    tuning: Tuning, loss_of, start: float = 1e-2, extensions: int = 0, *, trusted: bool = False
) -> tuple[Found, list[Wanted]]:
    """The result, and every request; `loss_of` takes the number of steps and the rate."""
    searching, asked, found = search(tuning, STEPS, start, extensions, trusted=trusted), [], None
    while True:
        try:
            wanted = searching.send(found)
        except StopIteration as end:
            return end.value, asked
        asked.append(wanted)
        found = {rate: loss_of(steps, rate) for rate, steps in wanted.rates.items()}


def count(asked: list[Wanted], stage: Stage) -> int:
    return sum(len(wanted.rates) for wanted in asked if wanted.stage == stage)


def bowl(bottom: float, sharpness: float = 1.0):
    """A parabola over the decimal logarithm of the rate."""
    return lambda steps, rate: sharpness * (math.log10(rate) - bottom) ** 2


@given(positions)
def test_the_lattice_has_four_rates_in_a_decade_and_each_is_its_own_nearest(position):
    assert position_of(rate_at(position)) == position
    assert rate_at(position + 4) == pytest.approx(10 * rate_at(position))
    assert math.log10(rate_at(position)) == pytest.approx(position / 4, abs=0.01)
    assert neighbours(rate_at(position)) == (rate_at(position - 1), rate_at(position + 1))


@given(tunings, positions, st.data())
def test_all_contestants_have_the_same_refinement_whatever_their_curves(tuning, start, data):
    curve: dict[tuple[int, float], float] = {}

    def loss(steps: int, rate: float) -> float:
        return curve.setdefault((steps, rate), data.draw(losses))

    found, asked = play(tuning, loss, rate_at(start))
    stages = [wanted.stage for wanted in asked]
    assert stages == sorted(stages, key=list(Stage).index)
    assert len(asked[0].rates) == tuning.bracket
    assert count(asked, Stage.BRACKET) - tuning.bracket <= tuning.growth
    tried = [rate for wanted in asked if wanted.rung == 1 for rate in wanted.rates]
    first = {rate: curve[tuning.first_steps(STEPS), rate] for rate in tried}
    assert len(first) == len(tried), "a rate was tried twice"
    living = sum(value < math.inf for value in first.values())
    assert count(asked, Stage.REFINE) == (2 if living else 0)
    assert count(asked, Stage.FINALS) == (min(tuning.keep, living) if tuning.keep > 1 else 0)
    assert {steps for wanted in asked for steps in wanted.rates.values()} <= {tuning.first_steps(STEPS), STEPS}
    assert (found.rate is None) == (living == 0 or all(v == math.inf for v in _second(asked, curve)))


def _second(asked: list[Wanted], curve) -> list[float]:
    """Losses that the choice was made by: those of the second rung, or of the first without one."""
    last = [wanted for wanted in asked if wanted.rung == max(w.rung for w in asked)]
    return [curve[steps, rate] for wanted in last for rate, steps in wanted.rates.items()]


@given(st.integers(-20, 4), st.integers(-16, 0), st.floats(0.1, 3))
def test_on_a_bowl_the_nearest_rate_of_the_lattice_is_chosen_however_far_the_start(bottom, start, sharpness):
    """Growth reaches any optimum within its limit, and what follows is the same as from a start beside it."""
    tuning = Tuning(growth=12)
    found, asked = play(tuning, bowl(bottom / 4 + 0.05, sharpness), rate_at(start))
    assert found == Found(rate_at(bottom))
    nearest = round((bottom + 0.2 - start) / 2)  # half decades from the start to the best rate of the bracket
    assert count(asked, Stage.BRACKET) == tuning.bracket + abs(nearest)
    near = play(tuning, bowl(bottom / 4 + 0.05, sharpness), rate_at(bottom))[1]
    for stage in (Stage.REFINE, Stage.FINALS):
        assert count(asked, stage) == count(near, stage)


@given(st.floats(-4, 0), st.floats(0.05, 2))
def test_a_cliff_above_the_best_rate_brackets_it(bottom, cliff):
    def loss(steps: int, rate: float) -> float:
        away = math.log10(rate) - bottom
        return math.inf if away > cliff else away**2

    found, asked = play(Tuning(growth=12), loss)
    tried = [rate for wanted in asked for rate in wanted.rates]
    assert found.flag == Flag.NONE
    assert loss(STEPS, found.rate) == min(loss(STEPS, rate) for rate in tried)
    assert abs(math.log10(found.rate) - bottom) <= 0.25 + 0.01


@given(st.floats(-2, 2), st.integers(0, 3))
def test_searches_are_reproducible_and_an_extension_only_adds_to_them(bottom, extensions):
    found, asked = play(Tuning(), bowl(bottom), extensions=extensions)
    assert (found, asked) == play(Tuning(), bowl(bottom), extensions=extensions)
    assert asked == play(Tuning(), bowl(bottom), extensions=extensions + 1)[1][: len(asked)]


def test_if_every_rate_diverges_lower_ones_are_tried_by_decades_and_none_is_chosen():
    found, asked = play(Tuning(growth=3), lambda steps, rate: math.inf)
    assert found.rate is None
    assert [list(wanted.rates) for wanted in asked] == [[3.2e-3, 1e-2, 3.2e-2], [3.2e-4], [3.2e-5], [3.2e-6]]
    assert play(Tuning(growth=3), lambda steps, rate: math.inf, extensions=2)[1] == asked


@given(st.integers(-36, -11))
def test_if_only_low_rates_do_not_diverge_one_of_them_is_found(cliff):
    found, _ = play(Tuning(growth=14), lambda steps, rate: 1.0 if position_of(rate) < cliff else math.inf)
    assert position_of(found.rate) < cliff


def test_rates_that_diverge_at_full_length_are_not_chosen():
    found, _ = play(
        Tuning(keep=3), lambda steps, rate: math.inf if steps == STEPS and rate > 6e-3 else abs(rate - 1e-2)
    )
    assert found.rate == 5.6e-3
    found, _ = play(Tuning(), lambda steps, rate: math.inf if steps == STEPS else abs(rate - 1e-2))
    assert found.rate is None


@pytest.mark.parametrize("side", [-1, 1])
def test_an_optimum_beyond_the_rates_tried_is_flagged(side):
    slope = lambda steps, rate: -side * math.log10(rate)  # noqa: E731
    found, asked = play(Tuning(growth=2), slope)
    assert count(asked, Stage.BRACKET) == 3 + 2
    assert found.flag == Flag.EDGE
    assert found.rate == (max if side > 0 else min)(rate for wanted in asked for rate in wanted.rates)
    assert "on the edge" in found.flag.text
    inside, _ = play(Tuning(growth=2), bowl(-2 + side * 1.4))
    assert inside.flag == Flag.NONE
    assert inside.flag.text == ""


def test_a_gap_beside_the_best_rate_is_halved_or_flagged():
    """Rates above 1e-4 diverge, so the search goes down by a decade and leaves a gap above the best rate."""
    loss = lambda steps, rate: math.inf if rate > 1e-4 else abs(math.log10(rate) + 4.3)  # noqa: E731
    found, _ = play(Tuning(growth=4), loss)
    assert (found.rate, found.flag) == (5.6e-5, Flag.NONE)
    found, asked = play(Tuning(growth=3), loss)
    assert list(asked[3].rates) == [1e-5], "a lower rate shows that the best one is inside"
    assert (found.rate, found.flag) == (5.6e-5, Flag.WIDE)
    assert "half a decade" in found.flag.text


def test_of_equal_losses_the_rate_nearest_to_the_start_is_chosen():
    found, asked = play(Tuning(), lambda steps, rate: 1.0)
    assert found == Found(1e-2)
    assert [wanted.stage for wanted in asked] == [Stage.BRACKET, Stage.REFINE, Stage.FINALS]


def test_a_wider_bracket_covers_more_rates_for_every_contestant():
    _, asked = play(Tuning(bracket=7), bowl(-2))
    assert list(asked[0].rates) == [3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1, 3.2e-1]


def shifted(bottom: float, shift: float, noise: float = 0.0, rng: np.random.Generator | None = None):
    """A bowl whose best rate moves by `shift` decades for each halving of the steps."""

    def loss(steps: int, rate: float) -> float:
        best = bottom + shift * math.log2(STEPS / steps)
        return (math.log10(rate) - best) ** 2 + (rng.normal(0, noise) if rng is not None else 0.0)

    return loss


@given(st.integers(-12, -4), st.floats(-0.24, 0.24))
def test_runs_of_half_the_length_find_an_optimum_that_a_quarter_of_it_would_miss(bottom, shift):
    """Halving the steps may move the best rate by a step of the lattice; the second rung corrects that."""
    assume(abs(shift) > 0.13)
    found, _ = play(Tuning(), shifted(bottom / 4, shift), rate_at(bottom))
    assert found.rate == rate_at(bottom)
    quarter = shifted(bottom / 4, shift)
    misled = min((rate_at(p) for p in range(bottom - 8, bottom + 9)), key=lambda rate: quarter(STEPS // 4, rate))
    assert misled != rate_at(bottom)


def test_an_extension_moves_the_rate_towards_the_optimum_at_full_length():
    """The first rung prefers a rate three steps of the lattice below the best one, and the second sees too little of it."""
    for extensions, expected in ((0, 3.2e-3), (1, 5.6e-3), (2, 1e-2), (3, 1e-2)):
        found, asked = play(Tuning(), shifted(-2, -0.66), extensions=extensions)
        assert found.rate == expected
        assert [len(w.rates) for w in asked if w.stage == Stage.EXTEND] == [1, 1, 1][:extensions]
    without = play(Tuning(keep=1), shifted(-2, -0.66), extensions=1)[1]
    assert [len(wanted.rates) for wanted in without] == [3, 1, 2, 3]


def test_with_noise_like_that_of_real_runs_little_is_lost():
    """Gain 0.06, sharpness 2.5 and noise 0.0023 nats per byte, as fitted to the quick study."""
    scale, regrets = 0.06 * 2.5, []
    for i in range(300):
        rng = np.random.default_rng(i)
        bottom = -2 + rng.uniform(-1, 1)
        noisy = shifted(bottom, rng.choice([-1, 1]) * 0.12, 0.0023 / scale, rng)
        found, _ = play(Tuning(), noisy)
        regrets.append(scale * (math.log10(found.rate) - bottom) ** 2)
    assert np.mean(regrets) < 0.0015
    assert np.quantile(regrets, 0.95) < 0.005


def tried(asked: list[Wanted]) -> list[list[float]]:
    return [sorted(wanted.rates) for wanted in asked]


@given(st.integers(-12, -4), st.floats(-0.3, 0.3))
def test_a_trusted_prediction_that_is_confirmed_takes_a_third_of_the_steps(bottom, beside):
    """Three rates a quarter of a decade apart at half the length: 60 steps in place of 180."""
    found, asked = play(Tuning(), bowl((bottom + beside) / 4), rate_at(bottom), trusted=True)
    assert found == Found(rate_at(bottom))
    assert tried(asked) == [[rate_at(bottom - 1), rate_at(bottom), rate_at(bottom + 1)]]
    assert set(asked[0].rates.values()) == {STEPS // 2}


@given(st.integers(-12, -4), st.sampled_from([-1, 1]), st.floats(-0.1, 0.4))
def test_a_prediction_that_is_off_by_a_step_costs_one_rate_more(bottom, side, beyond):
    start = rate_at(bottom - side)
    found, asked = play(Tuning(), bowl((bottom + side * beyond) / 4), start, trusted=True)
    assert found == Found(rate_at(bottom))
    assert [wanted.stage for wanted in asked] == [Stage.BRACKET, Stage.BRACKET]
    assert sum(len(wanted.rates) for wanted in asked) == 4


@given(st.integers(-12, -4), st.integers(2, 8), st.sampled_from([-1, 1]))
def test_a_prediction_that_is_refuted_brings_the_second_rung_back(bottom, away, side):
    found, asked = play(Tuning(), bowl((bottom + 0.1) / 4), rate_at(bottom + side * away), trusted=True)
    assert found == Found(rate_at(bottom))
    assert count(asked, Stage.FINALS) == 2
    assert count(asked, Stage.BRACKET) == 3 + away


def test_a_confirmed_prediction_weighs_half_as_much_as_the_lowest_point_of_the_parabola():
    """Above 0.75 steps from the prediction, the average is nearer to the next rate than to the prediction."""
    start = -8
    for lowest, expected in ((0.9, 1), (0.8, 1), (0.7, 0), (0.6, 0)):
        found, _ = play(Tuning(), bowl((start + lowest) / 4), rate_at(start), trusted=True)
        assert found.rate == rate_at(start + expected), lowest
    # The prediction counts by its own value, not by the nearest rate of the lattice: 0.4 steps higher here.
    found, _ = play(Tuning(), bowl((start + 0.6) / 4), 10 ** ((start + 0.4) / 4), trusted=True)
    assert found.rate == rate_at(start + 1)


def test_neighbours_that_diverge_leave_a_confirmed_rate_in_place():
    loss = lambda steps, rate: math.inf if rate > 1.1e-2 else abs(math.log10(rate) + 2)  # noqa: E731
    found, asked = play(Tuning(), loss, 1e-2, trusted=True)
    assert found == Found(1e-2)
    assert len(asked) == 1
    found, asked = play(Tuning(growth=3), lambda steps, rate: math.inf, 1e-2, trusted=True)
    assert found.rate is None
    assert tried(asked)[1:] == [[5.6e-4], [5.6e-5], [5.6e-6]]


@given(st.integers(-36, -11))
def test_below_a_bracket_that_diverged_the_rates_are_looked_at_as_closely(cliff):
    loss = lambda steps, rate: math.log10(rate) ** 2 / 100 if position_of(rate) < cliff else math.inf  # noqa: E731
    found, asked = play(Tuning(growth=20), loss, 1e-2, trusted=True)
    assert position_of(found.rate) == cliff - 1
    assert found.flag == Flag.NONE
    assert count(asked, Stage.FINALS) == 2


def test_a_wide_bracket_is_as_wide_for_a_trusted_prediction():
    assert play(Tuning(bracket=7), bowl(-2), trusted=True) == play(Tuning(bracket=7), bowl(-2))


def test_an_extension_of_a_confirmed_search_compares_the_rate_with_both_neighbours():
    found, asked = play(Tuning(), bowl(-2), 1e-2, 1, trusted=True)
    assert [len(wanted.rates) for wanted in asked if wanted.stage == Stage.EXTEND] == [3]
    assert found.rate == 1e-2


def test_a_confirmed_prediction_loses_little_with_noise_and_another_length():
    """Noise as above; standard deviations of 0.6 steps of the prediction, and of 0.3 of what half the length changes."""
    scale, regrets, steps = 0.06 * 2.5, [], []
    for i in range(400):
        rng = np.random.default_rng(i)
        bottom = -2 + rng.uniform(-1, 1)
        noisy = shifted(bottom, rng.normal(0, 0.08), 0.0023 / scale, rng)
        start = 10 ** (bottom + 0.15 * rng.normal())
        found, asked = play(Tuning(), noisy, start, trusted=True)
        nearest = rate_at(round(4 * bottom))
        regrets.append(scale * ((math.log10(found.rate) - bottom) ** 2 - (math.log10(nearest) - bottom) ** 2))
        steps.append(sum(sum(wanted.rates.values()) for wanted in asked))
    assert np.mean(regrets) < 0.002
    assert np.quantile(regrets, 0.9) < 0.005
    assert np.mean(steps) < 90


def test_the_course_of_a_search_is_described():
    assert "5 rates about the start, half a decade apart, up to 2" in describe(Tuning(bracket=5, growth=2), STEPS)
    assert "a quarter where the start is a trusted prediction" in describe(Tuning(), STEPS)
    again = "20 steps each. The best 3 again with another seed unless the best confirms a trusted prediction: 40 steps"
    assert again in describe(Tuning(keep=3), STEPS)
    assert "again" not in describe(Tuning(keep=1), STEPS)
