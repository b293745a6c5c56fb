"""The list of methods and the card of one."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from adapterlab.adapters.base import Adapter
from adapterlab.cli import app
from tests.adapters.methods import SHIPPED

NAMES = """
pissa svft ssvd clover antipasto adalora psoft oft oftv2 boft goft hra ether ether_plus road dora delora ia3 vera ln_tuning
lora hira gralora randlora c3a fourierft loha lokr reft xlora poly miss bone vblora shira frod prompt prefix
ptuning_v2 llama_adapter trainable_tokens full_ft bitfit
"""


def test_every_method_of_the_map_is_there():
    assert set(SHIPPED) == set(NAMES.split())


def test_the_list_as_json_says_what_each_is(monkeypatch):
    monkeypatch.setattr(Adapter, "registry", dict(SHIPPED))
    result = CliRunner().invoke(app, ["adapters", "--json"])
    assert result.exception is None
    methods = {m["name"]: m for m in json.loads(result.stdout)}
    assert {name for name in methods if name in SHIPPED} == set(NAMES.split())
    keys = {"name", "title", "theme", "paper", "claim", "site", "mergeable", "invariants", "hyperparameters"}
    assert all(set(m) == keys for m in methods.values())
    assert methods["lora"]["hyperparameters"]["rank"] == 8
    assert not methods["prompt"]["mergeable"]


def test_the_list_names_all_and_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["adapters"])
    assert all(name in result.stdout for name in NAMES.split())
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", ["hra", "prompt", "full_ft"])
def test_a_card_shows_formula_belief_cost_and_code(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["explain", name])
    assert result.exit_code == 0, result.output
    method = SHIPPED[name]
    words = " ".join(result.stdout.split())
    assert method.title in words
    assert method.claim in words
    assert "trained parameters on the embedded model" in words
    assert f"adapterlab/adapters/{method.theme.value}/" in words
    assert all(str(invariant) in words for invariant in method().invariants)
