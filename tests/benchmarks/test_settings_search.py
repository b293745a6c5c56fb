"""The random search over settings: its grid, its draws, and the file of undertuned methods that is made from it."""

from __future__ import annotations

import json
import math
import random
import tomllib

import pytest

from adapterlab.adapters import adapter, all_adapters
from adapterlab.lab.analysis.undertuned import searched_methods, undertuned
from adapterlab.lab.study.load import load_study
from adapterlab.resources import shipped
from benchmarks.settings_search import FLAGS, RESULTS, SPACES, best_of_grid, flags

RECORDS = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}


@pytest.mark.parametrize("best", [-4.9, -3.2, -2.5, -1.1, 0.4, 0.9])
def test_the_grid_ends_within_a_quarter_of_a_decade_of_the_best_rate(best):
    tried: list[float] = []

    def loss_of(lr: float) -> float:
        tried.append(lr)
        return (math.log10(lr) - best) ** 2

    lr, loss = best_of_grid(loss_of)
    assert abs(math.log10(lr) - best) <= 0.26
    assert loss == pytest.approx((math.log10(lr) - best) ** 2)
    assert len(tried) == len(set(tried))


def test_the_grid_stops_at_its_edges_and_survives_divergence():
    assert best_of_grid(lambda lr: -lr)[0] == 10
    assert best_of_grid(lambda lr: lr)[0] == 1e-5
    assert best_of_grid(lambda lr: math.inf if lr > 5e-4 else -lr)[0] == pytest.approx(3.16e-4)


@pytest.mark.parametrize("name", SPACES)
def test_what_is_drawn_are_settings_of_the_method(name):
    dice = random.Random(0)
    for _ in range(20):
        adapter(name, **{setting: draw(dice) for setting, draw in SPACES[name].items()})


def record(own: float, best: float) -> dict:
    found = {"gain": {"defaults": own, "best draw": best}, "best draw": {"lr": 0.01, "settings": {"alpha": 4.0}}}
    return {"found": found}


@pytest.mark.parametrize(("own", "best", "flagged"), [(0.05, 0.05, False), (0.0451, 0.05, False), (0.0449, 0.05, True)])
def test_a_method_is_flagged_if_the_best_draw_gained_over_a_tenth_more(own, best, flagged):
    table = tomllib.loads(flags({"lora": record(own, best), "oft": {"trials": []}}))
    assert table["searched"] == ["lora"]
    assert ("lora" in table) == flagged
    if flagged:
        assert table["lora"] == {"gain": own, "best": best, "settings": "alpha=4.0", "lr": 0.01}


def test_the_shipped_flags_are_those_of_the_recorded_searches():
    assert FLAGS.read_text() == flags(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_search_is_complete_and_says_how_to_repeat_it(name):
    found = RECORDS[name]
    assert name in {entry.name for entry in load_study(shipped("studies", "full.toml")).contestants}
    assert (
        found["command"]
        == f"python benchmarks/settings_search.py {name} --draws {found['draws']} --seed {found['seed']}"
    )
    stages = [trial["stage"] for trial in found["trials"]]
    assert stages.count("draw") == found["draws"] == 30
    assert found["found"]["gain"].keys() == {"defaults", "best draw"}


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_search_was_made_with_the_defaults_of_today(name):
    method = dict(RECORDS[name]["defaults"])
    kind = all_adapters()[method.pop("name")]
    entry = next(e for e in load_study(shipped("studies", "full.toml")).contestants if e.name == name)
    today = adapter(entry.adapter, **entry.settings).settings()
    changed = {key for key, value in json.loads(json.dumps(today)).items() if key != "name" and method[key] != value}
    assert changed <= {kind.size_knob, "factor"}  # what a budget decides


def test_a_flagged_method_is_called_possibly_undertuned():
    table = tomllib.loads(FLAGS.read_text())
    assert set(searched_methods()) == set(table["searched"])
    for name in all_adapters():
        assert undertuned(name).startswith("possibly undertuned") == (name in table)
