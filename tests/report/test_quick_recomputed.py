"""The quick study's report against its trials: every number is computed anew without adapterlab, and is what is shown."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import adapterlab
from tests.lab.analysis.quick_study import recorded, reported
from tests.report.page_data import data_of
from tests.report.recomputed import claims as claim_update
from tests.report.recomputed.page import numbers, paragraphs, table_with
from tests.report.recomputed.report import UNRANKED, Recomputed, is_on_front, share_beyond, versus
from tests.report.recomputed.runs import BUDGET, FROZEN, REFERENCE, REPORT_SEEDS, SMALLEST, STEPS, TASKS, Runs
from tests.report.recomputed.search import place_of, rate_at, repeat_all, search
from tests.report.recomputed.statistics import cochran, holm

REPEATS = 4000
SIGMAS = 4.0
"""Monte Carlo errors by which a variance of the selection may differ from the recomputed one."""
POINTS = {"PE": 1.0, "BL": 1.0, "BF": 1.5, "DE": 1.5, "OOD": 2.0}
SURVEY = {"lora": 1.0, "pissa": 5.0, "oft": 2.5, "dora": 3.5, "ia3": 1.0, "vera": 1.0}


def one_diverged(trials):
    """The trials as they would be if PiSSA's second reported run on prose had diverged."""
    changed = copy.deepcopy(trials)
    (row,) = [r for r in changed if (r["contestant"], r["trial"]["task"], r["trial"]["seed"]) == ("pissa", "prose", 2)]
    row["outcome"] |= {"status": "diverged", "note": "the loss was nan at step 9"}
    row["outcome"] |= {"scores": {}, "curve": [], "path": [], "rows": {}}
    return changed


@pytest.fixture(
    scope="module",
    params=[
        "as it ran",
        pytest.param("with a run that diverged", marks=pytest.mark.soak),
    ],
)
def quick(request, tmp_path_factory):
    """The numbers of the report, and the same numbers recomputed, with Monte Carlo errors subtracted, ignored and added."""
    trials = recorded()["trials"] if request.param == "as it ran" else one_diverged(recorded()["trials"])
    shown = reported(tmp_path_factory.mktemp("quick"), trials)
    runs = Runs(trials)
    spreads = repeat_all(runs, recorded()["starts"], REPEATS, np.random.default_rng(2026))
    middle, low, high = (Recomputed(runs, spreads, sigmas) for sigmas in (0.0, -SIGMAS, SIGMAS))
    (board,) = shown.verdict["boards"]
    rows = {row["name"]: row for row in board["contestants"]}
    cells = {row[0].split("\n")[0].split(" ")[0]: row for row in table_with(shown.page, "tuning steps")}
    return SimpleNamespace(
        shown=shown,
        runs=runs,
        spreads=spreads,
        middle=middle,
        all=(low, middle, high),
        board=board,
        rows=rows,
        cells=cells,
    )


def within(value, recomputed, digits=9):
    """True if a value lies between the smallest and the largest recomputed one, but for rounding to some digits."""
    slack = 0.5 * 10.0**-digits + 1e-9
    return min(recomputed) - slack <= value <= max(recomputed) + slack


def p_within(value, recomputed):
    """The same for a p-value, in logarithms, with 2 % beyond: a larger variance may have more df and a smaller p-value."""
    logs = [math.log(p) for p in recomputed]
    return within(math.log(value), [log + slack * 0.02 * min(log, -1) for log in logs for slack in (-1, 1)])


def signed(value):
    return f"{round(value, 3) + 0.0:+.3f}"


def check_effect(shown, estimates):
    """An effect of verdict.json has the recomputed mean, number of pairs, interval, p-value and error."""
    assert shown["mean"] == pytest.approx(estimates[1].mean, abs=1e-9)
    assert shown["pairs"] == estimates[1].n
    assert within(shown["high"] - shown["mean"], [e.reach for e in estimates])
    assert within(shown["mean"] - shown["low"], [e.reach for e in estimates])
    assert p_within(shown["p"], [e.p for e in estimates])
    assert within(shown["error"], [e.error for e in estimates])


def test_the_mean_of_the_rows_is_the_loss_of_their_part(quick):
    for _, run in quick.runs.frame.iterrows():
        for part, losses in run["rows"].items():
            assert np.mean(losses) == pytest.approx(run[part], abs=1e-6)


def test_every_rate_that_was_tried_is_one_that_the_search_asks_for(quick):
    for name in quick.middle.names:
        for task in TASKS:
            rungs = [quick.runs.rung(name, task, rung)["validation"] for rung in (1, 2)]
            losses = [{place_of(rate): loss for rate, loss in rung.items()} for rung in rungs]
            chosen, *tried = search(recorded()["starts"][name], lambda place, rung, at=losses: at[rung - 1][place])
            assert [sorted(found) for found in losses] == [sorted(places) for places in tried]
            assert rate_at(chosen) == quick.rows[name]["rates"][task] == quick.runs.rate(name, task)


def test_rates_flags_and_tuning_steps_are_those_of_the_runs(quick):
    for name, row in quick.rows.items():
        flags = {task: flag for task in TASKS if (flag := quick.runs.flag(name, task))}
        assert row["search_flags"] == flags
        assert row["tuning_steps"] == quick.runs.tuning_steps(name)
        shown = quick.cells[name][7].split("\n")
        for task, line in zip(TASKS, shown, strict=True):
            flag = f" {flags[task]}" if task in flags else ""
            assert line == f"{task} {quick.runs.rate(name, task):.2g}{flag}"
        assert int(quick.cells[name][8]) == quick.runs.tuning_steps(name)


def test_sizes_and_times_are_those_of_the_runs(quick):
    for name, row in quick.rows.items():
        own = quick.runs.frame[quick.runs.frame["contestant"] == name]
        (parameters,) = set(own["parameters"])
        assert row["parameters"] == parameters
        assert quick.cells[name][1] == f"{parameters:,}"
        assert row["comparable"] == (BUDGET / 2 <= parameters <= BUDGET)
        reports = own[own["seed"].isin([1, 2, 3])]
        assert row["step_seconds"] == pytest.approx((reports["seconds"] / STEPS).mean())
        assert quick.cells[name][9] == f"{1000 * row['step_seconds']:.0f}"
        assert row["diverged"] == (own["status"] == "diverged").sum()


def test_gains_and_forgetting_are_means_with_the_three_parts_of_their_variance(quick):
    for name, row in quick.rows.items():
        check_effect(row["gain"], [found.gain(name) for found in quick.all])
        check_effect(row["gain_ood"], [found.gain(name, "out_of_domain") for found in quick.all])
        check_effect(row["forgetting"], [found.forgetting(name) for found in quick.all])
        shown = [signed(row[key]["mean"]) for key in ("gain", "gain_ood", "forgetting")]
        assert quick.cells[name][2:5] == shown
    assert list(quick.rows) == sorted(quick.rows, key=lambda name: -quick.middle.gain(name).mean)


def test_differences_from_the_reference_are_paired_and_moderated(quick):
    for name in quick.middle.others:
        row, cell = quick.rows[name], quick.cells[name][6].split("\n")
        check_effect(row["versus_reference"], [found.estimate(versus(name, REFERENCE)) for found in quick.all])
        assert cell[0] == signed(row["versus_reference"]["mean"])
        assert cell[1] == f"{signed(row['versus_reference']['low'])} to {signed(row['versus_reference']['high'])}"
        assert p_within(row["p_same_on_all_tasks"], [found.uneven[name] for found in quick.all])
        if name == UNRANKED:
            assert row["p_holm"] is None
        else:
            pair = frozenset((name, REFERENCE))
            assert p_within(row["p_holm"], [found.pair_p[pair] for found in quick.all])
            assert cell[2] == shown_p(row["p_holm"])


def test_forgetting_at_equal_learning_is_compared_along_the_paths(quick):
    for name in quick.middle.others:
        row, cell = quick.rows[name]["less_forgetting_at_equal_learning"], quick.cells[name][5].split("\n")
        check_effect(row, [found.kept(name) for found in quick.all])
        assert cell[:2] == [signed(row["mean"]), f"{signed(row['low'])} to {signed(row['high'])}"]
        assert p_within(row["p_same_on_all_tasks"], [found.kept_uneven[name] for found in quick.all])
        if name == UNRANKED:
            assert row["p_holm"] is None
        else:
            assert p_within(row["p_holm"], [found.kept_p[name] for found in quick.all])
            assert cell[2] == shown_p(row["p_holm"])


def test_the_table_at_equal_learning_is_that_of_the_paths_and_of_the_training(quick):
    cells = {row[0].split("\n")[0]: row for row in table_with(quick.shown.page, "better out-of-domain")}
    for name, row in quick.board["at_equal_learning"].items():
        for first, (part, metric) in enumerate((("base", "forgetting"), ("ood", "out_of_domain"))):
            check_effect(row[metric]["as_trained"], [f.estimate(versus(name, REFERENCE, metric)) for f in quick.all])
            for i, along in enumerate(("strength", "training")):
                shown, cell = row[metric].get(along), cells[name][1 + 3 * first + 1 + i]
                if shown is None:
                    assert cell == "-"
                    continue
                check_effect(shown, [f.kept(name, TASKS, part, along) for f in quick.all])
                assert cell.split("\n") == [
                    signed(shown["mean"]),
                    f"{signed(shown['low'])} to {signed(shown['high'])}",
                ]
        reached = {
            (task, seed): min([run["validation"], *(loss for _, loss in run["curve"])]) <= goal
            for task in TASKS
            for (seed, run), goal in zip(
                quick.runs.reported(name, task).iterrows(),
                quick.runs.reported(REFERENCE, task)["validation"],
                strict=True,
            )
            if run["status"] == "ok"
        }
        steps = [quick.runs.values(name, task, "steps_to_reference")[s] for (task, s), yes in reached.items() if yes]
        assert (row["runs"], row["runs_that_reach_it"]) == (len(reached), sum(reached.values()))
        assert row["steps_to_reference"] == (pytest.approx(np.mean(steps), abs=1e-3) if steps else None)


def test_a_difference_between_tasks_is_flagged_after_correction(quick):
    for column, key in ((6, "uneven"), (5, "kept_uneven")):
        found = [getattr(each, key) for each in quick.all]
        adjusted = [
            holm({n: p for n, p in each.items() if n != UNRANKED}) | {UNRANKED: each[UNRANKED]} for each in found
        ]
        for name in quick.middle.others:
            flagged = "differs between tasks" in quick.cells[name][column]
            assert flagged in {each[name] < 0.05 for each in adjusted}, (name, key)


def test_the_answer_follows_from_the_table(quick):
    answer, best = quick.shown.verdict["answer"], quick.middle.ranked
    best = max(best, key=lambda name: quick.middle.gain(name).mean)
    assert answer.startswith(
        f"{best} learns most on restyle and prose: {quick.middle.gain(best).mean:.3f} nats per byte"
    )
    for found in quick.all:
        groups = {"ahead": set(), "equal": set(), "unclear": set()}
        for name in found.ranked:
            if name != best:
                effect = found.estimate(versus(best, name))
                ahead = found.pair_p[frozenset((best, name))] < 0.05 and effect.mean > 0
                groups["ahead" if ahead else "equal" if effect.equivalent(SMALLEST) < 0.05 else "unclear"].add(name)
        assert named(answer, rf"as good as ([^(]*) \(within {SMALLEST:g}\)") == groups["equal"]
        assert named(answer, r"but ([^.]*), which cannot be told from it") == groups["unclear"]
        assert "ahead of all others" in answer
        assert groups["ahead"] == set(found.ranked) - {best} - groups["equal"] - groups["unclear"]
    kept = {
        name: row["less_forgetting_at_equal_learning"]
        for name, row in quick.rows.items()
        if name in quick.middle.kept_p
    }
    told = {name for name, effect in kept.items() if effect["p_holm"] < 0.05}  # held to the recomputed ones above
    assert {name for name in told if kept[name]["mean"] < 0} == told
    assert named(answer, rf"At equal learning, ([^.]*) forgets? more than {REFERENCE} \(p") == told
    ms = {
        name: 1000 / STEPS * quick.runs.of(name, TASKS, REPORT_SEEDS)["seconds"].mean() for name in quick.middle.names
    }
    fastest = min(groups["equal"] | {best}, key=lambda name: ms[name])
    told = re.search(r"Of these, (\w+) trains fastest: (\d+) ms a step, (\w+) (\d+)\.", answer)
    faster = ms[fastest] < 0.95 * ms[best]
    assert (told.groups() if told else None) == (
        (fastest, f"{ms[fastest]:.0f}", best, f"{ms[best]:.0f}") if faster else None
    )
    small = {name for name, row in quick.rows.items() if row["parameters"] < BUDGET / 2}
    assert named(answer, r"Not at equal budgets: ([^.]*) with less than half of the budget") == small
    assert answer in paragraphs(quick.shown.page)
    assert answer in " ".join(quick.shown.terminal.split())


def named(text, pattern):
    found = re.search(pattern, text)
    return set(re.split(r", | and ", found[1])) if found else set()


def test_the_terminal_shows_the_same_table(quick):
    lines = {
        line.split()[0].rstrip("*"): line for line in quick.shown.terminal.split("\n") if re.match(r"\w+\*? +\d", line)
    }
    assert list(lines) == list(quick.rows)
    for name, row in quick.rows.items():
        cells = lines[name].split()
        means = [signed(row[key]["mean"]) for key in ("gain", "gain_ood", "forgetting")]
        assert cells[2:5] == means
        assert cells[0] == name + ("" if row["comparable"] else "*")
        versus_lora = row["versus_reference"]
        if versus_lora is not None:
            interval = f"[{signed(versus_lora['low'])},{signed(versus_lora['high'])}]"
            p = [] if row["p_holm"] is None else ["<0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"]
            assert cells[5:] == [signed(versus_lora["mean"]), interval, *p]
    assert regret_sentence(quick) in quick.shown.terminal


def test_the_regret_is_that_of_the_runs_kept_for_it(quick):
    shown = quick.board["tuning_regret"]
    assert shown["extensions"] == 0
    for name, found in shown["contestants"].items():
        mean, error = quick.middle.regret(name)
        assert (found["mean"], found["error"]) == pytest.approx((mean, error), abs=1e-9)
        assert mean < shown["smallest"] == SMALLEST
    assert any(regret_sentence(quick) in text for text in paragraphs(quick.shown.page))


def regret_sentence(quick):
    found = {name: quick.middle.regret(name) for name in quick.board["tuning_regret"]["contestants"]}
    values = ", ".join(f"{name} {max(0.0, mean):.3f} ± {error:.3f}" for name, (mean, error) in found.items())
    return f"Tuning regret: {values} nats per byte."


def test_ranks_are_those_of_resampled_tasks_and_seeds(quick):
    ranks = quick.middle.ranks(4000, np.random.default_rng(7))
    w, p = quick.middle.concordance()
    assert any(
        f"W = {w:.2f} (1 means the same order on every task; p {p:.3f})" in text
        for text in paragraphs(quick.shown.page)
    )
    for name, rank, first, across, spread, same in table_with(quick.shown.page, "of resamples"):
        mean, low, high = numbers(rank.replace("to", ""))
        assert mean == pytest.approx(ranks[name].mean(), abs=0.05 + 0.1)
        assert [low, high] == [np.percentile(ranks[name], q, method="nearest") for q in (2.5, 97.5)]
        assert numbers(first)[0] / 100 == pytest.approx((ranks[name] == 1).mean(), abs=0.005 + 0.05)
        if name == REFERENCE:
            assert across == "reference"
            continue
        found = [each.across(name) for each in quick.all]
        centre, left, right = numbers(across)
        assert within(centre, [e.mean for e, _ in found], 3)
        assert within(left, [e.low for e, _ in found], 3)
        assert within(right, [e.high for e, _ in found], 3)
        assert within(numbers(spread)[0], [tau for _, tau in found], 3)
        p_same = [each.estimate(versus(name, REFERENCE)).equivalent(SMALLEST) for each in quick.all]
        if same.startswith("yes"):
            assert within(numbers(same)[0], p_same, 3)
            assert max(p_same) < 0.05
            continue
        assert min(p_same) >= 0.05
        differences = [each.estimate(versus(name, REFERENCE)) for each in quick.all]
        beyond = {e.low > SMALLEST or e.high < -SMALLEST for e in differences}
        assert {"no": True, "unclear": False}[same] in beyond


def test_the_front_and_the_areas_are_those_of_the_paths(quick):
    corner, areas = quick.middle.areas()
    shares, ends = quick.middle.front_shares(), quick.middle.ends()
    points = {name: ends.loc[name].to_numpy() for name in ends.index}
    assert any(f"{corner:.2f} nats per byte forgotten" in text for text in paragraphs(quick.shown.page))
    table = table_with(quick.shown.page, "area covered")
    assert [row[0] for row in table] == sorted(areas, key=lambda name: -areas[name][0])
    for name, share, area, learned, forgotten, strength, learned_there, forgotten_there in table:
        assert numbers(share)[0] / 100 == pytest.approx(shares[name], abs=0.005 + 0.045)
        assert numbers(area.replace("to", "")) == pytest.approx([1000 * a for a in areas[name]], abs=0.0051)
        assert [learned, forgotten] == [signed(value) for value in points[name]]
        assert quick.rows[name]["on_pareto_front"] == is_on_front(name, points)
        chosen = quick.runs.operating_points(name)
        limits = f"{chosen['strength'].min():g}", f"{chosen['strength'].max():g}"
        assert strength == (limits[0] if limits[0] == limits[1] else " to ".join(limits))
        for shown, which in ((learned_there, 0), (forgotten_there, 1)):
            effects = [found.rewound(name)[which] for found in quick.all]
            mean, low, high = numbers(shown.replace("to", ""))
            assert within(mean, [e.mean for e in effects], 3)
            assert within(low, [e.low for e in effects], 3)
            assert within(high, [e.high for e in effects], 3)


def test_the_rubric_shows_the_figures_of_its_conditions(quick):
    table = {row[0]: dict(zip([*POINTS, "points", "survey"], row[1:], strict=True)) for row in rubric(quick)}
    assert set(table) == set(quick.middle.ranked)
    terminal = {line.split()[0]: line.split() for line in rubric_lines(quick)}
    for name, shown in table.items():
        answers = [expected_grades(found, name, quick.rows[name]["parameters"]) for found in quick.all]
        for dimension in POINTS:
            findings = {found[dimension][0] for found in answers}
            finding, why = shown[dimension].split("\n")
            assert finding in findings, (name, dimension)
            assert within_text(why, [found[dimension][1] for found in answers]), (name, dimension, why)
            mark = {"open": "?", "–": "-"}.get(finding, finding)
            assert terminal[name][1 + list(POINTS).index(dimension)] == mark
        points = sum(value for dimension, value in POINTS.items() if shown[dimension].startswith("yes"))
        assert shown["points"] == f"{points:g}"
        assert float(shown["survey"]) == SURVEY[name]


def rubric(quick):
    return table_with(quick.shown.page, "points here")


def rubric_lines(quick):
    lines = quick.shown.terminal.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("rubric"))
    return lines[start + 1 : start + 1 + len(quick.middle.ranked)]


def within_text(shown, texts):
    """True if a text is one of those recomputed, its numbers within theirs."""
    shown, *texts = (text.replace("< 0.001", "= 0.001") for text in (shown, *texts))
    blank = {re.sub(r"[\d.+-]+", "#", text) for text in (shown, *texts)}
    columns = zip(*map(numbers, texts), strict=True)
    return len(blank) == 1 and all(
        within(value, column, 3) for value, column in zip(numbers(shown), columns, strict=True)
    )


def expected_grades(found, name, parameters):
    """By dimension the finding and its reason, by the conditions that the page lists below the table."""
    share, inside = parameters / recorded()["model_parameters"], "in_domain"
    gains = {n: found.gain(n) for n in (name, UNRANKED)}
    grades = {"PE": ("–", f"trains {share:.1%} of the model")}
    if share <= 0.01:
        reached = gains[name].mean / gains[UNRANKED].mean
        beyond = found.estimate(share_beyond((name, inside), (UNRANKED, inside), 0.9))
        grades["PE"] = graded(beyond, 0.0), f"{reached:.0%} of full fine-tuning's gain with {share:.2%} of the model"
    full = found.estimate(versus(name, UNRANKED))
    grades["BF"] = graded(full, -SMALLEST), f"{signed(full.mean)} nats per byte against full fine-tuning"
    carried = found.estimate(share_beyond((name, "out_of_domain"), (name, inside), 0.5))
    ratio = found.gain(name, "out_of_domain").mean / gains[name].mean
    grades["OOD"] = graded(carried, 0.0), f"{ratio:.0%} of the in-domain gain"
    if name == REFERENCE:
        return grades | {"BL": ("–", "is LoRA"), "DE": ("–", "is the reference")}
    against = {n: found.estimate(versus(n, REFERENCE)) for n in found.ranked if n != REFERENCE}
    p = holm({n: effect.p for n, effect in against.items()})[name]
    why = f"{signed(against[name].mean)} nats per byte against LoRA, p {'' if p < 0.001 else '= '}{shown_p(p)[2:]}"
    equal = against[name].equivalent(SMALLEST) < 0.05
    if p < 0.05:
        grades["BL"] = "yes" if against[name].mean > 0 else "no", why
    else:
        grades["BL"] = ("no", f"{why}: equivalent") if equal else ("open", why)
    steps = found.reached(name)
    speed = f"after {steps:.0f} steps" if steps < STEPS else "never reached"
    spared = {task: found.runs.values(name, task, "steps_to_reference") for task in TASKS}
    slowest = min(s.min() for s in spared.values())
    return grades | {"DE": ("no" if slowest > 0.8 * STEPS else "open", f"{REFERENCE}'s score {speed}")}


def graded(effect, above):
    return "yes" if effect.low > above else "no" if effect.high < above else "open"


def test_every_tested_claim_has_its_effect_and_its_pairs(quick):
    shown = {row[0].split("\n")[0]: row for row in table_with(quick.shown.page, "claim and test")}
    tested = [claim for claim in quick.shown.verdict["claims"] if "untested" not in claim]
    assert len(tested) == 10
    assert "learning_rate_width" not in {claim["test"]["in"] for claim in tested}  # rates near the best show no width
    for claim in tested:
        contrast, tasks = contrast_of(claim["test"]), claim["test"]["on"]
        row = shown[claim["claim"]]
        estimates = [found.estimate(contrast, tasks) for found in quick.all]
        check_effect(claim["effect"], estimates)
        interval = [signed(claim["effect"][key]) for key in ("mean", "low", "high")]
        assert row[1].split("\n")[:2] == [interval[0], f"{interval[1]} to {interval[2]}"]
        if "within" in claim["test"]:
            assert within(claim["p_not_equivalent"], [e.equivalent(claim["test"]["within"]) for e in estimates])
        check_pairs(quick, claim, contrast)


def contrast_of(test):
    metric = test["in"]
    if "reaches" in test:
        return share_beyond((test["who"], metric), (test["of"], metric), test["reaches"])
    return versus(*((test["better"], test["than"]) if "better" in test else (test["equivalent"], test["to"])), metric)


def check_pairs(quick, claim, contrast):
    expected = {}
    for task in claim["test"]["on"]:
        expected |= {(task, seed): d for seed, d in quick.middle.contrast_by_seed(contrast, task).items()}
    pairs = {(pair["task"], pair["seed"]): pair for pair in claim["pairs"]}
    assert {key: pair["difference"] for key, pair in pairs.items()} == pytest.approx(expected, abs=1e-9)
    (part,) = data_of(quick.shown.page)["map"]["claims"][claim["claim"]]["test"]["parts"]
    assert [(task, seed, trials) for task, seed, _, trials in part["pairs"]] == [
        (*k, p["trials"]) for k, p in pairs.items()
    ]
    differences = [pair["difference"] for pair in pairs.values()]
    assert [difference for _, _, difference, _ in part["pairs"]] == pytest.approx(differences, rel=1e-5)
    names = {name for name, _ in contrast if name != FROZEN}
    for (task, seed), pair in pairs.items():
        found = {quick.shown.trials[trial] for trial in pair["trials"]}
        assert found == {(name, task, quick.runs.rate(name, task), seed) for name in names}


def test_bayes_factors_and_credences_are_those_of_the_joint_model(quick):
    """The product's grid has half the nodes and a fifth of the draws: factors agree within a fifth, credences in 0.04."""
    tested = {claim["claim"]: claim for claim in quick.shown.verdict["claims"] if "untested" not in claim}
    lengths, decades = fitted(), (10 - math.log10(recorded()["model_parameters"]), 5 - math.log10(40 * 4))
    weight = math.exp(-decades[0] / lengths["size"] - decades[1] / lengths["examples"])
    assert quick.shown.verdict["relevance"] == pytest.approx(weight)
    found = claim_update.update(
        quick.middle,
        {name: claim_update.read(claim["test"]) for name, claim in tested.items()},
        {name: claim["before"] for name, claim in tested.items()},
        weight,
    )
    for name, claim in tested.items():
        factor, after = found[name]
        assert claim["bayes_factor"] == pytest.approx(factor, rel=0.2), name
        assert claim["after"] == pytest.approx(after, abs=0.04), name


def fitted():
    return json.loads((Path(adapterlab.__file__).parent / "evidence" / "data" / "carry.json").read_text())


def test_every_trial_is_listed_with_its_losses(quick):
    table = pd.DataFrame(data_of(quick.shown.page)["trials"]).set_index("id")
    assert set(table.index) == set(quick.shown.trials)
    frame = quick.runs.frame.set_index(["contestant", "task", "lr", "seed", "steps"])
    for trial, (contestant, task, rate, seed) in quick.shown.trials.items():
        row = table.loc[trial]
        run = frame.loc[contestant, task, rate, seed, int(row["steps"])]
        assert (row["contestant"], row["task"], row["seed"]) == (contestant, task, seed)
        assert row["rate"] == pytest.approx(rate, rel=1e-5)
        for part in ("validation", "test", "ood", "base"):
            assert row[part] == pytest.approx(run[part], rel=1e-5, nan_ok=True)


def shown_p(p):
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def test_equal_effects_on_tasks_are_not_told_apart():
    """Cochran's Q of two equal effects is 0, by which the recomputation itself is checked."""
    effect = SimpleNamespace(mean=0.01, error=0.002, df=10.0)
    assert cochran([effect, effect]) == 1.0
