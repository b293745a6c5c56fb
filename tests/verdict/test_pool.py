"""A study's evidence beside published tables: what moves a claim, what is shown only, and contradictions."""

import pytest

from adapterlab import argmap
from adapterlab.errors import AdapterlabError
from adapterlab.evidence.cells import cells_of
from adapterlab.evidence.table import Score
from adapterlab.lab.analysis.effects import Effects
from adapterlab.verdict import judge
from tests.lab.made_up import played
from tests.verdict.test_verdict import BETTER

MAP = """===
SETTINGS
===

[Thesis]: t {{prior: 0.3}}
  + [A]: a {{predicted: [0.8, 0.3], credence: 0.5, test: {test}}}
  + [B]: b {{predicted: [0.8, 0.3], credence: 0.5, test: {other}}}
"""
OTHER = "{better: dora, than: lora, in: in_domain, on: [prose]}"


def a_map(settings="counted: []", test=BETTER, other=OTHER):
    return argmap.parse(MAP.replace("SETTINGS", settings).format(test=test, other=other))


def tables(lead, source="paper", methods=("oft", "lora"), count=6, **others):
    scores = []
    for i in range(count):
        fields = {"source": source, "model": "big", "parameters": 7e9, "task": f"task {i}", "tuned": True, **others}
        scores += [Score(**fields, method=m, value=50 + lead * (m != "lora")) for m in methods]
    return cells_of(scores)


def judged(the_map, cells, gains=None, relevance=0.3):
    results = played(("lora", "oft", "ia3"), gains={"lora": 0.1, **(gains or {})}, noise=0.004)
    return judge(the_map, Effects.of(results), relevance, elsewhere=cells)


def after(judgement):
    return {verdict.claim: verdict.after for verdict in judgement.verdicts}


def test_a_new_table_moves_a_claim_as_far_as_it_goes_and_a_counted_one_does_not():
    alone = after(judged(a_map(), []))
    up, down = after(judged(a_map(), tables(4.0))), after(judged(a_map(), tables(-4.0)))
    assert down["A"] < alone["A"] - 0.1
    assert up["A"] > alone["A"] + 0.1
    assert after(judged(a_map("counted: [paper]"), tables(4.0))) == pytest.approx(alone)
    assert after(judged(a_map("counted: paper"), tables(4.0))) == pytest.approx(alone)


def test_a_claim_that_the_study_cannot_test_is_moved_by_tables_and_moves_the_thesis():
    without = judged(a_map(), [])
    with_tables = judged(a_map(), tables(5.0, methods=("dora", "lora")))
    (verdict,) = [v for v in with_tables.verdicts if v.claim == "B"]
    assert "dora did not run" in verdict.untested
    assert verdict.after > 0.6
    assert with_tables.thesis("Thesis")[1] > without.thesis("Thesis")[1] + 0.02


def test_without_a_setting_the_packages_tables_are_counted():
    the_map = argmap.parse(MAP.replace("===\nSETTINGS\n===\n\n", "").format(test=BETTER, other=OTHER))
    alone = after(judged(the_map, []))
    assert after(judged(the_map, tables(4.0, "lr-matters"))) == pytest.approx(alone)
    assert after(judged(the_map, tables(4.0, "mine")))["A"] > alone["A"] + 0.1


def test_a_setting_of_another_form_is_refused():
    with pytest.raises(AdapterlabError, match=r"counted is 3: give the names of tables"):
        judged(a_map("counted: 3"), [])


def test_evidence_is_shown_apart_and_together():
    pooled = judged(a_map(), tables(4.0), {"oft": 0.13}).pooled["A"]
    assert (pooled.others.sources, pooled.counted, pooled.new) == (("paper",), (), ("paper",))
    assert pooled.own is not None
    assert 1 < pooled.own < pooled.together
    assert 1 < pooled.others.factor < pooled.together
    assert pooled.contradiction == ""


def test_a_contradiction_is_said_in_words():
    cells = [*tables(-6.0, "one"), *tables(-5.0, "two"), *tables(-5.5, "three")]
    pooled = judged(a_map(), cells, {"oft": 0.13}).pooled["A"]
    assert pooled.contradiction == (
        "they contradict each other: oft is better than lora in this study, and worse in 18 published comparisons of one "
        "and two and three"
    )
    assert (
        judged(a_map(), tables(-6.0, "one"), {"oft": 0.13}).pooled["A"].contradiction == ""
    )  # one source: no interval


def test_a_claim_about_equal_learning_is_not_tested_by_tables():
    test = BETTER.replace("in: in_domain", "in: forgetting, at: equal_learning")
    assert "A" not in judged(a_map(test=test), tables(4.0, metric="forgetting", better="lower")).pooled


def test_claims_that_share_a_table_count_it_once():
    twice = BETTER, BETTER
    one, two = (judged(a_map(test=a, other=b), tables(5.0)) for a, b in ((BETTER, OTHER), twice))
    first, second = (judgement.thesis("Thesis")[1] for judgement in (one, two))
    assert second == pytest.approx(first, abs=0.03)
