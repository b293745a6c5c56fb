"""Claims that forgetting, or a gain, follows a number of the learned changes, over contestants and tasks."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from adapterlab import argmap
from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.geometry import changes_of
from adapterlab.lab.analysis.metrics import Results
from adapterlab.report.verdict_json import claims_to_json
from adapterlab.verdict.check_tests import check_tests, read_tests
from adapterlab.verdict.claims import BY_GEOMETRY, read_test
from adapterlab.verdict.judge_map import Judgement, judge
from adapterlab.verdict.lock_content import changes, content_of
from adapterlab.verdict.next_contest import next_contests
from tests.lab.made_up import analysed, page_of, played

NAMES = ("lora", "oft", "dora", "miss", "shira", "full_ft")
FOLLOWS = f"{{correlates: drift, with: forgetting, of: [{', '.join(NAMES)}], above: 0, on: [prose, restyle]}}"
ENERGY = "{geometry: energy_in_top, of: full_ft, k: 0.1, above: random, on: [prose, restyle]}"


def results(rises: list[float], *, noise: float = 1e-4, names: tuple[str, ...] = NAMES, seeds: int = 3) -> Results:
    """A study in which the change of the i-th contestant and task drifts by i / 100, and forgets as is given."""
    found = played(names, gains=dict.fromkeys(names, 0.05), noise=1e-3)
    rng = np.random.default_rng(0)
    for i, (name, task) in enumerate((name, task) for name in names for task in ("prose", "restyle")):
        contest, base = found.contests[name, task], found.frozen(task).scores
        for seed, (trial, outcome) in contest.reported.items():
            numbers = {
                "drift(base)": 0.01 * (i + 1) + rng.normal(0, noise),
                "loss(change, base)": base["base"][0] + rises[i] + rng.normal(0, noise),
                "loss(change, test)": base["test"][0] - rises[i],
                "energy_in_top(0.1)": 0.05 + rng.normal(0, 1e-3),
                "energy_in_top(0.1) random": 0.01,
            }
            contest.reported[seed] = trial, replace(outcome, geometry=numbers)
        contest.reported = {seed: run for seed, run in contest.reported.items() if seed <= seeds}
    return found


RISING = [0.02 * i for i in (1, 2, 4, 3, 5, 6, 8, 7, 9, 10, 11, 12)]


def judged(found: Results, *tests: str, relevance: float = 1.0) -> Judgement:
    claims = [f"  + [C{i}]: c {{predicted: [0.8, 0.3], credence: 0.5, {test}}}" for i, test in enumerate(tests)]
    the_map = argmap.parse("\n".join(["[T]: t {prior: 0.3}", *claims]))
    return judge(the_map, Effects.of(found, 20), relevance)


def of(found: Results, test: str = FOLLOWS):
    return judged(found, f"geometry_test: {test}").verdicts[0]


@pytest.mark.parametrize(("rises", "holds"), [(RISING, True), (RISING[::-1], False)])
def test_planted_forgetting_moves_the_claim_the_right_way(rises, holds):
    verdict = of(results(rises))
    assert (verdict.after > 0.8) if holds else (verdict.after < 0.2)
    assert (verdict.bayes_factor > 3) if holds else (verdict.bayes_factor < 1 / 3)


def test_forgetting_that_has_nothing_to_do_with_drift_leaves_the_claim_open():
    verdict = of(results([RISING[i] for i in (5, 0, 10, 3, 8, 11, 1, 7, 2, 6, 9, 4)]))
    assert 0.25 < verdict.after < 0.75


def test_the_effect_is_scipys_correlation_of_the_means_over_seeds():
    found = results(RISING, noise=0.01)
    verdict = of(found)
    contests = {key: contest for key, contest in found.contests.items() if key[0] in NAMES}
    numbers = [
        [
            (o.geometry["drift(base)"], o.geometry["loss(change, base)"] - found.frozen(task).scores["base"][0])
            for _, o in contest.reported.values()
        ]
        for (_, task), contest in contests.items()
    ]
    drifts, rises = np.mean(numbers, axis=1).T
    rho = stats.spearmanr(drifts, rises).statistic
    assert verdict.effect.mean == pytest.approx(rho)
    assert np.mean([pair.difference for pair in verdict.pairs]) == pytest.approx(rho)
    # Bonett and Wright's error of Fisher's z, with Student's quantile of ten degrees of freedom.
    reach = stats.t.ppf(0.975, 10) * math.sqrt((1 + rho**2 / 2) / (12 - 3))
    limits = [math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)]
    assert [verdict.effect.low, verdict.effect.high] == pytest.approx(limits)
    ids = {trial.id for contest in contests.values() for trial, _ in contest.reported.values()}
    assert {trial for pair in verdict.pairs for trial in pair.trials} == ids


def test_more_seeds_of_the_same_contestants_do_not_narrow_the_interval():
    """Runs that differ by their seed alone say nothing about other contestants."""
    one, three = (of(results(RISING, noise=0.0, seeds=seeds)) for seeds in (1, 3))
    assert (one.effect.low, one.effect.high) == (three.effect.low, three.effect.high)
    assert one.bayes_factor == three.bayes_factor


def test_a_claim_and_its_opposite_exclude_each_other():
    both = [f"geometry_test: {test}" for test in (FOLLOWS, FOLLOWS.replace("above", "below"))]
    above, below = judged(results(RISING), *both).verdicts
    assert above.after > 0.8
    assert below.after == pytest.approx(1 - above.after, abs=0.02)
    assert above.effect.mean == -below.effect.mean


def test_a_higher_value_is_harder_to_exceed():
    tests = [f"geometry_test: {FOLLOWS.replace('above: 0', f'above: {value}')}" for value in (0, 0.3, 0.9)]
    after = [verdict.after for verdict in judged(results(RISING), *tests).verdicts]
    assert after == sorted(after, reverse=True)


def test_gains_have_the_sign_of_a_gain():
    """The loss on the task falls here by what is forgotten."""
    verdict = of(results(RISING), FOLLOWS.replace("forgetting", "in_domain"))
    assert verdict.effect.mean == of(results(RISING)).effect.mean > 0


def test_what_the_study_lacks_is_named():
    few = results(RISING, names=("lora", "full_ft"))
    assert of(few).untested == "oft and dora and miss and shira did not run in this study"
    two = FOLLOWS.replace(", ".join(NAMES), "lora, full_ft")
    assert not of(few, two).untested
    assert of(few, two.replace("prose, restyle", "prose")).untested == (
        "only 2 pairs of a contestant and a task: a correlation takes 4"
    )
    asked = two.replace("drift", "stable_rank")
    assert "name it in geometry.of, and stable_rank in geometry.measures" in of(few, asked).untested
    assert "does not vary" in of(results([0.02] * 4, names=("lora", "full_ft"), noise=0.0), two).untested


def test_a_claim_of_several_statements_holds_if_all_do():
    # Full fine-tuning's energy is five times that of a random change.
    both = f"{{all: [{FOLLOWS}, {ENERGY}]}}"
    assert of(results(RISING), both).after > 0.8
    assert of(results(RISING[::-1]), both).after < 0.2
    assert len(of(results(RISING), both).parts) == 2
    lacking = f"{{all: [{FOLLOWS}, {ENERGY.replace('full_ft', 'boft')}]}}"
    assert of(results(RISING), lacking).untested == "part 2: boft did not run in this study"


@pytest.mark.parametrize(
    ("rises", "said"), [(RISING, "Forgetting follows the drift"), (RISING[::-1], "the less is forgot")]
)
def test_the_report_says_whether_forgetting_follows_drift_beside_the_claim(rises, said, tmp_path):
    found = results(rises)
    correlation = changes_of(found).drift
    drifts = np.arange(12)
    assert correlation.rho == pytest.approx(stats.spearmanr(drifts, rises).statistic)
    assert correlation.pairs == 12
    the_map = argmap.parse(
        f"[T]: t {{prior: 0.3}}\n  + [C]: c {{predicted: [0.8, 0.3], credence: 0.5, geometry_test: {FOLLOWS}}}"
    )
    page = page_of(analysed(found, the_map), tmp_path)
    assert said in page
    assert "correlates with forgetting by more than 0: on prose and restyle" in page
    (claim,) = claims_to_json(judge(the_map, Effects.of(found, 20), 1.0))
    assert claim["instruments"]["contest_says"] == "not tested"
    assert claim["instruments"]["geometry"]["pairs"][0]["trials"]
    json.dumps(claim, allow_nan=False)


WRONG = [
    ({"correlates": "drift", "with": "forgetting", "of": "lora", "on": "prose"}, "give either above or below"),
    ({"correlates": "drfit", "with": "forgetting", "of": "lora", "above": 0, "on": "prose"}, "unknown measure 'drfit'"),
    ({"correlates": "drift", "with": "reversal", "of": "lora", "above": 0, "on": "prose"}, "with: "),
    ({"correlates": "drift", "with": "forgetting", "of": [], "above": 0, "on": "prose"}, "of: "),
    ({"correlates": "drift", "with": "forgetting", "of": "reft", "above": 0, "on": "prose"}, "reft changes no weight"),
    ({"correlates": "drift", "with": "forgetting", "of": "loar", "above": 0, "on": "prose"}, "unknown adapter 'loar'"),
    ({"correlates": "drift", "with": "forgetting", "of": "lora", "above": 1, "on": "prose"}, "above: "),
    ({"correlates": "drift", "in": "forgetting", "of": "lora", "above": 0, "on": "prose"}, "unknown key 'in'"),
    ({"correlates": "rank", "text": "task", "with": "forgetting", "of": "lora", "above": 0, "on": "prose"}, "text is for"),
    ({"all": [{"correlates": "drift"}]}, "all needs a list of two or more tests: [{geometry: ...}, {projects: ...}]"),
    ({"all": [{}, {}], "on": "prose"}, "on stands beside all"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "said"), WRONG)
def test_a_mistake_is_named_in_one_line(data, said):
    with pytest.raises(AdapterlabError) as caught:
        read_test("C", data, kind=BY_GEOMETRY)
    assert "the geometry test of [C]" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lock_and_the_next_contest_know_it():
    text = "[T]: t {{prior: 0.3}}\n  + [C]: c {{predicted: [0.8, 0.3], credence: 0.5, geometry_test: {}}}"
    one, two = (argmap.parse(text.format(FOLLOWS.replace("above: 0", f"above: {value}"))) for value in (0, 0.2))
    assert check_tests(one) == []
    assert any("above from 0 to 0.2" in text for text in changes(content_of(one), content_of(two)))
    several = argmap.parse(text.format(f"{{all: [{FOLLOWS}, {ENERGY}]}}"))
    assert [part["on"] for part in content_of(several)["geometry_tests"]["[C]"]["all"]] == [["prose", "restyle"]] * 2
    (contest,) = next_contests(one)
    assert contest.study.geometry.of == NAMES
    assert read_tests(one, kind=BY_GEOMETRY)["C"].contestants() == NAMES
