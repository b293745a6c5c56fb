"""The section of a study's report on weight changes: sentences, tables, and the two instruments side by side."""

from __future__ import annotations

import math

import pytest

from adapterlab.report.geometry_study import Mean, Measured, Projected, SideBySide, sentences, study_section

NONE = Mean(math.nan, -math.inf, math.inf, 0)


def shares(best: str = "b", gain: Mean | None = None) -> list[Projected]:
    return [
        Projected("full_ft", "prose", name, 1000, Mean(share, share - 0.01, share + 0.01, 3), gain)
        for name, share in {"a": 0.2, "b": 0.3, "low_rank": 0.1}.items()
    ]


def test_it_says_who_expresses_most_with_the_interval():
    assert sentences([], shares()) == (
        "Of the change that full_ft makes on prose, b expresses most: 30 % (29 % to 31 %) with 1,000 parameters.",
    )


def test_it_says_who_keeps_most_of_the_gain():
    rows = [
        *shares(gain=Mean(0.5, 0.4, 0.6, 3)),
        Projected("full_ft", "prose", "c", 900, Mean(0.1, 0, 0.2, 3), Mean(0.8, 0.7, 0.9, 3)),
    ]
    assert sentences([], rows)[1] == "C keeps most of the gain on the task: 80 % (70 % to 90 %)."


def test_a_change_that_gains_nothing_has_no_share_of_a_gain():
    assert "gains nothing" in sentences([], shares(gain=NONE))[1]
    assert "nan" not in study_section([], shares(gain=NONE))


def test_measures_away_from_random_changes_are_counted():
    rows = [
        Measured("full_ft", "prose", "energy_in_top(0.1)", Mean(0.1, 0.09, 0.11, 3), null=0.01),
        Measured("full_ft", "prose", "stable_rank", Mean(3.0, 2.0, 4.0, 3), null=2.5),
        Measured("full_ft", "prose", "rank", Mean(30.0, 30.0, 30.0, 3)),
    ]
    assert sentences(rows, [])[0].startswith(
        "1 of 2 comparisons with random changes of the same size show a difference"
    )
    found = study_section(rows, [])
    assert "10 % (9.0 % to 11 %)" in found
    assert '<td class="n">1.0 %</td>' in found


def test_one_seed_has_no_interval():
    one = [Projected("lora", "prose", "a", 10, Mean(0.5, -math.inf, math.inf, 1))]
    assert "50 % (no interval)" in sentences([], one)[0]
    measured = [Measured("lora", "prose", "rank", Mean(8.0, -math.inf, math.inf, 1), null=9.0)]
    assert sentences(measured, []) == ()  # one seed cannot show a difference


def test_every_change_has_its_own_panel_and_table():
    rows = [*shares(), Projected("lora", "restyle", "a", 500, Mean(0.9, 0.8, 1.0, 2))]
    found = study_section([], rows)
    assert ">full_ft on prose</text>" in found
    assert ">lora on restyle</text>" in found
    assert "Hypotheses, lora on restyle" in found


def test_the_two_instruments_stand_side_by_side():
    rows = [
        SideBySide("Basis", "against", "for", "the bet is about optimization, not representation", disagree=True),
        SideBySide("Rotation", "for", "for", "both agree"),
    ]
    found = study_section([], [], rows)
    assert "They disagree on 1 of 2 claims" in found
    assert found.count('<span class="flag">disagree</span>') == 1
    assert "the bet is about optimization, not representation" in found


def test_names_are_shown_as_text():
    found = study_section([], [Projected("<b>x</b>", "prose", "a", 10, Mean(0.5, 0.4, 0.6, 2))])
    assert "<b>x</b>" not in found


def test_a_study_without_geometry_has_no_section():
    assert study_section([], []) == ""


@pytest.mark.parametrize("level", [2, 3])
def test_headings_begin_at_the_level_that_is_asked_for(level):
    found = study_section([], shares(), [SideBySide("Basis", "for", "for", "both agree")], level=level)
    assert f'<h{level} id="changes">What the changes look like</h{level}>' in found
    assert f'<h{level + 1} id="instruments">' in found
