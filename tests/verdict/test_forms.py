"""Tests that compare at equal learning, reverse, follow a trend, or make several statements: read, said, and judged."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from adapterlab import argmap
from adapterlab.cli import app
from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import Evidence
from adapterlab.lab.analysis.matched import Matched
from adapterlab.lab.study.as_toml import as_toml
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.sweep import Cell, Sweep
from adapterlab.report.page import write_report
from adapterlab.report.verdict_json import to_json
from adapterlab.tasks.base import Part
from adapterlab.verdict import check_tests, judge
from adapterlab.verdict.claims import read_test
from adapterlab.verdict.next_contest import next_contests, study_of, unwritable
from tests.lab.analysis.test_scoreboard import made_up
from tests.lab.made_up import analysed, played
from tests.lab.swept import swept
from tests.report.page_data import data_of
from tests.verdict.test_verdict import a_map

BOTH = "on: [prose, restyle]"
REVERSES = "{reverses: oft, on: [steer]}"
KEEPS = f"{{better: oft, than: lora, in: forgetting, at: equal_learning, {BOTH}}}"
TREND = f"{{trend: pissa, minus: lora, along: rank, in: in_domain, {BOTH}}}"
ALL = (
    f"{{all: [{{better: oft, than: lora, in: in_domain, {BOTH}}}, "
    f"{{better: oft, than: lora, in: out_of_domain, {BOTH}}}]}}"
)


def read(test: str):
    return read_test("Claim", a_map(test).tests["Claim"])


def only(test: str, effects: Effects, cells: Cells | None = None, relevance: float = 1.0):
    (found,) = judge(a_map(test), effects, relevance, cells).verdicts
    return found


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (REVERSES, "oft moves the trait the other way at strength -1, by at least 50%: on steer"),
        ("{reverses: oft, before: lora, on: steer}", "oft reverses further at strength -1 than lora: on steer"),
        (
            KEEPS,
            "oft is better than lora by a difference that matters: forgetting on prose and restyle, at equal learning",
        ),
        (
            TREND,
            "pissa's lead over lora rises by a difference that matters with ten times the rank: "
            "loss, in-domain on prose and restyle",
        ),
        (
            "{trend: lora, along: data, falls: true, by: 0.01, in: in_domain, on: prose}",
            "lora's gain falls by more than 0.01 with ten times the data: loss, in-domain on prose",
        ),
        (
            "{trend: lora, along: model, within: 0.01, in: in_domain, on: prose}",
            "lora's gain changes by at most 0.01 with ten times the size of the model: loss, in-domain on prose",
        ),
    ],
)
def test_each_form_is_said_in_words(test, sentence):
    assert read(test).sentence() == sentence
    assert check_tests(a_map(test)) == []


def test_several_statements_are_said_one_after_the_other():
    first, second = (part.sentence() for part in read(ALL).parts)
    assert read(ALL).sentence() == f"{first}; and {second}"
    assert read(ALL).contestants() == ("oft", "lora")
    assert read(ALL).tasks == ("prose", "restyle")


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ("{reverses: oft, on: [prose]}", "prose cannot show a reversal.*give persona or steer"),
        ("{reverses: oft, in: in_domain, on: [steer]}", "reverses is measured by in: reversal: leave in out"),
        ("{reverses: oft, share: 2, on: [steer]}", "share: .*less than or equal to 1"),
        ("{reverses: oft, before: lora, share: 0.5, on: [steer]}", "leave share or before out"),
        ("{reverse: oft, on: [steer]}", "has none of the keys .*reverses, trend, rate, all"),
        ("{reverses: offt, on: [steer]}", "unknown adapter 'offt'"),
        (KEEPS.replace("forgetting", "in_domain"), "at: equal_learning compares forgetting or out_of_domain, not in_d"),
        (KEEPS.replace("equal_learning", "equal"), "at: .*equal_learning"),
        ("{reaches: 0.5, who: oft, of: lora, at: equal_learning, in: forgetting, on: prose}", "unknown key 'at'"),
        (TREND.replace("rank", "width"), "along: .*'steps', 'data', 'rank', 'budget' or 'model'"),
        (TREND.replace("in_domain", "accuracy"), "a trend is tested in a loss: give in: in_domain"),
        (TREND.replace("in_domain", "in_doman"), "unknown metric 'in_doman'"),
        (TREND.replace("minus: lora", "minus: pissa"), "minus names the same contestant"),
        (TREND.replace("along: rank", "along: rank, within: 0.1, falls: true"), "within is for a trend that is flat"),
        (TREND.replace("along: rank", "along: data").replace("in_domain", "forgetting"), "a trend along data compares"),
        (TREND.replace("minus", "minsu"), "unknown key 'minsu'.*did you mean minus"),
        ("{all: [{better: oft, than: lora, in: in_domain, on: prose}]}", "all needs a list of two or more tests"),
        ("{all: better}", "all needs a list of two or more tests"),
        (ALL.replace("]}]}", "]}], on: prose}"), "on stands beside all: write it in each of the tests of all"),
        (
            ALL.replace("better: oft, than: lora, in: out", "better: oft, then: lora, in: out"),
            "in part 2 of the test of",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(test, problem):
    (found,) = check_tests(a_map(test))
    assert (found.severity, found.code) == ("error", "test")
    assert re.search(problem, found.message), found.message
    assert "\n" not in found.message


def turned(up: dict[str, float], down: dict[str, float], noise: float = 0.002, fewer: bool = False) -> Effects:
    """A study of the `steer` task whose contestants move the trait by these effects at strength 1 and at strength -1."""
    results = made_up(dict.fromkeys(up, 0.1), {}, tasks=("steer",))
    rng = np.random.default_rng(0)
    for name in up:
        contest = results.contests[name, "steer"]
        for seed, (trial, outcome) in contest.reported.items():
            one, other = (effect[name] + rng.normal(0, noise) for effect in (up, down))
            ends = {1.0: {"test": (-min(one, other), 0.5)}, -1.0: {"test": (max(one, other), 0.5)}}
            path = tuple((s, scores) for s, scores in ends.items() if fewer or s < 0)
            scores = {**outcome.scores, "test": (1.0, 0.5)} if fewer else {**outcome.scores, **ends[1.0]}
            contest.reported[seed] = trial, replace(outcome, path=path, scores=scores)
    return Effects.of(results)


@pytest.mark.parametrize(
    ("up", "down", "share"), [(0.2, 0.2, 1.0), (0.2, 0.05, 0.25), (0.1, 0.2, 0.5), (0.2, -0.1, -0.5), (-0.1, -0.2, -1)]
)
@pytest.mark.parametrize("fewer", [True, False])
def test_a_reversal_is_the_weaker_way_as_a_share_of_the_stronger_one(up, down, share, fewer):
    effects = turned({"lora": 0.1, "oft": up}, {"lora": 0.1, "oft": down}, noise=0.0, fewer=fewer)
    assert list(effects.values("oft", "reversal").values()) == pytest.approx([share] * 3)
    assert effects.values("frozen", "reversal") == {}


def test_a_method_that_steers_both_ways_is_told_from_one_that_steers_one_way():
    effects = turned({"lora": 0.2, "oft": 0.2}, {"lora": 0.02, "oft": 0.18})
    both, one_way = only(REVERSES, effects), only(REVERSES.replace("oft", "lora"), effects)
    assert both.after > 0.9 > 0.1 > one_way.after
    assert both.effect.mean == pytest.approx(0.9, abs=0.03)
    assert only(REVERSES.replace("on:", "share: 0.99, on:"), effects).after < 0.2
    assert only("{reverses: oft, before: lora, on: [steer]}", effects).after > 0.9
    assert only("{reverses: lora, before: oft, on: [steer]}", effects).after < 0.1


def test_a_reversal_needs_runs_that_were_scored_at_strength_minus_one():
    effects = Effects.of(made_up({"lora": 0.1, "oft": 0.1}, {}, tasks=("steer",)))
    assert only(REVERSES, effects).untested == "no run of oft was scored at strength -1 (report.path)"


def learners(**how) -> Effects:
    """OFT learns half and forgets two thirds of what LoRA does: less as trained, more at equal learning."""
    return Effects.of(
        played(
            ("lora", "oft"),
            gains={"lora": 0.2, "oft": 0.1},
            forgetting={"lora": 0.06, "oft": 0.04},
            noise=0.002,
            **how,
        )
    )


def test_at_equal_learning_a_claim_may_turn():
    effects = learners(best={"lora": 2.0, "oft": 2.0})
    assert only(KEEPS.replace(" at: equal_learning,", ""), effects).after > 0.9
    found = only(KEEPS, effects)
    assert found.after < 0.1
    assert found.effect == Matched.of(effects, Part.BASE).compare("oft", "lora")
    assert len(found.pairs) == 6
    assert {trial for pair in found.pairs for trial in pair.trials}
    swapped = KEEPS.replace("better: oft, than: lora", "better: lora, than: oft")
    assert only(swapped, effects).after > 0.9
    on_one = only(KEEPS.replace(BOTH, "on: [prose]"), effects)
    assert {pair.task for pair in on_one.pairs} == {"prose"}


def test_equal_learning_needs_a_path():
    assert only(KEEPS, learners()).untested == "oft and lora has no strength path with forgetting (report.path)"


RANKS = {"rank": (2, 8, 32)}


def by_rank(slope: float, base: float = 0.1):
    """PiSSA leads by `slope` for each tenfold of the rank, whatever LoRA gains."""

    def gain(name, task, levels):
        own = base + 0.02 * math.log10(levels["rank"]) + (0.003 if task == "prose" else 0.0)
        return own + (slope * math.log10(levels["rank"]) if name == "pissa" else 0.0)

    return gain


def test_a_trend_has_the_slope_that_was_planted_and_least_squares_find():
    cells = swept(("lora", "pissa"), by_rank(0.03), sweep=RANKS, noise=0.001)
    found = only(TREND, cells.main, cells)
    assert found.effect.mean == pytest.approx(0.03, abs=0.002)
    assert found.effect.low < 0.03 < found.effect.high
    x = np.log10([2, 8, 32])
    by_key = {
        cell.by_factor["rank"]: {k: -v for k, v in effects.values("pissa", "in_domain").items()}
        for cell, effects in cells.by_cell.items()
    }
    lora = {
        cell.by_factor["rank"]: {k: -v for k, v in effects.values("lora", "in_domain").items()}
        for cell, effects in cells.by_cell.items()
    }
    for pair in found.pairs:
        key = pair.task, pair.seed
        leads = [by_key[rank][key] - lora[rank][key] for rank in (2, 8, 32)]
        assert pair.difference == pytest.approx(np.polyfit(x, leads, 1)[0])
        assert len(pair.trials) == 6
    assert found.after > 0.9


def test_a_trend_may_fall_be_flat_or_be_of_one_contestant():
    cells = swept(("lora", "pissa"), by_rank(0.0), sweep=RANKS, noise=0.0005)
    flat = TREND.replace("along: rank", "along: rank, within: 0.005")
    alone = "{trend: lora, along: rank, by: 0.01, in: in_domain, on: [prose, restyle]}"
    assert only(TREND, cells.main, cells).after < 0.1
    assert only(flat, cells.main, cells).after > 0.9
    assert only(flat, cells.main, cells).same < 0.05
    assert only(alone, cells.main, cells).effect.mean == pytest.approx(0.02, abs=0.001)
    assert only(alone, cells.main, cells).after > 0.9
    falling = swept(("lora", "pissa"), by_rank(-0.03), sweep=RANKS, noise=0.0005)
    falls = TREND.replace("along: rank", "along: rank, falls: true")
    found = only(falls, falling.main, falling)
    assert found.after > 0.9
    assert found.effect.mean == pytest.approx(0.03, abs=0.001)
    assert only(TREND, falling.main, falling).after < 0.1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TREND, TREND.replace("along: rank", "along: rank, falls: true")),
        (TREND, TREND.replace("pissa, minus: lora", "lora, minus: pissa")),
    ],
)
@pytest.mark.parametrize("slope", [0.0, 0.008])
def test_trends_that_exclude_each_other_do_not_both_become_likely(one, other, slope):
    cells = swept(("lora", "pissa"), by_rank(slope), sweep=RANKS, noise=0.004)

    def after(*tests: str) -> list[float]:
        blocks = "\n\n".join(
            f"[C{i}]: c {{reason: x, credence: 0.8, test: {test}}}\n  +> [Thesis]" for i, test in enumerate(tests)
        )
        the_map = argmap.parse(f"[Thesis]: t {{prior: 0.5}}\n\n{blocks}")
        return [verdict.after for verdict in judge(the_map, cells.main, 1.0, cells).verdicts]

    assert sum(after(one, other)) <= 1.01
    assert after(one, one) == pytest.approx(after(one) * 2, abs=0.02)


def test_at_equal_learning_claims_that_exclude_each_other_do_not_both_become_likely():
    effects = learners(best={"lora": 2.0, "oft": 2.0})
    swapped = KEEPS.replace("better: oft, than: lora", "better: lora, than: oft")
    first, second = (only(test, effects).regions[0] for test in (KEEPS, swapped))
    draws = first.own.posterior(1.0)
    assert second.own.topic == first.own.topic
    assert np.array_equal(second.own.values, first.own.values)
    assert not (first.own.holds(draws, first) & second.own.holds(draws, second)).any()


def test_a_contestant_that_the_factor_leaves_alone_cancels():
    def gain(name, task, levels):
        return 0.1 if name == "oft" else 0.1 + 0.02 * math.log10(levels["rank"])

    cells = swept(("lora", "oft"), gain, sweep=RANKS, noise=0.0005)
    over = "{trend: lora, minus: oft, along: rank, in: in_domain, on: [prose, restyle]}"
    assert only(over, cells.main, cells).effect.mean == pytest.approx(0.02, abs=0.001)
    still = "{trend: oft, along: rank, in: in_domain, on: [prose, restyle]}"
    assert only(still, cells.main, cells).untested == "the rank of oft does not change in this study"
    steps = only(over.replace("along: rank", "along: steps"), cells.main, cells)
    assert steps.untested == "this study does not sweep the number of steps"
    assert only(over, cells.main).untested == "this study does not sweep the rank"


def test_a_trend_along_the_data_is_the_change_from_a_tenth_to_all_of_it():
    """LoRA's loss falls by 0.1 with ten times the data, OFT's by 0.05: the lead of LoRA grows by 0.05."""
    results = played(("lora", "oft"), gains={"lora": 0.2, "oft": 0.2}, tenth={"lora": 0.9, "oft": 0.85}, noise=0.001)
    effects = Effects.of(results)
    found = only("{trend: lora, minus: oft, along: data, in: in_domain, on: [prose, restyle]}", effects)
    assert found.effect.mean == pytest.approx(0.05, abs=0.005)
    assert found.after > 0.9
    alone = only("{trend: oft, along: data, in: in_domain, on: [prose]}", effects)
    assert alone.effect.mean == pytest.approx(0.05, abs=0.005)
    without = Effects.of(played(("lora", "oft"), gains={"lora": 0.2, "oft": 0.2}, noise=0.001))
    assert "a tenth of the data" in only(TREND.replace("rank", "data").replace("pissa", "oft"), without).untested


def on_models(leads: dict[int, float], known: bool = True) -> Cells:
    """LoRA's lead over OFT on models of these sizes, which full fine-tuning counts."""
    found = {}
    for i, (size, lead) in enumerate(leads.items()):
        gains, parameters = {"lora": 0.1 + lead, "oft": 0.1}, {"full_ft": size if known else 0}
        results = played(("lora", "oft", "full_ft"), gains=gains, parameters=parameters, noise=0.001, seed=i)
        found[Cell((("model", f"model {i}"),))] = Effects.of(results)
    return Cells(found, Sweep(models=tuple(f"model {i}" for i in range(len(leads)))))


def test_a_trend_over_models_is_per_tenfold_of_their_parameters():
    """A lead that grows by 0.02 with ten times the parameters, on models of a million, a hundred million and a milliard."""
    cells = on_models({10**6: 0.0, 10**8: 0.04, 10**9: 0.06})
    test = "{trend: lora, minus: oft, along: model, in: in_domain, on: [prose, restyle]}"
    found = only(test, cells.main, cells)
    assert found.effect.mean == pytest.approx(0.02, abs=0.001)
    assert 0 < found.effect.error < 0.001
    assert found.after > 0.9
    assert np.mean([pair.difference for pair in found.pairs]) == pytest.approx(found.effect.mean)
    errors = [effects.compare("lora", "oft", "in_domain").error for effects in cells.by_cell.values()]
    x = np.array([6, 8, 9]) - np.mean([6, 8, 9])
    assert found.effect.error == pytest.approx(math.sqrt(np.sum((x / np.sum(x**2) * errors) ** 2)))
    unknown = on_models({10**6: 0.0, 10**8: 0.04}, known=False)
    why = only(test, unknown.main, unknown).untested
    assert why == "the size of model 0 and model 1 is not known, since full fine-tuning did not run"


@pytest.mark.parametrize(
    ("gains", "lower", "upper"), [((0.2, 0.2), 0.9, 1), ((0.2, 0.1), 0, 0.15), ((0.1, 0.2), 0, 0.15)]
)
def test_a_claim_of_several_statements_holds_if_they_all_do(gains, lower, upper):
    results = played(("lora", "oft", "ia3"), gains={"lora": 0.15, "oft": gains[0], "ia3": gains[1]}, noise=0.002)
    test = (
        f"{{all: [{{better: oft, than: lora, in: in_domain, {BOTH}}}, "
        f"{{better: ia3, than: lora, in: in_domain, {BOTH}}}]}}"
    )
    found = only(test, Effects.of(results))
    assert lower <= found.after <= upper
    assert found.effect is None
    assert len(found.parts) == 2
    assert len(found.pairs) == 12


def test_statements_of_one_metric_are_judged_on_joint_draws():
    """Two statements that exclude each other never hold together; one and itself hold as often as one."""
    effects = Effects.of(played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.104}, noise=0.004))
    one = f"{{better: oft, than: lora, in: in_domain, {BOTH}}}"
    other = f"{{better: lora, than: oft, in: in_domain, {BOTH}}}"
    assert only(f"{{all: [{one}, {other}]}}", effects).after < 0.001
    assert only(f"{{all: [{one}, {one}]}}", effects).after == only(one, effects).after


def test_statements_of_different_metrics_are_independent():
    """Their Bayes factors follow from the shares of each, which multiply."""
    effects = Effects.of(played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.104}, noise=0.006))
    tests = [
        f"{{better: oft, than: lora, in: {metric}, by: 0.002, {BOTH}}}" for metric in ("in_domain", "out_of_domain")
    ]
    both = only(f"{{all: [{tests[0]}, {tests[1]}]}}", effects).bayes_factor
    shares = []
    for test in tests:
        (where,) = only(test, effects).regions
        evidence = Evidence.of(effects, where.contrast.metrics[0], [where])
        shares.append([evidence.holds(draws, where).mean() for draws in (evidence.prior(), evidence.posterior(1.0))])
    before, after = np.prod(np.array(shares), axis=0)
    assert both == pytest.approx(after / (1 - after) / (before / (1 - before)), rel=0.1)


def test_what_one_statement_lacks_leaves_the_claim_untested():
    effects = Effects.of(played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.2}, noise=0.002))
    missing = ALL.replace("better: oft, than: lora, in: out", "better: dora, than: lora, in: out")
    assert only(missing, effects).untested == "part 2: dora did not run in this study"


def test_a_planted_trend_is_found_as_often_as_its_credence_says():
    """Slopes drawn from the prior of the model: of the claims that end near 0, a half and 1, about so many are true."""
    rng = np.random.default_rng(1)
    found, truth = [], []
    for _ in range(40):
        slope = 0.01 * rng.standard_cauchy()
        cells = swept(("lora", "pissa"), by_rank(slope), sweep={"rank": (2, 32)}, noise=0.004, rng=rng)
        found.append(only(TREND.replace("along: rank", "along: rank, by: 0"), cells.main, cells).after)
        truth.append(slope > 0)
    found, truth = np.array(found), np.array(truth)
    for low, high in ((0, 0.3), (0.3, 0.7), (0.7, 1)):
        inside = (found >= low) & (found <= high)
        expected, error = found[inside].sum(), math.sqrt((found[inside] * (1 - found[inside])).sum())
        assert abs(truth[inside].sum() - expected) < 3 * error + 1


def test_the_report_and_the_verdict_show_every_statement(tmp_path):
    results = played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.2}, noise=0.002)
    analysis = analysed(results, a_map(ALL))
    (claim,) = to_json(analysis)["claims"]
    assert [part["test"]["in"] for part in claim["parts"]] == ["in_domain", "out_of_domain"]
    assert all(len(part["pairs"]) == 6 for part in claim["parts"])
    assert "effect" not in claim
    json.dumps(claim)
    write_report(analysis, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for i, part in enumerate(read(ALL).parts, 1):
        assert f"{i}. {part.sentence()}" in page
    (claim,) = [each for each in data_of(page)["map"]["claims"].values() if each["test"]]
    assert [len(part["pairs"]) for part in claim["test"]["parts"]] == [6, 6]


def a_net(*tests: str) -> argmap.Map:
    lines = "\n".join(
        f"  + [C{i}]: c {{reason: r, predicted: [0.7, 0.4], credence: 0.5, test: {test}}}"
        for i, test in enumerate(tests)
    )
    return argmap.parse(f"[T]: t {{prior: 0.3}}\n{lines}")


@pytest.mark.parametrize(
    ("test", "has"),
    [
        (REVERSES, lambda study: -1.0 in study.report.path and study.tasks == ("steer",)),
        (KEEPS, lambda study: len(study.report.path) == 3),
        (TREND, lambda study: study.sweep.rank == (2, 8, 32) and study.budget is None),
        (TREND.replace("rank", "budget"), lambda study: len(study.sweep.budgets) == 3),
        (
            TREND.replace("rank", "steps"),
            lambda study: study.sweep.steps == (15, 30, 60) and study.training.steps == 60,
        ),
        (TREND.replace("rank", "data"), lambda study: study.report.tenth_of_data),
        (ALL, lambda study: {c.name for c in study.contestants} == {"oft", "lora"}),
    ],
)
def test_the_study_of_each_form_can_test_it(test, has, tmp_path):
    (contest,) = next_contests(a_net(test))
    assert has(contest.study)
    (tmp_path / "next.toml").write_text(as_toml(contest.study))
    assert load_study(tmp_path / "next.toml") == contest.study == study_of({"C0": read(test)})
    assert contest.steps > 0


def test_a_contest_of_biases_needs_a_model_with_biases():
    the_map = a_net(f"{{better: lora, than: bitfit, in: in_domain, {BOTH}}}")
    assert next_contests(the_map) == []
    assert "the embedded model has no biases" in unwritable(the_map)["C0"]
    (contest,) = next_contests(the_map, model="embedded-with-biases")
    assert contest.study.model == "embedded-with-biases"
    assert unwritable(the_map, model="embedded-with-biases") == {}


def test_a_trend_over_models_has_no_study_and_says_so(tmp_path):
    the_map = a_net(TREND.replace("rank", "model"), REVERSES)
    assert [list(contest.tests) for contest in next_contests(the_map)] == [["C1"]]
    assert list(unwritable(the_map)) == ["C0"]
    file = tmp_path / "m.argdown"
    file.write_text(the_map.source.text)
    result = CliRunner().invoke(app, ["map", "next", str(file), "--no-measure"])
    assert "no study is written for [C0]: it needs two or more models" in result.stdout
    found = json.loads(CliRunner().invoke(app, ["map", "next", str(file), "--no-measure", "--json"]).stdout)
    assert list(found["no_study"]) == ["C0"]
