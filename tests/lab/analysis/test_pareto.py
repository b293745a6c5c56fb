"""The plane of learning and forgetting, over outcomes that the test makes up and published figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.pareto import ParetoFront, hypervolume, on_front, pareto_front
from tests.lab.made_up import played

NAMES = ("lora", "oft", "ia3", "dora")
GAINS = {"lora": 0.2, "oft": 0.18, "ia3": 0.05, "dora": 0.15}
FORGETTING = {"lora": 0.3, "oft": 0.1, "ia3": 0.0, "dora": 0.2}


def frontier(results: Results) -> ParetoFront:
    return pareto_front(Effects.of(results))


def test_the_front_is_what_nothing_betters_in_both():
    found = {c.contestant: c for c in frontier(played(NAMES, gains=GAINS, forgetting=FORGETTING)).entries}
    assert [name for name in NAMES if found[name].on_front] == ["lora", "oft", "ia3"]
    assert found["lora"].point == pytest.approx((0.2, 0.3))
    assert found["lora"].share == 1
    assert found["dora"].share == 0


def test_hypervolume_is_that_of_the_moocore_packages_example():
    """Its points (5, 5), (4, 6), (2, 7), (7, 4) to be made small, up to (10, 10), cover 38; learned is 10 less the first."""
    points = [(10 - a, float(b)) for a, b in ((5, 5), (4, 6), (2, 7), (7, 4))]
    assert hypervolume(points, (0.0, 10.0)) == pytest.approx(38)


def test_what_forgets_more_than_the_reference_point_covers_nothing():
    assert hypervolume([(1.0, 2.0)], (0.0, 1.0)) == 0
    assert hypervolume([(-1.0, 0.5)], (0.0, 1.0)) == 0
    assert hypervolume([(2.0, 0.25)], (0.0, 1.0)) == pytest.approx(1.5)


def test_of_equal_points_all_are_on_the_front():
    assert on_front([(1, 1), (1, 1), (0.5, 1), (2, 3)]) == [True, True, False, True]
    assert on_front([]) == []


def test_a_path_covers_more_than_its_end():
    straight = frontier(played(("lora",), gains=GAINS, forgetting=FORGETTING)).entries[0]
    rewound = frontier(played(("lora",), gains=GAINS, forgetting=FORGETTING, best={"lora": 0.75})).entries[0]
    assert straight.path == ()
    assert [strength for strength, _, _ in rewound.path] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    assert rewound.path[0][1:] == (0, 0)
    assert rewound.hypervolume.value > straight.hypervolume.value


def test_the_reference_point_is_what_the_worst_forgets_on_its_path_rounded_up():
    results = played(NAMES, gains=GAINS, forgetting=FORGETTING)
    assert frontier(results).reference == (0, pytest.approx(0.3))
    further = played(NAMES, gains=GAINS, forgetting=FORGETTING, best={"lora": 1.0})
    assert frontier(further).reference == (0, pytest.approx(0.5))  # 0.3 x 1.25 ** 2 = 0.469


def test_noise_makes_the_front_uncertain_and_its_areas_too():
    noisy = frontier(played(NAMES, gains=dict.fromkeys(NAMES, 0.2), forgetting=FORGETTING, noise=0.02))
    shares = {c.contestant: c.share for c in noisy.entries}
    assert shares["ia3"] == 1  # it forgets least of all
    assert any(0 < share < 1 for share in shares.values())
    assert all(c.hypervolume.low < c.hypervolume.value < c.hypervolume.high for c in noisy.entries if c.point[1] < 0.3)


def test_contestants_without_a_run_are_left_out():
    results = played(NAMES, gains=GAINS)
    results.contests["oft", "prose"].reported = {}
    assert {c.contestant for c in frontier(results).entries} == {"lora", "ia3", "dora"}
    for name in NAMES:
        results.contests[name, "prose"].reported = {}
    assert frontier(results).entries == ()


PUBLISHED = Path(__file__).parent / "peft_arena.csv"


def test_published_figures_have_the_front_that_their_authors_describe():
    """PEFT-Arena (2605.28819), fine-tuned Qwen2.5-7B on mathematics: OFT learns more than LoRA and keeps more."""
    with PUBLISHED.open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    points = [(float(row["target"]), -float(row["general"])) for row in rows]
    front = {row["method"] for row, first in zip(rows, on_front(points), strict=True) if first}
    assert front == {"full_ft", "oft", "vera"}
