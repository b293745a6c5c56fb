"""What finding a learning rate costs and finds, over landscapes that hypothesis makes up."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from adapterlab.lab.run.lr_search import search
from adapterlab.lab.study.spec import Tuning

rates = st.floats(-6, 2).map(lambda exponent: 10.0**exponent)


@st.composite
def tunings(draw) -> Tuning:
    start = sorted(draw(st.sets(rates, min_size=2, max_size=5)))
    count = draw(st.integers(len(start), 9))
    steps = st.integers(1, 40)
    return Tuning(
        start=tuple(start),
        rates=count,
        first_steps=draw(steps),
        keep=draw(st.integers(1, count)),
        second_steps=draw(steps),
    )


def play(tuning: Tuning, loss_of) -> tuple[float | None, list[tuple[int, float, int]]]:
    """The chosen rate, and every training run that was asked for: round, rate and steps."""
    searching, runs, losses = search(tuning), [], None
    while True:
        try:
            number, wanted = searching.send(losses)
        except StopIteration as end:
            return end.value, runs
        runs += [(number, rate, steps) for rate, steps in wanted.items()]
        losses = {rate: loss_of(number, rate) for rate in wanted}


@given(tunings(), st.data())
def test_whatever_the_landscape_the_budget_is_spent_to_the_last_step(tuning, data):
    landscape: dict[tuple[int, float], float] = {}

    def loss(number: int, rate: float) -> float:
        return landscape.setdefault((number, rate), data.draw(st.floats(0, 5) | st.just(math.inf)))

    chosen, runs = play(tuning, loss)
    assert sum(steps for _, _, steps in runs) == tuning.budget_steps
    assert all(steps > 0 for _, _, steps in runs)
    assert len({(number, rate) for number, rate, _ in runs}) == len(runs), "a rate was tried twice in a round"
    assert all(number == 1 for number, rate, _ in runs[: len(tuning.start)])
    if chosen is None:
        last = max(number for number, _, _ in runs)
        assert all(math.isinf(landscape[number, rate]) for number, rate, _ in runs if number == last)
    else:
        assert math.isfinite(landscape[1, chosen])
        assert math.isfinite(landscape.get((2, chosen), 0.0))


@given(tunings(), st.floats(-7, 3), st.floats(0.1, 3), st.floats(0, 4))
def test_on_a_bowl_the_chosen_rate_is_the_best_of_all_that_were_tried(tuning, bottom, steepness, cliff):
    """One minimum, and a cliff above it beyond which training diverges."""

    def loss(number: int, rate: float) -> float:
        away = math.log10(rate) - bottom
        return math.inf if away > cliff else steepness * away**2

    chosen, runs = play(tuning, loss)
    tried = [rate for number, rate, _ in runs if number == 1]
    assert sum(steps for _, _, steps in runs) == tuning.budget_steps
    if chosen is not None:
        assert loss(1, chosen) == min(loss(1, rate) for rate in tried)


@given(st.floats(-4.4, 0.4))
def test_a_bowl_five_decades_wide_is_found_to_a_third_of_a_decade(bottom):
    """Seven rates from a grid of decades: enough to grow to either end and to look closer there."""
    tuning = Tuning(start=(1e-3, 1e-2), rates=7, first_steps=10, keep=2, second_steps=20)
    chosen, _ = play(tuning, lambda number, rate: abs(math.log10(rate) - bottom))
    assert chosen is not None
    assert abs(math.log10(chosen) - bottom) < 1 / 3


@given(st.floats(-12, 2))
def test_where_all_but_the_lowest_rates_diverge_it_goes_down_until_one_lives(cliff):
    tuning = Tuning(start=(1e-3, 1e-2), rates=4, first_steps=10, keep=2, second_steps=20)
    chosen, runs = play(tuning, lambda number, rate: 1.0 if math.log10(rate) < cliff else math.inf)
    assert sum(steps for _, _, steps in runs) == tuning.budget_steps
    reach = 10.0 ** (-3 - tuning.budget_steps // 10 + 2)
    assert (chosen is not None) == (reach < 10.0**cliff)
