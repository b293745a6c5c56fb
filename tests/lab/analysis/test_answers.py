"""Contestants compared by the metric of their answers, over outcomes that the test makes up."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from statsmodels.stats.multitest import multipletests

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.answers import answer_tables
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import METRICS, Results
from adapterlab.lab.analysis.pairwise import _compare
from adapterlab.lab.analysis.scoreboard import make_scoreboard
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.report.page import write_report
from adapterlab.report.terminal import show
from adapterlab.report.verdict_json import to_json
from adapterlab.tuning.advice import advise, winner_of
from tests.lab.made_up import analysed, played

ROWS = 24


def with_answers(results: Results, answer, metrics: dict[str, str] | None = None) -> Results:
    """Results whose tasks have a metric; `answer` gives the values of a contestant on a task and part with a seed."""
    tasks = {}
    for name, task in results.resolved.tasks.items():
        tasks[name] = copy.copy(task)
        tasks[name].metric = "exact_match" if metrics is None else metrics[name]
    for (name, task), contest in results.contests.items():
        contest.resolved = dataclasses.replace(contest.resolved, tasks=tasks)
        for seed, (trial, outcome) in contest.reported.items():
            if tasks[task].metric:
                found = {part: tuple(map(float, answer(name, task, part, seed))) for part in ("test", "ood")}
                contest.reported[seed] = trial, dataclasses.replace(outcome, answers=found)
    return dataclasses.replace(results, resolved=dataclasses.replace(results.resolved, tasks=tasks))


def right(shares: dict[str, float]):
    """Answers of which about this share is right; rows differ in difficulty, which the contestants share."""

    def answer(name: str, task: str, part: str, seed: int) -> np.ndarray:
        rng = np.random.default_rng([len(task), part == "ood"])
        hard = rng.uniform(size=ROWS)
        wobble = np.random.default_rng([seed, len(task), len(name), ord(name[0])]).normal(0, 0.02, ROWS)
        return hard + wobble < shares[name] - (0.1 if part == "ood" else 0)

    return answer


SHARES = {FROZEN: 0.1, "lora": 0.5, "oft": 0.9, "ia3": 0.4}
GAINS = {"lora": 0.2, "oft": 0.1, "ia3": 0.05}


@pytest.fixture(scope="module")
def results():
    return with_answers(played(("lora", "oft", "ia3"), gains=GAINS, noise=0.001), right(SHARES))


@pytest.fixture(scope="module")
def table(results):
    (found,) = answer_tables(Effects.of(results))
    return found


@pytest.fixture(scope="module")
def plain(results):
    """The recorded answers as a plain table."""
    return pd.DataFrame(
        {"contestant": name, "task": task, "part": part, "seed": seed, "row": i, "value": value}
        for (name, task), contest in results.contests.items()
        for seed, (_, outcome) in contest.reported.items()
        for part, values in outcome.answers.items()
        for i, value in enumerate(values)
    )


def test_means_and_differences_are_those_of_pandas(table, plain):
    runs = plain.groupby(["part", "contestant", "task", "seed"])["value"].mean().groupby(level=[0, 1, 2]).mean()
    means = runs.groupby(level=[0, 1]).mean()
    assert table.frozen == pytest.approx(means["test", FROZEN])
    assert table.frozen_ood == pytest.approx(means["ood", FROZEN])
    assert [row.contestant for row in table.rows] == list(means["test"].drop(FROZEN).sort_values(ascending=False).index)
    for row in table.rows:
        assert row.value.mean == pytest.approx(means["test", row.contestant])
        assert row.value_ood.mean == pytest.approx(means["ood", row.contestant])
        assert row.gain.mean == pytest.approx(means["test", row.contestant] - means["test", FROZEN])
        if row.versus is not None:
            assert row.versus.mean == pytest.approx(means["test", row.contestant] - means["test", "lora"])
            assert row.versus_ood.mean == pytest.approx(means["ood", row.contestant] - means["ood", "lora"])
    assert table.answers == 2 * ROWS


def test_p_values_are_corrected_over_all_pairs(table):
    pairs = list(table.pairs.effects)
    assert len(pairs) == 3
    holm = multipletests([table.pairs.effects[pair].p for pair in pairs], method="holm")[1]
    assert [table.pairs.adjusted[pair] for pair in pairs] == pytest.approx(list(holm))
    assert table.row("oft").p == table.pairs.p("lora", "oft")


def test_an_answers_statistics_are_those_of_a_loss_with_the_same_numbers():
    """The statistics of losses are held to pandas, scipy and statsmodels in `tests/report/test_quick_recomputed.py`."""
    results = played(("lora", "oft", "ia3"), gains=GAINS, noise=0.004)
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.1, ROWS)
    for contest in results.contests.values():
        for seed, (trial, outcome) in contest.reported.items():
            rows = outcome.scores["test"][0] + hard - hard.mean() + (noise := rng.normal(0, 0.02, ROWS)) - noise.mean()
            contest.reported[seed] = trial, dataclasses.replace(outcome, rows={"test": tuple(rows)})
    results = with_answers(
        results, lambda name, task, _, seed: [-v for v in results.contests[name, task].reported[seed][1].rows["test"]]
    )
    effects = Effects.of(results)
    for one, other in (("lora", "oft"), ("ia3", "oft"), ("oft", FROZEN)):
        loss, answers = (effects.compare(one, other, metric) for metric in ("in_domain", "answers_in_domain"))
        assert answers.mean == pytest.approx(loss.mean)
        assert (answers.low, answers.high, answers.p) == pytest.approx((loss.low, loss.high, loss.p), rel=1e-6)
        assert answers.high - answers.low > 0.001


def test_the_order_is_by_the_metric_and_the_answer_says_so(results):
    board = make_scoreboard(Effects.of(results))
    assert [row.contestant for row in board.rows] == ["oft", "lora", "ia3"]  # by the loss lora leads
    assert board.decided_by is board.answers[0]
    assert board.lead.behind == ("lora", "ia3")
    assert "oft answers best on prose and restyle: exact match 0." in board.answer
    assert "Learning rates are chosen by validation loss; the order is by exact match" in board.answer
    frame = board.to_frame().set_index("contestant")
    assert frame.loc["oft", "answers"] == board.answers[0].row("oft").value.mean
    assert frame.loc["oft", "answers_versus_low"] > 0
    assert math.isnan(frame.loc["lora", "answers_p"])


def test_where_the_metric_cannot_tell_the_loss_decides():
    def answer(name: str, task: str, part: str, seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, len(task), len(name), ord(name[0])])
        return rng.uniform(size=ROWS) < {"oft": 0.62, "lora": 0.5}.get(name, 0.0)

    board = make_scoreboard(Effects.of(with_answers(played(tuple(GAINS), gains=GAINS, noise=0.001), answer)))
    table = board.answers[0]
    assert table.pairs.names[0] == "oft"
    assert set(table.tied) == {"oft", "lora"}
    assert [row.contestant for row in board.rows] == ["lora", "oft", "ia3"]
    assert "By exact match it cannot be told from oft (the highest is oft's 0." in board.answer
    assert board.lead.behind == ("oft", "ia3")  # oft by the loss, ia3 by the metric


def test_a_metric_that_is_constant_decides_nothing_and_is_said():
    analysis = analysed(with_answers(played(tuple(GAINS), gains=GAINS), lambda *_: [0.0] * ROWS))
    board = analysis.main.scoreboard
    assert [row.contestant for row in board.rows] == ["lora", "oft", "ia3"]
    assert board.decided_by is None
    sentence = "(exact match) is 0 for every answer of every run, so there is nothing to compare by it"
    assert sentence in board.answer
    assert "lora learns most" in board.answer
    assert sentence in advise(analysis.main)
    versus = board.answers[0].row("oft").versus
    assert (versus.mean, versus.p) == (0, 1)
    assert not math.isfinite(versus.low)  # answers that are all scored as equal say little of others


def test_an_interval_ends_where_the_metric_does(results):
    shares = SHARES | {"oft": 0.99}
    (table,) = answer_tables(Effects.of(with_answers(played(tuple(GAINS), gains=GAINS, noise=0.01), right(shares))))
    assert table.row("oft").value.high == 1
    assert table.row("oft").value.low < table.row("oft").value.mean <= 1
    assert table.row("oft").versus.high > table.row("oft").versus.mean


def test_metrics_that_not_all_tasks_have_do_not_decide():
    of = with_answers(played(tuple(GAINS), gains=GAINS), right(SHARES), {"prose": "exact_match", "restyle": "f1"})
    board = make_scoreboard(Effects.of(of))
    assert [(table.metric, table.tasks) for table in board.answers] == [
        ("exact_match", ("prose",)),
        ("f1", ("restyle",)),
    ]
    assert board.decided_by is None
    assert "Not all tasks have the metric F1 of the words, so the order is by the loss." in board.answer
    assert {"answers_exact_match", "answers_p_f1"} <= set(board.to_frame().columns)
    with pytest.raises(AdapterlabError, match="prose and restyle are scored in F1 of the words and exact match"):
        _compare(of, ("lora", "oft"), ("prose", "restyle"), METRICS["answers_in_domain"], ())
    found = _compare(of, ("lora", "oft"), ("prose",), METRICS["answers_in_domain"], ())
    assert "oft is better than lora on prose" in found.sentence
    assert "exact match (answers, in-domain)" in found.sentence


def test_a_run_that_diverged_answers_as_the_frozen_model():
    results = with_answers(played(tuple(GAINS), gains=GAINS), right(SHARES))
    for task in results.study.tasks:
        contest = results.contests["lora", task]
        contest.reported = {
            seed: (trial, dataclasses.replace(outcome, status="diverged", scores={}, answers={}))
            for seed, (trial, outcome) in contest.reported.items()
        }
    table, *_ = answer_tables(Effects.of(results))
    assert table.row("lora").value.mean == pytest.approx(table.frozen)


def test_an_adapter_may_win_by_its_answers_though_its_loss_rose():
    gains = {"lora": -0.01, "oft": -0.02}
    shares = {FROZEN: 0.1, "lora": 0.5, "oft": 0.9}
    analysis = analysed(with_answers(played(("lora", "oft"), gains=gains, noise=0.001), right(shares)))
    assert winner_of(analysis.main).contestant == "oft"
    assert "0.020 nats per byte worse than the frozen model's" in analysis.answer
    assert "0.020 nats per byte worse than the untrained model on test rows" in advise(analysis.main)


def test_a_contestant_whose_answers_are_worse_than_the_frozen_models_does_not_win():
    shares = {FROZEN: 0.9, "lora": 0.5, "oft": 0.4}
    analysis = analysed(with_answers(played(("lora", "oft"), gains=GAINS, noise=0.001), right(shares)))
    assert winner_of(analysis.main) is None
    assert "No contestant learned anything" in analysis.answer
    frozen = f"{analysis.main.scoreboard.answers[0].frozen:.3f}"
    for text in (analysis.answer, advise(analysis.main)):
        assert f"The frozen model has exact match {frozen}, the best contestant (lora) 0." in text


def test_the_report_the_terminal_and_the_json_show_both(results, tmp_path):
    analysis = analysed(results)
    write_report(analysis, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    table = analysis.main.scoreboard.answers[0]
    assert "What the models say: exact match" in text
    for row in table.rows:
        assert f"{row.value.mean:.3f}<br><small>{row.value.low:.3f} to {row.value.high:.3f}" in text
    out = io.StringIO()
    show(analysis, Console(file=out, width=80))
    flat = " ".join(out.getvalue().split())
    assert f"oft {table.row('oft').value.mean:.3f} [{table.row('oft').value.low:.3f}," in flat
    assert "the order is by exact match, and by the loss among those that it cannot tell from the best." in flat
    assert all(len(line) <= 80 for line in out.getvalue().splitlines())
    board = json.loads(json.dumps(to_json(analysis)))["boards"][0]
    assert (board["order_by"], board["rates_by"]) == ("exact_match", "validation loss")
    (found,) = board["answers"]
    assert found["decides"]
    assert found["contestants"][0]["name"] == "oft"
    assert found["contestants"][0]["value"]["mean"] == pytest.approx(table.row("oft").value.mean)
    assert found["contestants"][0]["p_holm"] == table.row("oft").p


def test_advice_names_both_scores(results):
    text = advise(analysed(results).main)
    assert "Take oft at a learning rate of" in text
    assert "Its answers have exact match 0." in text
    assert "the order is by exact match" in text
