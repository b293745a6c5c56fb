"""Losses of projected models, and their gains as shares of the full change's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.run import run_geometry
from adapterlab.geometry.score import Scoring, share_of
from adapterlab.models.loading import load
from adapterlab.tasks import task
from adapterlab.tasks.base import Control, Examples, Part, Scores, Task, kept_of
from tests.conftest import tiny_gpt2


class Regression(Task):
    """Mean squared error of a linear model on inputs that a hidden matrix maps to targets."""

    title = explanation = "Regression."
    unit = "squared error"
    target = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0]))

    @property
    def parts(self) -> tuple[Part, ...]:
        return Part.VALIDATION, Part.TEST, Part.BASE

    def examples(self, part, processor, length, count) -> Examples:
        inputs = torch.eye(4).repeat(4, 1)
        targets = inputs @ self.target.T if part is Part.TEST else torch.zeros(16, 4)
        return Examples({"input": inputs, "target": targets}, len(inputs))

    def terms(self, batch) -> int:
        return len(batch["input"])

    def loss(self, model, batch):
        return ((model(batch["input"]) - batch["target"]) ** 2).sum()

    def score(self, model, examples: Examples, control: Control) -> Scores:
        rows = ((model(examples.inputs["input"]) - examples.inputs["target"]) ** 2).sum(-1)
        return Scores(float(rows.mean()), 0.0, tuple(rows.tolist()))

    def fingerprint(self) -> str:
        return "regression"


def linear(weight: torch.Tensor) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    model[0].weight.data = weight.clone()
    return model


def test_losses_are_those_of_the_model_with_the_weights():
    scoring = Scoring(linear(torch.zeros(4, 4)), None, Regression())
    found = scoring.losses({"0": Regression.target})
    assert found["in_domain"].loss == 0
    assert found["general"].loss == pytest.approx((9 + 4 + 1) / 4)
    assert scoring.base["in_domain"].loss == pytest.approx((9 + 4 + 1) / 4)
    assert scoring.model[0].weight.abs().sum() == 0


def test_the_share_of_a_projection_is_the_energy_that_it_keeps():
    # With inputs of covariance I / 4, the loss is a quarter of the squared distance from the target, so that by Eckart and
    # Young rank 1 and rank 2 keep 9 and 13 of 14 parts of the gain; and cause as many parts of the rise on general text.
    change = InMemory({"0": (torch.zeros(4, 4), Regression.target)})
    scoring = Scoring(linear(torch.zeros(4, 4)), None, Regression())
    result = run_geometry(
        change, Plan(budgets=(8, 16), hypotheses=("low_rank",), measures=(), draws=2), scoring=scoring
    )
    shares = [{part: each.share for part, each in projection.scores.items()} for projection in result.projections]
    assert shares[0] == pytest.approx({"in_domain": 9 / 14, "general": 9 / 14})
    assert shares[1] == pytest.approx({"in_domain": 13 / 14, "general": 13 / 14})
    assert result.scores == {"in_domain": (3.5, 0.0), "general": (0.0, 3.5)}
    assert (result.task, result.unit) == ("", "squared error")


@pytest.mark.parametrize(
    ("score_at", "scored"),
    [("all", [8, 16, 24]), ("largest", [24]), ((16,), [16]), ((32,), [32])],
)
def test_projections_are_scored_at_the_chosen_budgets_alone(score_at, scored):
    change = InMemory({"0": (torch.zeros(4, 4), Regression.target)})
    plan = Plan(budgets=(8, 16, 24), hypotheses=("low_rank",), measures=(), draws=2, score_at=score_at)
    result = run_geometry(change, plan, scoring=Scoring(linear(torch.zeros(4, 4)), None, Regression()))
    assert [each.parameters for each in result.projections if each.scores] == scored
    assert [each.parameters for each in result.projections] == sorted({8, 16, 24, *scored})
    expected = [5 / 14, 1 / 14, 0, 0]  # Eckart and Young
    assert [p.residual for p in result.projections] == pytest.approx(expected[: len(result.projections)], abs=1e-9)
    assert result.budgets == tuple(sorted({8, 16, 24, *scored}))


def test_the_time_that_scoring_will_take_is_said_before():
    change, stages = InMemory({"0": (torch.zeros(4, 4), Regression.target)}), []
    scoring = Scoring(linear(torch.zeros(4, 4)), None, Regression())
    plan = Plan(budgets=(8, 16), hypotheses=("low_rank",), measures=(), draws=2)
    run_geometry(change, plan, scoring=scoring, watch=lambda stage, *_: stages.append(stage))
    said = stages.index("2 projections to score, at least 0 s")
    assert stages[said + 1] == "projecting on low_rank and scoring, about 0 s left"


def test_a_gain_within_noise_has_no_shares():
    noise = torch.randn(64, generator=torch.Generator().manual_seed(0)).tolist()
    base = Scores(0.0, 0, tuple(noise))
    full = Scores(-0.01, 0, tuple(noise[1:] + noise[:1]))
    assert math.isnan(share_of("in_domain", Scores(-0.01, 0), base, full))
    sure = Scores(-0.01, 0, tuple(each - 0.01 for each in noise))
    assert share_of("in_domain", Scores(-0.005, 0), base, sure) == pytest.approx(0.5)


def test_a_full_change_that_loses_has_no_shares_of_a_gain():
    base, worse = Scores(1.0, 0), Scores(2.0, 0)
    assert math.isnan(share_of("in_domain", Scores(1.5, 0), base, worse))
    assert share_of("general", Scores(1.5, 0), base, worse) == 0.5


def test_a_projection_without_a_finite_loss_has_no_share():
    assert math.isnan(share_of("in_domain", Scores(math.inf, 0), Scores(1.0, 0), Scores(0.5, 0)))


def test_a_diverged_change_is_named():
    change = InMemory({"0": (torch.zeros(4, 4), torch.full((4, 4), 1e30))}, "small", "diverged")
    with pytest.raises(AdapterlabError, match="small with the change of diverged has no finite loss"):
        Scoring(linear(torch.zeros(4, 4)), None, Regression()).of_change(change)


def test_a_layer_that_the_scored_model_lacks_is_named():
    with pytest.raises(AdapterlabError, match=r"has no linear layer h\.0\.up: leave --task out"):
        Scoring(linear(torch.zeros(4, 4)), None, Regression()).losses({"h.0.up": torch.zeros(4, 4)})


class Strengths(Regression):
    """Scores the distance between the weights at strength -1 and at strength 1, and what is kept of the base."""

    def score(self, model, examples, control):
        base = kept_of(control).setdefault("base", len(kept_of(control)))
        control.strength = -1.0
        against = [p.clone() for p in model.parameters()]
        control.strength = 1.0
        apart = sum(float((p - q).norm()) for p, q in zip(model.parameters(), against, strict=True))
        return Scores(apart + base, 0.0)


@pytest.mark.parametrize(
    ("model", "path"), [(tiny_gpt2(), "transformer.h.0.mlp.c_fc"), (linear(torch.ones(4, 4)), "0")]
)
def test_tasks_that_score_at_several_strengths_see_the_change_at_each(model, path):
    layer = model.get_submodule(path)
    before = layer.weight.detach().clone()
    weight = before.T if "mlp" in path else before
    found = Scoring(model, None, Strengths()).losses({path: weight + 1})
    assert found["in_domain"].loss == pytest.approx(2 * weight.numel() ** 0.5, rel=1e-4)
    assert torch.equal(layer.weight, before)


def test_the_model_is_scored_in_evaluation_mode_and_left_as_it_was():
    class Mode(Regression):
        def score(self, model, examples, control):
            return Scores(float(model.training), 0.0)

    model = linear(torch.zeros(4, 4)).train()
    assert Scoring(model, None, Mode()).base["in_domain"].loss == 0
    assert model.training


def test_activations_are_measured_on_both_texts_if_all_measures_are_asked_for():
    tokenizer = load("embedded").tokenizer
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=128)
    model = GPT2LMHeadModel(config).eval()
    path = "transformer.h.0.mlp.c_fc"
    base = model.get_submodule(path).weight.detach().T
    change = InMemory({path: (base, 1.5 * base)})
    scoring = Scoring(model, tokenizer, task("prose"), length=16, windows=2)
    result = run_geometry(change, Plan(hypotheses=("low_rank",), budgets=(200,), draws=2), scoring=scoring)
    # A change by half of the weight has a quarter of the squared output, whatever the inputs are.
    assert {text: measured[path]["drift"] for text, measured in result.activations.items()} == pytest.approx(
        {"task": 0.25, "general": 0.25}, rel=1e-4
    )
