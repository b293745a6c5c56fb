"""The scoreboard and the sentence, over outcomes that the test makes up."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from statsmodels.stats.multitest import multipletests

from adapterlab.lab.analysis.contrast import difference, gain
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results, by_unit
from adapterlab.lab.analysis.scoreboard import Scoreboard, _kept, make_scoreboard
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.statistics import equivalence, from_error
from adapterlab.lab.study.spec import Contestant, Study, Training, Tuning
from adapterlab.lab.trial.spec import Outcome, Trial
from tests.lab.made_up import played

TASKS = ("prose", "restyle")
NAMES = ("lora", "ia3", "oft")


def made_up(gains: dict[str, float], forgetting: dict[str, float], noise: float = 0.001, tasks=TASKS) -> Results:
    """Finished contests in which a contestant's test loss is 1 less its gain, with a little noise that seeds share."""
    study = Study(
        name="made-up",
        tasks=tasks,
        budget=100,
        contestants=tuple(Contestant(adapter=name, start=3.2e-3) for name in (*NAMES, "full_ft")),
        training=Training(steps=40),
        tuning=Tuning(regret_sample=0),
    )
    contests = make_contests(resolve(study), {c.name: c.build() for c in study.entrants})

    def run(name: str, trial: Trial) -> Outcome:
        wobble = noise * ((trial.seed * 7 + len(name) * len(trial.task)) % 5 - 2)
        loss = 1 - gains.get(name, 0.0) + wobble + (0.1 if trial.lr not in (0.0, 3.2e-3) else 0)
        kept = 1 + forgetting.get(name, 0.0)
        scores = {"validation": (loss, 0.5), "test": (loss, 0.5), "ood": (loss, 0.5), "base": (kept, 0.5)}
        curve = ((20, 1 - gains.get(name, 0.0) / 2),)
        parameters = {"lora": 90, "oft": 95, "ia3": 10}.get(name, 0)
        return Outcome("ok", scores, curve, parameters, 1.0, 0.0)

    return Results.of(play_study(contests, lambda contest, trial: run(contest.contestant, trial)))


def board(results: Results) -> Scoreboard:
    return make_scoreboard(Effects.of(results))


def test_the_best_comes_first_and_what_is_even_is_said_to_be():
    scoreboard = board(made_up({"lora": 0.2, "oft": 0.201, "ia3": 0.1}, {"lora": 0.3, "oft": 0.05, "ia3": 0.0}))
    assert [row.contestant for row in scoreboard.rows] == ["oft", "lora", "ia3", "full_ft"]
    assert "oft learns most on prose and restyle: 0.2" in scoreboard.answer
    assert "as good as lora (within 0.005), and ahead of all others" in scoreboard.answer
    assert scoreboard.leads
    assert "trains fastest" not in scoreboard.answer


def test_of_those_as_good_as_the_best_the_fastest_is_named():
    results = made_up({"lora": 0.2, "oft": 0.201, "ia3": 0.1}, {})
    for contest in results.contests.values():
        if contest.contestant == "oft":
            contest.reported = {
                seed: (trial, dataclasses.replace(outcome, seconds=2.0))
                for seed, (trial, outcome) in contest.reported.items()
            }
    assert "ahead of all others. Of these, lora trains fastest: 25 ms a step, oft 50." in board(results).answer


def test_what_cannot_be_told_apart_is_not_called_the_same():
    results = made_up({"lora": 0.2, "oft": 0.201, "ia3": 0.01}, {}, noise=0.01)
    assert "ahead of all but lora, which cannot be told from it" in board(results).answer
    nothing = board(played(NAMES, gains=dict.fromkeys(NAMES, 0.1), noise=0.02))
    assert "no lead over another adapter can be told from chance" in nothing.answer
    assert not nothing.leads


def test_the_same_runs_under_two_names_differ_by_exactly_nothing():
    rows = {row.contestant: row for row in board(made_up({"lora": 0.2, "oft": 0.2}, {}, noise=0.0)).rows}
    oft = rows["oft"]
    assert (oft.versus.mean, oft.versus.low, oft.versus.high, oft.p) == (0, 0, 0, 1)
    assert oft.same == 0


def test_a_real_lead_is_called_real():
    scoreboard = board(made_up({"lora": 0.3, "oft": 0.15, "ia3": 0.01}, {}))
    assert "its lead over each of the other 2 is real" in scoreboard.answer


def test_what_is_not_near_the_budget_is_flagged():
    rows = {row.contestant: row for row in board(made_up({}, {})).rows}
    assert rows["lora"].comparable
    assert rows["ia3"].under_budget


def test_the_reference_is_compared_with_nobody():
    rows = {row.contestant: row for row in board(made_up({"oft": 0.1}, {})).rows}
    assert rows["lora"].versus is None
    assert rows["oft"].versus.mean == pytest.approx(0.1, abs=0.01)
    assert rows["oft"].versus.n == 6


def test_where_nobody_learns_that_is_the_answer():
    assert "No contestant learned anything" in board(made_up({"lora": -0.1, "oft": -0.2, "ia3": -0.3}, {})).answer


def test_metrics_read_what_they_say():
    results = made_up({"lora": 0.2, "oft": 0.4, "ia3": 0.1}, {"lora": 0.03}, noise=0.0)

    def same(values: dict, expected: float) -> bool:
        return bool(values) and all(value == pytest.approx(expected) for value in values.values())

    assert same(Effects.of(results).values("lora", "forgetting"), 0.03)
    assert same(Effects.of(results).numbers(gain("lora", "in_domain")), 0.2)
    assert same(Effects.of(results).numbers(difference("oft", "lora", "in_domain")), 0.2)
    # oft is at 0.2, LoRA's final gain, half-way down its own curve; ia3 never gets there.
    assert same(Effects.of(results).values("oft", "steps_to_reference"), 20)
    assert same(Effects.of(results).values("ia3", "steps_to_reference"), 40)
    # All three rates keep half of oft's gain, only the middle one of ia3's.
    assert same(Effects.of(results).values("oft", "learning_rate_width"), 1.0)
    assert same(Effects.of(results).values("ia3", "learning_rate_width"), 0.0)


def test_tasks_of_other_units_stand_on_boards_of_their_own():
    results = made_up({"lora": 0.2, "oft": 0.1, "ia3": 0.1}, {}, tasks=("prose", "steer", "restyle"))
    parts = by_unit(results)
    assert [board.study.tasks for board in parts] == [("prose", "restyle"), ("steer",)]
    assert parts[0].unit != parts[1].unit
    assert "on prose and restyle" in board(parts[0]).answer
    assert {task for task, _ in Effects.of(parts[1]).values("lora", "in_domain")} == {"steer"}


@pytest.fixture(scope="module")
def with_full():
    """Full fine-tuning learns most, IA3 has not finished on one task, and one run of OFT has diverged."""
    results = made_up({"full_ft": 0.5, "lora": 0.2, "oft": 0.3, "ia3": 0.25}, {"lora": 0.1, "oft": 0.02})
    for task in TASKS:
        results.contests["ia3", task].reported = {}
    contest = results.contests["oft", "prose"]
    trial, _ = contest.reported[2]
    contest.reported[2] = trial, Outcome("diverged", {}, (), 0, 1.0, 0.0, "the loss was nan at step 3")
    return results


def test_the_table_has_the_rows_numbers(with_full):
    scoreboard = board(with_full)
    frame = scoreboard.to_frame().set_index("contestant")
    assert list(frame.index) == ["full_ft", "oft", "lora", "ia3"]
    for row in scoreboard.rows:
        found = frame.loc[row.contestant]
        assert found["gain"] == row.gain.mean or math.isnan(row.gain.mean)
        assert (found["parameters"], found["diverged"]) == (row.parameters, row.diverged)
        assert (found["tuning_steps"], found["rate_prose"]) == (2 * (5 * 20 + 2 * 40), 3.2e-3)
        for name in ("gain", "gain_ood", "forgetting", "versus"):
            effect = getattr(row, name)
            if effect is not None and math.isfinite(effect.mean):
                assert tuple(found[[name, f"{name}_low", f"{name}_high"]]) == (effect.mean, effect.low, effect.high)
    assert frame["versus"].isna().to_dict() == {"full_ft": False, "oft": False, "lora": True, "ia3": True}
    assert frame["p"].isna().to_dict() == {"full_ft": True, "oft": False, "lora": True, "ia3": False}
    assert frame["ranked"].to_dict() == {"full_ft": False, "oft": True, "lora": True, "ia3": True}
    assert frame["comparable"].to_dict() == {"full_ft": False, "oft": True, "lora": True, "ia3": False}
    assert frame["parameters"].to_dict() == {"full_ft": 0, "oft": 95, "lora": 90, "ia3": 10}
    assert frame["diverged"].to_dict() == {"full_ft": 0, "oft": 1, "lora": 0, "ia3": 0}


def test_only_what_is_ranked_and_has_finished_leads(with_full):
    scoreboard = board(with_full)
    assert [row.contestant for row in scoreboard.ranked] == ["oft", "lora"]
    assert scoreboard.answer.startswith("oft learns most on prose and restyle")
    assert not scoreboard.row("ia3").finished
    with pytest.raises(KeyError):
        scoreboard.row("dora")


def test_what_is_above_the_budget_is_not_comparable():
    results = made_up({"lora": 0.2, "oft": 0.1}, {})
    small = results.study.model_copy(update={"budget": 94})
    resolved = dataclasses.replace(results.resolved, study=small)
    scoreboard = board(dataclasses.replace(results, resolved=resolved))
    flags = {row.contestant: (row.over_budget, row.under_budget, row.comparable) for row in scoreboard.rows}
    assert flags["oft"] == (True, False, False)
    assert flags["lora"] == (False, False, True)
    assert flags["ia3"] == (False, True, False)


def test_the_table_and_the_sentence_share_one_family_of_p_values():
    results = made_up({"lora": 0.2, "oft": 0.203, "ia3": 0.195, "full_ft": 0.5}, {}, noise=0.004)
    effects = Effects.of(results)
    scoreboard = make_scoreboard(effects)
    rows = {row.contestant: row for row in scoreboard.rows}
    raw = {pair: effects.compare(*pair, "in_domain").p for pair in itertools.combinations(("oft", "lora", "ia3"), 2)}
    adjusted = dict(zip(raw, multipletests(list(raw.values()), method="holm")[1], strict=True))
    assert rows["oft"].p == pytest.approx(adjusted["oft", "lora"])
    assert rows["ia3"].p == pytest.approx(adjusted["lora", "ia3"])
    assert ("lora" in scoreboard.lead.behind) == (rows["oft"].p < 0.05)
    assert (rows["full_ft"].p, rows["lora"].p) == (1.0, 1.0)
    assert rows["oft"].same == equivalence(rows["oft"].versus, 0.005)
    assert rows["lora"].same == 1.0
    assert rows["oft"].across == effects.compare_across("oft", "lora", "in_domain")
    assert rows["oft"].step_seconds == pytest.approx(1 / 40)
    assert rows["oft"].peak_bytes == {"prose": 0, "restyle": 0}


def test_a_difference_between_tasks_is_told_after_correction_over_the_ranked():
    """Full fine-tuning is not ranked, so its p-value is not corrected, as its interval is not."""
    results = made_up({"lora": 0.2, "oft": 0.203, "ia3": 0.195, "full_ft": 0.5}, {}, noise=0.004)
    scoreboard = make_scoreboard(Effects.of(results))
    p = {"oft": 0.03, "ia3": 0.02, "full_ft": 0.04, "lora": 1.0}
    rows = tuple(dataclasses.replace(row, interaction=p[row.contestant]) for row in scoreboard.rows)
    assert dataclasses.replace(scoreboard, rows=rows).uneven == {"oft", "ia3", "full_ft"}
    doubled = tuple(dataclasses.replace(row, interaction=min(1.0, 1.5 * row.interaction)) for row in rows)
    assert dataclasses.replace(scoreboard, rows=doubled).uneven == frozenset()


def on_path(forgetting: dict[str, float]) -> Scoreboard:
    gains, best = {"lora": 0.2, "oft": 0.15, "ia3": 0.1}, dict.fromkeys(NAMES, 2.0)
    return board(played(NAMES, gains=gains, forgetting=forgetting, best=best, noise=0.002))


def test_forgetting_is_compared_at_equal_learning():
    """oft's end point forgets less than lora's because it learns less; taken back to oft's gain, lora forgets less."""
    scoreboard = on_path({"lora": 0.06, "oft": 0.05, "ia3": 0.001})
    rows = {row.contestant: row for row in scoreboard.rows}
    assert rows["oft"].forgetting.mean < rows["lora"].forgetting.mean
    assert rows["oft"].kept.mean < 0 < rows["ia3"].kept.mean
    assert rows["lora"].kept is None
    assert (
        "At equal learning, ia3 forgets less than lora and oft forgets more (p < 0.05, Holm over 2)."
        in scoreboard.answer
    )


def test_an_answer_that_depends_on_the_way_back_says_so():
    """Taken back to an earlier step of training, the sign of a difference may be another one."""
    scoreboard = on_path({"lora": 0.06, "oft": 0.05, "ia3": 0.001})
    rows = {row.contestant: row for row in scoreboard.rows}
    assert "the way back decides" not in scoreboard.answer

    def said(oft: float, ia3: float) -> str:
        found = {"oft": from_error(oft, 0.005, 10, 6), "ia3": from_error(ia3, 0.005, 10, 6)}
        ranked = [dataclasses.replace(row, kept_in_training=found.get(name)) for name, row in rows.items()]
        return _kept(ranked, "lora", "Holm")

    assert said(oft=0.03, ia3=0.03).endswith(
        "Stopped earlier in training instead, oft shows the opposite (95 % interval, not corrected): the way back decides."
    )
    assert "oft and ia3 show the opposite" in said(oft=0.03, ia3=-0.03)
    for oft in (0.005, -0.03, 0.0):  # too little to tell, or the same sign
        assert "the way back decides" not in said(oft=oft, ia3=0.03)


def test_equal_forgetting_at_equal_learning_is_not_called_a_difference():
    """The others end where lora's path is at their gain: strengths of 0.677 and 0.419, where 0.75 s - 0.19 s^2 is."""
    scoreboard = on_path({"lora": 0.04, "oft": 0.04 * 0.677**2, "ia3": 0.04 * 0.419**2})
    assert "At equal learning, no difference in forgetting from lora can be told from chance." in scoreboard.answer


def test_without_a_path_the_answer_does_not_speak_of_forgetting():
    assert "forget" not in board(made_up({"lora": 0.2, "oft": 0.15}, {"lora": 0.3, "oft": 0.05})).answer


def test_contestants_far_from_the_budget_are_named_in_the_answer():
    assert "Not at equal budgets: ia3 with less than half of the budget." in board(made_up({"oft": 0.1}, {})).answer


def test_a_difference_that_is_not_the_same_on_all_tasks_is_said():
    results = played(NAMES, gains={"lora": 0.2, "oft": 0.25, "ia3": 0.1}, noise=0.002)
    assert "not the same on all tasks" not in board(results).answer
    for seed, (trial, outcome) in results.contests["oft", "prose"].reported.items():
        scores = {part: (loss + 0.1, share) for part, (loss, share) in outcome.scores.items()}
        results.contests["oft", "prose"].reported[seed] = trial, dataclasses.replace(outcome, scores=scores)
    assert "The difference from lora is not the same on all tasks for oft." in board(results).answer


def test_a_contestant_that_diverges_in_most_runs_does_not_lead():
    results = made_up({"lora": 0.2, "oft": 0.3, "ia3": 0.1}, {})
    for task in TASKS:
        contest = results.contests["oft", task]
        for seed in (1, 2):
            trial, _ = contest.reported[seed]
            contest.reported[seed] = trial, Outcome("diverged", {}, (), 0, 1.0, 0.0, "the loss was nan at step 3")
    scoreboard = board(results)
    assert scoreboard.answer.startswith("lora learns most")
    assert scoreboard.row("oft").gain.mean == pytest.approx(0.1, abs=0.01)


def test_without_a_finished_run_there_is_no_answer():
    results = made_up({"lora": 0.2}, {})
    for contest in results.contests.values():
        if contest.adapter is not None:
            contest.reported = {}
    assert board(results).answer == "No contestant finished a run, so there is nothing to compare."


def test_a_gain_of_zero_counts_as_nothing_learned():
    assert board(made_up({}, {}, noise=0.0)).answer.startswith("No contestant learned anything")
