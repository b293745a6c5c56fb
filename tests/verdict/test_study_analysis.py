"""The analysis of a whole study: its boards in order, its table, its judgement."""

from __future__ import annotations

import math

import pytest

from adapterlab.lab.ledger.origins import Unused
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.progress import replay
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.study.sweep import Sweep
from adapterlab.lab.trial.spec import Trial
from adapterlab.verdict import Analysis, analyse, relevance
from tests.lab.made_up import analysed, page_of, played
from tests.lab.unplayed import outcome_of, prepared_of, record, study_of
from tests.verdict.test_verdict import BETTER, a_map


def loss(contest: Contest, trial: Trial) -> float:
    """IA3 has one size alone, so that its trials at both budgets are the same."""
    if contest.adapter is None:
        return 1.0
    return {"ia3": 0.7, "lora": 0.6 if contest.study.budget == 2000 else 0.8}[contest.contestant]


@pytest.fixture(scope="module")
def prepared():
    return prepared_of(
        study_of(sweep=Sweep(budgets=(800, 2000)), tasks=("prose", "steer", "restyle")), parameters=10**8
    )


@pytest.fixture(scope="module")
def ledger(prepared, tmp_path_factory) -> Ledger:
    ledger = Ledger(tmp_path_factory.mktemp("whole") / "ledger.sqlite")
    record(ledger, prepared, loss)
    return ledger


@pytest.fixture(scope="module")
def contests(prepared, ledger):
    return [state.contest for state in replay(prepared.contests(), ledger)]


@pytest.fixture(scope="module")
def analysis(prepared, contests, ledger) -> Analysis:
    return analyse(prepared, contests, ledger, a_map(BETTER.replace("oft", "ia3")))


def test_the_largest_budget_and_the_first_unit_are_the_main_board(analysis):
    assert [(board.study.budget, board.study.tasks) for board in analysis.boards] == [
        (2000, ("prose", "restyle")),
        (800, ("prose", "restyle")),
        (800, ("steer",)),
        (2000, ("steer",)),
    ]
    assert analysis.main is analysis.boards[0]
    assert analysis.answer == analysis.main.scoreboard.answer
    assert analysis.model_parameters == 10**8


def test_the_table_has_a_row_for_each_contestant_of_each_board(analysis):
    frame = analysis.scoreboard
    assert list(frame.columns[:4]) == ["budget", "tasks", "unit", "contestant"]
    assert [tuple(row) for row in frame[["budget", "tasks", "contestant"]].to_numpy()] == [
        (budget, tasks, name)
        for budget, tasks in ((2000, "prose+restyle"), (800, "prose+restyle"), (800, "steer"), (2000, "steer"))
        for name in (("lora", "ia3") if budget == 2000 else ("ia3", "lora"))
    ]
    assert set(frame[frame["tasks"] == "steer"]["unit"]) == {"nats of log-odds per byte"}
    gains = frame.set_index(["budget", "tasks", "contestant"])["gain"]
    assert gains[2000, "prose+restyle", "lora"] == pytest.approx(0.4)
    assert gains[800, "prose+restyle", "lora"] == pytest.approx(0.2)
    assert list(frame.index) == list(range(8))


def test_claims_are_judged_at_the_largest_budget(analysis):
    (verdict,) = analysis.judgement.verdicts
    assert verdict.effect.mean == pytest.approx(-0.1)
    training = analysis.study.training
    assert analysis.judgement.relevance == relevance(10**8, training.steps * training.batch)
    assert {pair.task for pair in verdict.pairs} == {"prose", "restyle"}


def test_without_a_map_nothing_is_judged_and_without_a_ledger_no_origin_is_known(prepared, contests, analysis, ledger):
    alone = analyse(prepared, contests)
    assert alone.judgement is None
    assert alone.origins == ()
    assert alone.main.scoreboard.to_frame().equals(analysis.main.scoreboard.to_frame())
    assert sum(origin.trials for origin in analysis.origins) == len(ledger)
    assert set(analysis.main.provenance.facts) > set(alone.main.provenance.facts)


def test_the_notebook_shows_signed_gains_and_no_number_where_there_is_none(analysis):
    shown = analysis._repr_html_()
    assert "<td>+0.4000</td>" in shown
    assert "nan" not in shown.lower()
    assert not math.isnan(analysis.main.scoreboard.row("ia3").p)


def test_trials_that_the_study_does_not_use_are_counted(prepared, contests, ledger, analysis):
    assert analysis.unused == ledger.unused([trial for contest in contests for trial in contest.trials])
    assert str(analysis.unused) == ""
    fewer = prepared_of(study_of("ia3", tasks=("prose",), reference="ia3"), parameters=10**8)
    found = analyse(fewer, [state.contest for state in replay(fewer.contests(), ledger)], ledger)
    assert found.unused != analysis.unused
    assert sum(origin.trials for origin in found.origins) < len(ledger)


def test_the_largest_of_three_budgets_is_the_main_board():
    prepared = prepared_of(study_of(sweep=Sweep(budgets=(800, 2000, 3000))))
    contests = play_study(prepared.contests(), lambda contest, trial: outcome_of(trial, loss(contest, trial)))
    found = analyse(prepared, contests)
    assert [board.study.budget for board in found.boards] == [3000, 800, 2000]
    assert found.unused == Unused(0, 0)


def test_tables_of_the_users_move_claims_and_the_report_says_by_what(prepared, contests, ledger, tmp_path):
    from rich.console import Console

    from adapterlab.evidence import Store
    from adapterlab.report.terminal import show

    head = "# parameters: 7e9\n# tuned: yes\nmodel,task,method,value\n"
    rows = "".join(
        f"big,task {i},{method},{50 + 5 * (method == 'dora')}\n" for i in range(6) for method in ("lora", "dora")
    )
    (tmp_path / "mine.csv").write_text(head + rows)
    the_map = a_map(BETTER.replace("oft", "dora"))
    found = analyse(prepared, contests, ledger, the_map, store=Store(tmp_path), weight=0.5)
    (verdict,) = found.judgement.verdicts
    assert "dora did not run" in verdict.untested
    assert verdict.after > verdict.before
    console = Console(record=True, width=80)
    show(found, console)
    assert f"{verdict.before:.2f} -> {verdict.after:.2f}" in console.export_text()
    page = page_of(found, tmp_path)
    assert "; new: mine" in page
    assert 'by <a href="#evidence">tables</a>' in page
    assert found.judgement.relevance == 0.5
    same = analyse(prepared, contests, ledger, the_map, store=Store(), weight=0.5)
    assert same.judgement.verdicts[0].after == same.judgement.verdicts[0].before


@pytest.mark.parametrize(("noise", "told"), [(0.002, False), (0.2, True)])
def test_intervals_that_are_too_wide_for_the_claims_are_named(noise, told):
    results = played(("lora", "oft", "ia3"), gains={"lora": 3.0, "oft": 3.1, "ia3": 2.9}, noise=noise)
    test = "{equivalent: oft, to: lora, within: 0.01, in: in_domain, on: [prose, restyle]}"
    analysis = analysed(results, a_map(test))
    (remark,) = [text for text in analysis.remarks if "report.smallest" in text] or [""]
    assert bool(remark) == told
    half = analysis.main.scoreboard.half_width
    widths = [row.versus.high - row.versus.low for row in analysis.main.scoreboard.ranked if row.versus is not None]
    assert half == pytest.approx(sum(widths) / len(widths) / 2, rel=0.2)
    if told:
        assert f"about ±{half:.2g} nats per byte, {half / 0.005:.0f} times" in remark
    assert not [text for text in analysed(results).remarks if "report.smallest" in text]  # no claim leans on it
