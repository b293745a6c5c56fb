"""Prior learning rates: against published sweeps, and learned from ledgers that the test makes up."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from adapterlab.adapters import adapter, all_adapters
from adapterlab.lab.run.contest import play
from adapterlab.lab.run.rate_priors import RatePrior, Start, prior, rate_priors
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Training
from adapterlab.models.width import width
from tests.conftest import tiny_llama
from tests.lab.tiny import save_model
from tests.lab.unplayed import outcome_of, prepared_of, study_of
from tools.learn_rate_priors import contests_of, priors_of, to_toml
from tools.rate_validation import Known

PUBLISHED = {
    ("LoRA", 4096, 8): 6.3e-4, ("LoRA", 4096, 32): 3.6e-4, ("DoRA", 4096, 8): 3.6e-4, ("LoRA", 1024, 8): 6.3e-4,
    ("PiSSA", 4096, 8): 2e-4, ("PiSSA", 4096, 32): 1.1e-4,
}  # fmt: skip
"""By method, width of the model and rank, the best rate of a sweep at batch 16 (arXiv 2602.04998, tables 5 to 13: math, on
Llama-2-7B and Qwen3-0.6B)."""


@pytest.mark.parametrize(("method", "hidden", "rank"), PUBLISHED)
def test_priors_are_within_a_decade_of_the_best_rates_of_published_sweeps(method, hidden, rank):
    """The prior comes from a model of width 256 and 40 steps; two rates of growth make up for a decade."""
    settings = {"rank": rank, "alpha": 16.0} if method != "PiSSA" else {"rank": rank}
    found = prior(method.lower(), settings, hidden)
    assert abs(math.log10(found / PUBLISHED[method, hidden, rank])) < 1


def test_each_prior_is_for_the_settings_that_a_method_has_on_the_embedded_model():
    for name, entry in rate_priors().items():
        assert entry.rate == float(f"{entry.rate:.2g}") > 0, name
        assert entry.width == width("embedded")
        assert entry.alpha == adapter(name).settings().get("alpha"), name
    assert set(rate_priors()) <= set(all_adapters())


def test_the_prior_follows_alpha_and_the_width():
    known = RatePrior(1e-2, 256, 16.0)
    assert known.at({"alpha": 16.0}, 256) == 1e-2
    assert known.at({"alpha": 4.0}, None) == pytest.approx(4e-2)
    assert known.at({"alpha": 16.0}, 1024) == pytest.approx(1e-2 * 4**-0.78)
    assert RatePrior(1e-2, 256).at({"alpha": 4.0}, 256) == 1e-2


def test_the_width_is_that_of_the_models_configuration(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    assert width(str(tmp_path)) == json.loads((tmp_path / "config.json").read_text())["hidden_size"]
    assert width(str(tmp_path / "nothing" / "here")) is None


def runs_of(best: dict[str, float], *, longer: float = 1.0, **settings):
    """Runs of LoRA of ten and twenty steps: the loss is least at the task's best rate, times `longer` in the longer runs."""
    prepared = prepared_of(study_of("lora", tasks=tuple(best)))
    runs = []
    for contest in prepared.contests():
        if contest.adapter is None:
            runs.append((contest.frozen_trial(), outcome_of(contest.frozen_trial(), 5.0)))
            continue
        contest.adapter = replace(contest.adapter, **settings)
        for lr in (1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1):
            for steps, seed, factor in ((10, 101, 1.0), (20, 201, longer), (20, 202, longer)):
                trial = contest.trial(lr, seed, steps, reported=False)
                away = math.log10(lr / (best[contest.task] * factor))
                runs.append((trial, outcome_of(trial, 1 + away**2)))
    return runs


def positions(runs) -> dict[str, float]:
    return {contest.task: contest.best for contest in contests_of(runs)}


def test_the_best_rate_is_the_lowest_point_of_a_parabola_over_the_longest_runs():
    """Between the rates tried too; shorter runs, which prefer another rate, do not count beside longer ones."""
    found = positions(runs_of({"prose": 4.2e-3, "restyle": 1.5e-2}, longer=1.3))
    for task, rate in {"prose": 4.2e-3, "restyle": 1.5e-2}.items():
        assert found[task] == pytest.approx(4 * math.log10(1.3 * rate), abs=0.02)


def test_where_longer_runs_have_no_bracket_the_better_of_them_is_averaged_with_that_of_shorter_ones():
    runs = [(t, o) for t, o in runs_of({"prose": 1e-2}) if t.steps in (0, 10)]
    template = next(t for t, _ in runs if t.steps == 10)
    for lr, loss in ((1e-2, 1.1), (1.8e-2, 1.0)):
        trial = replace(template, lr=lr, seed=102, steps=20)
        runs.append((trial, outcome_of(trial, loss)))
    assert positions(runs)["prose"] == pytest.approx(-7.5, abs=0.02)


def test_a_best_rate_at_the_edge_or_beside_a_gap_is_not_known():
    assert positions(runs_of({"prose": 1e-4})) == {}
    assert positions(runs_of({"prose": 1e3})) == {}
    gap = [(t, o) for t, o in runs_of({"prose": 1e-2}) if t.lr not in (3.2e-3, 3.2e-2)]
    assert positions(gap) == {}


def test_a_run_that_is_worse_than_the_frozen_model_does_not_bend_the_parabola():
    runs = [
        (t, replace(o, scores={"validation": (9.0, 0.5)}) if t.lr == 3.2e-2 else o) for t, o in runs_of({"prose": 1e-2})
    ]
    assert positions(runs)["prose"] == -8


def test_a_prior_is_the_geometric_mean_over_the_tasks_and_its_distance_that_of_the_tasks():
    known = [
        Known("lora", "prose", -9.0, None),
        Known("lora", "restyle", -7.0, None),
        Known("oft", "prose", -11.0, None),
    ]
    assert priors_of(known) == {
        "lora": RatePrior(1e-2, 256, 16.0, 20, 2.0),
        "oft": RatePrior(1.8e-3, 256, None, 20, None),
    }


def test_alpha_is_carried_over_and_other_settings_are_left_out():
    assert positions(runs_of({"prose": 1e-2}, alpha=160.0))["prose"] == pytest.approx(-4, abs=0.03)
    assert positions(runs_of({"prose": 1e-2}, rank=2))["prose"] == pytest.approx(-8, abs=0.03)
    assert positions(runs_of({"prose": 1e-2}, rslora=True)) == {}


def test_what_is_written_is_read_back(tmp_path):
    priors = {"vera": RatePrior(0.32, 256), "lora": RatePrior(1e-2, 256, 16.0, 20, 0.4)}
    (tmp_path / "priors.toml").write_text(to_toml(priors))
    assert rate_priors(tmp_path / "priors.toml") == priors


@pytest.fixture
def trusted(monkeypatch):
    """LoRA with a prior that other tasks predict well."""
    priors = {"lora": RatePrior(1e-2, 256, 16.0, 20, 0.5), "oft": RatePrior(1e-2, 256, None, 20, 3.0)}
    monkeypatch.setattr("adapterlab.lab.run.resolve.rate_priors", lambda: priors)


def start(entry: Contestant, **changes) -> Start:
    return resolve(study_of(contestants=(entry,), **changes)).start(entry.name, entry.build())


def test_a_prior_is_trusted_where_it_was_validated(trusted):
    steps = {"training": Training(steps=40)}
    assert start(Contestant(adapter="lora"), **steps) == Start(1e-2, trusted=True)
    assert start(Contestant(adapter="lora", settings={"alpha": 160.0, "rank": 2}), **steps) == Start(1e-3, trusted=True)


def test_a_prior_is_a_start_alone_where_it_was_not_validated(trusted, tmp_path):
    lora, steps = Contestant(adapter="lora"), {"training": Training(steps=40)}
    assert start(Contestant(adapter="oft"), **steps) == Start(1e-2), "other tasks do not predict it"
    assert start(lora, training=Training(steps=400)) == Start(1e-2), "much longer runs"
    assert start(Contestant(adapter="lora", settings={"rslora": True}), **steps).trusted is False
    assert start(Contestant(adapter="lora", targets="q_proj"), **steps).trusted is False
    assert start(Contestant(adapter="lora", start=1e-2), **steps) == Start(1e-2), "the user's own"
    assert start(Contestant(adapter="ia3"), **steps) == Start(3.2e-3), "no prior"
    save_model(tmp_path / "model")
    elsewhere = start(lora, model=str(tmp_path / "model"), **steps)
    assert elsewhere.trusted is False
    assert elsewhere.rate == pytest.approx(1e-2 * (32 / 256) ** -0.78)


def test_a_contest_with_a_trusted_prior_begins_with_rates_near_it(trusted):
    study = study_of(contestants=(Contestant(adapter="lora"),), training=Training(steps=40))
    contest = prepared_of(study).contests()[1]
    assert [trial.lr for trial in next(play(contest))] == [5.6e-3, 1e-2, 1.8e-2]
