"""Measure a change layer by layer, and project it on hypotheses.

>>> import torch
>>> from adapterlab.geometry.change import InMemory
>>> base = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
>>> result = measure(InMemory({"h.0.up": (base, base + base[:, :1] @ base[:1])}), budgets=(32,))
>>> round(result.layers[0].measures["stable_rank"], 4)
1.0
>>> [(each.hypothesis, each.size, round(each.residual, 4)) for each in result.projections][:1]
[('low_rank', 1, 0.0)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor

from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.geometry.change import Change, WeightChange, frobenius
from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.geometry.hypotheses.base import Hypothesis, Nearest, Setting
from adapterlab.geometry.measures import all_measures
from adapterlab.geometry.measures.base import DRAWS, Layer, Measure
from adapterlab.geometry.measures.nulls import compare
from adapterlab.geometry.measures.sharing import share
from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
from adapterlab.surgery.init.svd_cache import default_factors

SPECTRUM_LENGTH = 64
"""Singular values of a change that a result keeps."""
Projected = Mapping[str, Tensor]
"""By path, the weight of the base with a projected change, `(out, in)`."""


def measure(
    change: Change,
    budgets: Sequence[int] = (),
    *,
    measures: Iterable[Measure] | None = None,
    hypotheses: Iterable[Hypothesis] | None = None,
    sharing: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
    factors: Callable[[Tensor], Factors] | None = None,
    on_layer: Callable[[LayerGeometry], None] | None = None,
    on_projection: Callable[[Projection, Projected], Projection] | None = None,
) -> GeometryResult:
    """Measure a weight change, and project it on hypotheses at equal numbers of parameters.

    Args:
        change: The change.
        budgets: Numbers of parameters; every hypothesis is projected on at its largest size within each.
        measures: Measures to compute; all by default.
        hypotheses: Hypotheses to project on; all by default.
        sharing: Measure what the changes of layers of one role and shape have in common; reads each layer once more.
        draws: Random changes that a null is estimated from.
        seed: Seed of the draws and of the starts of fits.
        factors: Singular value decomposition of a weight; that of the package's cache by default, which keeps files.
        on_layer: Called with each layer as it is measured.
        on_projection: Called with each projection and its weights; returns it, with scores if it scores them.

    Returns:
        The result.
    """
    chosen = tuple(all_measures() if measures is None else measures)
    decompose = factors or default_factors()
    layers, unchanged = [], []
    for layer in change:
        if not layer.norm:
            unchanged.append(layer.path)
            continue
        measured = measure_layer(layer, chosen, draws, seed, decompose)
        layers.append(measured)
        if on_layer is not None:
            on_layer(measured)
    setting = Setting(decompose, seed)
    found: list[Projection] = []
    for each in all_hypotheses().values() if hypotheses is None else hypotheses:
        for size in sizes_within(each, change.shapes, budgets):
            projection, weights = project(change, each, size, setting)
            found.append(projection if on_projection is None else on_projection(projection, weights))
    others = tuple((each.path, each.norm, each.relative_norm) for each in change.others)
    shared, shared_nulls = share(change, draws=draws, seed=seed, factors=decompose) if sharing else ({}, {})
    return GeometryResult(
        change.base_name,
        change.tuned_name,
        tuple(layers),
        tuple(unchanged),
        others,
        shared,
        shared_nulls,
        projections=tuple(found),
        budgets=tuple(sorted(set(budgets))),
    )


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
    return LayerGeometry(
        change.path,
        change.role.value,
        change.depth,
        change.shape,
        change.norm,
        change.relative_norm,
        {each.name: each.of(layer) for each in measures},
        compare(measures, layer, draws, seed),
        tuple(spectrum),
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
