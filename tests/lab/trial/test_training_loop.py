"""Training against a loop written by hand: the schedule, the clipping, AdamW, the order of the batches."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR

import adapterlab
from adapterlab.adapters import adapter
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial import score, train
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.models.loading import load_causal
from adapterlab.surgery import attach
from adapterlab.tasks import task
from adapterlab.tasks.base import Examples
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    """Twelve steps of LoRA, so that the warm-up is one step; in float64, though the task takes its loss in float32."""
    contests = prepare(load_study(save_study(tmp_path_factory.mktemp("study")))).contests()
    lora = next(c for c in contests if c.contestant == "lora")
    return dataclasses.replace(lora.trial(1e-2, 1, 12, reported=True), precision="float64", curve_every=0)


class Scaled(type(task("prose"))):
    """The task `prose` with its training loss multiplied by a number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def loss(self, model, batch):
        return self.scale * super().loss(model, batch)


def trained(trial: Trial, scale: float) -> tuple[list[Tensor], Outcome]:
    """Return the parameters after the product's training, and the outcome."""
    found: list[Tensor] = []
    context = dataclasses.replace(RUNNER.context(trial), task=Scaled(scale))
    outcome = train.run(
        context, on_trained=lambda handle: found.extend(p.detach().clone() for p in handle.parameters())
    )
    return found, outcome


def by_hand(trial: Trial, scale: float) -> tuple[list[Tensor], list[float]]:
    """Return the parameters after the same training written out here, and the gradient's norm at each step."""
    loaded = load_causal(trial.model)
    model = loaded.model.double().train()
    handle = adapterlab.attach(model, trial.build(), trial.targets, seed=trial.seed)
    data = task("prose").examples("train", loaded.tokenizer, trial.length, 1 << 30).inputs
    parameters, norms = handle.parameters(), []
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    generator, order = torch.Generator().manual_seed(trial.seed), []
    warmup = trial.steps // 10
    for step in range(trial.steps):
        while len(order) < trial.batch:
            order += torch.randperm(len(data["input_ids"]), generator=generator).tolist()
        chosen, order = order[: trial.batch], order[trial.batch :]
        ids, scored = data["input_ids"][chosen], data["scored"][chosen][:, 1:]
        losses = -model(input_ids=ids).logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        for p in parameters:
            p.grad = None
        (scale * losses[scored].mean()).backward()
        norms.append(float(clip_grad_norm_(parameters, 1.0)))
        lr = trial.lr * min(1, (step + 1) / warmup) * (1 - step / trial.steps)
        with torch.no_grad():
            for p, m, v in zip(parameters, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * p.grad)
                v.mul_(0.999).add_(0.001 * p.grad**2)
                p -= lr * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    return [p.detach() for p in parameters], norms


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_trial_learns_what_a_loop_written_by_hand_learns(trial, scale):
    expected, norms = by_hand(trial, scale)
    found, outcome = trained(trial, scale)
    assert outcome.status == "ok"
    clipped = sum(norm > 1 for norm in norms)
    assert 3 <= clipped <= 9 if scale == 1 else clipped == 0, "the clipping is not what this case is about"
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_a_longer_trial_has_a_longer_warm_up(trial):
    longer = dataclasses.replace(trial, steps=40)
    expected, _ = by_hand(longer, 1.0)
    for ours, theirs in zip(trained(longer, 1.0)[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def optimizer_of(values: list[float], lr: float = 0.0) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    parameter = nn.Parameter(torch.tensor(values))
    return parameter, torch.optim.SGD([parameter], lr=lr)


@pytest.mark.parametrize("steps", [20, 39, 60, 300])
def test_the_schedule_is_torchs_warm_up_times_its_decay(steps):
    """`LinearLR` from the first step's share to 1 over a tenth of the steps, chained with one from 1 to 0 over all."""
    _, optimizer = optimizer_of([0.0], lr=1.0)
    warmup = steps // 10
    chain = ChainedScheduler(
        [LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1), LinearLR(optimizer, 1.0, 0.0, steps)]
        if warmup > 1
        else [LinearLR(optimizer, 1.0, 0.0, steps)]
    )
    for step in range(steps):
        assert train.schedule(step, steps) == pytest.approx(chain.get_last_lr()[0], rel=1e-9, abs=1e-12)
        optimizer.step()
        chain.step()


@pytest.mark.parametrize(
    ("steps", "first"), [(1, 1), (5, 1), (9, 1), (10, 1), (19, 1), (20, 1 / 2), (60, 1 / 6), (300, 1 / 30)]
)
def test_the_warm_up_takes_a_tenth_of_the_steps_and_at_least_one(steps, first):
    assert train.schedule(0, steps) == pytest.approx(first)


def test_the_schedule_in_numbers():
    assert [train.schedule(step, 20) for step in (0, 1, 2, 10, 19)] == pytest.approx([0.5, 0.95, 0.9, 0.5, 0.05])


def handle_of(parameter: nn.Parameter, penalty: Tensor | None = None, seen: list | None = None):
    """Stand in for a handle with one parameter."""

    def after_step(step: int) -> None:
        if seen is not None:
            seen.append((step, parameter.grad.clone(), parameter.detach().clone()))

    return SimpleNamespace(parameters=lambda: [parameter], regularizer=lambda: penalty, after_step=after_step)


def run_of(steps: int = 10, lr: float = 1.0):
    return SimpleNamespace(steps=steps, lr=lr)


@pytest.mark.parametrize(
    ("gradient", "moved"),
    [
        ([3.0, 4.0], [0.6, 0.8]),
        ([0.6, 0.8], [0.6, 0.8]),
        ([0.3, 0.4], [0.3, 0.4]),
        ([0.0, -1.25], [0.0, -1.0]),
        ([1.2, 1.6], [0.6, 0.8]),
    ],
)
def test_a_step_follows_the_gradient_clipped_to_norm_one(gradient, moved):
    parameter, optimizer = optimizer_of([0.0, 0.0])
    parameter.grad = torch.tensor(gradient)
    train.update(handle_of(parameter), optimizer, run_of(), 0, 1.0)
    assert parameter.tolist() == pytest.approx([-x for x in moved], rel=1e-5)


def test_the_clipping_is_over_all_parameters_together():
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, other.grad = torch.tensor([3.0]), torch.tensor([4.0])
    handle = SimpleNamespace(parameters=lambda: [one, other], regularizer=lambda: None, after_step=lambda step: None)
    train.update(handle, torch.optim.SGD([one, other], lr=0.0), run_of(), 0, 1.0)
    assert (one.item(), other.item()) == (pytest.approx(-0.6, rel=1e-5), pytest.approx(-0.8, rel=1e-5))


@pytest.mark.parametrize(("step", "factor"), [(0, 0.5), (1, 0.95), (10, 0.5)])
def test_a_step_is_as_long_as_the_schedule_says(step, factor):
    parameter, optimizer = optimizer_of([0.0])
    parameter.grad = torch.tensor([0.5])
    train.update(handle_of(parameter), optimizer, run_of(20, lr=0.1), step, 1.0)
    assert parameter.item() == pytest.approx(-0.5 * 0.1 * factor)


def test_a_group_moves_at_its_ratio_of_the_rate():
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, other.grad = torch.tensor([0.5]), torch.tensor([0.5])
    groups = [{"params": [one], "lr_ratio": 1.0}, {"params": [other], "lr_ratio": 0.25}]
    handle = SimpleNamespace(parameters=lambda: [one, other], regularizer=lambda: None, after_step=lambda step: None)
    train.update(handle, torch.optim.SGD(groups, lr=9.0), run_of(lr=0.1), 0, 1.0)
    assert (one.item(), other.item()) == pytest.approx((-0.05, -0.0125))


def test_the_penalty_is_part_of_the_loss_and_is_clipped_with_it():
    parameter, optimizer = optimizer_of([1.0])
    parameter.grad = torch.tensor([0.25])
    train.update(handle_of(parameter, 0.5 * (parameter**2).sum()), optimizer, run_of(), 0, 1.0)
    assert parameter.item() == pytest.approx(0.0, abs=1e-5)  # 0.25 + 1, clipped to 1


def test_after_step_is_called_before_the_gradients_are_cleared():
    seen: list = []
    parameter, optimizer = optimizer_of([0.0])
    parameter.grad = torch.tensor([0.5])
    train.update(handle_of(parameter, seen=seen), optimizer, run_of(), 0, 1.0)
    assert seen == [(0, torch.tensor([0.5]), torch.tensor([-0.5]))]
    assert parameter.grad is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_step(loss):
    parameter, optimizer = optimizer_of([0.0])
    parameter.grad = torch.tensor([0.5])
    with pytest.raises(FloatingPointError, match=f"the loss was {loss} at step 7"):
        train.update(handle_of(parameter), optimizer, run_of(), 7, loss)
    with pytest.raises(FloatingPointError, match="the loss was inf at step 7"):
        train.update(handle_of(parameter, (parameter + 1).sum() * math.inf), optimizer, run_of(), 7, 1.0)
    assert parameter.item() == 0


def test_the_optimizer_is_adamw_without_decay():
    optimizer = train.make_optimizer(attach(nn.Sequential(nn.Linear(4, 4)), adapter("lora", rank=2)), 0.1)
    assert type(optimizer) is torch.optim.AdamW
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (0.1, 0.0, (0.9, 0.999), 1e-8)


def test_every_pass_over_the_data_has_each_example_once():
    examples = Examples({"input_ids": torch.arange(7)[:, None]}, 1)
    given = torch.cat([batch["input_ids"][:, 0] for batch in train.batches(examples, 3, 7, seed=5)])
    first, second, third = given.split(7)
    for one in (first, second, third):
        assert sorted(one.tolist()) == list(range(7))
    assert first.tolist() != second.tolist() != third.tolist()
    assert len(list(train.batches(examples, 3, 4, seed=5))) == 4
    small = list(train.batches(Examples({"input_ids": torch.arange(2)[:, None]}, 1), 5, 2, seed=0))
    assert [len(batch["input_ids"]) for batch in small] == [5, 5]


def test_the_curve_has_every_nth_step_but_the_last(trial):
    curved = dataclasses.replace(trial, steps=12, curve_every=4)
    assert [step for step in range(13) if train.on_curve(curved, step) and step] == [4, 8]
    assert not train.on_curve(dataclasses.replace(curved, curve_every=0), 4)
    outcome = RUNNER.run(curved)
    assert [step for step, _ in outcome.curve] == [4, 8]
    shorter = RUNNER.run(dataclasses.replace(curved, steps=8, curve_every=4))
    assert outcome.curve[0][1] != outcome.validation
    assert shorter.curve[0][0] == 4


def test_calibration_looks_at_the_mean_of_four_batches(trial):
    context = RUNNER.context(trial)
    assert train.CALIBRATION_BATCHES == 4
    with torch.no_grad():
        losses = [
            context.task.loss(context.model, batch) / batch["scored"][:, 1:].sum()
            for batch in train.batches(context.training_data, trial.batch, 4, trial.seed)
        ]
        assert train.calibration_loss(context).item() == pytest.approx(sum(losses).item() / 4)


def test_a_loss_that_is_not_finite_after_training_is_a_divergence(trial, monkeypatch):
    score = type(task("prose")).score

    def broken(self, model, examples, control):
        found = score(self, model, examples, control)
        return found._replace(loss=math.inf) if control.strength == 1 and len(examples) == trial.windows else found

    monkeypatch.setattr(type(task("prose")), "score", broken)
    outcome = RUNNER.run(dataclasses.replace(trial, steps=2))
    assert (outcome.status, outcome.scores, outcome.path) == ("diverged", {}, ())
    assert outcome.note == "the loss is not finite after training"


def test_the_mode_of_the_model_is_restored():
    model = nn.Linear(1, 1).eval()
    with train.mode(model, training=True):
        assert model.training
        with train.mode(model, training=False):
            assert not model.training
        assert model.training
    assert not model.training
    with pytest.raises(ValueError, match="x"), train.mode(model, training=True):
        raise ValueError("x")
    assert not model.training


@pytest.mark.parametrize("micro", [None, 1, 2, 3, 5])
def test_the_gradient_and_the_loss_are_the_means_over_the_batch(trial, micro):
    model, prose = RUNNER.context(trial).model.requires_grad_(True), task("prose")
    batch = next(train.batches(RUNNER.context(trial).training_data, 5, 1, seed=0))
    batch["scored"][0, 5:] = False
    try:
        mean = prose.loss(model, batch) / batch["scored"][:, 1:].sum()
        weight = model.model.layers[0].mlp.up_proj.weight
        (expected,) = torch.autograd.grad(mean, weight)
        loss = train.backward(prose, model, batch, micro, score.NoAdapter())
        assert loss == pytest.approx(mean.item(), rel=1e-6)
        torch.testing.assert_close(weight.grad, expected, rtol=1e-5, atol=1e-9)
        found = train.MicroBatches(micro or 5)(prose, model, batch, score.NoAdapter())
        assert found == pytest.approx(mean.item(), rel=1e-6)
        torch.testing.assert_close(weight.grad, expected, rtol=1e-5, atol=1e-9)
    finally:
        model.zero_grad()
        model.requires_grad_(False)


def test_the_frozen_model_is_scored_and_nothing_is_trained(trial):
    frozen = dataclasses.replace(trial, adapter='{"name": "frozen"}', steps=0, path=(0.5,), curve_every=1)
    outcome = RUNNER.run(frozen)
    assert (outcome.status, outcome.curve, outcome.path) == ("ok", (), ())
    assert (outcome.parameters, outcome.seconds, outcome.attach_seconds) == (0, 0.0, 0.0)
    assert set(outcome.scores) == set(trial.parts)


def test_a_run_that_diverged_has_no_scores_and_a_curve_of_finite_losses(trial):
    wild = dataclasses.replace(trial, lr=1e30, path=(0.5,), curve_every=1, precision="float32")
    outcome = RUNNER.run(wild)
    assert (outcome.status, outcome.scores, outcome.path) == ("diverged", {}, ())
    assert outcome.parameters > 0
    assert all(math.isfinite(loss) for _, loss in outcome.curve)
    assert outcome.note.startswith("the loss was nan at step")


def test_a_path_has_the_strengths_that_the_method_knows(trial):
    """A method that supports no strength but 0 and 1 has an empty path."""
    asked = dataclasses.replace(trial, path=(-0.5, 0.5), steps=2)
    path = RUNNER.run(asked).path
    assert [strength for strength, _ in path] == [-0.5, 0.5]
    assert all(set(scores) == {"validation", "test", "ood", "base"} for _, scores in path)
    method = next(name for name in adapterlab.all_adapters() if adapterlab.adapter(name).strength_problem(0.5))
    other = dataclasses.replace(asked, adapter=json.dumps(adapterlab.adapter(method).settings()), path=(0.5,))
    assert RUNNER.run(other).path == ()
