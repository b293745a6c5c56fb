"""The joint update: stated credences as a prior, and one likelihood for claims that share runs."""

from __future__ import annotations

import numpy as np
import pytest

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import Evidence
from adapterlab.verdict import judge
from adapterlab.verdict.joint_update import tilt
from tests.lab.made_up import played
from tests.verdict.test_verdict import BETTER

WORSE = BETTER.replace("better: oft, than: lora", "better: lora, than: oft")


def a_map(*claims: tuple[str, float]):
    from adapterlab import argmap

    premises = "\n".join(
        f"({i}) [Claim {i}]: c {{credence: {credence}, reason: x, test: {test}}}"
        for i, (test, credence) in enumerate(claims, start=1)
    )
    end = len(claims) + 1
    return argmap.parse(
        f"[Thesis]: t\n  + <A>\n\n<A>\n\n{premises}\n----\n({end}) [So]: s {{inference: 0.9, reason: y}}\n  +> [Thesis]\n"
    )


def after(gains: dict[str, float], *claims: tuple[str, float], relevance: float = 1.0, noise: float = 0.003):
    results = played(("lora", "oft", "ia3"), gains=gains, noise=noise)
    return [verdict.after for verdict in judge(a_map(*claims), Effects.of(results), relevance).verdicts]


def test_the_tilted_prior_has_the_stated_credences_and_is_nearest_to_the_models():
    """For one claim it is the mixture that Jeffrey's rule gives."""
    holds = np.random.default_rng(0).random((5000, 3)) < (0.2, 0.5, 0.9)
    weights = tilt(holds, [0.6, 0.3, 0.5])(holds)
    assert (weights @ holds).tolist() == pytest.approx([0.6, 0.3, 0.5], abs=1e-3)
    one = tilt(holds[:, :1], [0.6])(holds[:, :1])
    inside = holds[:, 0].mean()
    assert one[holds[:, 0]] == pytest.approx(0.6 / (5000 * inside))
    assert one[~holds[:, 0]] == pytest.approx(0.4 / (5000 * (1 - inside)))


def test_a_result_of_no_relevance_moves_nothing():
    found = after({"lora": 0.1, "oft": 0.2}, (BETTER, 0.3), (WORSE, 0.4), relevance=0.0)
    assert found == pytest.approx([0.3, 0.4], abs=0.02)


def test_claims_that_contradict_each_other_do_not_both_become_likely():
    for gains in ({"lora": 0.1, "oft": 0.1}, {"lora": 0.1, "oft": 0.12}, {"lora": 0.12, "oft": 0.1}):
        found = after(gains, (BETTER, 0.8), (WORSE, 0.8))
        assert sum(found) <= 1.01
    one_sided = after({"lora": 0.1, "oft": 0.13}, (BETTER, 0.5), (WORSE, 0.5))
    assert one_sided[0] > 0.9 > 0.1 > one_sided[1]


def test_the_same_evidence_named_twice_counts_once():
    """Two claims with one test and one credence end where a single one does, not further."""
    gains = {"lora": 0.1, "oft": 0.108}
    (single,) = after(gains, (BETTER, 0.5))
    twice = after(gains, (BETTER, 0.5), (BETTER, 0.5))
    assert twice == pytest.approx([single, single], abs=0.02)


def test_what_is_certain_stays_and_does_not_bend_the_rest():
    gains = {"lora": 0.1, "oft": 0.108}
    (single,) = after(gains, (BETTER, 0.5))
    assert after(gains, (BETTER, 0.5), (WORSE, 1.0)) == pytest.approx([single, 1.0], abs=0.02)


MANY = ("lora", "oft", "ia3", "dora", "pissa", "vera", "hra", "miss", "svft", "shira", "loha", "lokr", "c3a")


def test_credences_of_many_claims_do_not_depend_on_the_random_numbers(monkeypatch):
    """With 24 claims about one metric the weights leave few of the draws, so that more are needed than for a few claims."""
    rng = np.random.default_rng(0)
    gains = {name: 0.1 + 0.01 * float(rng.normal()) for name in MANY}
    better = [(BETTER.replace("better: oft", f"better: {name}"), float(rng.uniform(0.2, 0.8))) for name in MANY[1:]]
    same = "{equivalent: NAME, to: lora, within: 0.01, in: in_domain, on: [prose, restyle]}"
    level = [(same.replace("NAME", name), float(rng.uniform(0.2, 0.8))) for name in MANY[1:]]
    effects = Effects.of(played(MANY, gains=gains, noise=0.003))
    seed = Evidence._seed.fget
    found = []
    for shift in (0, 300, 600):
        monkeypatch.setattr(Evidence, "_seed", property(lambda evidence, by=shift: seed(evidence) + by))
        found.append([verdict.after for verdict in judge(a_map(*better, *level), effects, 0.4).verdicts])
    assert np.max(np.std(found, axis=0)) < 0.02
    assert np.mean(np.std(found, axis=0)) < 0.01


def test_where_nothing_is_learned_all_credences_stay_exactly():
    claims = [(BETTER, 0.3), (WORSE, 0.4), (BETTER.replace("oft", "ia3"), 0.7)]
    found = after({"lora": 0.1, "oft": 0.2, "ia3": 0.15}, *claims, relevance=0.0)
    assert found == pytest.approx([0.3, 0.4, 0.7], abs=1e-4)
