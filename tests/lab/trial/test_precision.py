"""Every method trains in bf16: a bfloat16 base under autocast, with all that is trained in float32."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import LlamaForSequenceClassification

from adapterlab import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.batched import batch_key
from adapterlab.lab.trial.merged import can_merge
from adapterlab.lab.trial.precision import autocast, cast_base
from adapterlab.lab.trial.spec import Trial
from adapterlab.lab.trial.train import backward
from adapterlab.surgery import attach
from adapterlab.surgery.model.new_heads import mark_new_heads
from adapterlab.tasks import task
from tests.adapters.methods import ALL, small
from tests.conftest import tiny_llama
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study

CPU = torch.device("cpu")
PROSE = task("prose")
STEPS = 8
TOLERANCE = 0.03
"""Largest difference of the loss after training, in nats of 4.1; all methods but two stay below half of it."""
ROUNDING = 0.03
"""Largest relative error of a gradient: a few roundings to bfloat16, whose unit is 2^-8."""
pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop because we have not yet implemented the batching rule"
)
LARGE_RATES = {"ia3": 0.1, "vera": 0.1, "vblora": 0.1}


def batch_of_tokens() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 16, (4, 12), generator=torch.Generator().manual_seed(3))
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[:, 0] = False
    return {"input_ids": ids, "scored": scored}


BATCH = batch_of_tokens()


def attached(name: str, precision: str, model: nn.Module | None = None):
    """The method on a base that is rounded to bfloat16 in either precision."""
    model = tiny_llama() if model is None else model
    cast_base(model, "bf16")
    if precision == "float32":
        model.float()

    def loss() -> torch.Tensor:
        with autocast(CPU, precision):
            return PROSE.loss(model, BATCH) / PROSE.terms(BATCH)

    ids = BATCH["input_ids"]
    runs = [lambda: model(ids), lambda: model(ids + 5)] if name == "antipasto" else ()
    return model, attach(model, small(name), seed=1, loss=loss, runs=runs)


def gradient(name: str, precision: str) -> torch.Tensor:
    """The gradient of all trained parameters together, a little off the start."""
    model, handle = attached(name, precision)
    generator = torch.Generator().manual_seed(5)
    size = 1e-4 if name == "randlora" else 1e-3  # a larger step of RandLoRA saturates the model
    with torch.no_grad():
        for parameter in handle.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    backward(PROSE, model, BATCH, None, handle, precision)
    return torch.cat([parameter.grad.flatten() for parameter in handle.parameters()])


def trained(name: str, precision: str) -> list[float]:
    """The loss at each step."""
    model, handle = attached(name, precision)
    own = {id(parameter) for parameter in handle.parameters()}
    bases = [parameter for parameter in model.parameters() if id(parameter) not in own]
    before = [parameter.clone() for parameter in bases]
    optimizer = torch.optim.AdamW(handle.parameter_groups(LARGE_RATES.get(name, 1e-2)), weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        losses.append(backward(PROSE, model, BATCH, None, handle, precision))
        found = [parameter.grad for parameter in handle.parameters() if parameter.grad is not None]
        assert {tensor.dtype for tensor in (*handle.parameters(), *found)} == {torch.float32}
        optimizer.step()
        handle.after_step(step)
    assert {parameter.dtype for parameter in bases} == {torch.bfloat16 if precision == "bf16" else torch.float32}
    handle.detach()
    assert all(map(torch.equal, bases, before))
    assert list(map(id, model.parameters())) == list(map(id, bases))
    return losses


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_of_every_method_is_that_of_float32_up_to_rounding(name):
    one, other = (gradient(name, precision) for precision in ("float32", "bf16"))
    assert float((other - one).norm() / one.norm()) < ROUNDING


@pytest.mark.parametrize("name", ALL)
def test_every_method_learns_in_bf16_what_it_learns_in_float32_and_leaves_the_base(name):
    one, other = (trained(name, precision) for precision in ("float32", "bf16"))
    assert other[-1] < other[0]
    assert other[-1] == pytest.approx(one[-1], abs=TOLERANCE)


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    contest = prepare(load_study(save_study(tmp_path_factory.mktemp("study")))).contests()[-2]
    trial = contest.trial(1e-2, 1, 6, reported=True)
    return dataclasses.replace(trial, curve_every=3, path=(0.5,), precision="bf16")


def of(trial: Trial, name: str) -> Trial:
    return dataclasses.replace(trial, adapter=json.dumps(small(name).settings()), targets="all-linear")


def test_the_precision_names_the_trial(trial):
    assert trial.id != dataclasses.replace(trial, precision="float32").id


@pytest.mark.parametrize("name", ["lora", "full_ft", "clover", "prefix", "pissa"])
def test_a_trial_in_bf16_has_the_scores_of_float32_up_to_rounding(trial, name):
    one, other = (RUNNER.run(dataclasses.replace(of(trial, name), precision=p)) for p in ("float32", "bf16"))
    assert other.status == "ok"
    for part, (loss, _) in one.scores.items():
        assert other.scores[part][0] == pytest.approx(loss, rel=5e-3)
        assert other.scores[part][0] != loss
    assert [step for step, _ in other.curve] == [step for step, _ in one.curve]


def test_scores_in_bf16_are_those_of_the_attached_adapter_under_autocast(trial):
    """Computed by torch alone: logits of all positions, their cross-entropy, divided by the bytes of the text."""
    context, found = RUNNER.context(trial), []

    def score(handle) -> None:
        examples = context.load_examples("test", trial.windows)
        ids = examples.inputs["input_ids"]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = context.model(input_ids=ids).logits[:, :-1].float()
        found.append(float(cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")) / examples.size)

    outcome = RUNNER.run(trial, on_trained=score)
    assert outcome.scores["test"][0] == pytest.approx(found[0], rel=1e-4)


def test_merging_into_bfloat16_loses_an_update_that_the_attached_adapter_keeps():
    """Of weights that are 1, a change by a thousandth is below half of the distance to the next bfloat16.

    The base maps the input to 0, and the update maps it to 64 times 0.001.
    """
    layer = nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(layer.weight)
    handle = attach(nn.Sequential(layer), adapter("lora", rank=1, alpha=1.0))
    a, b = handle.parameters()
    nn.init.constant_(b, 1e-3)
    with torch.no_grad():
        a[:] = torch.tensor([1.0, -1.0] * 32)
    x = torch.tensor([[1.0, -1.0] * 32], dtype=torch.bfloat16)
    with torch.no_grad(), autocast(CPU, "bf16"):
        attached = layer(x)
        handle.merge()
        merged = layer(x)
    torch.testing.assert_close(attached.float(), torch.full((1, 64), 0.064), rtol=2**-8, atol=0)
    assert torch.equal(merged, torch.zeros_like(merged))
    assert not can_merge(handle)


@pytest.mark.parametrize("name", ["lora", "hra", "full_ft", "prefix", "xlora"])
def test_lanes_in_bf16_come_out_as_trials_alone(trial, name):
    trials = [dataclasses.replace(of(trial, name), lr=lr, seed=seed) for lr, seed in ((1e-2, 1), (3e-3, 2))]
    assert len({batch_key(one, PROSE) for one in trials}) == 1
    for one, together in zip([RUNNER.run(t) for t in trials], RUNNER.run_batched(trials), strict=True):
        assert together.status == "ok"
        assert together.validation == pytest.approx(one.validation, rel=2e-3)


def test_checkpointing_recomputes_under_the_same_autocast(trial):
    one, other = (RUNNER.with_settings(checkpointing=on).run(trial) for on in (False, True))
    assert other.scores == one.scores


def test_an_undecided_precision_is_refused(trial):
    with pytest.raises(AdapterlabError, match="the precision 'auto', which is not decided"):
        RUNNER.run(dataclasses.replace(trial, precision="auto"))


def test_new_heads_and_buffers_stay_in_float32():
    config = tiny_llama().config
    config.num_labels, config.pad_token_id = 3, 0
    model = LlamaForSequenceClassification(config)
    mark_new_heads(model, {"score.weight"})
    cast_base(model, "bf16")
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds.pop("score.weight") == torch.float32
    assert set(kinds.values()) == {torch.bfloat16}
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


@pytest.mark.parametrize("under", [True, False])
def test_a_small_change_of_a_norm_is_not_rounded_away_under_autocast(under):
    model = tiny_llama()
    cast_base(model, "bf16")
    handle = attach(model, adapter("ln_tuning"))
    for parameter in handle.parameters():
        nn.init.constant_(parameter, 1e-3)  # 1 + 0.001 is 1 in bfloat16
    x = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    norm = model.model.norm
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=under):
        adapted = norm(x)
        with handle.disabled():
            own = norm(x)
    if under:
        torch.testing.assert_close(adapted.float(), own.float() * 1.001, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(adapted, own)


def test_the_model_is_loaded_once_for_each_precision(trial):
    plain = dataclasses.replace(trial, precision="float32")
    models = {RUNNER.context(one).model for one in (trial, plain, trial)}
    assert len(models) == 2
    assert {next(m.parameters()).dtype for m in models} == {torch.float32, torch.bfloat16}
