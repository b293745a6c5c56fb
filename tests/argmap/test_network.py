"""Networks: the nodes that each construct of a map becomes, and the warnings and errors about its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from adapterlab import argmap
from adapterlab.argmap.scoring.network import Network, Node, build, parameter
from adapterlab.errors import AdapterlabError, UnknownNameError

TWO_STEPS = """
[T]: thesis

<A>

(1) [P]: one {credence: 0.9}
----
(2) [I]: between {inference: 0.7}
(3) [Q]: two {credence: 0.8}
----
(4) [C]: end {inference: 0.6}
  +> [T]
"""


def network(text: str, log_odds: bool = False, **credences: float) -> Network:
    return build(argmap.parse(text), credences, log_odds=log_odds)


def stated(found: Network) -> dict[str, float]:
    """The value of each parameter."""
    return {name: found.nodes[index].given for name, index in found.parameters.items()}


def shown(found: Network, index: int) -> Any:
    """A node with its inputs written out; claims and arguments below it by name."""
    names = {i: f"[{t}]" for t, i in found.claims.items()} | {i: f"<{t}>" for t, i in found.arguments.items()}

    def part(i: int) -> Any:
        return names.get(i) or (found.nodes[i].given if found.nodes[i].kind == "given" else shown(found, i))

    node = found.nodes[index]
    return (node.kind, [part(i) for i in node.inputs], [part(i) for i in node.attackers])


def claim(text: str, title: str, log_odds: bool = False, **credences: float) -> Any:
    found = network(text, log_odds, **credences)
    return shown(found, found.claims[title])


def test_nodes_are_numbered_from_zero() -> None:
    found = Network()
    assert [found.add(Node("given")), found.add(Node("given", given=0.3))] == [0, 1]
    assert found.nodes[1].given == 0.3
    assert found.nodes[0] == Node("given", [], [], 0.0)


def test_an_argument_is_a_product_for_each_step_and_the_last_one_is_the_argument() -> None:
    found = network(TWO_STEPS)
    first = ("product", ["[P]", 0.7], [])
    last = ("product", ["[Q]", "[I]", 0.6], [])
    assert shown(found, found.claims["I"]) == ("weigh", [("noisy_or", [first], [])], [])
    assert shown(found, found.claims["C"]) == ("weigh", [("noisy_or", ["<A>"], [])], [])
    assert shown(found, found.arguments["A"]) == ("weigh", [last], [])
    assert shown(found, found.claims["T"]) == ("weigh", [0.5, "[C]"], [])
    assert stated(found) == {"[P]": 0.9, "[Q]": 0.8, "<A>/1": 0.7, "<A>": 0.6}
    assert found.warnings == []


def test_arguments_and_their_claims_are_found_by_title() -> None:
    found = network(TWO_STEPS)
    assert list(found.claims) == ["T", "P", "I", "Q", "C"]
    assert list(found.arguments) == ["A"]
    assert all(found.nodes[i].kind == "weigh" for i in (*found.claims.values(), *found.arguments.values()))


BEARING = "[T]: thesis\n  {sign} [X]: other {{credence: 0.4}}\n"


@pytest.mark.parametrize(
    ("sign", "supporters", "attackers"), [("+", ["[X]"], []), ("-", [], ["[X]"]), ("><", [], ["[X]"])]
)
@pytest.mark.parametrize("mode", ["", "===\nmodel:\n    mode: strict\n===\n\n"])
def test_supporters_are_inputs_and_attackers_are_attackers_in_both_modes(
    sign: str, supporters: list[str], attackers: list[str], mode: str
) -> None:
    text = mode + BEARING.format(sign=sign) + "\n[Y]: more {credence: 0.1}\n  +> [T]\n"
    _, inputs, attacking = claim(text, "T")
    assert (set(inputs[1:]), attacking) == ({*supporters, "[Y]"}, attackers)
    assert inputs[0] == 0.5


def test_a_contradiction_attacks_both_ways_and_an_attack_only_one() -> None:
    assert claim(BEARING.format(sign="><"), "X") == ("weigh", [0.4], ["[T]"])
    assert claim(BEARING.format(sign="-"), "X") == ("weigh", [0.4], [])


@pytest.mark.parametrize("sign", ["+>", "->"])
def test_a_relation_of_a_claim_to_itself_has_no_effect(sign: str) -> None:
    assert claim(f"[X]: x {{credence: 0.4}}\n  {sign} [X]\n", "X") == ("weigh", [0.4], [])


ONE_STEP = "[P]: premise {credence: 0.8}\n\n<A>\n\n(1) [P]\n----\n(2) [C]: conclusion {inference: 0.5}\n"


def test_an_undercut_weighs_the_inference_or_in_log_odds_attacks_the_conclusion() -> None:
    text = ONE_STEP + "  <_ [U]: under {credence: 0.6}\n"
    found = network(text)
    inference = ("weigh", [0.5], ["[U]"])
    assert shown(found, found.arguments["A"]) == ("weigh", [("product", ["[P]", inference], [])], [])
    assert shown(found, found.claims["C"])[2] == []
    assert found.warnings == []
    found = network(text, log_odds=True)
    assert shown(found, found.arguments["A"]) == ("weigh", [("product", ["[P]", 0.5], [])], [])
    assert shown(found, found.claims["C"])[2] == ["[U]"]


def test_an_undercut_of_a_claim_without_inference_is_an_attack_with_a_warning() -> None:
    found = network("[X]: x\n  _ [U]: under {credence: 0.6}\n")
    assert shown(found, found.claims["X"])[2] == ["[U]"]
    assert found.warnings == ["[U] undercuts the claim [X], which has no inference: it is counted as an attack"]


def test_an_attack_on_an_argument_lowers_the_argument() -> None:
    found = network(ONE_STEP + "\n[N]: no {credence: 0.3}\n  -> <A>\n")
    assert shown(found, found.arguments["A"])[2] == ["[N]"]
    assert shown(found, found.claims["C"])[2] == []


def test_an_argument_with_a_description_has_its_credence_as_strength() -> None:
    found = network("[T]: thesis\n  + <A>\n\n<A>: described {credence: 0.3}\n")
    assert shown(found, found.arguments["A"]) == ("weigh", [0.3], [])
    assert stated(found) == {"<A>": 0.3}
    assert shown(found, found.claims["T"]) == ("weigh", [0.5, "<A>"], [])
    assert network("[T]: thesis\n  + <A>\n\n<A>: described\n").warnings == [
        "<A> has neither a structure nor a credence: 0.5 is used"
    ]


def test_in_log_odds_arguments_that_conclude_a_thesis_support_it() -> None:
    assert claim(ONE_STEP, "C", log_odds=True) == ("weigh", [0.5, "<A>"], [])
    assert claim(ONE_STEP, "C") == ("weigh", [("noisy_or", ["<A>"], [])], [])
    # A conclusion that bears on another claim is no thesis.
    assert claim(ONE_STEP + "  +> [T]: thesis\n", "C", log_odds=True) == ("weigh", [("noisy_or", ["<A>"], [])], [])


# The base strength of a claim


def test_a_thesis_starts_at_its_prior() -> None:
    assert claim("[T]: thesis {prior: 0.2}\n  + [X]: x {credence: 0.4}\n", "T") == ("weigh", [0.2, "[X]"], [])
    assert claim("[T]: thesis {prior: 0}\n  + [X]: x {credence: 0.4}\n", "T")[1][0] == 0.0


def test_the_credence_of_a_thesis_is_ignored_with_a_warning() -> None:
    found = network("[T]: thesis {credence: 0.9}\n  + [X]: x {credence: 0.4}\n")
    assert shown(found, found.claims["T"])[1][0] == 0.5
    assert stated(found) == {"[X]": 0.4}
    (warning,) = found.warnings
    assert warning.startswith("the credence of the thesis [T] is ignored")


@pytest.mark.parametrize("sign", ["+", "-"])
def test_a_claim_with_supporters_or_attackers_needs_no_credence(sign: str) -> None:
    # [M] bears on the thesis and is no conclusion.
    text = f"[T]: thesis\n  + [M]: middle\n    {sign} [X]: x {{credence: 0.4}}\n"
    found = network(text)
    assert shown(found, found.claims["M"])[1][0] == 0.5
    assert (stated(found), found.warnings) == ({"[X]": 0.4}, [])
    found = network(text.replace("middle", "middle {credence: 0.7}"))
    assert (shown(found, found.claims["M"])[1][0], stated(found)) == (0.7, {"[M]": 0.7, "[X]": 0.4})


def test_a_lone_claim_has_its_credence_or_its_prior() -> None:
    assert stated(network("[X]: x {credence: 0.4, prior: 0.1}\n")) == {"[X]": 0.4}
    assert stated(network("[X]: x {prior: 0.1}\n")) == {"[X]": 0.1}
    assert stated(network("[X]: x {credence: 1}\n")) == {"[X]": 1.0}


@pytest.mark.parametrize("data", ["", " {credence: high}", " {credence: true}", " {credence: [0.4]}"])
def test_a_missing_number_counts_as_one_half_with_a_warning(data: str) -> None:
    found = network(f"[X]: x{data}\n")
    assert stated(found) == {"[X]": 0.5}
    assert found.warnings == ["[X] has no credence: 0.5 is used"]


def test_a_missing_inference_counts_as_one_half_with_a_warning() -> None:
    found = network(ONE_STEP.replace(" {inference: 0.5}", ""))
    assert stated(found)["<A>"] == 0.5
    assert found.warnings == ["<A> has no inference: 0.5 is used"]


# Numbers that replace those of the map


def test_a_number_by_title_replaces_a_credence_or_the_last_inference() -> None:
    assert stated(network(TWO_STEPS, P=0.1, A=0.2)) == {"[P]": 0.1, "[Q]": 0.8, "<A>/1": 0.7, "<A>": 0.2}
    assert stated(network(TWO_STEPS, **{"[P]": 0.1, "<A>": 0})) == {"[P]": 0.1, "[Q]": 0.8, "<A>/1": 0.7, "<A>": 0.0}


@pytest.mark.parametrize("log_odds", [False, True])
def test_a_number_for_a_conclusion_or_thesis_replaces_its_base(log_odds: bool) -> None:
    assert claim(TWO_STEPS, "C", log_odds, C=0.3) == ("weigh", [0.3], [])
    assert claim(TWO_STEPS, "T", log_odds, T=0.3) == ("weigh", [0.3, "[C]"], [])
    assert claim(ONE_STEP, "C", log_odds, C=0.3) == ("weigh", [0.3], [])


def test_the_parameter_of_a_title() -> None:
    read = argmap.parse(TWO_STEPS + "\n[A]: a claim with the title of the argument {credence: 0.5}\n  +> [T]\n")
    assert [parameter(read, name) for name in ("P", "[P]", "<A>", "[A]", "A")] == ["[P]", "[P]", "<A>", "[A]", "[A]"]
    for name in ("<P>", "[Nowhere]", "", "<A]"):
        with pytest.raises(UnknownNameError, match="unknown claim or argument"):
            parameter(read, name)
    with pytest.raises(UnknownNameError, match="unknown claim or argument"):
        parameter(argmap.parse(TWO_STEPS), "[A]")


def test_an_unknown_title_is_named_with_similar_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown claim or argument 'Premis' in x.argdown: did you mean Premise"
    ):
        build(argmap.parse("[Premise]: x\n", "x.argdown"), {"Premis": 0.5}, log_odds=False)


@pytest.mark.parametrize("value", [-0.001, 1.001, float("nan")])
def test_numbers_outside_the_unit_interval_are_errors(value: float) -> None:
    with pytest.raises(AdapterlabError, match=r"\[P\]: a credence must be between 0 and 1"):
        network(TWO_STEPS, **{"[P]": value})
    with pytest.raises(AdapterlabError, match=r"\[T\] prior: a credence must be between 0 and 1"):
        network(f"[T]: thesis {{prior: {value if value == value else '.nan'}}}\n  + [X]: x {{credence: 0.4}}\n")


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zero_and_one_are_probabilities(value: float) -> None:
    assert stated(network(TWO_STEPS, P=value))["[P]"] == value


# Maps with errors

BROKEN_ARGUMENT = "\n<E>\n\n(1) [X]: alone {credence: 0.5}\n(2) [Y]: no inference line {credence: 0.5}\n"


def test_a_map_with_errors_is_refused_with_the_first_error_and_the_number_of_others() -> None:
    read = argmap.parse(TWO_STEPS + BROKEN_ARGUMENT, "x.argdown")
    with pytest.raises(AdapterlabError, match=r"^x.argdown:\d+: <E> has no conclusion.*before \(2\); fix it"):
        build(read, log_odds=False)
    twice = argmap.parse(TWO_STEPS + BROKEN_ARGUMENT + "\n[Z] is so\n")
    with pytest.raises(AdapterlabError, match=r"before \(2\) \(and 1 more\); fix it"):
        build(twice, log_odds=False)


def test_broken_arguments_and_their_relations_can_be_skipped() -> None:
    text = TWO_STEPS + BROKEN_ARGUMENT + "\n<E>\n  +> [T]\n  <- [N]: no {credence: 0.3}\n"
    found = build(argmap.parse(text), log_odds=False, skip_broken=True)
    assert list(found.arguments) == ["A"]
    assert shown(found, found.claims["T"]) == ("weigh", [0.5, "[C]"], [])
    assert found.warnings == []


def test_an_undercut_in_a_broken_argument_has_no_effect() -> None:
    structure = "(1) [X]: x {credence: 0.5}\n----\n(2) [Y]: y {inference: 0.5}\n  <_ [U]: under {credence: 0.9}\n"
    found = build(argmap.parse(f"<E>: an **open text\n\n{structure}"), log_odds=True, skip_broken=True)
    assert found.arguments == {}
    assert shown(found, found.claims["Y"])[2] == []


def test_a_claim_that_only_a_broken_paragraph_defines_counts_as_one_half_without_a_warning() -> None:
    found = build(argmap.parse("[X]: an **open text\n"), log_odds=False, skip_broken=True)
    assert (stated(found), found.warnings) == ({"[X]": 0.5}, [])


# One supporter is counted once


def test_an_earlier_conclusion_with_the_same_relation_as_its_argument_is_not_counted() -> None:
    def supporters(relations: str) -> list[str]:
        return claim(TWO_STEPS.replace("  +> [T]\n", "") + f"\n[T]\n{relations}", "T")[1][1:]

    assert supporters("  + <A>\n  + [I]\n") == ["[C]"]
    assert supporters("  + [I]\n  + <A>\n") == ["[C]"]
    assert supporters("  + [I]\n") == ["[I]"]  # the argument itself has no relation
    assert supporters("  + [C]\n  + [I]\n") == ["[C]", "[I]"]  # nor here: both are written as claims
    assert supporters("  + <A>\n  + [C]\n") == ["[C]"]
    assert supporters("  + <A>\n  + [P]\n") == ["[C]", "[P]"]  # a premise is another supporter


def test_an_earlier_conclusion_with_another_relation_than_its_argument_is_counted() -> None:
    text = TWO_STEPS.replace("  +> [T]\n", "") + "\n[T]\n  + <A>\n  - [I]\n"
    assert claim(text, "T") == ("weigh", [0.5, "[C]"], ["[I]"])
    other = TWO_STEPS.replace("  +> [T]\n", "") + "\n[T]\n  + <A>\n\n[S]: second\n  + [I]\n"
    assert claim(other, "S") == ("weigh", [0.5, "[I]"], [])


def test_a_conclusion_counts_if_its_own_argument_has_the_relation() -> None:
    # [C] is the main conclusion of <A> and an earlier one of <B>; both arguments support the thesis.
    second = "\n<B>\n\n(1) [R]: r {credence: 0.5}\n----\n(2) [C] {inference: 0.5}\n----\n(3) [D]: d {inference: 0.5}\n"
    text = TWO_STEPS.replace("  +> [T]\n", "") + second + "\n[T]\n  + <A>\n  + <B>\n"
    assert claim(text, "T") == ("weigh", [0.5, "[C]", "[D]"], [])
