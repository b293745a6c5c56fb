"""Effects and the parts of their error, in contests that the test makes up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from adapterlab.lab.analysis.contrast import difference, gain
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.statistics import paired
from adapterlab.lab.study.spec import Contestant, Study, Training, Tuning
from adapterlab.lab.trial.spec import Outcome, Trial
from tests.lab.analysis.test_scoreboard import made_up


def tuned(apart: float, noise: float, names: tuple[str, ...] = ("lora", "oft", "ia3"), seed: int = 0) -> Results:
    """Contests whose two best rates differ by `apart` in validation loss, and whose runs vary by `noise`."""
    study = Study(
        name="made-up",
        tasks=("prose",),
        contestants=tuple(Contestant(adapter=name, start=3.2e-3) for name in (*names, "full_ft")),
        training=Training(steps=40),
        tuning=Tuning(regret_sample=0),
    )
    rng = np.random.default_rng(seed)
    contests = make_contests(resolve(study), {c.name: c.build() for c in study.entrants})

    def run(trial: Trial) -> Outcome:
        loss = 1 + {3.2e-3: 0.0, 1e-2: apart}.get(trial.lr, 1.0)
        loss += rng.normal(0, noise) if trial.steps == 40 else 0.0
        return Outcome("ok", dict.fromkeys(("validation", "test", "ood", "base"), (loss, 0.5)), (), 1, 1.0, 0.0)

    return Results.of(play_study(contests, lambda _, trial: run(trial)))


def test_effects_are_over_tasks_that_weigh_the_same():
    results = made_up({"lora": 0.2, "oft": 0.3}, {"lora": 0.1, "oft": 0.02})
    effects = Effects.of(results)
    assert effects.compare("oft", "lora", "in_domain").mean == pytest.approx(0.1, abs=0.003)
    assert effects.compare("oft", "lora", "forgetting").mean == pytest.approx(0.08)
    assert effects.gained("oft", "in_domain").mean == pytest.approx(0.3, abs=0.003)
    across = effects.compare_across("oft", "lora", "in_domain")
    assert set(across.tasks) == {"prose", "restyle"}
    assert across.overall.n == 2


def test_a_metric_with_one_number_for_a_task_is_compared_over_tasks():
    """Two tasks are no sample: their numbers may agree by chance, so the error is unknown."""
    results = made_up({"lora": 0.2, "oft": 0.4}, {})
    oft, lora = results.contests["oft", "prose"], results.contests["lora", "prose"]
    oft.first = {lr: oft.first[lr] for lr in (1e-3, 3.2e-3)}
    effects = Effects.of(results)
    widths = {
        key: effects.values("oft", "learning_rate_width")[key] - value
        for key, value in effects.values("lora", "learning_rate_width").items()
    }
    assert set(widths) == {("prose", 0), ("restyle", 0)}
    assert widths["prose", 0] != widths["restyle", 0]
    found = effects.compare("oft", "lora", "learning_rate_width")
    assert found.mean == pytest.approx(np.mean(list(widths.values())))
    assert (found.n, found.p, found.real) == (2, 1.0, False)
    assert lora.rate == 3.2e-3


def test_gains_and_differences_are_positive_if_better():
    results = made_up({"lora": 0.2, "oft": 0.3}, {"lora": 0.1, "oft": 0.02}, noise=0.0)
    effects = Effects.of(results)
    assert set(effects.numbers(gain("oft", "in_domain"), ["prose"])) == {("prose", seed) for seed in (1, 2, 3)}
    assert effects.numbers(gain("oft", "in_domain"))["prose", 1] == pytest.approx(0.3)
    assert effects.numbers(gain("oft", "accuracy"))["prose", 1] == 0
    assert effects.numbers(difference("oft", "lora", "forgetting"))["prose", 1] == pytest.approx(0.08)
    assert effects.numbers(difference("oft", "lora", "parameters"))["prose", 1] == pytest.approx(-5)
    widths = effects.numbers(difference("oft", "lora", "learning_rate_width"))
    assert widths["prose", 0] >= 0


def scored_rows(names: tuple[str, ...], rows_sd: float, noise: float = 0.001, seed: int = 0) -> Results:
    """Contests whose test loss is a mean over 16 rows, each with an effect of its own on each contestant."""
    results = tuned(1.0, noise, names, seed=seed)
    rng = np.random.default_rng(seed)
    for name in names:
        contest, own = results.contests[name, "prose"], rng.normal(0, rows_sd, 16)
        for run_seed, (trial, outcome) in contest.reported.items():
            losses = outcome.scores["test"][0] + own + rng.normal(0, 0.01, 16)
            scores = outcome.scores | {"test": (float(losses.mean()), 0.5)}
            rows = {"test": tuple(losses)}
            contest.reported[run_seed] = trial, dataclasses.replace(outcome, scores=scores, rows=rows)
    return results


def test_the_choice_of_test_rows_is_part_of_the_error():
    """Three studies of one world differ by their rows; without the component the interval would leave them out."""
    names = ("lora", "oft", "ia3")
    found = [
        Effects.of(scored_rows(names, rows_sd=0.04, seed=i), replays=60).compare("oft", "lora", "in_domain")
        for i in range(60)
    ]
    assert np.mean([effect.real for effect in found]) < 0.13
    assert np.std([effect.mean for effect in found]) == pytest.approx(np.mean([e.error for e in found]), rel=0.25)
    plain = Effects.of(scored_rows(names, rows_sd=0.0)).compare("oft", "lora", "in_domain")
    assert plain.error < 0.3 * np.mean([effect.error for effect in found])


def test_pairs_with_few_seeds_are_informed_by_all_other_pairs():
    names = ("lora", "oft", "ia3", "dora", "vera", "pissa", "hra")
    effects = Effects.of(tuned(1.0, 0.01, names))
    found = effects.compare("oft", "lora", "out_of_domain")
    alone = paired(list(effects.numbers(difference("oft", "lora", "out_of_domain")).values()))
    assert found.mean == pytest.approx(alone.mean)
    assert found.df > 2 == alone.df
    assert effects.gained("oft", "out_of_domain").df == 2


def test_runs_that_are_the_same_differ_by_exactly_nothing():
    results = tuned(1.0, 0.0)
    found = Effects.of(results).compare("oft", "lora", "in_domain")
    assert (found.mean, found.error, found.p) == (0.0, 0.0, 1.0)


def test_two_runs_that_never_reach_the_reference_say_nothing_of_each_other():
    """ia3 and oft stay below lora's final gain on both tasks; full fine-tuning passes it."""
    results = made_up({"lora": 0.2, "oft": 0.1, "ia3": 0.1, "full_ft": 0.4}, {})
    effects = Effects.of(results)
    assert effects.numbers(difference("oft", "ia3", "steps_to_reference")) == {}
    assert effects.numbers(difference("oft", "lora", "steps_to_reference")) == {}
    assert len(effects.numbers(difference("full_ft", "oft", "steps_to_reference"))) == 6
    assert effects.compare("full_ft", "oft", "steps_to_reference").mean > 0
    assert set(effects.values("oft", "steps_to_reference").values()) == {40.0}
