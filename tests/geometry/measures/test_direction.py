"""DoRA's analysis: its equations 3 and 4 on planted changes, and its figure 2 on planted points."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import linregress

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.measures.direction import (
    DIRECTION,
    direction_against_magnitude,
    direction_change,
    magnitude_change,
)
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.run import run_geometry
from tests.geometry.measures.layers import layer, normal


def planted(base: torch.Tensor, direction: float, magnitude: float) -> torch.Tensor:
    """The weight with every row turned so that `1 - cos` is `direction`, and longer by `magnitude`."""
    size = torch.linalg.vector_norm(base, dim=1, keepdim=True)
    unit = base / size
    other = normal(*base.shape, seed=9)
    other = other - (other * unit).sum(1, keepdim=True) * unit
    other = other / torch.linalg.vector_norm(other, dim=1, keepdim=True)
    cosine = 1 - direction
    return (size + magnitude) * (cosine * unit + math.sqrt(1 - cosine**2) * other)


def trend(points, name="q_proj", **options):
    base = normal(16, 12)
    weights = {
        f"model.layers.{i}.self_attn.{name}": (base, planted(base, direction, magnitude))
        for i, (direction, magnitude) in enumerate(points)
    }
    plan = Plan(hypotheses=(), measures=tuple(each.name for each in DIRECTION), draws=2, sharing=False)
    return direction_against_magnitude(run_geometry(InMemory(weights), plan).layers, **options)


def test_planted_direction_and_magnitude_changes_are_found():
    base = normal(16, 12)
    found = layer(base, planted(base, 0.02, 0.07) - base)
    assert direction_change(found) == pytest.approx(0.02)
    assert magnitude_change(found) == pytest.approx(0.07)


def test_rows_and_columns_are_each_others_transpose():
    base, delta = normal(6, 4), normal(6, 4, seed=1)
    for of in (direction_change, magnitude_change):
        assert of(layer(base, delta), "columns") == pytest.approx(of(layer(base.T, delta.T), "rows"))


def test_direction_change_is_the_mean_of_one_minus_the_cosine():
    base, delta = normal(6, 4), normal(6, 4, seed=1)
    expected = (1 - torch.cosine_similarity(base + delta, base, dim=1)).mean()
    assert direction_change(layer(base, delta)) == pytest.approx(float(expected))


def test_small_angles_are_exact():
    assert direction_change(layer(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1e-6]]))) == pytest.approx(5e-13)


def test_rows_of_zero_have_no_direction_change_until_they_grow():
    base = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert direction_change(layer(base, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))) == 0.5


# Ranges of the axes of the paper's figure 2, (a) full fine-tuning and (b) LoRA.
FULL = [(0.014, 0.09), (0.016, 0.08), (0.018, 0.072), (0.020, 0.06), (0.022, 0.05)]
LORA = [(0.10, 0.25), (0.12, 0.31), (0.13, 0.36), (0.15, 0.40), (0.16, 0.45)]


@pytest.mark.parametrize(("points", "sign"), [(FULL, -1), (LORA, 1)])
def test_the_trend_of_figure_2_is_negative_for_full_fine_tuning_and_positive_for_lora(points, sign):
    found, expected = trend(points), linregress(*zip(*points, strict=True))
    assert math.copysign(1, found.slope) == sign
    assert (found.slope, found.correlation) == pytest.approx((expected.slope, expected.rvalue))
    assert found.points == 5


def test_figure_7_takes_the_value_projections():
    assert trend(LORA, "v_proj", role="value").points == 5


def test_too_few_layers_are_refused():
    with pytest.raises(AdapterlabError, match="needs three layers"):
        trend(FULL[:2])
    with pytest.raises(AdapterlabError, match="0 value layers"):
        trend(FULL, "q_proj", role="value")
