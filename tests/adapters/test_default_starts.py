"""Starts and scales: those of the papers and of the authors' code, at the size of the layer."""

from __future__ import annotations

import math

import peft
import pytest
import torch
from peft.tuners.vera.model import _kaiming_init

from adapterlab.adapters import adapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from tests.adapters.methods import SHIPPED, context

AWAY_FROM_THE_BASE = {
    "ether": "a reflection of the weight is at a fixed distance from it",
    "vblora": "with a bank of zeros no gradient would reach the logits",
    "prompt": "a model attends to whatever stands before the text",
    "prefix": "a model attends to whatever stands before the text",
    "ptuning_v2": "a model attends to whatever stands before the text",
}
"""Methods that cannot start at the base, with the reason."""


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_start_that_is_not_the_base_has_to_be_asked_for(name):
    assert SHIPPED[name]().starts_as_base == (name not in AWAY_FROM_THE_BASE)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("fourierft", {"zero_start": False}), ("hra", {"strict": True}), ("reft", {"identity_start": False})],
)
def test_a_start_away_from_the_base_can_be_asked_for(name, settings):
    assert not adapter(name, **settings).starts_as_base


def test_veras_frozen_matrices_are_drawn_as_pefts():
    """PEFT's own initialization is Kaiming's uniform one: variance 2 / fan_in within a sharp bound."""
    weight = torch.zeros(300, 200)
    state = adapter("vera", rank=400).init(weight, context(weight))
    for ours, shape in ((state["a"], (400, 200)), (state["b"], (300, 400))):
        theirs = _kaiming_init(shape, torch.Generator().manual_seed(0))
        assert ours.shape == theirs.shape
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
        assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.002)


def test_vbloras_start_is_that_of_pefts_config():
    config = peft.VBLoRAConfig()
    weight = torch.zeros(512, 512)
    state = adapter("vblora").init(weight, context(weight))
    assert state["logits_a"].std().item() == pytest.approx(config.init_logits_std, rel=0.05)
    assert state["bank"].abs().max().item() == pytest.approx(config.init_vector_bank_bound, rel=0.01)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (96, 40), (40, 96)])
def test_a_coefficient_of_fourierft_adds_a_wave_as_large_as_in_the_papers_llama(rows, columns):
    """The largest singular value of a wave that is not its own mirror image is half of 300 / 4096 there."""
    method, weight = adapter("fourierft", n=1), torch.zeros(rows, columns, dtype=torch.float64)
    entry = torch.tensor([3 * columns + 5])
    state = State({"coefficients": torch.ones(1, dtype=torch.float64)}, {"entries": entry})
    assert torch.linalg.matrix_norm(method.weight(state, weight), 2).item() == pytest.approx(300 / 4096 / 2)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (96, 40)])
def test_the_random_start_of_fourierft_has_the_noise_of_the_papers_llama(rows, columns):
    """A sum of `n` waves with normal coefficients, divided by `d^2`: a standard deviation of 300 sqrt(n / 2) / 4096^2."""
    method, weight = adapter("fourierft", n=1000, zero_start=False), torch.zeros(rows, columns, dtype=torch.float64)
    start = method.weight(method.init(weight, context(weight)), weight)
    assert start.std().item() == pytest.approx(300 * math.sqrt(1000 / 2) / 4096**2, rel=0.1)


def test_without_a_width_alpha_is_the_factor_as_in_peft():
    assert adapter("fourierft", width=0).scale(64, 32) == 300


@pytest.mark.parametrize(("block_size", "width"), [(4, 16), (8, 8), (16, 64)])
def test_coft_projects_as_the_authors_code_does(block_size, width):
    """Their rotation of `n` blocks holds full matrices: each is brought back to a norm of `eps b^2 / sqrt(n)`."""
    generator = torch.Generator().manual_seed(0)
    method = adapter("oft", block_size=block_size, coft=True, eps=1e-3)
    start = method.init(torch.zeros(8, width), context(torch.zeros(8, width)))
    skew = torch.randn(start["skew"].shape, generator=generator)
    matrices = torch.zeros(len(skew), block_size, block_size)
    rows, columns = torch.triu_indices(block_size, block_size, 1)
    matrices[:, rows, columns] = skew
    matrices = matrices - matrices.mT
    bound = 1e-3 * block_size**2 / len(skew) ** 0.5
    norms = matrices.flatten(1).norm(dim=1)[:, None, None]
    projected = torch.where(norms <= bound, matrices, bound * matrices / norms)
    method.after_step([State({"skew": skew})], 0)
    torch.testing.assert_close(skew, projected[:, rows, columns])


def test_antipastos_noise_is_that_of_the_authors_code():
    """It draws `x` with a standard deviation of 0.003 and takes `x - x^T` twice, at the start and in the forward pass."""
    x = 0.003 * torch.randn(300, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x - x.T
    theirs = (x - x.T)[*torch.triu_indices(300, 300, 1)]
    weight = torch.randn(300, 300, generator=torch.Generator().manual_seed(1))
    paired = adapter("antipasto", rank=300, directions="top").informed(paired=True)
    assert paired.init(weight, Context.of_layer(weight))["skew"].std().item() == pytest.approx(
        theirs.std().item(), rel=0.02
    )


def test_antipasto_starts_at_the_base_unless_it_is_given_pairs():
    weight = torch.eye(8)
    alone = adapter("antipasto", rank=4).informed(paired=False)
    assert alone.starts_as_base
    assert not alone.init(weight, Context.of_layer(weight))["skew"].any()
    assert not adapter("antipasto").informed(paired=True).starts_as_base
    assert adapter("antipasto", noise=0.1).informed(paired=False).noise == 0.1


def test_soft_goft_has_a_penalty_by_default():
    """The paper has a sum over the layers with a weight of 0.01 for LLaMA-2-7B (table 7), here it is a mean over them."""
    queries_keys_values_outputs, blocks_of_llama = 4, 32
    assert adapter("goft").penalty == pytest.approx(0.01 * queries_keys_values_outputs * blocks_of_llama)
    blocks = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    assert adapter("goft", soft=True).regularizer(State({"blocks": blocks})).item() == pytest.approx(1.28)
    assert adapter("goft").regularizer(State({"angles": torch.ones(1)})) is None


def test_hras_penalty_is_the_papers_for_llama():
    """A sum over the queries and values of 32 blocks with a weight of 1e-4 (section 4.2), here a mean over them."""
    assert adapter("hra").penalty == pytest.approx(1e-4 * 2 * 32)


def test_adaloras_schedule_has_the_shares_of_the_papers_runs():
    """Its tables 8, 10 and 13: warm-up and last part take 4 to 18 and 44 to 63 percent of a run."""
    method = adapter("adalora")
    assert 0.04 <= method.warmup_steps / method.total_steps <= 0.18
    assert 0.44 <= method.final_steps / method.total_steps <= 0.63
    assert method.interval / method.total_steps <= 0.0015


def test_loha_starts_as_the_authors_code():
    """Normal numbers with a standard deviation of 1, but 0.1 for the left factor of the first matrix."""
    weight = torch.zeros(300, 200)
    state = adapter("loha", rank=50).init(weight, context(weight))
    stds = {name: tensor.std().item() for name, tensor in state.trainable.items()}
    assert stds == {
        "a1": pytest.approx(1, rel=0.05),
        "b1": pytest.approx(0.1, rel=0.05),
        "a2": pytest.approx(1, rel=0.05),
        "b2": 0,
    }
    assert adapter("loha").alpha / adapter("loha").rank == 0.5


@pytest.mark.parametrize("settings", [{}, {"full": True}, {"both": True}])
def test_lokr_starts_as_the_authors_code(settings):
    """PEFT has that start under the name `lycoris`: it draws the same tensors within the same bounds."""
    theirs = peft.LoKrConfig(
        r=100 if "full" in settings else 2,
        decompose_factor=32,
        decompose_both="both" in settings,
        init_weights="lycoris",
        target_modules=["layer"],
    )
    torch.manual_seed(0)
    layer = peft.get_peft_model(
        torch.nn.ModuleDict({"layer": torch.nn.Linear(2048, 1024)}), theirs
    ).base_model.model.layer
    weight = torch.zeros(1024, 2048)
    state = adapter("lokr", rank=2, factor=32, **settings).init(weight, context(weight))
    names = {"c": "w1", "c_a": "w1_b", "c_b": "w1_a", "d": "w2", "d_a": "w2_b", "d_b": "w2_a"}
    for name, tensor in state.trainable.items():
        expected = getattr(layer, f"lokr_{names[name]}")["default"]
        assert tensor.shape == expected.shape
        assert tensor.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=0.1)
        assert bool(tensor.any()) == bool(expected.any())


def test_lokr_without_factors_has_no_scale():
    """The authors' code then replaces `alpha` by the rank."""
    weight = torch.zeros(12, 8)
    for settings, scale in (({"full": True}, 1.0), ({"rank": 100}, 1.0), ({"rank": 1}, 3.0)):
        method = adapter("lokr", alpha=3.0, factor=2, **settings)
        assert method.scale(method.init(weight, context(weight))) == scale
