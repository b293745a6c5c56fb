"""Update of a credence: Bayes' rule, the weight of the evidence, and credences of 0 and 1."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.statistics import bayes_factor_positive, bayes_factor_within, equivalence, stratified
from adapterlab.verdict import judge, relevance
from adapterlab.verdict.bayes_update import SEMANTICS, update
from tests.lab.made_up import played
from tests.verdict.test_verdict import BETTER, a_map, verdict

credences = st.floats(1e-3, 1 - 1e-3)
factors = st.floats(-4, 4).map(lambda exponent: 10.0**exponent)


@given(credences, factors)
def test_with_all_its_weight_evidence_updates_by_bayes_rule(credence, factor):
    """P(claim | data) = P(claim) L / (P(claim) L + P(opposite) L'), where the factor is L / L'."""
    expected = credence * factor / (credence * factor + 1 - credence)
    assert update(credence, factor, 1.0) == pytest.approx(expected)


@given(credences, factors, st.floats(0, 1))
def test_the_weight_is_a_share_of_the_log_odds(credence, factor, weight):
    after = update(credence, factor, weight)
    moved = math.log(after / (1 - after)) - math.log(credence / (1 - credence))
    assert moved == pytest.approx(weight * math.log(factor), abs=1e-6)
    assert update(credence, factor, 0.0) == pytest.approx(credence)


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("credence", [0.0, 1.0])
def test_credences_of_zero_and_one_do_not_change(credence, factor, weight):
    assert update(credence, factor, weight) == credence


@pytest.mark.parametrize("credence", [0.0, 1.0])
@pytest.mark.parametrize("gain", [0.05, 0.3])
def test_a_claim_with_credence_zero_or_one_is_tested_and_keeps_it(credence, gain):
    found, judgement = verdict(BETTER, {"lora": 0.1, "oft": gain}, credence=credence)
    assert not found.untested
    assert found.bayes_factor != 1
    assert (found.before, found.after) == (credence, credence)
    assert judgement.credences == {"Claim": credence}


def test_relevance_is_linear_in_the_logarithm_of_the_size():
    assert relevance(10**7) == pytest.approx(0.25)
    assert relevance(10**9) == pytest.approx(0.75)
    assert relevance(4_300_000) == pytest.approx(math.log10(4.3) / 4)
    assert relevance(1) == 0


@pytest.fixture(scope="module")
def effects() -> Effects:
    gains = {"lora": 0.2, "oft": 0.21, "ia3": 0.1}
    return Effects.of(played(("lora", "oft", "ia3"), gains=gains, noise=0.004))


def test_a_verdict_has_the_numbers_of_the_statistics(effects):
    """By the paired differences themselves, and the margin or share that the claim states."""
    oft, lora, ia3 = (effects.values(name, "out_of_domain") for name in ("oft", "lora", "ia3"))
    frozen = {task: value for (task, _), value in effects.values("frozen", "out_of_domain").items()}
    gain = lambda values, key: frozen[key[0]] - values[key]  # noqa: E731
    on = "in: out_of_domain, on: [prose, restyle]"
    for test, expected in (
        (f"{{better: oft, than: lora, {on}, by: 0.004}}", {key: lora[key] - oft[key] - 0.004 for key in oft}),
        (f"{{reaches: 0.6, who: ia3, of: lora, {on}}}", {k: gain(ia3, k) - 0.6 * gain(lora, k) for k in oft}),
        (f"{{equivalent: oft, to: lora, within: 0.03, {on}}}", {key: lora[key] - oft[key] for key in oft}),
    ):
        (found,) = judge(a_map(test), effects, 10**8).verdicts
        assert {(p.task, p.seed): p.difference for p in found.pairs} == pytest.approx(expected)
        by_task = {task: [d for (of, _), d in expected.items() if of == task] for task in ("prose", "restyle")}
        effect = stratified(by_task)
        assert (found.effect.mean, found.effect.error) == pytest.approx((effect.mean, effect.error))
        same = "equivalent" in test
        factor = bayes_factor_within(effect, 0.03) if same else bayes_factor_positive(effect)
        assert found.bayes_factor == pytest.approx(factor)
        assert found.same == (pytest.approx(equivalence(effect, 0.03)) if same else None)
        assert found.relevance == 0.5
        assert found.after == pytest.approx(factor**0.5 / (1 + factor**0.5))


def test_every_number_names_the_trials_that_it_came_from(effects):
    (found,) = judge(a_map(BETTER), effects, 10**8).verdicts
    for pair in found.pairs:
        runs = [effects.results.contests[name, pair.task].reported[pair.seed][0] for name in ("oft", "lora")]
        assert pair.trials == tuple(run.id for run in runs)
    (width,) = judge(a_map(BETTER.replace("in_domain", "learning_rate_width")), effects, 10**8).verdicts
    for pair in width.pairs:
        rungs = [effects.results.contests[name, pair.task].first.values() for name in ("oft", "lora")]
        assert (pair.seed, pair.trials) == (0, tuple(trial.id for rung in rungs for trial, _ in rung))


def test_a_verdict_needs_two_pairs():
    results = played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.2}, noise=0.01)
    for task in results.study.tasks:
        results.contests["oft", task].reported = {1: results.contests["oft", task].reported[1]}
    on_one = BETTER.replace("[prose, restyle]", "[prose]")
    (one,) = judge(a_map(on_one), Effects.of(results), 10**10).verdicts
    assert one.untested == "only 1 pair of runs to compare"
    assert one.after == one.before == 0.5
    results.contests["oft", "prose"].reported |= {
        2: played(("oft",), gains={"oft": 0.2}, reference="oft").contests["oft", "prose"].reported[2]
    }
    (two,) = judge(a_map(on_one), Effects.of(results), 10**10).verdicts
    assert not two.untested
    assert len(two.pairs) == 2


def test_losses_of_different_units_are_not_averaged():
    from tests.lab.analysis.test_scoreboard import made_up

    results = made_up({"lora": 0.1, "oft": 0.2}, {}, tasks=("prose", "steer"))
    test = "{better: oft, than: lora, in: METRIC, on: [prose, steer]}"
    (loss,) = judge(a_map(test.replace("METRIC", "in_domain")), Effects.of(results), 10**10).verdicts
    assert loss.untested == "the losses of prose and steer have different units"
    (steps,) = judge(a_map(test.replace("METRIC", "steps_to_reference")), Effects.of(results), 10**10).verdicts
    assert not steps.untested


def test_the_map_is_scored_by_every_semantics(effects):
    the_map = a_map(BETTER)
    judgement = judge(the_map, effects, 10**10)
    assert tuple(judgement.before) == tuple(judgement.after) == SEMANTICS
    assert judgement.theses == ("Thesis",)
    assert judgement.relevance == 1.0
    assert judgement.tested == list(judgement.verdicts)
    before, after = judgement.thesis("Thesis")
    assert before == judgement.before["quadratic-energy"].claims["Thesis"].credence
    assert after == judgement.after["quadratic-energy"].claims["Thesis"].credence
    assert judgement.thesis("Thesis", "df-quad") != (before, after)
