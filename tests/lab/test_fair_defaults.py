"""Every contestant of the full study learns at its defaults, if it is given its best learning rate."""

from __future__ import annotations

import json

import pytest

from adapterlab.lab.run.sizing import size_to_budget
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.models.fingerprint import EMBEDDED
from adapterlab.models.loading import load_causal
from adapterlab.resources import shipped
from benchmarks.settings_search import BUDGET, best_of_grid
from tests.lab.runner import RUNNER

pytestmark = pytest.mark.soak
ENTRIES = {entry.name: entry for entry in load_study(shipped("studies", "full.toml")).contestants}


def loss(task: str, settings: dict, targets, lr: float, steps: int) -> float:
    trial = Trial(
        model=EMBEDDED,
        model_hash="",
        task=task,
        data="",
        adapter=json.dumps(settings, sort_keys=True),
        targets=targets,
        lr=lr,
        seed=21,
        steps=steps,
        batch=4,
        length=128,
        parts=("validation",),
        windows=16,
        curve_every=0,
        code="",
    )
    return RUNNER.run(trial).validation


@pytest.mark.parametrize("task", ["restyle", "prose"])
@pytest.mark.parametrize("name", ENTRIES)
def test_at_its_best_rate_it_ends_below_the_frozen_model(name, task):
    entry = ENTRIES[name]
    method = size_to_budget(entry, load_causal().model, entry.budget or BUDGET).adapter
    _, best = best_of_grid(lambda lr: loss(task, method.settings(), entry.targets, lr, steps=20))
    assert best < loss(task, {"name": FROZEN}, "all-linear", 0.0, steps=0)
