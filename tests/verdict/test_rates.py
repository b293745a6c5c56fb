"""Tests of claims about best learning rates: read, said, and judged by searches with a planted best rate."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from adapterlab import argmap
from adapterlab.lab.analysis.rate_shift import rate_shift
from adapterlab.verdict import check_tests, judge
from adapterlab.verdict.next_contest import next_contests, study_of
from tests.lab.swept import START, swept
from tests.verdict.test_forms import only, read
from tests.verdict.test_verdict import a_map

TEN = "{rate: lora, of: pissa, times: 10, within: 2, on: [prose, restyle]}"
BY_RANK = "{rate: lora, along: rank, within: 2, on: [prose, restyle]}"
RANKS = {"rank": (2, 8, 32)}


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (TEN, "the best learning rate of lora is 10 times pissa's, within a factor of 2: on prose and restyle"),
        (
            "{rate: lora, of: pissa, within: 3, on: prose}",
            "the best learning rate of lora is pissa's, within a factor of 3: on prose",
        ),
        (
            BY_RANK,
            "the best learning rate of lora at the highest rank is that at the lowest, within a factor of 2: "
            "on prose and restyle",
        ),
        (
            "{rate: lora, along: model, times: 0.5, on: prose}",
            "the best learning rate of lora at the highest width is 0.5 times that at the lowest, within a factor of 2: "
            "on prose",
        ),
    ],
)
def test_it_is_said_in_words(test, sentence):
    assert read(test).sentence() == sentence
    assert check_tests(a_map(test)) == []


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        (TEN.replace("of: pissa, ", ""), "give either of, another contestant, or along, a factor"),
        (TEN.replace("of: pissa", "of: pissa, along: rank"), "give either of, another contestant, or along, a factor"),
        (TEN.replace("pissa", "lora"), "of names the same contestant: give another"),
        (TEN.replace("on:", "in: in_domain, on:"), "unknown metric 'in_domain'"),
        (TEN.replace("within: 2", "within: 1"), "within: .*greater than 1"),
        (TEN.replace("times: 10", "times: 0"), "times: .*greater than 0"),
        (TEN.replace("times: 10", "times: .nan"), "times: "),
        (TEN.replace("within: 2", "within: .inf"), "within: "),
        (TEN.replace("pissa", "pisa"), "unknown adapter 'pisa'"),
        (BY_RANK.replace("along: rank", "along: data"), "along: .*'steps', 'rank', 'budget' or 'model'"),
        (TEN.replace("times", "tmes"), "unknown key 'tmes'.*did you mean times"),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(test, problem):
    (found,) = check_tests(a_map(test))
    assert re.search(problem, found.message), found.message
    assert "\n" not in found.message


def rates(ratio: float = 1.0, exponent: float = 0.0):
    """LoRA's best rate is `ratio` times PiSSA's, and moves with a power of the rank."""

    def best(name, levels):
        return START * (ratio if name == "lora" else 1.0) * (levels["rank"] / 8) ** exponent

    return swept(("lora", "pissa"), lambda name, task, levels: 0.1, sweep=RANKS, noise=1e-4, best=best)


def test_a_ratio_that_was_planted_is_found_and_others_are_refuted():
    cells = rates(10**0.5)
    chosen = {name: cells.main.results.contests[name, "prose"].rate for name in ("lora", "pissa")}
    assert chosen["lora"] / chosen["pissa"] == pytest.approx(10**0.5, rel=0.02)
    found = only(TEN.replace("times: 10", "times: 3.2"), cells.main, cells)
    assert found.after > 0.9
    assert found.effect.mean == pytest.approx(0, abs=0.01)
    # Two rates of a quarter of a decade each, and two tasks.
    assert found.effect.error >= math.sqrt(2 * (1 / 4**2 / 12) / 2)
    assert found.same < 0.05
    assert {pair.task for pair in found.pairs} == {"prose", "restyle"}
    assert all(pair.trials for pair in found.pairs)
    assert only(TEN.replace("times: 10", "times: 32"), cells.main, cells).after < 0.1
    assert only(TEN.replace("times: 10", "times: 0.32"), cells.main, cells).after < 0.1


def test_a_ratio_and_its_inverse_are_one_number():
    cells = rates(10**0.5)
    one = only(TEN.replace("times: 10", "times: 2"), cells.main, cells)
    other = only("{rate: pissa, of: lora, times: 0.5, within: 2, on: [prose, restyle]}", cells.main, cells)
    first, second = one.regions[0], other.regions[0]
    assert first.own.topic == second.own.topic
    assert np.allclose(first.own.values, second.own.values)
    assert one.after == pytest.approx(other.after, abs=0.01)


def test_along_a_factor_it_is_the_movement_that_the_report_has():
    still, falling = rates(), rates(exponent=-0.8)
    assert only(BY_RANK, still.main, still).after > 0.8
    found = only(BY_RANK, falling.main, falling)
    assert found.after < 0.1
    assert found.effect == rate_shift(falling, "lora", "rank").effect
    claimed = 10**found.effect.mean
    agreed = only(BY_RANK.replace("within", f"times: {claimed:.6f}, within"), falling.main, falling)
    assert agreed.after > 0.7
    assert agreed.effect.mean == pytest.approx(0, abs=1e-5)


def test_what_a_study_lacks_leaves_it_untested(monkeypatch):
    cells = rates()
    assert only(BY_RANK, cells.main).untested == "this study does not sweep the rank"
    assert only(BY_RANK.replace("rank,", "steps,"), cells.main, cells).untested == "this study does not sweep the steps"
    assert only(TEN.replace("pissa", "oft"), cells.main, cells).untested == "oft did not run in this study"
    kind = type(cells.main.results.contests["pissa", "prose"])
    monkeypatch.setattr(kind, "rate", property(lambda contest: None if contest.contestant == "pissa" else 0.01))
    assert only(TEN, cells.main, cells).untested == "no learning rate was searched for pissa on prose"


def test_two_claims_that_exclude_each_other_do_not_both_become_likely():
    cells = rates(10**0.5)
    blocks = "\n\n".join(
        f"[C{i}]: c {{reason: x, credence: 0.8, test: {TEN.replace('times: 10', f'times: {times}')}}}\n  +> [Thesis]"
        for i, times in enumerate((3.2, 32))
    )
    the_map = argmap.parse(f"[Thesis]: t {{prior: 0.5}}\n\n{blocks}")
    assert sum(verdict.after for verdict in judge(the_map, cells.main, 1.0, cells).verdicts) < 1.1


def test_map_next_writes_a_study_that_tests_it():
    the_map = argmap.parse(
        f"[Thesis]: t {{prior: 0.5}}\n\n[C]: c {{reason: x, predicted: [0.8, 0.4], credence: 0.5, test: {BY_RANK}}}\n"
        "  +> [Thesis]\n"
    )
    (contest,) = next_contests(the_map)
    assert study_of(contest.tests).sweep.rank is not None
