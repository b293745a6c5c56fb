"""The base that contestants share is the same after each trial; one that changes it fails alone."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch

from adapterlab.adapters import LinearAdapter, State, Theme
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.base_sums import changed, checksums
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Trial
from tests.adapters.methods import small
from tests.conftest import tiny_llama
from tests.lab.tiny import save_study


def edits(model):
    """Change one weight in many ways, and yield the name of each."""
    weight = model.model.layers[0].mlp.up_proj.weight.data
    before = weight.clone()
    for name, after in {
        "one last bit": (before.view(torch.int32) ^ (torch.arange(before.numel()).view_as(before) == 7).int()).view(
            torch.float32
        ),
        "a factor": before * 1.05,
        "rows in another order": before.flip(0),
        "columns in another order": before[:, torch.randperm(before.shape[1])],
        "two rows": before[[1, 0, *range(2, len(before))]],
        "a roll": before.roll(1),
        "signs": -before,
        "two numbers that cancel": before.index_put((torch.tensor([0, 0]), torch.tensor([0, 1])), before[0, [1, 0]]),
    }.items():
        weight.copy_(after)
        yield name
        weight.copy_(before)


def test_every_change_of_bits_is_found_and_named():
    for hidden in (32, 512):  # smaller and larger than a row of the sum's table
        model = tiny_llama(hidden_size=hidden, intermediate_size=3 * hidden, head_dim=hidden // 4)
        sums = checksums(model)
        assert changed(model, sums) == []
        for name in edits(model):
            assert changed(model, sums) == ["model.layers.0.mlp.up_proj.weight"], name
        assert changed(model, sums) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_and_other_parameters(dtype):
    model = tiny_llama().to(dtype)
    sums = checksums(model)
    assert changed(model, sums) == []
    model.model.norm.weight.data[-1] += 0.01
    assert changed(model, sums) == ["model.norm.weight"]
    model.model.norm.extra = torch.nn.Parameter(torch.zeros(1))
    assert set(changed(model, sums)) == {"model.norm.weight", "model.norm.extra"}


@dataclass(frozen=True)
class EditingLater(LinearAdapter):
    """A gain that also scales the base while it is trained."""

    name = "editing_later"
    title = "Editing"
    theme = Theme.GAIN
    claim = "None."
    paper = "https://example.org"

    def init(self, weight, context):
        return State({"gain": context.zeros(weight.shape[1])})

    def weight(self, state, weight, strength=1.0):
        return weight * (1 + strength * state["gain"])

    def forward(self, state, x, linear, strength=1.0):
        with torch.no_grad():
            linear.weight.detach().numpy()[:] *= 1.001
        return linear(x * (1 + strength * state["gain"]))


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    contests = prepare(load_study(save_study(tmp_path_factory.mktemp("study")))).contests()
    ia3 = next(c for c in contests if c.contestant == "ia3")
    return dataclasses.replace(ia3.trial(1e-2, 1, 4, reported=True), path=(), curve_every=0)


def of(trial: Trial, **settings: object) -> Trial:
    return dataclasses.replace(trial, adapter=json.dumps(settings, sort_keys=True))


def test_a_contestant_that_changes_the_base_fails_alone(trial):
    runner = Runner()
    alone = runner.run(trial)
    outcome = runner.run(of(trial, name="editing_later"))
    assert outcome.status == "failed"
    assert outcome.note.startswith(
        "editing_later changed the base model itself (model.layers.0.self_attn.q_proj.weight and"
    )
    assert outcome.scores == {}
    after = runner.run(trial)
    assert (after.status, after.scores, after.rows) == ("ok", alone.scores, alone.rows)


def test_so_does_one_that_raises_after_it_changed_the_base(trial, monkeypatch):
    runner = Runner()
    alone = runner.run(trial)
    monkeypatch.setattr(EditingLater, "regularizer", lambda *_: raise_on_purpose())
    with pytest.raises(RuntimeError, match="on purpose"):
        runner.run(of(trial, name="editing_later"))
    assert runner.run(trial).scores == alone.scores


def raise_on_purpose():
    raise RuntimeError("on purpose")


def test_every_method_leaves_the_bits_of_the_base(trial):
    """Among them full fine-tuning, and those that are merged to be scored."""
    runner = Runner()
    for name in ("full_ft", "lora", "bitfit", "ln_tuning", "oft", "clover", "shira", "reft", "prefix", "vera"):
        outcome = runner.run(dataclasses.replace(of(trial, **small(name).settings()), lr=1e-4))
        assert outcome.status == "ok", (name, outcome.note)
