"""Sensitivity of a thesis: derivatives, swings and tipping points in closed form."""

from __future__ import annotations

import pytest

from adapterlab import argmap
from adapterlab.argmap.scoring.sensitivity import Sensitivity, first_thesis, one_way_sensitivities, sensitivities
from adapterlab.errors import AdapterlabError, UnknownNameError

# In DF-QuAD: T = 0.5 + 0.5 (P i - N) if P i > N, and 0.5 - 0.5 (N - P i) otherwise: linear in all numbers.
LINEAR = """
[T]: thesis
  - [N]: no {credence: 0.3}

<A>

(1) [P]: premise {credence: 0.9}
----
(2) [C]: end {inference: 0.8}
  +> [T]
"""


def rows(text: str, *arguments: object, **options: object) -> dict[str, Sensitivity]:
    found = one_way_sensitivities(argmap.parse(text), *arguments, **options)  # type: ignore[arg-type]
    return {s.name: s for s in found}


def test_rows_have_the_closed_forms_of_a_linear_map() -> None:
    found = rows(LINEAR, "T", "df-quad")
    expected = {
        "[P]": Sensitivity("[P]", 0.9, 0.4, 0.5 - 0.15, 0.5 + 0.5 * (0.8 - 0.3), 0.375),
        "<A>": Sensitivity("<A>", 0.8, 0.45, 0.5 - 0.15, 0.5 + 0.5 * (0.9 - 0.3), 0.3 / 0.9),
        "[N]": Sensitivity("[N]", 0.3, -0.5, 0.5 + 0.36, 0.5 - 0.14, 0.72),
    }
    assert found.keys() == expected.keys()
    for name, row in expected.items():
        got = found[name]
        assert (got.name, got.stated) == (row.name, row.stated)
        assert (got.slope, got.low, got.high) == pytest.approx((row.slope, row.low, row.high), abs=1e-12)
        assert got.tips_at == pytest.approx(row.tips_at, abs=1e-9)
        assert got.swing == pytest.approx(abs(row.high - row.low), abs=1e-12)


def test_rows_are_ordered_by_their_swing() -> None:
    # Swings: [N] 0.5, <A> 0.45, [P] 0.4.
    assert list(rows(LINEAR, "T", "df-quad")) == ["[N]", "<A>", "[P]"]


def test_derivatives_are_ordered_by_their_absolute_value() -> None:
    found = sensitivities(argmap.parse(LINEAR), "[T]", "df-quad")
    assert list(found) == ["[N]", "<A>", "[P]"]
    assert found == pytest.approx({"[N]": -0.5, "<A>": 0.45, "[P]": 0.4})


def test_the_limit_keeps_the_largest_derivatives() -> None:
    assert list(rows(LINEAR, "T", "df-quad", limit=2)) == ["[N]", "<A>"]
    assert list(rows(LINEAR, "T", "df-quad", limit=1)) == ["[N]"]
    many = "[T]: thesis\n" + "".join(f"  + [S{i}]: s {{credence: 0.{i + 10}}}\n" for i in range(60))
    assert len(rows(many)) == 50
    assert len(rows(many, limit=None)) == 60


def test_numbers_that_replace_those_of_the_map_are_used() -> None:
    read = argmap.parse(LINEAR)
    assert sensitivities(read, "T", "df-quad", {"P": 0.5})["<A>"] == pytest.approx(0.25)
    assert rows(LINEAR, "T", "df-quad", {"P": 0.5})["<A>"].high == pytest.approx(0.5 + 0.5 * (0.5 - 0.3))
    assert rows(LINEAR, "T", "df-quad", {"P": 0.5})["[P]"].stated == 0.5


def test_a_thesis_that_only_touches_one_half_never_tips() -> None:
    # Without an attacker the thesis rises from 0.5; with a prior of 0.4 it crosses.
    alone = "[T]: thesis\n  + [P]: pro {credence: 0.9}\n"
    assert rows(alone, None, "df-quad")["[P]"].tips_at is None
    assert rows(alone.replace("thesis\n", "thesis {prior: 0.4}\n"), None, "df-quad")["[P]"].tips_at == pytest.approx(
        0.1 / 0.6, abs=1e-9
    )
    against = "[T]: thesis\n  - [N]: no {credence: 0.9}\n"
    assert rows(against, None, "df-quad")["[N]"].tips_at is None


def test_the_tipping_point_through_a_cycle() -> None:
    # x = a (1 - b) / (1 - a b) = 1/2 where a = 1 / (2 - b).
    duel = "[A]: a {credence: 0.9}\n  >< [B]: b {credence: 0.4}\n"
    found = rows(duel, "A", "df-quad")
    assert found["[A]"].tips_at == pytest.approx(1 / 1.6, abs=1e-6)
    assert found["[B]"].tips_at == pytest.approx(2 - 1 / 0.9, abs=1e-6)
    assert found["[A]"].high == pytest.approx(1.0, abs=1e-6)


def test_the_first_thesis_is_the_first_in_the_text() -> None:
    # [Later] is mentioned first as the target of a relation, [Early] is defined behind it.
    text = "[X]: x {credence: 0.9}\n  +> [Early]: e\n  +> [Later]: l\n"
    assert first_thesis(argmap.parse(text)) == "Early"
    assert rows(text, semantics="df-quad") == rows(text, "Early", "df-quad")
    swapped = "[Later]\n\n[X]: x {credence: 0.9}\n  +> [Early]: e\n  +> [Later]: l\n"
    assert first_thesis(argmap.parse(swapped)) == "Later"


def test_a_map_without_a_thesis_and_an_unknown_claim_are_errors() -> None:
    with pytest.raises(AdapterlabError, match=r"x.argdown has no thesis .* --thesis"):
        one_way_sensitivities(argmap.parse("[X]: x {credence: 0.5}\n", "x.argdown"))
    for function in (sensitivities, one_way_sensitivities):
        with pytest.raises(UnknownNameError, match="unknown claim 'Thesis'"):
            function(argmap.parse(LINEAR), "Thesis")


def test_broken_parts_are_skipped_only_on_request() -> None:
    broken = argmap.parse(LINEAR + "\n[Z] is so\n")
    for function in (sensitivities, one_way_sensitivities):
        with pytest.raises(AdapterlabError, match="without a colon"):
            function(broken, "T")
        assert function(broken, "T", skip_broken=True)


def test_the_default_semantics_is_quadratic_energy() -> None:
    read = argmap.parse(LINEAR)
    assert sensitivities(read, "T") == sensitivities(read, "T", "quadratic-energy")
    assert rows(LINEAR) == rows(LINEAR, "T", "quadratic-energy")
