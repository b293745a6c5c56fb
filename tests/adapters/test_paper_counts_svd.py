"""Trainable parameters of the SVD theme, against the figures that the papers print, on models of their shapes.

AdaLoRA's figures (table 1: 1.27M and 0.32M for DeBERTaV3-base) cannot be met from shapes: they count what pruning left,
and which triplets it leaves, of layers of different widths, comes from the data.
"""

from __future__ import annotations

import pytest
from torch import nn

from adapterlab.adapters import adapter
from adapterlab.surgery import parameter_count
from tests.adapters.paper_models import BLOCKS, model

QKVUD = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")


@pytest.mark.parametrize(
    ("name", "method", "targets", "millions"),
    [
        # PiSSA, table 3
        ("deberta-v3-base", adapter("pissa", rank=8), BLOCKS, "1.33"),
        # SVFT, table 3
        ("deberta-v3-base", adapter("svft", pattern="plain"), BLOCKS, "0.06"),
        ("deberta-v3-base", adapter("svft", pattern="random", off_diagonals=2), BLOCKS, "0.28"),
        # PSOFT, tables 2, 4 and 5
        ("deberta-v3-base", adapter("psoft", rank=46), BLOCKS, "0.08"),
        ("llama-3.2-3b", adapter("psoft", rank=352), "all-linear", "12.2"),
        ("llama-3.1-8b", adapter("psoft", rank=424), QKVUD, "14.5"),
        # PSOFT, table 6
        ("llama-3.2-3b", adapter("psoft", rank=248, relaxed=False), "all-linear", "6.0"),
    ],
)
def test_the_number_of_parameters_is_the_papers(name, method, targets, millions):
    digits = len(millions.partition(".")[2])
    assert f"{parameter_count(model(name), method, targets) / 1e6:.{digits}f}" == millions


@pytest.mark.parametrize(
    ("side", "layers", "divisor", "constrained", "free"),
    [
        # SSVD, table VI: OWSM-0.1B with 40 and 60 %, OWSM-1B with 22 to 40 %, OWLS-2B with 17 to 25 %
        (384, 128, 2.5, "1.51", "3.02"),
        (384, 128, 1.6, "3.67", "7.34"),
        (1024, 380, 4.5, "9.83", "19.67"),
        (1024, 380, 4, "12.50", "25.00"),
        (1024, 380, 3.5, "16.26", "32.51"),
        (1024, 380, 3, "22.16", "44.32"),
        (1024, 380, 2.5, "31.86", "63.72"),
        (2048, 258, 6, "15.04", "30.09"),
        (2048, 258, 5, "21.63", "43.26"),
        (2048, 258, 4, "33.88", "67.77"),
    ],
)
def test_the_number_of_parameters_of_ssvd_is_the_papers(side, layers, divisor, constrained, free):
    """Its code divides the smaller side of a layer by a number, rounding down, where the table prints a share.

    The number of layers is not printed. One number for each model meets all its counts.
    """
    layer = nn.Sequential(nn.Linear(side, side, device="meta"))
    for rotation, millions in (("approximate", constrained), ("strict", constrained), ("free", free)):
        count = layers * parameter_count(layer, adapter("ssvd", rank=int(side // divisor), rotation=rotation))
        assert f"{count / 1e6:.2f}" == millions
