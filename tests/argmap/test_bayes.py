"""Scores of maps by Bayesian inference: closed forms, and the properties that a credence needs."""

from __future__ import annotations

import math
import random

import pytest

from adapterlab import argmap
from adapterlab.argmap.scoring.semantics import default_semantics
from adapterlab.argmap.scoring.sensitivity import one_way_sensitivities
from adapterlab.errors import AdapterlabError

SEEDS = range(25)


def odds(p: float) -> float:
    return p / (1 - p)


def thesis(text: str, **changed: float) -> float:
    return argmap.score(argmap.parse(text), "bayes", changed or None).claims["T"].credence


def random_map(seed: int, credences: bool = True) -> str:
    """A thesis with claims for and against it, arguments of several steps, sources and undercuts."""
    rng = random.Random(seed)
    blocks = [f"[T]: thesis {{prior: {rng.uniform(0.1, 0.9):.3f}}}"]
    known = ["T"]
    for i in range(rng.randint(1, 8)):
        target, sign = rng.choice(known), rng.choice("+-")
        high, low = sorted((rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95)), reverse=True)
        rates = f"predicted: [{high:.3f}, {low:.3f}]" if sign == "+" else f"predicted: [{low:.3f}, {high:.3f}]"
        source = f", source: [S{rng.randint(0, 2)}]" if rng.random() < 0.4 else ""
        belief = f", credence: {rng.uniform(0.05, 0.95):.3f}" if credences else ""
        if rng.random() < 0.5:
            blocks.append(f"[C{i}]: claim {{{rates}{source}{belief}}}\n  {sign}> [{target}]")
        else:
            count = rng.randint(1, 3)
            premises = "\n".join(
                f"({k + 1}) [P{i}{k}]: premise {{predicted: [{rng.uniform(0.5, 0.95):.3f}, {rng.uniform(0.05, 0.5):.3f}]"
                f"{source}{belief}}}"
                for k in range(count)
            )
            undercut = f"\n  <_ [U{i}]: doubt {{prior: 0.3{belief}}}" if rng.random() < 0.4 else ""
            blocks.append(
                f"<A{i}>\n\n{premises}\n----{undercut}\n({count + 1}) [C{i}]: claim {{{rates}}}\n  {sign}> [{target}]"
            )
        known.append(f"C{i}")
    return "\n\n".join(blocks)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_evidence_the_thesis_has_its_prior_and_every_claim_its_base_rate(seed):
    silent = argmap.parse(random_map(seed, credences=False))
    assert not silent.diagnostics
    scores = argmap.score(silent)
    assert scores.semantics == "bayes"
    assert scores.claims["T"].credence == pytest.approx(silent.claims["T"].prior, abs=1e-12)
    for claim in scores.claims.values():
        assert claim.credence == pytest.approx(claim.base, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_credences_equal_to_the_base_rates_say_nothing(seed):
    the_map = argmap.parse(random_map(seed))
    base = {title: claim.base for title, claim in argmap.score(the_map).claims.items()}
    stated = {title: base[title] for title, claim in the_map.claims.items() if claim.credence is not None}
    scores = argmap.score(the_map, credences=stated)
    for title, claim in scores.claims.items():
        assert claim.credence == pytest.approx(base[title], abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_the_text_does_not_matter(seed):
    text = random_map(seed)
    first, *rest = text.split("\n\n[C")
    blocks = [first, *(f"[C{block}" for block in rest)]
    random.Random(seed).shuffle(blocks)
    found, turned = (argmap.score(argmap.parse(t)) for t in (text, "\n\n".join(blocks)))
    for title, claim in found.claims.items():
        assert turned.claims[title].credence == pytest.approx(claim.credence, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_evidence_moves_a_thesis_the_way_its_claim_points(seed):
    """Along the only path from a claim of its own to the thesis; and a higher prior never lowers it."""
    the_map = argmap.parse(random_map(seed))
    signs = {"T": 1}
    for relation in the_map.relations:
        if relation.source.kind == relation.target.kind == "claim" and relation.kind in ("support", "attack"):
            signs[relation.source.title] = signs[relation.target.title] * (1 if relation.kind == "support" else -1)
    slopes = argmap.sensitivities(the_map, "T")
    assert slopes["[T]"] > -1e-9
    for argument in the_map.arguments.values():
        for title in argument.premises:
            signs[title] = signs[argument.conclusion]
    for title, claim in the_map.claims.items():
        if claim.credence is not None and title in signs and title != "T":
            assert slopes[f"[{title}]"] * signs[title] >= -1e-9, title


def test_many_weak_reasons_are_bounded_by_what_the_thesis_predicts():
    """However many premises a conclusion has, they move the thesis at most as far as their conclusion would."""
    premises = "\n".join(f"({i + 1}) [P{i}]: reason {{predicted: [0.9, 0.1], credence: 0.9}}" for i in range(40))
    text = f"[T]: thesis {{prior: 0.3}}\n\n<A>\n\n{premises}\n----\n(41) [C]: sum {{predicted: [0.55, 0.45]}}\n  +> [T]"
    found = odds(thesis(text)) / odds(0.3)
    assert 1 < found <= 0.55 / 0.45 * (1 + 1e-9)


def test_forty_supporters_of_one_source_count_as_at_most_two():
    """With a dependence of one half, n pieces of evidence have the weight n / (1 + (n - 1) / 2) < 2 in all."""
    lines = "\n".join(
        f"  + [C{i}]: claim {{predicted: [0.6, 0.4], credence: 0.9, source: one paper}}" for i in range(40)
    )
    text = f"[T]: thesis {{prior: 0.3}}\n{lines}"
    single = odds(thesis(text.splitlines()[0] + "\n" + lines.splitlines()[0])) / odds(0.3)
    assert odds(thesis(text)) / odds(0.3) == pytest.approx(single ** (40 / 20.5))
    stated = "===\nsources:\n    one paper: 1\n===\n\n" + text
    assert odds(thesis(stated)) / odds(0.3) == pytest.approx(single)
    apart = text.replace("one paper", "[]")
    assert odds(thesis(apart)) / odds(0.3) == pytest.approx(single**40)


def test_a_weak_credence_speaks_against_what_predicts_it():
    """Forty weak credences lower the thesis; quadratic energy lets them raise it."""
    lines = "\n".join(f"  + [C{i}]: claim {{predicted: [0.6, 0.4], credence: 0.1}}" for i in range(40))
    assert thesis(f"[T]: thesis {{prior: 0.3}}\n{lines}") < 0.01


def test_a_claim_that_nothing_predicts_has_its_prior_as_base_rate():
    """Beside a credence too, and of an undercutter without claims of its own."""
    argument = "[T]: thesis {prior: 0.3}\n\n<A>\n\n(1) [P]: one {predicted: [0.9, 0.2], credence: 0.8}\n----\n"
    for data, after in (("prior: 0.2", 0.2), ("prior: 0.2, credence: 0.2", 0.2), ("prior: 0.2, credence: 0.6", 0.6)):
        text = f"{argument}  <_ [U]: doubt {{{data}}}\n(2) [T]"
        found = argmap.score(argmap.parse(text), "bayes").claims["U"]
        assert found.base == pytest.approx(0.2)
        assert found.credence == pytest.approx(after, abs=0.03)  # the evidence for the premise moves the doubt a little


def test_an_undercutter_that_is_certain_makes_the_argument_silent():
    text = (
        "[T]: thesis {prior: 0.3}\n\n<A>\n\n(1) [P]: premise {predicted: [0.9, 0.2], credence: 0.99}\n----\n"
        "  <_ [U]: doubt {prior: 0.5, credence: 0.5}\n(2) [T]"
    )
    assert thesis(text, U=1.0) == pytest.approx(0.3, abs=1e-12)
    base = 0.3 * 0.9 + 0.7 * 0.2
    true, false = 0.99 / base, 0.01 / (1 - base)
    factor = (0.9 * true + 0.1 * false) / (0.2 * true + 0.8 * false)
    assert odds(thesis(text, U=0.0)) == pytest.approx(odds(0.3) * factor)
    assert 0.3 < thesis(text) < thesis(text, U=0.0)


def test_a_necessary_premise_that_fails_refutes_its_conclusion():
    text = "[T]: thesis {prior: 0.3}\n\n<A>\n\n(1) [P]: premise {predicted: [1.0, 0.5], credence: 0.0}\n----\n(2) [T]"
    assert thesis(text) == 0.0


def test_contradictions_exclude_each_other():
    text = "[T]: thesis {prior: 0.3}\n  >< [S]: rival {credence: 0.8}"
    scores = argmap.score(argmap.parse(text), "bayes").claims
    assert scores["T"].credence + scores["S"].credence == pytest.approx(1)


def test_a_map_in_the_old_style_has_the_documented_factors():
    """An inference i is a Bayes factor of (1 + i) / (1 - i), divided between the premises; a relation has i = 1/2."""
    text = (
        "[T]: thesis {prior: 0.5}\n\n<A>\n\n(1) [P]: one {credence: 1.0}\n(2) [Q]: two {credence: 1.0}\n----\n"
        "(3) [T] {inference: 0.8}"
    )
    assert odds(thesis(text)) == pytest.approx(1.8 / 0.2)
    assert odds(thesis("[T]: thesis {prior: 0.5}\n  + [P]: one {credence: 1.0}")) == pytest.approx(3)
    assert odds(thesis("[T]: thesis {prior: 0.5}\n  - [P]: one {credence: 1.0}")) == pytest.approx(1 / 3)


def test_bayes_is_the_default_where_a_map_states_predictions():
    plain = argmap.parse("[T]: thesis {prior: 0.2}\n  + [P]: one {credence: 0.8}")
    assert (default_semantics(plain), argmap.score(plain).semantics) == ("quadratic-energy", "quadratic-energy")
    stated = argmap.parse(
        "[T]: thesis {prior: 0.2}\n  + [P]: one {credence: 0.8, predicted: [0.8, 0.3]}\n  + [Q]: two {credence: 0.7}"
    )
    found = argmap.score(stated)
    assert found.semantics == "bayes"
    assert found.warnings == ["1 of 2 relations and premises have no predicted: their numbers follow from inferences"]


def test_a_circle_falls_back_and_says_so():
    text = "[A]: one {credence: 0.6}\n  + [B]: two {credence: 0.7}\n\n[B]\n  + [A]"
    found = argmap.score(argmap.parse(text), "bayes")
    assert found.semantics == "quadratic-energy"
    assert found.warnings[0] == (
        "[A] bears on itself, through other claims: bayes cannot score it, so quadratic-energy does"
    )
    assert argmap.sensitivities(argmap.parse(text), "A", "bayes") == argmap.sensitivities(argmap.parse(text), "A")


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_derivatives_and_extremes_are_those_of_the_scores(seed):
    the_map = argmap.parse(random_map(seed))
    slopes = argmap.sensitivities(the_map, "T")
    assert [abs(s) for s in slopes.values()] == sorted((abs(s) for s in slopes.values()), reverse=True)
    now = argmap.score(the_map).claims["T"].credence
    for found in one_way_sensitivities(the_map, "T", limit=6):

        def at(value: float, name: str = found.name) -> float:
            return argmap.score(the_map, credences={name: value}).claims["T"].credence

        assert found.slope == slopes[found.name]
        assert (at(found.stated + 1e-6) - at(found.stated - 1e-6)) / 2e-6 == pytest.approx(found.slope, abs=1e-5)
        assert (at(0.0), at(1.0)) == pytest.approx((found.low, found.high), abs=1e-12)
        assert at(found.stated) == pytest.approx(now, abs=1e-12)
        if found.tips_at is not None:
            assert at(found.tips_at) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("predicted: 0.7", r"predicted of \[C\] must be two probabilities, such as \[0.8, 0.4\]"),
        ("predicted: [0.7]", "must be two probabilities"),
        ("predicted: [0.7, yes]", "must be two probabilities"),
        ("predicted: [0.7, 1.4]", "must be between 0 and 1, not 1.4"),
        ("predicted: {T: [0.7, -1]}", "must be between 0 and 1, not -1"),
        ("predicted: [0.7, 0.2], credence: 1.5", "must be between 0 and 1, not 1.5"),
    ],
)
def test_numbers_that_are_none_are_one_line(data, problem):
    the_map = argmap.parse(f"[T]: thesis {{prior: 0.5}}\n  + [C]: claim {{{data}}}")
    with pytest.raises(AdapterlabError, match=problem) as error:
        argmap.score(the_map, "bayes")
    assert "\n" not in str(error.value)


def test_impossible_evidence_is_named():
    text = (
        "[T]: thesis {prior: 0.5}\n  + [P]: one {predicted: [1.0, 0.0], credence: 1.0}\n"
        "  + [Q]: two {predicted: [0.0, 1.0], credence: 1.0}"
    )
    with pytest.raises(AdapterlabError, match="the evidence is impossible"):
        argmap.score(argmap.parse(text))


def test_numbers_of_arrows_can_be_changed_by_name():
    text = "[T]: thesis {prior: 0.5}\n  + [C]: claim {predicted: [0.8, 0.4], credence: 1.0}"
    assert thesis(text) == pytest.approx(2 / 3)
    the_map = argmap.parse(text)
    found = argmap.score(the_map, credences={"[C] if not [T]": 0.2}).claims["T"].credence
    assert found == pytest.approx(0.8)
    with pytest.raises(AdapterlabError, match=r"\[T\] if \[C\] is not a number of the network"):
        argmap.score(the_map, credences={"T if C": 0.2})
    assert math.isclose(argmap.score(the_map, credences={"C": 0.6}).claims["T"].credence, 0.5)
