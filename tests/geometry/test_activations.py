"""Measures in activations agree with direct computation on all activations, and with scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from torch import nn

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.activations import measure_activations
from adapterlab.geometry.stream import StreamMoments
from tests.conftest import tiny_gpt2, tiny_llama
from tests.geometry.measures.layers import normal, orthogonal

PATH = "model.layers.0.mlp.up_proj"


def ids(rows: int = 3, length: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 64, (rows, length), generator=torch.Generator().manual_seed(seed))


def layer_input(model: nn.Module, path: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(path).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(**batch)
    hook.remove()
    return seen[0].flatten(0, -2).double()


def test_drift_angle_and_norm_drift_are_those_of_the_definition():
    model = tiny_llama()
    base = model.get_submodule(PATH).weight.detach().clone()
    tuned = base + 0.1 * torch.randn(base.shape, generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids()}
    h = layer_input(model, PATH, batch)
    before, after = h @ base.double().T, h @ tuned.double().T
    found = measure_activations(model, {PATH: tuned}, [batch])[PATH]
    energy = before.square().sum()
    assert found["drift"] == pytest.approx(float((after - before).square().sum() / energy), rel=1e-4)
    assert found["norm_drift"] == pytest.approx(float((after.square().sum() / energy).sqrt() - 1), rel=1e-4)
    angles = torch.rad2deg(torch.arccos(torch.cosine_similarity(before, after)))
    assert found["angle"] == pytest.approx(float(angles.mean()), rel=1e-4)


def test_batches_add_up_and_padding_is_not_measured():
    model, whole = tiny_llama(), ids(4)
    tuned = {PATH: model.get_submodule(PATH).weight.detach() * 1.1 + 0.01}
    one = measure_activations(model, tuned, [{"input_ids": whole}])
    padded = torch.cat([whole, torch.zeros(4, 3, dtype=torch.long)], 1)
    mask = torch.cat([torch.ones_like(whole), torch.zeros(4, 3, dtype=torch.long)], 1)
    two = measure_activations(
        model, tuned, [{"input_ids": padded[i : i + 2], "attention_mask": mask[i : i + 2]} for i in (0, 2)]
    )
    for path, measures in one.items():
        assert two[path] == pytest.approx(measures, rel=1e-3, abs=1e-6)


def test_a_scaled_weight_has_no_angle_and_a_rotated_output_no_norm_drift():
    layer = nn.Linear(6, 6, bias=False).double()
    weight, turn = layer.weight.detach(), orthogonal(6)
    batch = [{"input": normal(50, 6)}]
    scaled = measure_activations(nn.Sequential(layer), {"0": 1.5 * weight}, batch)["0"]
    assert scaled == pytest.approx({"drift": 0.25, "angle": 0, "norm_drift": 0.5}, abs=1e-12)
    turned = measure_activations(nn.Sequential(layer), {"0": turn @ weight}, batch)["0"]
    assert turned["norm_drift"] == pytest.approx(0, abs=1e-12)
    assert turned["angle"] > 1


def test_small_angles_are_exact():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
    turned = torch.tensor([[1.0, -1e-6], [1e-6, 1.0]])
    found = measure_activations(nn.Sequential(layer), {"0": turned}, [{"input": torch.tensor([[1.0, 0.0]])}])["0"]
    assert found["angle"] == pytest.approx(math.degrees(1e-6), rel=1e-3)


def test_the_model_is_unchanged_afterwards():
    model = tiny_llama()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    measure_activations(model, {PATH: torch.zeros(48, 32)}, [{"input_ids": ids()}])
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_only_blocks_after_a_change_drift():
    model = tiny_llama()
    path = "model.layers.1.self_attn.o_proj"
    found = measure_activations(model, {path: 3 * model.get_submodule(path).weight.detach()}, [{"input_ids": ids()}])
    assert found["model.layers.0"] == pytest.approx({"cka": 1, "procrustes": 0}, abs=1e-9)
    assert found["model.layers.1"]["cka"] < 1 - 1e-6
    assert found["model.layers.1"]["procrustes"] > 1e-6


def test_transposed_layers_of_gpt2_are_measured_on_their_own_orientation():
    model = tiny_gpt2()
    path = "transformer.h.0.mlp.c_fc"
    weight = model.get_submodule(path).weight.detach().T
    found = measure_activations(model, {path: 2 * weight}, [{"input_ids": ids()}])
    assert found[path] == pytest.approx({"drift": 1, "angle": 0, "norm_drift": 1}, abs=1e-3)


def test_no_text_is_refused():
    model = tiny_llama()
    with pytest.raises(AdapterlabError, match="no batches"):
        measure_activations(model, {PATH: torch.zeros(48, 32)}, [])
    masked = {"input_ids": ids(), "attention_mask": torch.zeros(3, 7, dtype=torch.long)}
    with pytest.raises(AdapterlabError, match="all are masked"):
        measure_activations(model, {PATH: torch.zeros(48, 32)}, [masked])


def streams(x: torch.Tensor, y: torch.Tensor, parts: int = 3) -> dict[str, float]:
    moments = StreamMoments()
    for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
        moments.add(a, b)
    return moments.measures()


def test_procrustes_residual_is_that_of_scipy():
    x, y = normal(40, 5) + 3, normal(40, 5, seed=1) - 1
    a, b = (np.asarray(z - z.mean(0)) for z in (x, y))
    turn, _ = orthogonal_procrustes(a, b)
    assert streams(x, y)["procrustes"] == pytest.approx(((a @ turn - b) ** 2).sum() / (a**2).sum())


def test_cka_is_the_correlation_of_centered_gram_matrices():
    # Kornblith et al. 2019, equations 2 and 3: HSIC of linear kernels, with the centering matrix.
    x, y = normal(40, 5) + 3, normal(40, 7, seed=1) @ normal(7, 5, seed=2)
    center = np.eye(40) - 1 / 40
    k, m = (center @ (np.asarray(z) @ np.asarray(z).T) @ center for z in (x, y))
    assert streams(x, y)["cka"] == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_rotations_and_shifts_of_a_stream_leave_it_equal():
    x = normal(40, 5)
    assert streams(x, x @ orthogonal(5) + 2) == pytest.approx({"cka": 1, "procrustes": 0}, abs=1e-9)
    assert streams(x, 2 * x) == pytest.approx({"cka": 1, "procrustes": 1})
    assert streams(torch.ones(4, 2), torch.ones(4, 2), 2) == {"cka": 1, "procrustes": 0}
