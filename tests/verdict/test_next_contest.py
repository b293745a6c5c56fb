"""The contest that would move the thesis most: closed forms, and a study that runs it and judges the claim."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from adapterlab import argmap
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.as_toml import as_toml
from adapterlab.lab.study.load import load_study
from adapterlab.resources import shipped
from adapterlab.verdict.claims import BY_GEOMETRY, read_test
from adapterlab.verdict.geometry_forms import OfChange
from adapterlab.verdict.next_contest import FALSE_ALARM, POWER, next_contests, study_of
from adapterlab.verdict.wanted import Wanted

BUILT_IN = argmap.load(shipped("maps", "natural_manifold.argdown"))
DORA = "{better: dora, than: lora, in: in_domain, on: [prose]}"
OFT = "{better: oft, than: lora, in: forgetting, on: [prose, restyle]}"


def a_map(*claims: tuple[str, str]) -> argmap.Map:
    lines = "\n".join(
        f"  + [C{i}]: c {{reason: r, predicted: {rates}, credence: 0.5, test: {test}}}"
        for i, (test, rates) in enumerate(claims)
    )
    return argmap.parse(f"[T]: t {{prior: 0.3}}\n{lines}")


def test_the_value_of_one_contest_is_that_of_its_two_outcomes():
    (found,) = next_contests(a_map((DORA, "[0.7, 0.4]")))
    base = 0.3 * 0.7 + 0.7 * 0.4
    true, false = 0.5 / base, 0.5 / (1 - base)
    up, down = 0.7 * true + 0.3 * false, 0.4 * true + 0.6 * false
    now = 0.3 * up / (0.3 * up + 0.7 * down)
    moves = bits = 0.0
    for on_true, on_false in ((POWER, FALSE_ALARM), (1 - POWER, 1 - FALSE_ALARM)):
        with_t = 0.3 * (0.7 * true * on_true + 0.3 * false * on_false)
        without = 0.7 * (0.4 * true * on_true + 0.6 * false * on_false)
        after, share = with_t / (with_t + without), (with_t + without) / (0.3 * up + 0.7 * down)
        moves += share * abs(after - now)
        bits += share * (after * math.log2(after / now) + (1 - after) * math.log2((1 - after) / (1 - now)))
    assert (found.moves, found.bits) == (pytest.approx(moves), pytest.approx(bits))


def test_what_is_closer_to_the_thesis_and_takes_fewer_steps_comes_first():
    found = next_contests(a_map((OFT, "[0.7, 0.4]"), (DORA, "[0.7, 0.4]")))
    assert [contest.contestants for contest in found] == [("dora", "lora"), ("oft", "lora")]
    assert found[0].moves == pytest.approx(found[1].moves)
    assert found[1].steps == 2 * found[0].steps
    strong = next_contests(a_map((OFT, "[0.95, 0.2]"), (DORA, "[0.5, 0.45]")))
    assert [contest.contestants for contest in strong] == [("oft", "lora"), ("dora", "lora")]


def test_a_model_of_no_relevance_is_worth_nothing_and_a_larger_one_more():
    the_map = a_map((DORA, "[0.7, 0.4]"))
    values = [next_contests(the_map, relevance=weight)[0].moves for weight in (0, 0.2, 0.5, 1)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in pairwise(values))


def test_claims_about_one_pair_are_one_contest_and_those_tested_are_left_out():
    both = a_map((DORA, "[0.7, 0.4]"), (DORA.replace("in_domain", "tenth_of_data"), "[0.7, 0.4]"))
    (found,) = next_contests(both)
    assert list(found.tests) == ["C0", "C1"]
    assert found.study.report.tenth_of_data
    assert found.moves < 2 * next_contests(a_map((DORA, "[0.7, 0.4]")))[0].moves
    (rest,) = next_contests(both, done=["C0"])
    assert list(rest.tests) == ["C1"]
    assert next_contests(both, done=["C0", "C1"]) == []


def test_a_map_without_predictions_has_no_such_value():
    with pytest.raises(AdapterlabError, match="no claim states what it predicts"):
        next_contests(argmap.parse(f"[T]: t {{prior: 0.3}}\n  + [C]: c {{credence: 0.5, test: {DORA}}}"))


@pytest.mark.parametrize("contest", next_contests(BUILT_IN), ids=lambda contest: "-".join(contest.contestants))
def test_every_contest_of_the_built_in_map_is_a_study_that_tests_its_claims(contest, tmp_path):
    path = tmp_path / "next.toml"
    path.write_text(as_toml(contest.study))
    study = load_study(path)
    assert study == contest.study
    for title, of_contest in contest.tests.items():
        if isinstance(of_contest, OfChange):
            assert of_contest == read_test(title, BUILT_IN.claims[title].data["geometry_test"], kind=BY_GEOMETRY)
            assert set(of_contest.contestants()) <= set(study.geometry.of)
            assert set(of_contest.tasks) <= set(study.tasks)
            continue
        test = read_test(title, BUILT_IN.tests[title])
        assert set(test.tasks) <= set(study.tasks)
        for name in map(Wanted.parse, test.contestants()):
            assert any(
                e.adapter == name.name and dict(name.settings).items() <= e.settings.items() for e in study.entrants
            )


def test_a_size_a_control_and_a_width_are_in_the_study():
    sized = study_of(
        {
            "C": read_test(
                "C", {"reaches": 0.9, "who": "c3a", "of": "lora", "size": 0.5, "in": "in_domain", "on": "prose"}
            )
        }
    )
    assert {c.name: c.budget for c in sized.contestants} == {"c3a": 80_000, "lora": None}
    control = {"controlled": "ssvd", "against": "ssvd(rotation=free)", "in": "learning_rate_width", "on": "prose"}
    wide = study_of({"C": read_test("C", control)})
    assert {c.name: c.settings for c in wide.contestants} == {"ssvd": {}, "ssvd-rotation-free": {"rotation": "free"}}
    assert wide.tuning.bracket == 7
    assert not wide.full_ft


def test_the_command_names_contests_and_writes_the_study(tmp_path):
    file, target = tmp_path / "m.argdown", tmp_path / "next.toml"
    file.write_text(a_map((DORA, "[0.7, 0.4]"), (OFT, "[0.7, 0.4]")).source.text)
    options = ["map", "next", str(file), "--no-measure"]
    result = CliRunner().invoke(app, [*options, "--write", str(target)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].endswith("dora against lora on prose")
    assert f"adapterlab run {target} --map {file}" in result.stdout
    assert [c.name for c in load_study(target).contestants] == ["dora", "lora"]
    found = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    assert 0 < found["relevance"] < 0.5
    assert [row["claims"] for row in found["contests"]] == [["C0"], ["C1"]]
    (tmp_path / "verdict.json").write_text(
        json.dumps({"claims": [{"claim": "C0"}, {"claim": "C1", "untested": "why"}]})
    )
    done = CliRunner().invoke(app, [*options, "--done", str(tmp_path / "verdict.json"), "--json"])
    assert [row["claims"] for row in json.loads(done.stdout)["contests"]] == [["C1"]]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--model", "nowhere"], "the size of nowhere is not known: give --relevance"),
        (["--done", "none.json"], "is not the verdict.json"),
    ],
)
def test_a_mistake_is_one_line(options, problem, tmp_path):
    file = tmp_path / "m.argdown"
    file.write_text(a_map((DORA, "[0.7, 0.4]")).source.text)
    result = CliRunner().invoke(app, ["map", "next", str(file), "--no-measure", *options])
    assert isinstance(result.exception, AdapterlabError)
    assert problem in str(result.exception)
