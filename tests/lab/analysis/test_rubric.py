"""The rubric over outcomes that the test makes up, and the literature's grades."""

from __future__ import annotations

import pytest

from adapterlab.adapters import all_adapters
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.rubric import POINTS, THRESHOLDS, Finding, grade, literature
from tests.lab.made_up import played

GAINS = {"full_ft": 0.20, "lora": 0.15, "oft": 0.25, "ia3": 0.195, "vera": 0.0}
PARAMETERS = {"full_ft": 10_000, "lora": 90, "oft": 95, "ia3": 10, "vera": 5}


def cards(**changes):
    setup = {"gains": GAINS, "parameters": PARAMETERS, "noise": 0.001} | changes
    return {card.contestant: card for card in grade(Effects.of(played(tuple(GAINS), **setup)), 10_000)}


def found(card) -> dict[str, str]:
    return {name: grade.finding.value for name, grade in card.grades.items()}


def test_what_is_better_than_all_at_a_hundredth_of_the_size_is_granted_everything():
    card = cards()["oft"]
    assert found(card) == dict.fromkeys(POINTS, "yes")
    assert card.points == 7
    assert card.literature == ("PE", "DE")
    assert card.literature_points == 2.5


def test_lora_is_not_graded_against_itself():
    assert found(cards()["lora"]) == {"PE": "no", "BL": "unmeasured", "BF": "no", "DE": "unmeasured", "OOD": "yes"}


def test_what_learns_nothing_is_refused_where_it_was_asked():
    assert found(cards()["vera"]) == {"PE": "no", "BL": "no", "BF": "no", "DE": "no", "OOD": "unmeasured"}


def test_a_size_beyond_the_bound_is_not_called_efficient_or_inefficient():
    card = cards(parameters=PARAMETERS | {"oft": 400})["oft"]
    assert found(card)["PE"] == "unmeasured"
    assert "trains 4.0% of the model" in card.grades["PE"].why
    assert found(card)["BL"] == "unmeasured"


def test_within_the_smallest_difference_is_as_good_as_full_fine_tuning():
    assert found(cards(gains=GAINS | {"ia3": 0.198})["ia3"])["BF"] == "yes"
    assert found(cards(gains=GAINS | {"ia3": 0.19})["ia3"])["BF"] == "no"


def test_what_noise_hides_is_open():
    card = cards(noise=0.05)["ia3"]
    assert found(card)["BL"] == found(card)["BF"] == "open"


def test_the_same_as_lora_is_not_better_than_lora():
    card = cards(gains=GAINS | {"ia3": 0.15})["ia3"]
    assert card.grades["BL"].finding is Finding.NO
    assert "equivalent" in card.grades["BL"].why


def test_gain_that_stays_in_its_domain_is_no_transfer():
    assert found(cards(carried=0.4)["oft"])["OOD"] == "no"
    assert found(cards(carried=0.6)["oft"])["OOD"] == "yes"


def test_less_data_is_another_way_to_be_efficient():
    slow = GAINS | {"ia3": 0.14}
    assert found(cards(gains=slow)["ia3"])["DE"] == "no"
    assert found(cards(gains=slow, tenth={"ia3": 0.9, "lora": 0.95})["ia3"])["DE"] == "yes"


def test_without_the_contestants_it_compares_with_nothing_is_said():
    only = {
        card.contestant: card
        for card in grade(Effects.of(played(("oft", "ia3"), gains=GAINS, reference="oft")), 10_000)
    }
    assert {found(only["ia3"])[name] for name in ("PE", "BL", "BF")} == {"unmeasured"}


def test_the_literatures_grades_are_of_methods_that_are_here():
    assert set(literature()) <= set(all_adapters())
    assert {dimension for grades in literature().values() for dimension in grades} == set(POINTS) == set(THRESHOLDS)


@pytest.mark.parametrize(
    ("name", "points"), [("pissa", 5.0), ("dora", 3.5), ("antipasto", 4.5), ("boft", 4.0), ("lora", 1.0), ("oft", 2.5)]
)
def test_its_points_are_the_scorecards_less_what_cannot_be_measured(name, points):
    """The survey's scorecard, whose WA is worth one point and granted to LoRA and DoRA alone."""
    assert sum(POINTS[dimension] for dimension in literature()[name]) == points
