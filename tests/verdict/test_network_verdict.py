"""Contests in a map that is a Bayesian network: no run moves the thesis twice, and what has no relevance moves nothing."""

from __future__ import annotations

import pytest

from adapterlab import argmap
from adapterlab.lab.analysis.effects import Effects
from adapterlab.verdict import judge
from tests.lab.made_up import played
from tests.verdict.test_verdict import BETTER

IA3 = BETTER.replace("better: oft", "better: ia3")
AGAINST = "->"


@pytest.fixture(scope="module")
def effects() -> Effects:
    return Effects.of(played(("lora", "oft", "ia3"), gains={"lora": 0.1, "oft": 0.13, "ia3": 0.13}, noise=0.004))


def a_map(*claims: tuple[str, str]) -> argmap.Map:
    """A thesis of prior 0.3 with claims at their base rate, each for it or against it."""
    blocks = ["[Thesis]: t {prior: 0.3}"]
    for i, (test, sign) in enumerate(claims):
        rates, base = ("[0.7, 0.4]", 0.49) if sign == "+>" else ("[0.4, 0.7]", 0.61)
        blocks.append(
            f"[Claim {i}]: c {{reason: x, predicted: {rates}, credence: {base}, test: {test}}}\n  {sign} [Thesis]"
        )
    return argmap.parse("\n\n".join(blocks))


def after(effects: Effects, *claims: tuple[str, str], relevance: float = 1.0) -> float:
    judgement = judge(a_map(*claims), effects, relevance)
    assert judgement.semantics == next(iter(judgement.before)) == "bayes"
    before, found = judgement.thesis("Thesis")
    assert before == pytest.approx(0.3)
    return found


def test_one_contest_moves_the_thesis_by_what_it_predicts(effects):
    judgement = judge(a_map((BETTER, "+>")), effects, 1.0)
    claim = judgement.verdicts[0].after
    assert claim > 0.95
    true, false = claim / 0.49, (1 - claim) / 0.51
    up, down = 0.7 * true + 0.3 * false, 0.4 * true + 0.6 * false
    assert judgement.thesis("Thesis")[1] == pytest.approx(0.3 * up / (0.3 * up + 0.7 * down))
    assert judgement.after["bayes"].claims["Claim 0"].credence == pytest.approx(claim)


def test_a_result_of_no_relevance_moves_nothing(effects):
    assert after(effects, (BETTER, "+>"), (IA3, "+>"), relevance=0.0) == pytest.approx(0.3, abs=0.01)


def test_a_contest_that_is_named_twice_counts_once(effects):
    once = after(effects, (BETTER, "+>"))
    assert after(effects, (BETTER, "+>"), (BETTER, "+>")) == pytest.approx(once, abs=1e-6)
    assert after(effects, *[(BETTER, "+>")] * 7) == pytest.approx(once, abs=1e-6)


def test_contests_that_share_the_rival_count_as_less_than_two(effects):
    """A third of their runs is the rival's, so the two have the weight 2 / (1 + 1/3)."""
    odds = [
        found / (1 - found) / (0.3 / 0.7) for found in (after(effects, (BETTER, "+>")), after(effects, (IA3, "+>")))
    ]
    both = after(effects, (BETTER, "+>"), (IA3, "+>"))
    assert both / (1 - both) / (0.3 / 0.7) == pytest.approx((odds[0] * odds[1]) ** 0.75, rel=0.01)


def test_one_contest_for_a_pro_and_a_con_leaves_the_thesis_where_it_was(effects):
    assert after(effects, (BETTER, "+>"), (BETTER, AGAINST)) == pytest.approx(0.3, abs=0.03)
