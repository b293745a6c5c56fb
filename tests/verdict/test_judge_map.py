"""Verdicts: the numbers and trials behind them, their relevance, and credences of 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.statistics import equivalence
from adapterlab.verdict import judge
from adapterlab.verdict.judge_map import GRADUAL
from tests.lab.made_up import played
from tests.verdict.test_verdict import BETTER, a_map, verdict


@pytest.mark.parametrize("credence", [0.0, 1.0])
@pytest.mark.parametrize("gain", [0.05, 0.3])
def test_a_claim_with_credence_zero_or_one_is_tested_and_keeps_it(credence, gain):
    found, judgement = verdict(BETTER, {"lora": 0.1, "oft": gain}, credence=credence)
    assert not found.untested
    assert found.bayes_factor != 1
    assert (found.before, found.after) == (credence, credence)
    assert judgement.credences == {"Claim": credence}


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
        (f"{{better: oft, than: lora, {on}, by: 0.004}}", {key: lora[key] - oft[key] for key in oft}),
        (f"{{reaches: 0.6, who: ia3, of: lora, {on}}}", {k: gain(ia3, k) - 0.6 * gain(lora, k) for k in oft}),
        (f"{{equivalent: oft, to: lora, within: 0.03, {on}}}", {key: lora[key] - oft[key] for key in oft}),
    ):
        (found,) = judge(a_map(test), effects, 0.5).verdicts
        assert {(p.task, p.seed): p.difference for p in found.pairs} == pytest.approx(expected)
        assert found.effect.mean == pytest.approx(np.mean(list(expected.values())))
        assert found.same == (pytest.approx(equivalence(found.effect, 0.03)) if "equivalent" in test else None)
        assert found.relevance == 0.5


def test_a_claim_must_be_better_by_the_smallest_difference_that_matters_unless_it_says_otherwise(effects):
    factors = []
    for margin in ("", ", by: 0.005", ", by: 0"):
        (found,) = judge(a_map(BETTER.replace("}", margin + "}")), effects, 1.0).verdicts
        assert found.effect.mean == pytest.approx(effects.compare("oft", "lora", "in_domain").mean)
        factors.append(found.bayes_factor)
    assert factors[0] == factors[1] < factors[2]


def test_every_number_names_the_trials_that_it_came_from(effects):
    (found,) = judge(a_map(BETTER), effects, 0.5).verdicts
    for pair in found.pairs:
        runs = [effects.results.contests[name, pair.task].reported[pair.seed][0] for name in ("oft", "lora")]
        assert pair.trials == tuple(run.id for run in runs)
    (width,) = judge(a_map(BETTER.replace("in_domain", "learning_rate_width")), effects, 0.5).verdicts
    for pair in width.pairs:
        rungs = [effects.results.contests[name, pair.task].first.values() for name in ("oft", "lora")]
        assert (pair.seed, pair.trials) == (0, tuple(trial.id for rung in rungs for trial, _ in rung))


def test_a_verdict_needs_two_pairs():
    results = played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.2}, noise=0.01)
    for task in results.study.tasks:
        results.contests["oft", task].reported = {1: results.contests["oft", task].reported[1]}
    on_one = BETTER.replace("[prose, restyle]", "[prose]")
    (one,) = judge(a_map(on_one), Effects.of(results), 1.0).verdicts
    assert one.untested == "only 1 pair of runs to compare"
    assert one.after == one.before == 0.5
    results.contests["oft", "prose"].reported |= {
        2: played(("oft",), gains={"oft": 0.2}, reference="oft").contests["oft", "prose"].reported[2]
    }
    (two,) = judge(a_map(on_one), Effects.of(results), 1.0).verdicts
    assert not two.untested
    assert len(two.pairs) == 2


def test_losses_of_different_units_are_not_averaged():
    from tests.lab.analysis.test_scoreboard import made_up

    results = made_up({"lora": 0.1, "oft": 0.2}, {}, tasks=("prose", "steer"))
    test = "{better: oft, than: lora, in: METRIC, on: [prose, steer]}"
    (loss,) = judge(a_map(test.replace("METRIC", "in_domain")), Effects.of(results), 1.0).verdicts
    assert loss.untested == "the losses of prose and steer have different units"
    (steps,) = judge(a_map(test.replace("METRIC", "steps_to_reference")), Effects.of(results), 1.0).verdicts
    assert not steps.untested


def test_the_map_is_scored_by_every_semantics(effects):
    the_map = a_map(BETTER)
    judgement = judge(the_map, effects, 1.0)
    assert tuple(judgement.before) == tuple(judgement.after) == GRADUAL
    assert judgement.theses == ("Thesis",)
    assert judgement.relevance == 1.0
    assert judgement.tested == list(judgement.verdicts)
    before, after = judgement.thesis("Thesis")
    assert before == judgement.before["quadratic-energy"].claims["Thesis"].credence
    assert after == judgement.after["quadratic-energy"].claims["Thesis"].credence
    assert judgement.thesis("Thesis", "df-quad") != (before, after)
