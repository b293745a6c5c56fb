"""Claims are judged by the geometry of trained changes, beside their contests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from adapterlab import argmap
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.geometry import Mean, changes_of
from adapterlab.lab.analysis.metrics import Results
from adapterlab.report.terminal import show
from adapterlab.report.verdict_json import claims_to_json, to_json, write_verdict
from adapterlab.verdict.check_tests import check_tests
from adapterlab.verdict.claims import BY_GEOMETRY, read_test
from adapterlab.verdict.combine import Finding, factors, odds, together
from adapterlab.verdict.geometry_statements import number_of
from adapterlab.verdict.judge_map import Judgement, judge
from adapterlab.verdict.lock_content import changes, content_of
from adapterlab.verdict.next_contest import next_contests
from adapterlab.verdict.two_instruments import beside, disagreements
from tests.lab.made_up import analysed, page_of, played

ON = "on: [prose, restyle]"
ABOVE = f"{{geometry: energy_in_top, of: full_ft, k: 0.1, above: random, {ON}}}"
BELOW = f"{{geometry: energy_in_top, of: full_ft, k: 0.1, below: random, {ON}}}"
BEATS = f"{{better: oft, than: lora, in: in_domain, {ON}}}"
RANDOM = 0.01


def results(
    energy: float, *, gain: float = 0.05, noise: float = 1e-3, more: Mapping[str, float] | None = None
) -> Results:
    """A study in which full fine-tuning's change has this energy in the top directions, where a random one has 0.01."""
    found = played(("lora", "oft", "full_ft"), gains={"lora": 0.05, "oft": gain, "full_ft": 0.08}, noise=1e-3)
    rng = np.random.default_rng(0)
    for (name, _), contest in found.contests.items():
        if name == "full_ft":
            for seed, (trial, outcome) in contest.reported.items():
                numbers = {"energy_in_top(0.1)": energy + rng.normal(0, noise), "energy_in_top(0.1) random": RANDOM}
                contest.reported[seed] = trial, replace(outcome, geometry={**numbers, **(more or {})})
    return found


def the_map(*tests: str, credence: float = 0.5) -> argmap.Map:
    claims = [
        f"  + [C{i}]: c{i} {{predicted: [0.8, 0.3], credence: {credence}, {test}}}" for i, test in enumerate(tests)
    ]
    return argmap.parse("\n".join(["[T]: t {prior: 0.3}", *claims]))


def judged(found: Results, *tests: str, relevance: float = 1.0, credence: float = 0.5) -> Judgement:
    return judge(the_map(*tests, credence=credence), Effects.of(found, 20), relevance)


@pytest.mark.parametrize(("energy", "holds"), [(0.05, True), (0.011, False), (0.001, False)])
def test_planted_energy_moves_the_claim_the_right_way(energy, holds):
    (verdict,) = judged(results(energy), f"geometry_test: {ABOVE}").verdicts
    assert not verdict.untested
    assert (verdict.after > 0.9) if holds else (verdict.after < 0.1)
    assert (verdict.bayes_factor > 10) if holds else (verdict.bayes_factor < 0.1)


def test_the_effect_is_the_paired_mean_of_scipy():
    """Two tasks with equal weights: the mean over tasks of the seeds' means, with the tasks' errors added."""
    found = results(0.05)
    (verdict,) = judged(found, f"geometry_test: {ABOVE}").verdicts
    by_task = {task: [p.difference for p in verdict.pairs if p.task == task] for task in ("prose", "restyle")}
    assert [len(values) for values in by_task.values()] == [3, 3]
    assert verdict.effect.mean == pytest.approx(np.mean([np.mean(values) for values in by_task.values()]))
    assert verdict.effect.error == pytest.approx(np.hypot(*(stats.sem(values) for values in by_task.values())) / 2)
    ids = {trial.id for (name, _), c in found.contests.items() if name == "full_ft" for trial, _ in c.reported.values()}
    assert {trial for pair in verdict.pairs for trial in pair.trials} == ids


def test_a_claim_and_its_opposite_exclude_each_other():
    (above, below) = judged(results(0.05), f"geometry_test: {ABOVE}", f"geometry_test: {BELOW}").verdicts
    assert above.after > 0.9
    assert below.after < 0.1
    assert above.effect.mean == pytest.approx(-below.effect.mean)


def test_a_relevance_of_zero_moves_nothing():
    (verdict,) = judged(results(0.05), f"geometry_test: {ABOVE}", relevance=0.0).verdicts
    assert verdict.after == pytest.approx(verdict.before, abs=0.01)


LOSSES = {
    "residual(svd_banded)": 0.3, "residual(low_rank)": 0.6, "loss(svd_banded, test)": 0.93, "loss(low_rank, test)": 0.97,
    "loss(svd_banded, ood)": 0.99, "loss(low_rank, ood)": 0.95, "loss(svd_banded, base)": 1.02, "loss(low_rank, base)": 1.05,
    "parameters(svd_banded)": 100, "parameters(low_rank)": 90,
    "loss(change, test)": 0.92, "loss(change, ood)": 0.9, "loss(change, base)": 1.06,
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "difference", "holds"),
    [("residual", 0.3, True), ("in_domain", 0.04, True), ("ood", -0.04, False), ("forgetting", 0.03, True)],
)
def test_one_hypothesis_expresses_a_change_better_than_another(place, difference, holds):
    test = f"{{projects: svft, better_than: lora, of: full_ft, in: {place}, {ON}}}"
    (verdict,) = judged(results(0.05, more=LOSSES), f"geometry_test: {test}").verdicts
    assert verdict.effect.mean == pytest.approx(difference)
    assert (verdict.after > 0.8) if holds else (verdict.after < 0.2)


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("{geometry: stable_rank, of: full_ft, above: random, on: [prose]}", "name it in geometry.measures"),
        ("{projects: svft, better_than: lora, of: full_ft, on: [prose]}", "no projection on svd_banded and low_rank"),
        ("{geometry: energy_in_top, k: 0.1, of: lora, above: random, on: [prose]}", "name it in geometry.of"),
        ("{geometry: energy_in_top, k: 0.1, of: dora, above: random, on: [prose]}", "dora did not run in this study"),
        ("{geometry: energy_in_top, k: 0.1, of: full_ft, above: random, on: [steer]}", "does not include steer"),
    ],
)
def test_what_the_study_lacks_is_named(test, reason):
    (verdict,) = judged(results(0.05), f"geometry_test: {test}").verdicts
    assert reason in verdict.untested
    assert verdict.after == verdict.before


def test_one_run_is_too_few():
    found = results(0.05)
    for (name, task), contest in found.contests.items():
        if name == "full_ft" and task == "restyle":
            contest.reported = {s: (t, replace(o, geometry={})) for s, (t, o) in contest.reported.items()}
        elif name == "full_ft":
            contest.reported = {s: run for s, run in contest.reported.items() if s == 1}
    (verdict,) = judged(found, f"geometry_test: {ABOVE}").verdicts
    assert verdict.untested == "only 1 run with a number to compare"


def test_contest_and_geometry_of_one_claim_both_move_it_once():
    """They share no trials here, so their factors multiply."""
    both = judged(results(0.05, gain=0.1), f"test: {BEATS}, geometry_test: {ABOVE}", credence=0.2, relevance=0.4)
    contest = judged(results(0.05, gain=0.1), f"test: {BEATS}", credence=0.2, relevance=0.4).verdicts[0]
    geometry = judged(results(0.05), f"geometry_test: {ABOVE}", credence=0.2, relevance=0.4).verdicts[0]
    assert 0.2 < contest.after < 1
    assert 0.2 < geometry.after < 1
    product = odds(contest.after) * odds(geometry.after) / odds(0.2)
    assert odds(both.verdicts[0].after) == pytest.approx(product, rel=0.1)
    assert both.geometry[0].after == both.verdicts[0].after


def test_findings_from_the_same_trials_count_once():
    one, two = Finding("C", 8.0, frozenset("abc")), Finding("C", 8.0, frozenset("abc"))
    assert odds(together(0.5, [one, two])) == pytest.approx(8.0)
    found = factors([one, two])["C"]
    assert found.ratio**found.weight == pytest.approx(8.0)
    apart = factors([one, Finding("C", 8.0, frozenset("xyz"))])["C"]
    assert apart.ratio**apart.weight == pytest.approx(64.0)


def test_the_thesis_is_moved_by_geometry():
    found = judged(results(0.05), f"geometry_test: {ABOVE}")
    before, after = found.thesis("T", "bayes")
    assert after > before
    before, after = judged(results(0.002), f"geometry_test: {ABOVE}").thesis("T", "bayes")
    assert after < before


@pytest.mark.parametrize(
    ("gain", "energy", "said"),
    [
        (0.0, 0.05, "It projects well and trains badly: the bet is about optimization, not representation."),
        (0.15, 0.002, "It trains well and projects badly: the contest was won by optimization, not representation."),
        (0.15, 0.05, "Both agree that it holds."),
        (0.0, 0.002, "Both agree that it does not hold."),
    ],
)
def test_what_both_instruments_say_is_put_in_words(gain, energy, said):
    judgement = judged(results(energy, gain=gain), f"test: {BEATS}, geometry_test: {ABOVE}")
    (both,) = beside(judgement)
    assert both.sentence == said
    disagree = {gain > 0.1, energy > 0.01} == {True, False}
    assert disagreements(judgement) == ((f"[C0] {said}",) if disagree else ())
    (claim,) = claims_to_json(judgement)
    assert claim["instruments"]["sentence"] == said
    assert claim["instruments"]["geometry"]["pairs"][0]["trials"]


def test_the_reports_show_both_instruments(tmp_path):
    analysis = analysed(results(0.05, gain=0.0), the_map(f"test: {BEATS}, geometry_test: {ABOVE}"))
    said = "It projects well and trains badly: the bet is about optimization, not representation."
    page = page_of(analysis, tmp_path)
    assert '<h3 id="instruments">Two instruments</h3>' in page
    assert said in page
    console = Console(width=200, file=StringIO())
    show(analysis, console)
    assert f"[C0] {said}" in console.file.getvalue()
    write_verdict(analysis, tmp_path / "verdict.json")
    (claim,) = json.loads((tmp_path / "verdict.json").read_text())["claims"]
    assert claim["instruments"]["contest_says"] == "does not hold"


def test_a_claim_without_a_geometry_test_has_no_second_instrument():
    judgement = judged(results(0.05), f"test: {BEATS}")
    assert beside(judgement) == ()
    assert "instruments" not in claims_to_json(judgement)[0]


def test_the_report_has_the_geometry_of_the_changes(tmp_path):
    found = results(0.05, noise=0.0, more=LOSSES)
    first, second = [each for each in changes_of(found).projected if each.task == "prose"]
    assert (first.contestant, first.hypothesis, first.expressed.seeds) == ("full_ft", "svd_banded", 3)
    assert (first.expressed.value, second.expressed.value) == (pytest.approx(0.7), pytest.approx(0.4))
    # The base has a loss of 1, so the whole change gains 0.08 in-domain and the nearest one 0.07.
    assert first.gain.value == pytest.approx(0.07 / 0.08)
    assert first.forgetting.value == pytest.approx(0.02)
    analysis = analysed(found)
    page = page_of(analysis, tmp_path)
    assert "What the changes look like" in page
    rows = to_json(analysis)["geometry"]["projections"]
    expressed = {row["expressed"]["mean"] for row in rows if row["hypothesis"] == "low_rank"}
    assert list(expressed) == [pytest.approx(0.4)]


def test_the_interval_of_a_mean_is_students():
    # Fisher's interval of the mean of 1, 2, 3: 2 +- 4.302653 / sqrt(3) (the 97.5 % quantile of t with 2 degrees of freedom).
    found = Mean.over([1.0, 2.0, 3.0, float("nan")])
    assert (found.low, found.high) == (pytest.approx(2 - 4.302653 / 3**0.5), pytest.approx(2 + 4.302653 / 3**0.5))


def test_a_study_without_geometry_has_no_such_section(tmp_path):
    analysis = analysed(played(("lora", "oft"), gains={"oft": 0.05}))
    assert "What the changes look like" not in page_of(analysis, tmp_path)
    assert to_json(analysis)["geometry"] == {
        "measures": [],
        "projections": [],
        "drift_against_forgetting": None,
    }


WRONG = [
    ({"of": "full_ft", "on": "prose"}, "has none of the keys geometry, projects, correlates, all"),
    ({"geometry": "energy", "of": "full_ft", "above": 1, "on": "prose"}, "unknown measure 'energy'"),
    ({"geometry": "stable_rank", "of": "full_ft", "on": "prose"}, "give either above or below"),
    ({"geometry": "stable_rank", "of": "full_ft", "above": 1, "below": 2, "on": "prose"}, "give either above or below"),
    ({"geometry": "stable_rank", "of": "reft", "above": 1, "on": "prose"}, "reft changes no weight of a linear layer"),
    ({"geometry": "stable_rank", "of": "full_ftt", "above": 1, "on": "prose"}, "full_ftt"),
    ({"geometry": "stable_rank", "off": "full_ft", "above": 1, "on": "prose"}, "unknown key 'off'"),
    ({"projects": "svftt", "better_than": "lora", "of": "full_ft", "on": "prose"}, "unknown hypothesis 'svftt'"),
    ({"projects": "lora", "better_than": "pissa", "of": "full_ft", "on": "prose"}, "are one hypothesis, low_rank"),
    ({"projects": "svft", "better_than": "lora", "of": "full_ft", "in": "reversal", "on": "prose"}, "in: "),
]


@pytest.mark.parametrize(("data", "said"), WRONG)
def test_a_mistake_in_a_test_is_named(data, said):
    with pytest.raises(AdapterlabError) as caught:
        read_test("C", data, kind=BY_GEOMETRY)
    assert "the geometry test of [C]" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_map_check_finds_mistakes_in_geometry_tests():
    (found,) = check_tests(the_map("geometry_test: {geometry: stable_rank, of: full_ft, on: [prose]}"))
    assert found.severity == "error"
    (found,) = check_tests(the_map("geometry_test: {geometry: stable_rank, of: full_ft, above: 2, on: [mine]}"))
    assert (found.severity, found.code) == ("warning", "test-task")
    (found,) = check_tests(the_map("geometry_test: residual"))
    assert "write {geometry: " in found.message


def test_a_lock_knows_geometry_tests():
    old, new = (content_of(the_map(f"geometry_test: {test}")) for test in (ABOVE, ABOVE.replace("random", "0.05")))
    assert list(old["geometry_tests"]) == ["[C0]"]
    assert changes(old, old) == []
    assert any("geometry test of [C0] changed: above from random to 0.05" in text for text in changes(old, new))
    without = content_of(the_map(f"test: {BEATS}"))
    assert "geometry_tests" not in without
    assert any("the geometry test of [C0] was added" in text for text in changes(without, old))


def test_map_next_plans_a_study_that_measures_what_the_tests_ask():
    test = f"{{projects: svft, better_than: lora, of: full_ft, {ON}}}"
    plan = the_map(f"geometry_test: {ABOVE}", f"geometry_test: {test}", f"test: {BEATS}")
    found = next_contests(plan)
    (geometry,) = [contest for contest in found if contest.study.geometry is not None]
    assert geometry.title == "geometry of full_ft"
    assert set(geometry.tests) == {"C0", "C1"}
    assert geometry.study.full_ft
    assert geometry.study.geometry.of == ("full_ft",)
    assert geometry.study.geometry.hypotheses == ("svd_banded", "low_rank")
    assert geometry.study.geometry.measures == ("energy_in_top(0.1)",)
    left = next_contests(plan, done_by_geometry=("C0", "C1"))
    assert [list(contest.tests) for contest in left] == [["C2"]]


def test_numbers_of_a_test():
    test = read_test("C", {"projects": "svft", "better_than": "lora", "of": "full_ft", "on": "prose"}, kind=BY_GEOMETRY)
    assert number_of(test, LOSSES) == pytest.approx(0.3)
    assert number_of(test, {}) is None
    assert set(test.hypotheses) <= set(all_hypotheses())
