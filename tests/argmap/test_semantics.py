"""The two gradual semantics: examples from the papers, and properties that log-odds does not have."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterlab import argmap

GRADUAL = ["quadratic-energy", "df-quad"]
strength = st.floats(0, 1).map(lambda x: round(x, 3))

# Rago, Toni, Aurisicchio and Baroni (KR 2016), the e-democracy debate.
DEMOCRACY = """
[A1]: answer {prior: 0.5}
  + [P1]: pro {credence: 0.7}
  + [P2]: pro {credence: 0.5}
    - [C2]: con {credence: 0.2}
    - [C3]: con {credence: 0.6}
    - [C4]: con {credence: 0.5}

[A2]: answer {prior: 0.5}
  - [C1]: con {credence: 0.2}
  + [P3]: pro {credence: 0.9}
"""

# Potyka (KR 2018), figure 1: should one buy or sell? The two attack each other.
STOCK = """
[Buy]: buy
  >< [Sell]: sell
  + [2]: two {credence: 0.7}
  + [5]: five {credence: 0.9}

[Sell]
  + [1]: one {credence: 0.8}
    - [2]
    - [5]

[2]
  - [3]: three {credence: 0.3}
    - [4]: four {credence: 0.9}
  + [4]
"""


def scores(text: str, semantics: str, **changes: float) -> dict[str, float]:
    found = argmap.score(argmap.parse(text), semantics, changes)
    assert found.settled
    return {title: claim.credence for title, claim in found.claims.items()}


def test_df_quad_on_the_debate_of_its_paper() -> None:
    found = scores(DEMOCRACY, "df-quad")
    assert found["P2"] == pytest.approx(0.08)
    assert found["A1"] == pytest.approx(0.862)
    assert found["A2"] == pytest.approx(0.85)


def test_quadratic_energy_on_the_stock_example_of_its_paper() -> None:
    # The author's own library integrates the dynamics to these within its step's tolerance.
    found = scores(STOCK, "quadratic-energy")
    expected = {"Buy": 0.8208, "Sell": 0.3635, "1": 0.2049, "2": 0.8050, "3": 0.1658, "4": 0.9, "5": 0.9}
    assert found == pytest.approx(expected, abs=2e-3)


def test_quadratic_energy_where_discrete_iteration_diverges() -> None:
    # A supports ten B, each B supports ten C, each C attacks A: the author's library finds these.
    bs = "\n".join(
        f"[B{i}]: b {{credence: 0}}\n  + [A]\n" + "".join(f"  +> [C{j}]\n" for j in range(10)) for i in range(10)
    )
    cs = "\n".join(f"[C{j}]: c {{credence: 0}}\n  -> [A]\n" for j in range(10))
    found = scores(f"[A]: a {{credence: 1}}\n\n{bs}\n{cs}", "quadratic-energy")
    assert (found["A"], found["B3"], found["C7"]) == pytest.approx((0.2247, 0.0478, 0.1853), abs=2e-3)


def bipolar(base: float, supporters: list[float], attackers: list[float]) -> str:
    lines = [f"[T]: thesis {{prior: {base}}}"]
    lines += [f"  + [S{i}]: pro {{credence: {s}}}" for i, s in enumerate(supporters)]
    lines += [f"  - [A{i}]: con {{credence: {a}}}" for i, a in enumerate(attackers)]
    return "\n".join(lines)


some = st.lists(strength, max_size=5)


@pytest.mark.parametrize("semantics", GRADUAL)
@settings(max_examples=60, deadline=None)
@given(base=strength, supporters=some, attackers=some, new=strength)
def test_attackers_only_lower_and_supporters_only_raise(
    semantics: str, base: float, supporters: list[float], attackers: list[float], new: float
) -> None:
    before = scores(bipolar(base, supporters, attackers), semantics)["T"]
    assert scores(bipolar(base, supporters, [*attackers, new]), semantics)["T"] <= before + 1e-12
    assert scores(bipolar(base, [*supporters, new], attackers), semantics)["T"] >= before - 1e-12


@pytest.mark.parametrize("semantics", GRADUAL)
@settings(max_examples=60, deadline=None)
@given(base=strength, supporters=some, attackers=some)
def test_strength_zero_changes_nothing(
    semantics: str, base: float, supporters: list[float], attackers: list[float]
) -> None:
    before = scores(bipolar(base, supporters, attackers), semantics)["T"]
    after = scores(bipolar(base, [*supporters, 0.0], [0.0, *attackers]), semantics)["T"]
    assert after == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("semantics", GRADUAL)
@settings(max_examples=60, deadline=None)
@given(base=strength, supporters=some, attackers=some, seed=st.integers(0, 99))
def test_order_does_not_matter(
    semantics: str, base: float, supporters: list[float], attackers: list[float], seed: int
) -> None:
    shuffler = random.Random(seed)
    other = shuffler.sample(supporters, len(supporters)), shuffler.sample(attackers, len(attackers))
    before = scores(bipolar(base, supporters, attackers), semantics)["T"]
    assert scores(bipolar(base, *other), semantics)["T"] == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("semantics", GRADUAL)
@settings(max_examples=60, deadline=None)
@given(base=strength, supporters=some, attackers=st.lists(strength, min_size=1, max_size=5))
def test_strength_is_continuous_in_every_input(
    semantics: str, base: float, supporters: list[float], attackers: list[float]
) -> None:
    read = argmap.parse(bipolar(base, supporters, attackers))
    before = argmap.score(read, semantics).claims["T"].credence
    for title in read.claims:
        stated = {
            "T": base,
            **{f"S{i}": s for i, s in enumerate(supporters)},
            **{f"A{i}": a for i, a in enumerate(attackers)},
        }
        moved = min(1.0, stated[title] + 1e-6)
        after = argmap.score(read, semantics, {title: moved}).claims["T"].credence
        assert abs(after - before) <= 2e-6


@settings(max_examples=60, deadline=None)
@given(base=strength, supporters=some, attackers=some)
def test_no_credence_leaves_the_unit_interval(base: float, supporters: list[float], attackers: list[float]) -> None:
    for semantics in (*GRADUAL, "log-odds"):
        found = scores(bipolar(base, supporters, attackers), semantics)
        assert all(0.0 <= value <= 1.0 for value in found.values())


def test_in_log_odds_a_weak_attacker_raises_its_target() -> None:
    assert scores(bipolar(0.5, [], [0.2]), "log-odds")["T"] > 0.5
    assert scores(bipolar(0.5, [0.2], []), "log-odds")["T"] < 0.5


ONE_ARGUMENT = """
[T]: thesis

<A>

(1) [P]: premise {credence: 0.8}
----
(2) [C]: conclusion {inference: 0.5}
"""


@pytest.mark.parametrize("semantics", [*GRADUAL, "log-odds"])
def test_an_argument_and_its_conclusion_are_one_supporter(semantics: str) -> None:
    once = ONE_ARGUMENT + "  +> [T]\n"
    twice = once + "\n[T]\n  + <A>\n  + <A>\n"
    through = ONE_ARGUMENT + "\n[T]\n  + <A>\n"
    assert scores(once, semantics)["T"] == scores(twice, semantics)["T"] == scores(through, semantics)["T"]


def test_an_earlier_conclusion_beside_its_argument_counts_once() -> None:
    chain = """
[T]: thesis
  + <A>
  + [I]

<A>

(1) [P]: premise {credence: 0.8}
----
(2) [I]: between {inference: 0.9}
----
(3) [C]: end {inference: 0.9}
"""
    alone = chain.replace("  + [I]\n", "")
    assert scores(chain, "df-quad")["T"] == scores(alone, "df-quad")["T"]


@pytest.mark.parametrize("semantics", GRADUAL)
def test_a_conclusion_of_two_arguments_is_their_noisy_or(semantics: str) -> None:
    second = "\n<B>\n\n(1) [Q]: other {credence: 0.6}\n----\n(2) [C] {inference: 0.5}\n"
    assert scores(ONE_ARGUMENT + second, semantics)["C"] == pytest.approx(1 - (1 - 0.4) * (1 - 0.3))


@pytest.mark.parametrize("place", ["conclusion", "argument", "line"])
def test_an_undercut_lowers_only_the_inference(place: str) -> None:
    undercut = "[U]: under {credence: 0.6}"
    texts = {
        "conclusion": ONE_ARGUMENT + f"  <_ {undercut}\n",
        "argument": ONE_ARGUMENT + f"\n<A>\n  <_ {undercut}\n",
        "line": ONE_ARGUMENT.replace("----\n", f"----\n  <_ {undercut}\n"),
    }
    found = scores(texts[place], "df-quad")
    assert found["P"] == 0.8
    assert found["C"] == pytest.approx(0.8 * 0.5 * (1 - 0.6))


def test_an_undercut_attacks_the_main_conclusion_in_log_odds() -> None:
    # logit 0.4 - logit 0.6 = -0.8109; 1 / (1 + e^0.8109) = 0.3077
    assert scores(ONE_ARGUMENT + "  <_ [U]: under {credence: 0.6}\n", "log-odds")["C"] == pytest.approx(
        0.3077, abs=1e-4
    )


def test_log_odds_clamps_a_thesis() -> None:
    assert scores(bipolar(0.5, [1.0, 1.0], []), "log-odds")["T"] == 0.999
    assert scores(bipolar(0.5, [], [1.0, 0.9]), "log-odds")["T"] == 0.001


def test_a_map_without_a_fixed_point_gives_a_warning() -> None:
    # Three camps of five, each attacking the next: in log-odds they oscillate for ever.
    camps = [[f"{camp}{i}" for i in range(5)] for camp in "ABC"]
    text = ""
    for camp, following in zip(camps, [*camps[1:], camps[0]], strict=True):
        for title in camp:
            text += (
                f"[{title}]: claim {{credence: 0.55}}\n" + "".join(f"  -> [{other}]\n" for other in following) + "\n"
            )
    found = argmap.score(
        argmap.parse(text.replace("[A0]: claim {credence: 0.55}", "[A0]: claim {credence: 0.7}")), "log-odds"
    )
    assert not found.settled
    assert any("fixed point" in warning for warning in found.warnings)


def test_sensitivities_hold_through_cycles() -> None:
    read = argmap.parse(STOCK)
    found = argmap.sensitivities(read, "Buy")
    for title in ("1", "2", "5"):
        stated = read.claims[title].credence
        assert stated is not None
        above, below = (argmap.score(read, credences={title: stated + d}).claims["Buy"].credence for d in (1e-5, -1e-5))
        assert found[f"[{title}]"] == pytest.approx((above - below) / 2e-5, abs=1e-5)
