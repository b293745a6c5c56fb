"""Values through a network and derivatives back: closed forms for cycles, and numerical derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from adapterlab import argmap
from adapterlab.argmap.scoring import propagation
from adapterlab.argmap.scoring.network import Network, Node, build
from adapterlab.argmap.scoring.propagation import (
    Order,
    Values,
    derivatives,
    downstream,
    evaluate,
    order,
    reevaluate,
    slopes,
)
from adapterlab.argmap.scoring.semantics import SEMANTICS, DFQuAD, LogOdds, QuadraticEnergy

ALL = list(SEMANTICS.values())


def given_node(value: float) -> Node:
    return Node("given", given=value)


def duel(a: float, b: float, outside: bool = False) -> Network:
    """Two nodes, 2 and 3, that attack each other, with bases 0 and 1; `outside`: node 5 has 4 and 2 as factors."""
    nodes = [given_node(a), given_node(b), Node("weigh", [0], [3]), Node("weigh", [1], [2])]
    return Network([*nodes, given_node(0.7), Node("product", [4, 2])] if outside else nodes)


# DF-QuAD: x = a (1 - y), y = b (1 - x), so x = a (1 - b) / (1 - a b).


@pytest.mark.parametrize(("a", "b"), [(0.8, 0.8), (0.9, 0.3), (0.2, 0.6), (1.0, 0.5)])
def test_two_claims_that_attack_each_other_reach_the_fixed_point(a: float, b: float) -> None:
    found = evaluate(duel(a, b, outside=True), DFQuAD())
    x, y = a * (1 - b) / (1 - a * b), b * (1 - a) / (1 - a * b)
    assert found.settled
    assert found.values == pytest.approx([a, b, x, y, 0.7, 0.7 * x], abs=1e-8)


@pytest.mark.parametrize(("a", "b"), [(0.8, 0.8), (0.9, 0.3), (0.2, 0.6)])
def test_derivatives_through_a_cycle(a: float, b: float) -> None:
    network = duel(a, b, outside=True)
    result = evaluate(network, DFQuAD())
    by_a, by_b = (1 - b) / (1 - a * b) ** 2, -a * (1 - a) / (1 - a * b) ** 2
    assert derivatives(network, DFQuAD(), result, of=2)[:2] == pytest.approx([by_a, by_b], abs=1e-6)
    through = derivatives(network, DFQuAD(), result, of=5)
    x = a * (1 - b) / (1 - a * b)
    assert [through[i] for i in (0, 1, 4, 5)] == pytest.approx([0.7 * by_a, 0.7 * by_b, x, 1.0], abs=1e-6)


def test_a_cycle_of_supporters_reaches_the_root_of_its_equation() -> None:
    # x = b + (1 - b) x^2 / (1 + x^2): the root above b, by Brent's method.
    network = Network([given_node(0.2), Node("weigh", [0, 2]), Node("weigh", [0, 1])])
    root = brentq(lambda x: 0.2 + 0.8 * x * x / (1 + x * x) - x, 0.2, 0.6)
    found = evaluate(network, QuadraticEnergy())
    assert found.values == pytest.approx([0.2, root, root], abs=1e-7)


def test_a_cycle_starts_at_the_base_strengths() -> None:
    # x = b + (1 - b) x^2 / (1 + x^2) with b = 0 has the roots 0 and, for two supporters, 4 x^2 / (1 + 4 x^2) = x.
    # Starting at the base 0, the values stay at 0; one half would lead to another root.
    nodes = [given_node(0.0), *(Node("weigh", [0, *({1, 2, 3, 4} - {i})]) for i in range(1, 5))]
    assert evaluate(Network(nodes), QuadraticEnergy()).values == [0.0] * 5


def test_a_cycle_through_a_product_starts_at_one_half() -> None:
    # x = y, y = x z with z = 0.9: every round lowers the values, and 0 is the only fixed point.
    network = Network([given_node(0.9), Node("weigh", [2]), Node("product", [1, 0])])
    found = evaluate(network, DFQuAD())
    assert found.settled
    assert found.values == pytest.approx([0.9, 0.0, 0.0], abs=1e-5)
    assert found.values[1] > 0


def test_the_starting_values_are_the_bases_and_one_half_without_a_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "STEPS", ((0.0, 1),))
    assert evaluate(duel(0.8, 0.3), DFQuAD()).values == [0.8, 0.3, 0.8, 0.3]
    network = Network([given_node(0.9), Node("weigh", [2]), Node("product", [1, 0])])
    assert evaluate(network, DFQuAD()).values == [0.9, 0.5, 0.5]


def test_the_first_steps_go_half_of_the_way() -> None:
    # Two certain claims that attack each other: x = 1 - y. From 1 and 1, half of the way to 0 is the fixed point.
    class Counting(DFQuAD):
        count = 0

        def weigh(self, *arguments):  # type: ignore[no-untyped-def]
            Counting.count += 1
            return super().weigh(*arguments)

    assert evaluate(duel(1.0, 1.0), Counting()).values == [1.0, 1.0, 0.5, 0.5]
    assert Counting.count == 2 * 2  # two rounds, the second without a change


def test_one_round_moves_all_values_by_a_share_of_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    # From the bases a and b, the first round leads to a (1 - b) and b (1 - a): both change by a b.
    monkeypatch.setattr(propagation, "STEPS", ((0.1, 1),))
    one = evaluate(duel(0.8, 0.5), DFQuAD())
    assert one.values == pytest.approx([0.8, 0.5, 0.8 - 0.04, 0.5 - 0.04], abs=1e-12)
    assert one.change == pytest.approx(0.4, abs=1e-12)
    assert not one.settled
    monkeypatch.setattr(propagation, "STEPS", ((0.1, 2),))
    two = evaluate(duel(0.8, 0.5), DFQuAD())
    x, y = 0.8 - 0.04, 0.5 - 0.04
    expected = [0.9 * x + 0.1 * 0.8 * (1 - y), 0.9 * y + 0.1 * 0.5 * (1 - x)]
    assert two.values[2:] == pytest.approx(expected, abs=1e-12)


def test_the_change_is_the_largest_of_all_nodes_and_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "STEPS", ((0.1, 1),))
    two_duels = duel(0.8, 0.5)
    two_duels.nodes += [given_node(0.1), Node("weigh", [4], [6]), Node("weigh", [4], [5])]
    assert evaluate(two_duels, DFQuAD()).change == pytest.approx(0.4, abs=1e-12)
    draws = {0: np.array([0.1, 0.6, 0.2])}
    assert evaluate(duel(0.8, 0.5), DFQuAD(), draws).change == pytest.approx(0.3, abs=1e-12)
    assert evaluate(Network([given_node(0.3)]), DFQuAD()).change == 0.0


def test_an_iteration_stops_when_no_value_changes_any_more() -> None:
    assert evaluate(duel(0.5, 0.5), DFQuAD()).change <= 1e-10


@pytest.mark.parametrize(("change", "settled"), [(0.0, True), (1e-6, True), (1.01e-6, False), (0.1, False)])
def test_an_iteration_has_converged_if_no_value_changes_by_more_than_a_millionth(change: float, settled: bool) -> None:
    assert Values([], Order([], [], []), change).settled is settled


def test_large_cycles_get_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    network = duel(0.5, 0.6)
    counted = [0]

    class Counting(DFQuAD):
        def weigh(self, *arguments):  # type: ignore[no-untyped-def]
            counted[0] += 1
            return super().weigh(*arguments)

    def rounds(budget: int, steps: tuple[tuple[float, int], ...]) -> float:
        monkeypatch.setattr(propagation, "BUDGET", budget)
        monkeypatch.setattr(propagation, "STEPS", steps)
        counted[0] = 0
        evaluate(network, Counting())
        return counted[0] / 2  # two nodes in each round

    assert rounds(10**6, ((1e-9, 70),)) == 70
    assert rounds(120, ((1e-9, 70),)) == 60  # at most 120 evaluations of 2 nodes
    assert rounds(10, ((1e-9, 70),)) == 50  # but never fewer than 50 rounds
    assert rounds(10**6, ((1e-9, 70), (1e-9, 30))) == 100  # a second attempt follows one that has not converged
    assert rounds(10**6, ((0.5, 300), (0.5, 300))) == rounds(10**6, ((0.5, 300),)) < 300  # none follows one that has


def test_small_steps_follow_where_large_steps_oscillate() -> None:
    # Every node attacks all others: x = b / (1 + E^2) with the energy E of the others; large steps overshoot.
    size = 12
    nodes = [
        given_node(0.95),
        *(Node("weigh", [0], [j for j in range(1, size + 1) if j != i]) for i in range(1, size + 1)),
    ]
    found = evaluate(Network(nodes), QuadraticEnergy())
    root = brentq(lambda x: 0.95 / (1 + ((size - 1) * x) ** 2) - x, 0, 1)
    assert found.settled
    assert found.values[1:] == pytest.approx([root] * size, abs=1e-6)


# Orders


graphs = st.integers(1, 8).flatmap(
    lambda n: st.lists(
        st.tuples(st.lists(st.integers(0, n - 1), max_size=3), st.lists(st.integers(0, n - 1), max_size=2)),
        min_size=n,
        max_size=n,
    )
)


@given(graphs)
def test_an_order_puts_every_node_after_its_inputs_and_cycles_aside(graph: list[tuple[list[int], list[int]]]) -> None:
    nodes = [Node("weigh", inputs, attackers) for inputs, attackers in graph]
    found = order(Network(nodes))
    assert sorted([*found.acyclic, *found.cyclic]) == list(range(len(nodes)))
    place = {node: number for number, node in enumerate(found.acyclic)}
    for node in found.acyclic:
        assert all(place[source] < place[node] for source in (*nodes[node].inputs, *nodes[node].attackers))
    for node in found.cyclic:  # each has a source that is on a cycle or behind one
        assert {*nodes[node].inputs, *nodes[node].attackers} & {*found.cyclic}
    for index, users in enumerate(found.users):
        expected = [u for u, node in enumerate(nodes) for s in (*node.inputs, *node.attackers) if s == index]
        assert sorted(users) == sorted(expected)


MAP = """
[T]: thesis
  + <A>
  - [N]: no {credence: 0.3}
  + [L]: last {credence: 0.6}

<A>

(1) [P]: one {credence: 0.9}
(2) [Q]: two {credence: 0.8}
----
(3) [I]: between {inference: 0.75}
----
  <_ [U]: under {credence: 0.2}
(4) [C]: end {inference: 0.6}

<B>

(1) [P]
----
(2) [C] {inference: 0.35}
"""


def built(semantics: object) -> Network:
    return build(argmap.parse(MAP), log_odds=isinstance(semantics, LogOdds))


@pytest.mark.parametrize("semantics", ALL, ids=lambda s: s.name)
def test_changing_one_number_gives_the_values_of_a_full_evaluation(semantics) -> None:
    network = built(semantics)
    result = evaluate(network, semantics)
    before = [*result.values]
    for index in network.parameters.values():
        path = downstream(result, index)
        assert index not in path
        again = reevaluate(network, semantics, result, index, 0.123, path)
        expected = evaluate(network, semantics, {index: 0.123}).values
        assert again == expected
        assert [i for i, (a, b) in enumerate(zip(expected, before, strict=True)) if a != b] == sorted({index, *path})
    assert result.values == before


def test_the_path_of_a_number_ends_at_the_thesis_and_leaves_other_claims_out() -> None:
    network = built(DFQuAD())
    path = downstream(evaluate(network, DFQuAD()), network.parameters["[N]"])
    assert path == [network.claims["N"], network.claims["T"]]


def test_changing_a_number_of_a_map_with_cycles() -> None:
    network = duel(0.8, 0.5)
    result = evaluate(network, DFQuAD())
    assert reevaluate(network, DFQuAD(), result, 0, 0.4, downstream(result, 0)) == pytest.approx(
        [0.4, 0.5, 0.4 * 0.5 / 0.8, 0.5 * 0.6 / 0.8], abs=1e-8
    )


@pytest.mark.parametrize("semantics", ALL, ids=lambda s: s.name)
def test_derivatives_are_the_numerical_ones(semantics) -> None:
    network = built(semantics)
    thesis = network.claims["T"]
    found = derivatives(network, semantics, evaluate(network, semantics), thesis)
    assert found[thesis] == 1.0
    for name, index in network.parameters.items():
        stated = network.nodes[index].given
        above, below = (evaluate(network, semantics, {index: stated + d}).values[thesis] for d in (1e-6, -1e-6))
        assert found[index] == pytest.approx((above - below) / 2e-6, abs=1e-7), name


@pytest.mark.parametrize("semantics", ALL, ids=lambda s: s.name)
def test_draws_give_the_values_of_each_single_draw(semantics) -> None:
    rng = np.random.default_rng(0)
    for network in (built(semantics), duel(0.7, 0.4, outside=True)):
        names = [i for i, node in enumerate(network.nodes) if node.kind == "given"][:3]
        draws = {i: rng.uniform(0.05, 0.95, 5) for i in names}
        together = evaluate(network, semantics, draws)
        for k in range(5):
            single = evaluate(network, semantics, {i: float(draws[i][k]) for i in names})
            assert [float(np.broadcast_to(v, 5)[k]) for v in together.values] == pytest.approx(single.values, abs=1e-7)


def test_the_slopes_of_each_kind_of_node() -> None:
    values = [0.5, 0.8, 0.4]
    assert slopes(given_node(0.5), values, DFQuAD()) == []
    product = slopes(Node("product", [0, 1, 2]), values, DFQuAD())
    assert product == [(0, pytest.approx(0.32)), (1, pytest.approx(0.2)), (2, pytest.approx(0.4))]
    either = slopes(Node("noisy_or", [0, 1]), values, DFQuAD())
    assert either == [(0, pytest.approx(0.2)), (1, pytest.approx(0.5))]
    # The strength is 0.5 + 0.5 (0.8 - 0.4).
    weighed = slopes(Node("weigh", [0, 1], [2]), values, DFQuAD())
    assert weighed == [(0, pytest.approx(0.6)), (1, pytest.approx(0.5)), (2, pytest.approx(-0.5))]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.sampled_from(["product", "noisy_or"]))
def test_the_value_of_products_and_noisy_ors(strengths: list[float], kind) -> None:
    inputs = list(range(len(strengths)))
    network = Network([*map(given_node, strengths), Node(kind, inputs)])
    expected = math.prod(strengths) if kind == "product" else 1 - math.prod(1 - s for s in strengths)
    assert evaluate(network, DFQuAD()).values[-1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("semantics", ALL, ids=lambda s: s.name)
def test_a_weighing_of_a_base_alone_is_the_base(semantics) -> None:
    # Also in log-odds, where a base outside [0.001, 0.999] would be clamped.
    network = Network([given_node(1.0), Node("weigh", [0]), given_node(0.0), Node("weigh", [2])])
    assert evaluate(network, semantics).values == [1.0, 1.0, 0.0, 0.0]
