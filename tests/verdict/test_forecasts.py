"""Forecasts of resolved claims: scores by other libraries, claims that share runs, and the files of forecasts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss
from typer.testing import CliRunner

from adapterlab import argmap
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.report.forecasts import forecasts_to_json, show_forecasts
from adapterlab.resources import shipped
from adapterlab.verdict.forecast_scores import by_paper, compare_forecasters, score_forecasts
from adapterlab.verdict.resolution import (
    HEADLINE,
    Outcome,
    Resolution,
    headlines,
    outcomes_of,
    papers,
    resolution_of,
    survey,
)
from tests.argmap.reference.corpus import SOURCES_MAP
from tests.argmap.test_checks import needs_sources

BUILT_IN = argmap.load(shipped("maps", "natural_manifold.argdown"))


def outcome(title: str, true: bool, stated: float = 0.5, runs: str = "") -> Outcome:
    return Outcome(title, true, stated, None, frozenset(runs or title))


def random_outcomes(count: int, seed: int = 0) -> list[Outcome]:
    """Independent claims, none of which shares a run."""
    rng = np.random.default_rng(seed)
    return [
        Outcome(f"C{i}", bool(rng.random() < 0.4), float(rng.uniform(0.05, 0.95)), None, frozenset([f"run {i}"]))
        for i in range(count)
    ]


def claim(title: str, factor: float, runs: str, before: float = 0.5) -> dict[str, object]:
    return {"claim": title, "bayes_factor": factor, "before": before, "pairs": [{"trials": list(runs)}]}


@pytest.mark.parametrize(
    ("factor", "true"), [(10.0, True), (9.99, None), (0.1, False), (0.101, None), (1.0, None), (1e6, True)]
)
def test_a_claim_is_resolved_by_strong_evidence_alone(factor, true):
    """The credence plays no part: a claim of 0.99 stays open if the contest says little."""
    found = outcomes_of([claim("C", factor, "ab", before=0.99)])
    assert [o.true for o in found] == ([] if true is None else [true])
    untested = {"claim": "D", "before": 0.5, "untested": "why"}
    resolution = resolution_of([claim("C", factor, "ab"), untested])
    assert resolution.open == (("C",) if true is None else ())


def test_scores_of_independent_claims_are_those_of_scikit_learn():
    outcomes = random_outcomes(40)
    p, true = [o.stated for o in outcomes], [o.true for o in outcomes]
    found = score_forecasts({o.claim: o.stated for o in outcomes}, outcomes)
    assert found.brier.mean == pytest.approx(brier_score_loss(true, p))
    assert found.log.mean == pytest.approx(log_loss(true, p))
    squares = (np.array(p) - true) ** 2
    assert found.brier.error == pytest.approx(stats.sem(squares))
    assert found.skill == pytest.approx(1 - squares.mean() / np.var(true))
    for part in found.bins:
        some = [t for q, t in zip(p, true, strict=True) if part.low <= q < part.high]
        interval = stats.binomtest(sum(some), len(some)).proportion_ci()
        assert part.interval == pytest.approx((interval.low, interval.high))
        assert (part.claims, part.true) == (len(some), pytest.approx(np.mean(some)))
    assert sum(part.claims for part in found.bins) == found.claims == 40
    assert found.effective == pytest.approx(40)


def test_scores_with_shared_runs_are_those_with_sample_weights():
    outcomes = [replace(o, runs=frozenset(["one", f"{i % 5}", f"run {i}"])) for i, o in enumerate(random_outcomes(12))]
    forecasts = {o.claim: o.stated for o in outcomes}
    found = score_forecasts(forecasts, outcomes)
    runs = [o.runs for o in outcomes]
    weights = [1 / sum(len(a & b) / len(a | b) for b in runs) for a in runs]
    true = [o.true for o in outcomes]
    assert found.effective == pytest.approx(sum(weights))
    assert found.effective < 12
    assert found.brier.mean == pytest.approx(brier_score_loss(true, [*forecasts.values()], sample_weight=weights))
    assert found.log.mean == pytest.approx(log_loss(true, [*forecasts.values()], sample_weight=weights))


def test_a_contest_that_decides_three_claims_counts_once():
    three = outcomes_of([claim(title, 50, "ab") for title in "CDE"])
    apart = outcomes_of([claim("F", 50, "cd"), *(claim(title, 50, "ab") for title in "CDE")])
    assert sum(o.weight for o in three) == pytest.approx(1)
    assert sum(o.weight for o in apart) == pytest.approx(2)
    once = score_forecasts({"C": 0.8, "F": 0.3}, [outcome("C", True, runs="ab"), outcome("F", True, runs="cd")])
    thrice = score_forecasts(dict.fromkeys("CDE", 0.8) | {"F": 0.3}, apart)
    assert thrice.brier.mean == pytest.approx(once.brier.mean)
    assert thrice.brier.error == pytest.approx(once.brier.error)


def test_one_claim_in_two_studies_counts_once():
    found = outcomes_of([claim("C", 50, "ab"), claim("C", 0.02, "cd")])
    assert [(o.true, o.weight) for o in found] == [(True, 0.5), (False, 0.5)]


def test_of_one_claim_there_is_no_standard_error_and_no_skill():
    found = score_forecasts({"C": 0.8}, [outcome("C", True)])
    assert found.brier.mean == pytest.approx(0.04)
    assert math.isnan(found.brier.error)
    assert math.isnan(found.skill)


def test_a_certain_forecast_that_was_wrong_has_an_infinite_log_score():
    found = score_forecasts({"C": 0.0, "D": 0.4}, [outcome("C", True), outcome("D", False)])
    assert found.log.mean == math.inf
    assert found.brier.mean == pytest.approx((1 + 0.16) / 2)


def test_another_forecaster_is_compared_on_the_claims_that_both_have():
    known, unknown = "PiSSA Beats LoRA", "Mine"
    outcomes = [
        outcome(known, False, 0.27, "ab"),
        outcome("DeLoRA Holds", True, 0.42, "cd"),
        outcome(unknown, True, 0.9),
    ]
    rows = {row.forecaster.name: row for row in compare_forecasters(outcomes)}
    assert list(rows) == ["map", "survey", "headlines"]
    assert rows["map"].scores.claims == 3
    assert rows["survey"].scores.claims == 1
    assert rows["survey"].versus.mean == pytest.approx(0.88**2 - 0.27**2)
    assert rows["headlines"].scores.claims == 2
    assert rows["headlines"].scores.brier.mean == pytest.approx((0.9**2 + 0.1**2) / 2)
    assert [(paper.name, paper.true, len(paper.claims)) for paper in by_paper(outcomes)] == [
        ("2404.02948", 0, 1),
        ("2503.18225", 1, 1),
    ]


def test_a_headline_that_denies_a_claim_holds_if_it_is_false():
    (paper,) = by_paper([outcome("Least Is Too Little", False)])
    assert paper.true == 1
    assert headlines()["Least Is Too Little"] == pytest.approx(1 - HEADLINE)


def test_forecasts_are_of_tested_claims_of_the_built_in_map():
    tested = {title for title, found in BUILT_IN.claims.items() if "test" in found.data}
    assert set(survey()) | set(headlines()) <= tested
    assert len(survey()) == 34
    assert len(headlines()) == 40
    assert all(0 < p < 1 for p in (*survey().values(), *headlines().values()))


def test_a_paper_is_one_that_the_claim_cites():
    for title, paper in papers().items():
        links = {address for mention in BUILT_IN.claims[title].mentions for _, address in mention.links}
        if title != "Least Is Too Little":  # BitFit's paper, which the claim contradicts
            assert f"https://arxiv.org/abs/{paper}" in links, title


@needs_sources
def test_the_survey_s_numbers_are_those_of_its_map():
    import csv

    from adapterlab.verdict import resolution

    read = argmap.parse(SOURCES_MAP.read_text("utf-8"))
    file = Path(resolution.__file__).with_name("forecasts") / "survey.csv"
    rows = list(csv.DictReader(line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")))
    for row in rows:
        assert read.claims[row["survey_claim"]].credence == float(row["credence"]), row


def test_the_tables_fit_80_columns_and_say_when_claims_are_few(capsys):
    outcomes = tuple(
        outcomes_of([claim("PiSSA Beats LoRA", 0.01, "ab", 0.27), claim("OFT Forgets Less", 99, "cd", 0.66)])
    )
    show_forecasts(Resolution(outcomes, ("Open",), ("mine",)), Console(width=80))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    assert "2 claims are resolved, 1 as true; 1 was tested and is open." in flat
    assert "so few that the scores say little" in flat
    assert "Not locked before the first trial, or changed since: mine." in flat
    assert "2404.02948 0 of 1" in flat
    many = Resolution(tuple(random_outcomes(30)), ())
    show_forecasts(many, Console(width=80))
    assert "say little" not in capsys.readouterr().out


def test_studies_that_disagree_are_named(capsys):
    outcomes = tuple(outcomes_of([claim("C", 50, "ab"), claim("C", 0.02, "cd")]))
    show_forecasts(Resolution(outcomes, ()), Console(width=80))
    assert "Studies disagree, so both outcomes count: [C]." in capsys.readouterr().out
    show_forecasts(Resolution((), ("C",)), Console(width=80))
    assert "No claim is resolved; 1 was tested and is open." in capsys.readouterr().out


def test_the_command_reads_several_studies(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, kept, claims in (
        (one, True, [claim("C", 50, "ab", 0.8) | {"inferred": 0.7}, claim("D", 2, "ac")]),
        (two, False, [claim("E", 0.01, "de", 0.4), {"claim": "F", "before": 0.5, "untested": "why"}]),
    ):
        folder.mkdir()
        data = {"study": folder.name, "lock": {"kept": kept}, "claims": claims}
        (folder / "verdict.json").write_text(json.dumps(data))
    result = CliRunner().invoke(app, ["map", "forecasts", str(one), str(two / "verdict.json"), "--json"])
    found = json.loads(result.stdout)
    assert [(o["claim"], o["true"]) for o in found["resolved"]] == [("C", True), ("E", False)]
    assert found["resolved"][0]["forecasts"] == {"map": 0.8, "map, inferred": 0.7}
    assert (found["open"], found["unlocked"], found["effective"]) == (["D"], ["two"], pytest.approx(2))
    assert found["forecasters"][0]["brier"]["mean"] == pytest.approx((0.2**2 + 0.4**2) / 2)
    assert found["forecasters"][1]["brier"]["error"] is None
    shown = CliRunner().invoke(app, ["map", "forecasts", str(one), str(two)])
    assert "2 claims are resolved" in shown.stdout


@pytest.mark.parametrize("text", [None, "{}", "[]", '{"study": "s", "claims": [{"claim": "C", "bayes_factor": 50}]}'])
def test_a_file_that_is_no_verdict_is_one_line(text, tmp_path):
    path = tmp_path / "verdict.json"
    if text is not None:
        path.write_text(text)
    result = CliRunner().invoke(app, ["map", "forecasts", str(path)])
    assert isinstance(result.exception, AdapterlabError)
    assert "is not the verdict.json of a study with a map" in str(result.exception)


def test_plain_data_has_no_nan():
    found = forecasts_to_json(Resolution((outcome("C", True, 0.0),), ()))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["forecasters"][0]["skill"] is None


def test_a_claim_of_several_statements_is_decided_by_the_runs_of_all():
    parts = [{"pairs": [{"trials": ["a", "b"]}]}, {"pairs": [{"trials": ["b", "c"]}]}]
    (found,) = outcomes_of([{"claim": "All", "bayes_factor": 20.0, "before": 0.4, "parts": parts}])
    assert found.runs == {"a", "b", "c"}
