"""The plane of learning and forgetting, over outcomes that the test makes up and published figures."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
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


def test_the_share_counts_resamples_on_the_front():
    """The same resamples of the three seeds, one at a time; of equal points all are on the front."""
    gains = {"lora": 0.2, "oft": 0.19, "ia3": 0.2, "dora": 0.1}
    results = played(NAMES, gains=gains, forgetting={"lora": 0.1, "oft": 0.09, "ia3": 0.1, "dora": 0.05}, noise=0.02)
    found = {entry.contestant: entry.share for entry in frontier(results).entries}
    ends = {
        name: [
            np.mean(
                [
                    (1 - scores["test"][0], scores["base"][0] - 1)
                    for task in results.study.tasks
                    for scores in [results.contests[name, task].reported[seed][1].scores]
                ],
                axis=0,
            )
            for seed in (1, 2, 3)
        ]
        for name in NAMES
    }
    draws = np.random.default_rng(0).integers(3, size=(2000, 3))
    counts = [on_front([np.mean([ends[name][i] for i in draw], axis=0) for name in NAMES]) for draw in draws]
    assert found == pytest.approx(dict(zip(NAMES, np.mean(counts, axis=0), strict=True)))
    assert len(set(found.values())) > 2


def test_the_front_has_the_points_that_are_on_it_and_without_entries_is_empty():
    found = frontier(played(NAMES, gains=GAINS, forgetting=FORGETTING))
    assert found.front == [pytest.approx(point) for point in ((0.05, 0.0), (0.18, 0.1), (0.2, 0.3))]
    assert [entry.hypervolume.value for entry in found.entries] == sorted(
        (entry.hypervolume.value for entry in found.entries), reverse=True
    )
    results = played(("lora",), gains=GAINS)
    results.contests["lora", "prose"].reported = {}
    empty = frontier(results)
    assert (empty.reference, empty.entries, empty.front, empty.unit) == ((0.0, 0.0), (), [], "nats per byte")


def test_the_hypervolume_of_a_single_point_is_a_rectangle():
    """Up to a reference of no gain and 0.3 forgotten; a path adds its corners."""
    found = {entry.contestant: entry for entry in frontier(played(NAMES, gains=GAINS, forgetting=FORGETTING)).entries}
    for name in NAMES:
        assert found[name].hypervolume.value == pytest.approx(GAINS[name] * (0.3 - FORGETTING[name]), abs=1e-9)
        assert found[name].operating_point is None


def test_the_reference_is_never_below_a_hundredth():
    assert frontier(played(("lora",), gains=GAINS, forgetting={"lora": 0.0})).reference == (0, 0.01)
    assert frontier(played(("lora",), gains=GAINS, forgetting={"lora": 0.05})).reference == (0, pytest.approx(0.05))
    assert frontier(played(("lora",), gains=GAINS, forgetting={"lora": 0.051})).reference == (0, pytest.approx(0.1))


def test_the_operating_point_is_over_seeds_and_tasks():
    results = played(("lora",), gains=GAINS, forgetting=FORGETTING, best={"lora": 0.75})
    contest = results.contests["lora", "prose"]
    trial, outcome = contest.reported[1]
    path = tuple((s, scores | {"validation": (0.0 if s == 0.25 else 9.0, 0.5)}) for s, scores in outcome.path)
    contest.reported[1] = trial, dataclasses.replace(outcome, path=path)
    effects = Effects.of(results)
    (entry,) = pareto_front(effects).entries
    point = entry.operating_point
    assert (point.low, point.high) == (0.25, 0.75)
    assert point.learned == effects.gained("lora", "in_domain_rewound")
    assert point.forgotten.mean == pytest.approx(
        np.mean(list(effects.values("lora", "forgetting_rewound").values())), abs=1e-9
    )
    only = {key: v for key, v in effects.values("lora", "forgetting_rewound").items() if key[0] == "restyle"}
    assert list(only.values()) == pytest.approx([0.3 * 0.75**2] * 3)
