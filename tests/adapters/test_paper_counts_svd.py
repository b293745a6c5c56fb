"""Trainable parameters of the SVD theme, against the figures that the papers print, on models of their shapes.

AdaLoRA's figures (table 1: 1.27M and 0.32M for DeBERTaV3-base) cannot be met from shapes: they count what pruning left,
and which triplets it leaves, of layers of different widths, comes from the data.
"""

from __future__ import annotations

import pytest

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
        # SSVD, table VI: a quarter of 2048, constrained and not
        ("owls-2b", adapter("ssvd", rank=512), "all-linear", "33.88"),
        ("owls-2b", adapter("ssvd", rank=512, rotation="strict"), "all-linear", "33.88"),
        ("owls-2b", adapter("ssvd", rank=512, rotation="free"), "all-linear", "67.77"),
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
