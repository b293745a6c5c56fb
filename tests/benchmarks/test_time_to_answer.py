"""The benchmark of designs: its counts are those of the designs, and its page has a line for each."""

from __future__ import annotations

from benchmarks.time_to_answer import GAINS, measure, table

CONFIRMED, WIDE = 3 * 20, 5 * 20 + 2 * 40
"""Steps of a search that confirms its prediction, and of one without a prediction."""


def test_a_fixed_design_takes_all_of_its_runs_and_a_race_fewer():
    fixed, race = measure("fixed", 4, 3), measure("racing", 4, 3)
    contests = 2 * len(GAINS)
    assert fixed.runs == contests * 4
    assert contests * (CONFIRMED + 4 * 40) <= fixed.steps < contests * (WIDE + 4 * 40)
    assert contests * 2 <= race.runs < fixed.runs
    assert 0 <= race.wrong <= race.answered <= 1
    page = table([fixed, race], 3)
    assert "| fixed, 4 seeds | " in page
    assert "| race, 2 to 4 seeds | " in page
    assert f"{fixed.hours:.2f}" in page
