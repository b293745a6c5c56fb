"""From a claim's test to its credence after."""

from __future__ import annotations

import pytest

from adapterlab import argmap
from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.effects import Effects
from adapterlab.resources import shipped
from adapterlab.verdict import judge, relevance
from adapterlab.verdict.claims import read_test
from tests.lab.analysis.test_scoreboard import made_up


def a_map(test: str, credence: float = 0.5):
    return argmap.parse(
        "[Thesis]: t\n  + <A>\n\n<A>\n\n"
        f"(1) [Claim]: c {{credence: {credence}, reason: x, test: {test}}}\n----\n"
        "(2) [So]: s {inference: 0.9, reason: y}\n  +> [Thesis]\n"
    )


def verdict(test: str, gains: dict[str, float], credence: float = 0.5, relevance: float = 1.0):
    judgement = judge(a_map(test, credence), Effects.of(made_up(gains, {"lora": 0.1, "oft": 0.02})), relevance)
    (only,) = judgement.verdicts
    return only, judgement


BETTER = "{better: oft, than: lora, in: in_domain, on: [prose, restyle]}"


def test_a_claim_that_foretold_the_result_rises_and_lifts_its_thesis():
    found, judgement = verdict(BETTER, {"lora": 0.1, "oft": 0.2})
    assert found.effect.mean == pytest.approx(0.1, abs=0.005)
    assert found.bayes_factor > 10
    assert found.after > 0.9
    for scores in (judgement.before, judgement.after):
        assert set(scores) == {"quadratic-energy", "df-quad", "log-odds"}
    assert all(
        judgement.after[name].claims["Thesis"].credence > judgement.before[name].claims["Thesis"].credence
        for name in judgement.before
    )


def test_a_claim_that_was_wrong_falls():
    found, _ = verdict(BETTER, {"lora": 0.2, "oft": 0.1})
    assert found.effect.mean < 0
    assert found.after < 0.1


def test_a_margin_is_part_of_the_claim():
    found, _ = verdict(BETTER.replace("}", ", by: 0.03}"), {"lora": 0.1, "oft": 0.11})
    assert found.after < 0.5


def test_lower_is_better_where_it_is():
    found, _ = verdict("{better: oft, than: lora, in: forgetting, on: [prose, restyle]}", {"lora": 0.1, "oft": 0.1})
    assert found.effect.mean == pytest.approx(0.08)


def test_a_share_of_anothers_gain():
    reaches = "{reaches: 0.6, who: ia3, of: lora, in: in_domain, on: [prose, restyle]}"
    assert verdict(reaches, {"lora": 0.2, "ia3": 0.16})[0].after > 0.5
    assert verdict(reaches, {"lora": 0.2, "ia3": 0.05})[0].after < 0.5


def test_equivalence():
    same = "{equivalent: oft, to: lora, within: 0.02, in: in_domain, on: [prose, restyle]}"
    assert verdict(same, {"lora": 0.2, "oft": 0.2})[0].after > 0.9
    assert verdict(same, {"lora": 0.2, "oft": 0.3})[0].after < 0.1
    assert verdict(same, {"lora": 0.2, "oft": 0.2})[0].same < 0.05
    assert verdict(same, {"lora": 0.2, "oft": 0.3})[0].same > 0.95
    assert verdict(BETTER, {"lora": 0.2, "oft": 0.3})[0].same is None


def test_a_smaller_relevance_moves_a_credence_less():
    gains = {"lora": 0.1, "oft": 0.112}
    after = [verdict(BETTER, gains, credence=0.3, relevance=r)[0].after for r in (0, 0.25, 0.5, 1)]
    assert after[0] == pytest.approx(0.3, abs=0.01)
    assert after == sorted(after)
    assert after[-1] > 0.6


def test_relevance_grows_with_the_model_and_stays_within_one():
    found = [relevance(10**k, 1e5) for k in (5, 6, 8, 10, 12)]
    assert found == sorted(found)
    assert 0 < found[0] < found[2] < 1
    assert found[3:] == [1, 1]


def test_a_short_training_says_less_of_long_ones():
    assert relevance(1e10, 160) < relevance(1e10, 20_000) < relevance(1e10) == 1


def test_a_relevance_is_a_correlation():
    with pytest.raises(ValueError, match="from 0 to 1"):
        verdict(BETTER, {}, relevance=3e6)


def test_what_did_not_run_leaves_the_credence_alone():
    for test, why in [
        ("{better: dora, than: lora, in: in_domain, on: [prose]}", "dora did not run"),
        ("{better: oft, than: lora, in: in_domain, on: [facts]}", "this study does not include facts"),
        (
            "{better: oft, than: lora, in: tenth_of_data, on: [prose]}",
            "this study did not measure loss after a tenth of the data",
        ),
    ]:
        found, judgement = verdict(test, {})
        assert why in found.untested
        assert found.after == 0.5
        assert judgement.credences == {}


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            {"better": "oftt", "than": "lora", "in": "in_domain", "on": ["prose"]},
            "unknown adapter 'oftt'.*did you mean oft",
        ),
        (
            {"better": "oft", "than": "lora", "in": "in_domian", "on": ["prose"]},
            "unknown metric.*did you mean in_domain",
        ),
        (
            {"better": "oft", "then": "lora", "in": "in_domain", "on": ["prose"]},
            "unknown key .then. in the test of .C.*did you mean than",
        ),
        (
            {"better": "oft", "than": "lora", "in": "in_domain", "on": ["prose"], "bye": 1},
            "unknown key 'bye'.*did you mean by",
        ),
        ({"worse": "oft"}, "has none of the keys"),
    ],
)
def test_a_test_that_says_nothing_is_named(test, message):
    with pytest.raises(AdapterlabError, match=message):
        read_test("C", test)


def test_every_test_of_the_built_in_map_can_be_read():
    the_map = argmap.load(shipped("maps", "natural_manifold.argdown"))
    assert len(the_map.tests) >= 7
    for title, data in the_map.tests.items():
        assert read_test(title, data).sentence()


def test_a_study_without_the_tasks_of_a_claim_is_judged_on_those_that_take_their_place():
    gains = {"lora": 0.1, "oft": 0.2}
    elsewhere = "{better: oft, than: lora, in: in_domain, on: [docstrings], or_on: [prose, restyle]}"
    assert verdict(elsewhere, gains)[0].after == verdict(BETTER, gains)[0].after
    assert "on prose and restyle" in verdict(elsewhere, gains)[0].test.sentence()
    both = BETTER.replace("}", ", or_on: [docstrings]}")
    assert verdict(both, gains)[0].test.tasks == ("prose", "restyle")
    neither = "{better: oft, than: lora, in: in_domain, on: [docstrings], or_on: [arithmetic, prose]}"
    assert verdict(neither, gains)[0].untested == "this study does not include docstrings"
