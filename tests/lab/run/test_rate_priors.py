"""Prior learning rates: against published sweeps, and learned from ledgers that the test makes up."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from adapterlab.adapters import adapter, all_adapters
from adapterlab.lab.run.lr_search import position_of, rate_at
from adapterlab.lab.run.rate_priors import RatePrior, prior, rate_priors
from adapterlab.models.width import width
from tests.conftest import tiny_llama
from tests.lab.unplayed import outcome_of, prepared_of, study_of
from tools.learn_rate_priors import learn, to_toml

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


def test_each_prior_is_a_rate_of_the_lattice_for_the_settings_that_a_method_has():
    for name, entry in rate_priors().items():
        assert entry.rate == rate_at(position_of(entry.rate)), name
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


def runs_of(best: dict[str, float], **settings):
    """Runs of LoRA at full length whose loss is least at the best rate of the task; shorter ones would mislead."""
    prepared = prepared_of(study_of("lora", tasks=tuple(best)))
    runs = []
    for contest in prepared.contests():
        if contest.adapter is None:
            continue
        contest.adapter = replace(contest.adapter, **settings)
        for lr in (1e-3, 3.2e-3, 1e-2, 3.2e-2):
            short = contest.trial(lr, 101, 10, reported=False)
            long = [contest.trial(lr, seed, 20, reported=False) for seed in (201, 202)]
            runs.append((short, outcome_of(short, lr)))
            away = abs(math.log10(lr / best[contest.task]))
            # One of the two seeds alone would prefer the smallest rate.
            runs += [(t, outcome_of(t, 1 + away - (0.9 if lr == 1e-3 and t.seed == 201 else 0))) for t in long]
    return runs


def test_a_prior_is_the_geometric_mean_of_the_best_rates_of_the_longest_runs():
    found = learn(runs_of({"prose": 3.2e-3, "restyle": 3.2e-2}))
    assert found == {"lora": (RatePrior(1e-2, 256, 16.0), pytest.approx(2.0, abs=0.05))}


def test_alpha_is_carried_over_and_other_settings_are_left_out():
    assert learn(runs_of({"prose": 3.2e-3}, alpha=160.0))["lora"][0].rate == 3.2e-2
    assert learn(runs_of({"prose": 3.2e-3}, rank=2))["lora"][0].rate == 3.2e-3
    assert learn(runs_of({"prose": 3.2e-3}, rslora=True)) == {}


def test_what_is_written_is_read_back(tmp_path):
    priors = {"vera": RatePrior(0.32, 256), "lora": RatePrior(1e-2, 256, 16.0)}
    (tmp_path / "priors.toml").write_text(to_toml(priors))
    assert rate_priors(tmp_path / "priors.toml") == priors
