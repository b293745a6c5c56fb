"""The joint update: stated credences as a prior, and one likelihood for claims that share runs."""

from __future__ import annotations

import numpy as np
import pytest

from adapterlab.lab.analysis.effects import Effects
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
