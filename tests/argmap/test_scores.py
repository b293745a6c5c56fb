"""Scores compared with hand calculations and with numerical derivatives."""

from __future__ import annotations

import gc
import math

import pytest

from adapterlab import argmap
from adapterlab.argmap.scoring.scores import claim_node, propagate
from adapterlab.argmap.scoring.semantics import semantics_named
from adapterlab.errors import AdapterlabError, UnknownNameError

TWO_STAGES = """
[T]: thesis
  + <A>
  - <B>

<A>

(1) [P]: one {credence: 0.9}
(2) [Q]: two {credence: 0.8}
----
(3) [I]: between {inference: 0.75}
(4) [R]: three {credence: 0.5}
-- modus ponens {inference: 0.6} --
(5) [C]: end

<B>

(1) [S]: against {credence: 0.4}
----
(2) [D]: end against {inference: 0.5}
"""


def credence(text: str, title: str, semantics: str = "quadratic-energy", **changes: float) -> float:
    return argmap.score(argmap.parse(text), semantics, changes).claims[title].credence


@pytest.mark.parametrize("semantics", ["quadratic-energy", "df-quad", "log-odds"])
def test_a_conclusion_is_premises_times_inference_step_by_step(semantics: str) -> None:
    assert credence(TWO_STAGES, "I", semantics) == pytest.approx(0.9 * 0.8 * 0.75)
    assert credence(TWO_STAGES, "C", semantics) == pytest.approx(0.54 * 0.5 * 0.6)
    assert credence(TWO_STAGES, "D", semantics) == pytest.approx(0.2)


def test_log_odds_of_a_thesis_are_supporters_minus_attackers() -> None:
    # ln(0.162 / 0.838) - ln(0.2 / 0.8) = -1.64342 + 1.38629 = -0.25713; 1 / (1 + e^0.25713) = 0.43607
    assert credence(TWO_STAGES, "T", "log-odds") == pytest.approx(0.43607, abs=1e-5)


def test_log_odds_warns_where_it_is_not_sound() -> None:
    warnings = argmap.score(argmap.parse(TWO_STAGES), "log-odds").warnings
    assert any("[D] (0.20) attacks [T]" in w and "raises" in w for w in warnings)


def test_quadratic_energy_of_a_thesis() -> None:
    # E = 0.162 - 0.2 = -0.038; h = 0.001444 / 1.001444; 0.5 - 0.5 h
    assert credence(TWO_STAGES, "T") == pytest.approx(0.5 - 0.5 * 0.001444 / 1.001444)


def test_df_quad_of_a_thesis() -> None:
    assert credence(TWO_STAGES, "T", "df-quad") == pytest.approx(0.5 - 0.5 * 0.038)


@pytest.mark.parametrize("semantics", ["quadratic-energy", "df-quad", "log-odds"])
def test_sensitivities_are_the_derivatives(semantics: str) -> None:
    read = argmap.parse(TWO_STAGES)
    found = argmap.sensitivities(read, "T", semantics)
    assert set(found) == {"[P]", "[Q]", "[R]", "[S]", "<A>", "<A>/1", "<B>"}
    stated = {"[P]": 0.9, "[Q]": 0.8, "[R]": 0.5, "[S]": 0.4, "<A>": 0.6, "<B>": 0.5}
    for name, value in stated.items():
        above, below = (argmap.score(read, semantics, {name: value + d}).claims["T"].credence for d in (1e-5, -1e-5))
        assert found[name] == pytest.approx((above - below) / 2e-5, rel=1e-4)


def test_a_map_with_errors_is_scored_only_when_asked() -> None:
    broken = argmap.parse(TWO_STAGES + "\n<E>\n\n(1) [X]: alone {credence: 0.5}\n(2) [Y]: no inference\n  +> [T]\n")
    with pytest.raises(AdapterlabError, match="<E> has no conclusion"):
        argmap.score(broken)
    with pytest.raises(AdapterlabError, match="<E> has no conclusion"):
        propagate(broken, semantics_named("df-quad"))
    whole = argmap.score(argmap.parse(TWO_STAGES)).claims["T"].credence
    assert argmap.score(broken, skip_broken=True).claims["T"].credence == pytest.approx(whole)


def test_credences_are_written_back_byte_for_byte() -> None:
    edited = argmap.with_credences(TWO_STAGES, {"P": 0.35, "<A>": 0.7, "S": 0.25})
    expected = (
        TWO_STAGES.replace("credence: 0.9", "credence: 0.35")
        .replace("inference: 0.6", "inference: 0.7")
        .replace("credence: 0.4", "credence: 0.25")
    )
    assert edited == expected


def test_scores_hold_the_numbers_of_the_map_and_their_log_odds() -> None:
    found = argmap.score(argmap.parse(TWO_STAGES), "df-quad")
    assert (found.semantics, found.warnings, found.settled) == ("df-quad", [], True)
    assert list(found.claims) == ["T", "P", "Q", "I", "R", "C", "S", "D"]
    assert found.claims["P"] == (0.9, pytest.approx(math.log(9)), 0.9, "premise", None)
    assert found.claims["C"] == (pytest.approx(0.162), pytest.approx(math.log(0.162 / 0.838)), None, "conclusion", None)
    assert found.claims["T"].role == "thesis"
    assert found.arguments == {"A": (pytest.approx(0.162), 0.6, "C"), "B": (pytest.approx(0.2), 0.5, "D")}
    described = argmap.score(argmap.parse("[T]: t\n  + <A>\n\n<A>: described {credence: 0.3}\n")).arguments["A"]
    assert described == (0.3, None, None)


def test_scores_as_json_have_every_field() -> None:
    found = argmap.score(argmap.parse("[T]: t\n  + <A>\n\n<A>: described\n"), "df-quad")
    assert found.to_json() == {
        "semantics": "df-quad",
        "claims": {
            "T": {"credence": 0.75, "log_odds": pytest.approx(math.log(3)), "stated": None, "role": "thesis"},
        },
        "arguments": {"A": {"strength": 0.5, "inference": None, "conclusion": None}},
        "warnings": ["<A> has neither a structure nor a credence: 0.5 is used"],
        "settled": True,
    }
    assert argmap.Scores("df-quad", {}, {}, [], False).to_json()["settled"] is False
    assert argmap.Scores("df-quad", {}, {}, []).settled


def test_log_odds_warns_of_every_weak_supporter_and_attacker_and_no_other() -> None:
    text = """
[T]: thesis {prior: 0.2}
  + [Weak Pro]: pro {credence: 0.4}
  + [Pro]: pro {credence: 0.6}
  + [Half Pro]: pro {credence: 0.5}
  - [Weak Con]: con {credence: 0.3}
  - [Con]: con {credence: 0.7}
  - <Weak Argument>

<Weak Argument>: described {credence: 0.1}
  + [Low]: low {credence: 0.2}
"""
    read = argmap.parse(text)
    assert argmap.score(read).warnings == []
    warnings = argmap.score(read, "log-odds").warnings
    # <Weak Argument> itself is 1 / (1 + 9 * 4) = 0.03 after its weak supporter.
    assert [w.removeprefix("log-odds is not sound here: ").partition(" but ")[0] for w in warnings] == [
        "[Weak Con] (0.30) attacks [T]",
        "<Weak Argument> (0.03) attacks [T]",
        "[Weak Pro] (0.40) supports [T]",
        "[Low] (0.20) supports <Weak Argument>",
    ]
    assert [w.partition(" but ")[2].split()[0] for w in warnings] == ["raises", "raises", "lowers", "lowers"]


def test_the_default_semantics_is_quadratic_energy() -> None:
    read = argmap.parse(TWO_STAGES)
    assert argmap.score(read).semantics == "quadratic-energy"
    assert argmap.score(read) == argmap.score(read, "quadratic-energy")


def test_the_node_of_a_claim_is_found_with_and_without_brackets() -> None:
    network, values = propagate(argmap.parse(TWO_STAGES), semantics_named("df-quad"))
    assert claim_node(network, "P") == claim_node(network, "[P]") == network.claims["P"]
    assert values.values[claim_node(network, "P")] == 0.9
    for title in ("<P>", "[P", "P]", "xP]", "[Px", "Nowhere"):
        with pytest.raises(UnknownNameError, match="unknown claim"):
            claim_node(network, title)


def test_the_collector_runs_again_after_a_map_is_scored() -> None:
    assert gc.isenabled()
    argmap.score(argmap.parse(TWO_STAGES))
    assert gc.isenabled()
