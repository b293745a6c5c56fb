"""Values of measures for random changes, drawn once for all layers of a shape where that is exact.

A change with independent normal entries has the same distribution in every orthonormal basis. So the null of a measure
that is free of scale, and that sees the base through its singular directions alone, is that of a layer whose singular
directions are the axes: it depends on the shape only, and needs no decomposition of the base.

>>> from adapterlab.geometry.measures import all_measures
>>> layer = Layer(WeightChange("q", torch.eye(8), torch.eye(8) + torch.ones(8, 8)), torch_svd)
>>> nulls = compare(all_measures(), layer)
>>> nulls["stable_rank"].low > layer.of_delta.s.square().sum() / layer.of_delta.s[0] ** 2
tensor(True)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from adapterlab.adapters.context import Factors
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.measures.base import DRAWS, Layer, Measure, nulls_of, torch_svd
from adapterlab.geometry.result import Null


def compare(measures: Sequence[Measure], layer: Layer, draws: int = DRAWS, seed: int = 0) -> dict[str, Null]:
    """Return the values of measures for random changes of the same norm, by name of the measure.

    Args:
        measures: Measures; those that are not compared with chance are left out.
        layer: The layer.
        draws: Number of random changes.
        seed: Seed of the draws.
    """
    compared = [measure for measure in measures if measure.compared]
    by_shape = tuple(measure for measure in compared if measure.of_shape)
    by_layer = [measure for measure in compared if not measure.of_shape]
    found = _by_shape(by_shape, layer.change.shape, layer.change.base.dtype, draws, seed) if by_shape else {}
    drawn = nulls_of([measure.of for measure in by_layer], layer, draws, seed) if by_layer else []
    found = found | {measure.name: null for measure, null in zip(by_layer, drawn, strict=True)}
    return {measure.name: found[measure.name] for measure in compared}


@lru_cache(maxsize=64)
def _by_shape(
    measures: tuple[Measure, ...], shape: tuple[int, int], dtype: torch.dtype, draws: int, seed: int
) -> dict[str, Null]:
    """Return the nulls of a layer whose singular directions are the axes."""
    rows, columns = shape
    length = min(shape)
    base = torch.zeros(rows, columns, dtype=dtype)
    layer = Layer(WeightChange("null", base, torch.ones_like(base)), torch_svd)
    vars(layer)["of_base"] = Factors(
        torch.eye(rows, length, dtype=dtype), torch.ones(length, dtype=dtype), torch.eye(length, columns, dtype=dtype)
    )
    nulls = nulls_of([measure.of for measure in measures], layer, draws, seed)
    return {measure.name: null for measure, null in zip(measures, nulls, strict=True)}
