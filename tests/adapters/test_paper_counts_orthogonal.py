"""Trainable parameters of the orthogonal theme, against the figures that the papers print, on models of their shapes."""

from __future__ import annotations

import pytest

from adapterlab.adapters import adapter
from adapterlab.surgery import parameter_count
from adapterlab.surgery.model.linear_layers import select
from adapterlab.surgery.model.where import Where
from tests.adapters.paper_models import BLOCKS, QV, model


@pytest.mark.parametrize(
    ("name", "method", "targets", "millions"),
    [
        # HRA, table 2
        ("deberta-v3-base", adapter("hra", rank=8), BLOCKS, 0.66),
        # OFTv2, table 4 (WikiText-2 and GSM8K)
        ("llama-7b", adapter("oftv2", block_size=32), "all-linear", 17.65),
        ("llama-13b", adapter("oftv2", block_size=32), "all-linear", 27.62),
        # GOFT, table 1
        ("deberta-v3-base", adapter("goft"), BLOCKS, 0.08),
        ("deberta-v3-base", adapter("goft", soft=True), BLOCKS, 0.33),
        # ETHER, tables 4 and 5
        ("deberta-v3-base", adapter("ether_plus"), BLOCKS, 0.33),
        ("llama-7b", adapter("ether", block_count=32), QV, 0.26),
    ],
)
def test_the_number_of_parameters_is_the_papers(name, method, targets, millions):
    assert round(parameter_count(model(name), method, targets) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("name", "method", "millions"),
    [
        # BOFT, table 1
        ("deberta-v3-base", adapter("boft", block_size=16, factors=1, rescale=True), 0.79),
        ("deberta-v3-base", adapter("boft", block_size=8, factors=2, rescale=True), 0.75),
        # BOFT, table 4
        ("dinov2-large", adapter("boft", block_size=16, factors=1, rescale=True), 2.10),
        ("dinov2-large", adapter("boft", block_size=8, factors=2, rescale=True), 1.99),
        ("dinov2-large", adapter("boft", block_size=4, factors=4, rescale=True), 1.77),
        ("dinov2-large", adapter("boft", block_size=2, factors=6, rescale=True), 1.11),
    ],
)
def test_the_butterfly_papers_counts_are_met_with_the_biases_of_its_layers(name, method, millions):
    """Its tables for DeBERTa and DINO count a scale for every output, and every adapted layer's bias as trained too."""
    biases = sum(layer.bias.numel() for layer in select(model(name), Where(BLOCKS)).values())
    assert round((parameter_count(model(name), method, BLOCKS) + biases) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("name", "method", "targets", "percent"),
    [
        # BOFT, tables 2 and 3: no scale counted here
        ("llama-7b", adapter("boft", block_size=16, factors=1), "all-linear", 0.13),
        ("llama-7b", adapter("boft", block_size=8, factors=2), "all-linear", 0.12),
        # HRA, figure 1c
        ("llama-7b", adapter("hra", rank=8), QV, 0.03),
        ("llama-7b", adapter("hra", rank=32), QV, 0.12),
        # RoAd, tables 2 and 3
        ("roberta-base", adapter("road", variant=1), BLOCKS, 0.07),
        ("llama-7b", adapter("road", variant=1), "all-linear", 0.02),
        ("llama-7b", adapter("road", variant=2), "all-linear", 0.04),
        ("llama-7b", adapter("road", variant=4), "all-linear", 0.08),
    ],
)
def test_the_share_of_parameters_is_the_papers(name, method, targets, percent):
    whole = sum(p.numel() for p in model(name).parameters())
    assert round(100 * parameter_count(model(name), method, targets) / whole, 2) == percent
