"""The parts that a run is made of: measures of one layer, and the projection of a change on one hypothesis.

>>> import torch
>>> from adapterlab.geometry.change import InMemory
>>> from adapterlab.geometry.hypotheses import hypothesis
>>> from adapterlab.geometry.measures import measure_named
>>> base = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
>>> change = InMemory({"h.0.up": (base, base + base[:, :1] @ base[:1])})
>>> round(measure_layer(change.read("h.0.up"), [measure_named("stable_rank")]).measures["stable_rank"], 4)
1.0
>>> projection, weights = project(change, hypothesis("low_rank"), 1, Setting())
>>> round(projection.residual, 4), weights["h.0.up"].shape
(0.0, torch.Size([16, 16]))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.geometry.change import Change, WeightChange, frobenius
from adapterlab.geometry.hypotheses.base import Hypothesis, Nearest, Setting
from adapterlab.geometry.leading import left_out
from adapterlab.geometry.measures.base import DRAWS, Layer, Measure
from adapterlab.geometry.measures.nulls import compare
from adapterlab.geometry.result import LayerGeometry, Projection
from adapterlab.surgery.init.svd_cache import default_factors

SPECTRUM_LENGTH = 64
"""Singular values of a change that a result keeps."""


def measure_layer(
    change: WeightChange,
    measures: Sequence[Measure],
    draws: int = DRAWS,
    seed: int = 0,
    factors: Callable[[Tensor], Factors] | None = None,
) -> LayerGeometry:
    """Measure the change of one layer.

    Args:
        change: The change, not zero.
        measures: Measures to compute.
        draws: Random changes that a null is estimated from.
        seed: Seed of the draws.
        factors: Singular value decomposition of a weight; that of the package's cache by default.

    Returns:
        The measures, with their nulls.
    """
    layer = Layer(change, factors or default_factors())
    spectrum = (layer.of_delta.s[:SPECTRUM_LENGTH] / change.norm).tolist()
    values = {each.name: each.of(layer) for each in measures}
    return LayerGeometry(
        change.path,
        change.role.value,
        change.depth,
        change.shape,
        change.norm,
        change.relative_norm,
        values,
        compare(measures, layer, draws, seed),
        tuple(spectrum),
        max(left_out(weight, found) for weight, found in layer.decomposed),
    )


def sizes_within(hypothesis: Hypothesis, shapes: Mapping[str, tuple[int, int]], budgets: Sequence[int]) -> list[int]:
    """Return the largest size within each budget, each once, in ascending order.

    Args:
        hypothesis: The hypothesis.
        shapes: `(out, in)` of every layer by path.
        budgets: Numbers of parameters. A budget below the smallest size is left out.
    """
    counts = [(size, hypothesis.parameters(size, shapes)) for size in hypothesis.sizes(list(shapes.values()))]
    within = ([size for size, count in counts if count <= budget] for budget in budgets)
    return sorted({sizes[-1] for sizes in within if sizes})


def project(
    change: Change, hypothesis: Hypothesis, size: int, setting: Setting, pool: Executor | None = None
) -> tuple[Projection, dict[str, Tensor]]:
    """Project a change on a hypothesis.

    Args:
        change: The change.
        hypothesis: The hypothesis.
        size: Value of its size knob.
        setting: Seeds, tolerance, and cached decompositions.
        pool: Projects groups of layers side by side; one after the other if None.

    Returns:
        The projection, and the weights of the layers by path.
    """
    weights: dict[str, Tensor] = {}
    by_path: dict[str, float] = {}
    distance, total, converged = 0.0, 0.0, True

    def nearest_of(group: Sequence[str]) -> list[tuple[str, Nearest, float, float]]:
        layers = [change.read(path) for path in group]
        found = hypothesis.project(layers, size, setting)
        return [
            (layer.path, nearest, frobenius(layer.tuned - nearest.weight) ** 2, layer.norm**2)
            for layer, nearest in zip(layers, found, strict=True)
        ]

    side_by_side = map if pool is None else pool.map
    for group in side_by_side(nearest_of, hypothesis.groups(change.shapes)):
        for path, nearest, left, size_squared in group:
            weights[path] = nearest.weight
            by_path[path] = left / size_squared if size_squared else 0.0
            distance, total, converged = distance + left, total + size_squared, converged and nearest.converged
    count = hypothesis.parameters(size, change.shapes)
    share = distance / total if total else 0.0
    return Projection(hypothesis.name, size, count, share, hypothesis.exact, converged, by_path), weights
