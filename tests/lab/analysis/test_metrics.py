"""What each metric reads, over outcomes that the test makes up."""

from __future__ import annotations

import dataclasses
import math

import pytest

from adapterlab.lab.analysis.contrast import difference, gain
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import METRICS, path_of
from adapterlab.lab.trial.spec import FROZEN, Outcome
from tests.lab.made_up import PATH, played

NAMES = ("lora", "oft")
SETUP = {
    "gains": {"lora": 0.2, "oft": 0.1},
    "forgetting": {"lora": 0.08, "oft": 0.04},
    "parameters": {"lora": 100, "oft": 50},
    "best": {"lora": 0.75},
}


@pytest.fixture(scope="module")
def results():
    return played(NAMES, tenth={"lora": 0.9}, **SETUP)


def values(results, contestant: str, metric: str) -> set[float]:
    return {round(value, 9) for value in Effects.of(results).values(contestant, metric).values()}


def test_rewinding_stops_where_the_validation_loss_is_smallest(results):
    assert values(results, "lora", "operating_point") == {0.75}
    top = 0.2 / (2 / 0.75 - 1 / 0.75**2)
    assert values(results, "lora", "in_domain_rewound") == {round(1 - top, 9)}
    assert values(results, "lora", "forgetting_rewound") == {round(0.08 * 0.75**2, 9)}


def test_rewinding_never_looks_at_the_test_part():
    results = played(NAMES, **SETUP)
    contest = results.contests["lora", "prose"]
    for seed, (trial, outcome) in contest.reported.items():
        path = tuple(
            (s, scores | {"test": (0.0 if s == 0.25 else 9.0, 0.5), "base": (0.0, 0.5)}) for s, scores in outcome.path
        )
        contest.reported[seed] = trial, Outcome(**{**vars(outcome), "path": path})
    assert {Effects.of(results).values("lora", "operating_point")["prose", seed] for seed in (1, 2, 3)} == {0.75}
    assert Effects.of(results).values("lora", "in_domain_rewound")["prose", 1] == 9.0


def test_a_run_that_only_hurts_is_rewound_to_the_frozen_model():
    results = played(NAMES, **SETUP | {"gains": {"lora": -0.2, "oft": 0.1}, "best": {"lora": 0.75}})
    assert values(results, "lora", "operating_point") == {0.0}
    assert values(results, "lora", "in_domain_rewound") == {1.0}
    assert values(results, "lora", "forgetting_rewound") == {0.0}


def test_a_path_has_the_frozen_model_and_the_end_in_it(results):
    path = path_of(results, results.contests["lora", "prose"], 1)
    assert list(path) == sorted({0.0, 1.0, *PATH})
    assert path[0.0] == results.frozen("prose").scores
    assert path[1.0] == results.contests["lora", "prose"].reported[1][1].scores


def on_fewer_rows(results, luck: float) -> None:
    """Score the path of every run of `lora` on rows that are harder by `luck` at every strength."""
    for task in results.study.tasks:
        for name in (FROZEN, "lora"):
            reported = results.contests[name, task].reported
            for seed, (trial, outcome) in reported.items():
                points = {0.0: outcome.scores} if name == FROZEN else {**dict(outcome.path), 1.0: outcome.scores}
                path = tuple((s, {part: (loss + luck, a) for part, (loss, a) in p.items()}) for s, p in points.items())
                reported[seed] = trial, dataclasses.replace(outcome, path=path)


def test_a_path_on_fewer_rows_ends_where_the_run_is_and_bends_as_it_was_measured(results):
    before = path_of(results, results.contests["lora", "prose"], 1)
    fewer = played(NAMES, **SETUP)
    on_fewer_rows(fewer, 0.3)
    found = path_of(fewer, fewer.contests["lora", "prose"], 1)
    assert list(found) == list(before)
    assert found[0.0] == fewer.frozen("prose").scores
    assert found[1.0] == fewer.contests["lora", "prose"].reported[1][1].scores
    for strength, scores in before.items():
        for part in ("validation", "test", "base"):
            assert found[strength][part] == pytest.approx(scores[part])
    for metric in ("operating_point", "in_domain_rewound", "forgetting_rewound"):
        assert values(fewer, "lora", metric) == values(played(NAMES, **SETUP), "lora", metric)


def test_without_a_path_nothing_is_rewound(results):
    for metric in ("operating_point", "in_domain_rewound", "forgetting_rewound"):
        assert Effects.of(results).values("oft", metric) == {}


def test_gains_when_rewound_are_over_the_frozen_model(results):
    top = 0.2 / (2 / 0.75 - 1 / 0.75**2)
    gains = Effects.of(results).numbers(gain("lora", "in_domain_rewound"))
    assert {round(v, 9) for v in gains.values()} == {round(top, 9)}


def test_costs_are_read_from_the_reported_runs(results):
    assert values(results, "lora", "parameters") == {100}
    assert values(results, "lora", "step_time") == {100.0}  # 4 seconds for 40 steps, in milliseconds
    assert values(results, "lora", "attach_time") == {0.5}
    assert values(results, "lora", "peak_memory") == {3.0}
    assert Effects.of(results).values("oft", "peak_memory") == {}  # it was not measured
    assert values(results, "lora", "accuracy") == {0.7}


def test_a_tenth_of_the_data_is_read_where_it_was_run(results):
    assert values(results, "lora", "tenth_of_data") == {0.9001, 0.9002, 0.9003}
    assert Effects.of(results).values("oft", "tenth_of_data") == {}
    assert {round(v, 9) for v in Effects.of(results).numbers(gain("lora", "tenth_of_data")).values()} == {
        0.0999,
        0.0998,
        0.0997,
    }


def test_a_run_that_diverged_counts_as_the_frozen_model_on_the_task_and_has_no_other_numbers():
    results = played(NAMES, **SETUP)
    for task in results.study.tasks:
        contest = results.contests["lora", task]
        contest.reported = {s: (t, Outcome("diverged", {}, (), 1, 1.0, 0.0)) for s, (t, _) in contest.reported.items()}
    effects = Effects.of(results)
    for metric in ("in_domain", "out_of_domain"):
        assert set(effects.values("lora", metric).values()) == {1.0}
        assert set(effects.numbers(gain("lora", metric)).values()) == {0.0}
    for metric in set(METRICS) - {"in_domain", "out_of_domain", "learning_rate_width", "tenth_of_data"}:
        assert effects.values("lora", metric) == {}


def test_every_metric_of_the_frozen_model_is_one_number_for_a_task(results):
    for metric in ("in_domain", "out_of_domain", "forgetting", "in_domain_rewound", "tenth_of_data", "accuracy"):
        assert set(Effects.of(results).values(FROZEN, metric)) == {("prose", 0), ("restyle", 0)}


def test_an_outcome_comes_back_from_json_with_its_path(results):
    outcome = results.contests["lora", "prose"].reported[1][1]
    import json

    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    old = {key: value for key, value in outcome.to_json().items() if key not in ("path", "peak_bytes")}
    assert Outcome.from_json(old).path == ()


def rungs(losses: dict[float, float]):
    """Results in which LoRA's first rung on `prose` has these validation losses; the frozen model's is 1."""
    results = played(NAMES, gains={"lora": 0.2, "oft": 0.1})
    contest = results.contests["lora", "prose"]
    (trial, outcome), *_ = contest.first.values()
    contest.first = {
        lr: (dataclasses.replace(trial, lr=lr), dataclasses.replace(outcome, scores={"validation": (loss, 0.5)}))
        if math.isfinite(loss)
        else (dataclasses.replace(trial, lr=lr), Outcome("diverged", {}, (), 1, 1.0, 0.0))
        for lr, loss in losses.items()
    }
    return results


@pytest.mark.parametrize(
    ("losses", "width"),
    [
        ({1e-4: 0.875, 1e-3: 0.75, 1e-2: 0.875}, 2.0),  # half of the best gain, 0.25, on both sides
        ({1e-4: 0.876, 1e-3: 0.75, 1e-2: 0.875}, 1.0),
        ({1e-4: 0.876, 1e-3: 0.75, 1e-2: 0.876}, 0.0),
        ({1e-4: 0.874, 1e-3: 0.75, 1e-2: 0.99, 1e-1: 0.8}, 3.0),
        ({1e-4: 0.75, 1e-3: math.inf, 1e-2: 0.8}, 2.0),
        ({1e-4: 1.0, 1e-3: 1.0}, None),  # nothing was learned
        ({1e-4: 1.2, 1e-3: 1.1}, None),
        ({1e-4: math.inf}, None),
    ],
)
def test_a_rate_works_if_it_keeps_half_of_the_best_gain(losses, width):
    results = rungs(losses)
    found = METRICS["learning_rate_width"].read(results, results.contests["lora", "prose"])
    assert found == ({} if width is None else {0: pytest.approx(width)})


def test_unfinished_contests_and_infinite_values_are_left_out():
    results = played(NAMES, **SETUP)
    results.contests["lora", "prose"].finished = False
    contest = results.contests["oft", "prose"]
    trial, outcome = contest.reported[2]
    contest.reported[2] = trial, dataclasses.replace(outcome, scores=outcome.scores | {"ood": (math.inf, 0.0)})
    effects = Effects.of(results)
    for metric in METRICS:
        assert {task for task, _ in effects.values("lora", metric)} <= {"restyle"}
    assert ("restyle", 1) in effects.values("lora", "in_domain")
    assert set(effects.values("oft", "out_of_domain")) == {
        ("prose", 1),
        ("prose", 3),
        *(("restyle", s) for s in (1, 2, 3)),
    }
    assert ("prose", 2) in effects.values("oft", "in_domain")


def curved(losses: list[tuple[int, float]], final: float, goal: float) -> float:
    """Steps until LoRA's final loss `goal` is reached by OFT, whose curve goes from 1 over `losses` to `final` at 40."""
    results = played(NAMES, **SETUP)
    for name, end, curve in (("lora", goal, ()), ("oft", final, tuple(losses))):
        contest = results.contests[name, "prose"]
        trial, outcome = contest.reported[1]
        scores = outcome.scores | {"validation": (end, 0.5)}
        contest.reported[1] = trial, dataclasses.replace(outcome, scores=scores, curve=curve)
    return METRICS["steps_to_reference"].read(results, results.contests["oft", "prose"])[1]


@pytest.mark.parametrize(
    ("losses", "final", "goal", "steps"),
    [
        ([(10, 0.8), (20, 0.6)], 0.5, 0.7, 15.0),  # half-way from 0.8 to 0.6
        ([(10, 0.8), (20, 0.6)], 0.5, 0.8, 10.0),
        ([(10, 0.8), (20, 0.6)], 0.5, 0.95, 2.5),
        ([(10, 0.8), (20, 0.6)], 0.5, 0.5, 40.0),
        ([(10, 0.8), (20, 0.6)], 0.5, 0.4, 40.0),  # never
        ([(10, 0.8), (20, 0.6)], 0.5, 1.2, 0.0),  # worse than the start
        ([(10, 1.0), (20, 1.0)], 1.0, 1.0, 10.0),
        ([(10, 1.3), (20, 0.7)], 0.5, 1.0, 15.0),  # it got worse before it got better
        ([], 0.5, 0.75, 20.0),
    ],
)
def test_steps_to_the_reference_are_interpolated_between_measurements(losses, final, goal, steps):
    assert curved(losses, final, goal) == pytest.approx(steps)


def test_steps_to_the_reference_need_a_finished_run_of_the_reference():
    results = played(NAMES, **SETUP)
    contest = results.contests["lora", "prose"]
    read = METRICS["steps_to_reference"].read
    contest.reported[1] = contest.reported[1][0], Outcome("diverged", {}, (), 1, 1.0, 0.0)
    del contest.reported[2]
    assert list(read(results, results.contests["oft", "prose"])) == [3]
    assert read(played(("oft",), gains={"oft": 0.1}), results.contests["oft", "prose"]) == {}


@pytest.mark.parametrize(
    ("metric", "sign"), [("accuracy", 1), ("learning_rate_width", 1), ("in_domain", -1), ("step_time", -1)]
)
def test_a_better_value_is_a_positive_difference(results, metric, sign):
    assert METRICS[metric].sign == sign
    effects = Effects.of(results)
    if metric == "accuracy":  # LoRA gains more here, so it is the more accurate one
        assert set(effects.values("lora", metric).values()) != set(effects.values("oft", metric).values())
        assert all(number > 0 for number in effects.numbers(difference("lora", "oft", metric)).values())
