"""Measure and project a change of any size: one layer in memory at a time, resumable, with progress.

>>> import torch
>>> from adapterlab.geometry.change import InMemory
>>> base = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
>>> change = InMemory({"h.0.up": (base, base + base[:, :1] @ base[:1])})
>>> result = run_geometry(change, Plan(budgets=(32,), hypotheses=("low_rank",), draws=2))
>>> result.projections[0].parameters, round(result.projections[0].residual, 4)
(32, 0.0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median

from adapterlab.errors import AdapterlabError
from adapterlab.files import cache_folder
from adapterlab.geometry.change import Change, SomeLayers
from adapterlab.geometry.hypotheses.base import Hypothesis, Setting
from adapterlab.geometry.measure import measure_layer, project, sizes_within
from adapterlab.geometry.parallel import threads
from adapterlab.geometry.plan import Plan, default_budgets
from adapterlab.geometry.residuals import Residuals, that_fit
from adapterlab.geometry.result import GeometryResult, LayerGeometry, Projection
from adapterlab.geometry.resume import Record
from adapterlab.geometry.score import Scoring, with_shares
from adapterlab.geometry.shared import Activations, Sharing, activations, sharing
from adapterlab.surgery.init.svd_cache import FactorCache

FACTORS_IN_MEMORY = 2**31
"""Bytes of decompositions that are held in memory, about."""
FACTORS_ON_DISK = 2**28
"""Bytes of decompositions up to which they are kept in the cache's folder as well."""
UNRELATED = 0.9
"""Median norm of a change, relative to the base's, above which a note asks for the right base."""
Watch = Callable[[str, int, int], None]
"""Called with a stage in words, and how many of its parts are done and there are."""


def run_geometry(
    change: Change,
    plan: Plan,
    *,
    scoring: Scoring | None = None,
    record: Record | None = None,
    watch: Watch = lambda *_: None,
) -> GeometryResult:
    """Measure a weight change, project it on hypotheses, and score the projections.

    All weights are read once before anything is computed, so that a mistake in the input surfaces first.

    Args:
        change: The change.
        plan: What is measured.
        scoring: Scores models with other weights; None to score none.
        record: Parts that an earlier run has finished; those of this run are added.
        watch: Called with the progress.

    Returns:
        The result.

    Raises:
        AdapterlabError: A weight is not finite or quantized, or nothing has changed.
    """
    plan.check()
    record = Record(None, "") if record is None else record
    sizes = _survey(change, watch)
    within = SomeLayers(change, [path for path, (norm, _) in sizes.items() if norm])
    notes = [*change.notes, *_doubts(change, [relative for norm, relative in sizes.values() if norm])]
    budgets = plan.budgets or default_budgets(within.shapes)
    setting = Setting(_factors_for(within.shapes), plan.seed)
    chosen, left_out = that_fit(plan.chosen_hypotheses(), within.shapes, budgets)
    sized = [(each, size) for each in chosen for size in sizes_within(each, within.shapes, budgets)]
    residuals = Residuals([] if scoring else sized, within.shapes)
    layers: list[LayerGeometry] = []
    shared, in_activations = Sharing(), Activations()

    def one(path: str) -> LayerGeometry:
        held = SomeLayers(within, [path], hold=True)
        layer = _layer(held, path, plan, setting, record)
        residuals.find(held, setting, record)
        return layer

    def together() -> None:
        for group in residuals.left:
            residuals.find(SomeLayers(within, group, hold=True), setting, record)

    with threads(within.shapes) as pool:
        for layer in pool.map(one, within.shapes):
            watch("measuring the layers", len(layers), len(within.shapes))
            layers.append(layer)
        left = residuals.left
        joint = pool.submit(together)
        if plan.measures is None:
            watch("comparing the layers", 0, 1)
            shared = sharing(within, setting, plan.draws, record)
        if left:
            watch("projecting layers that share parameters", 0, len(left))
        joint.result()
    scores: dict[str, tuple[float, float]] = {}
    if scoring is None:
        found = [residuals.projection(each, size, {p: norm for p, (norm, _) in sizes.items()}) for each, size in sized]
    else:
        if plan.measures is None:
            watch("measuring activations", 0, 1)
            in_activations = activations(within, scoring)
        found, scores = _scored(within, sized, setting, scoring, record, watch)
    return GeometryResult(
        change.base_name,
        change.tuned_name,
        tuple(layers),
        tuple(path for path, (norm, _) in sizes.items() if not norm),
        tuple((each.path, each.norm, each.relative_norm) for each in change.others),
        sharing=shared.values,
        sharing_nulls=shared.nulls,
        projections=tuple(found),
        activations=in_activations.values,
        scores=scores,
        task="" if scoring is None else scoring.task.name,
        unit="" if scoring is None else scoring.task.unit,
        notes=(*notes, *left_out, *shared.notes, *in_activations.notes),
        budgets=tuple(sorted(set(budgets))),
    )


def _survey(change: Change, watch: Watch) -> dict[str, tuple[float, float]]:
    """Return the norm and relative norm of each layer's change; every weight is read, and checked by what reads it."""
    sizes = {}
    for done, path in enumerate(change.shapes):
        watch("reading the weights", done, len(change.shapes))
        layer = change.read(path)
        sizes[path] = layer.norm, layer.relative_norm
    if any(norm for norm, _ in sizes.values()):
        return sizes
    if change.others:
        raise AdapterlabError(
            f"no linear layer of {change.tuned_name} differs from {change.base_name}, only {change.others[0].path} and the "
            "like: geometry measures changes of linear layers"
        )
    raise AdapterlabError(f"{change.tuned_name} and {change.base_name} are equal: there is no change to measure")


def _doubts(change: Change, relative: Sequence[float]) -> Iterator[str]:
    if median(relative) > UNRELATED:
        yield (
            f"The change is as large as the base itself (median relative norm {median(relative):.2f}): is "
            f"{change.base_name} the model that {change.tuned_name} was trained from?"
        )
    if change.others:
        largest = max(change.others, key=lambda other: other.relative_norm)
        yield (
            f"{len(change.others)} other parameters changed too, most of all {largest.path} (by {largest.relative_norm:.2g} "
            "of its norm). Scores are of the base with the changed linear layers alone."
        )


def _layer(change: Change, path: str, plan: Plan, setting: Setting, record: Record) -> LayerGeometry:
    name = f"layer {path}"
    if (stored := record.get(name)) is not None:
        return LayerGeometry.from_json(stored)
    measured = measure_layer(change.read(path), plan.chosen_measures(), plan.draws, plan.seed, setting.factors)
    record.add(name, asdict(measured))
    return measured


def _scored(
    change: Change,
    sized: Sequence[tuple[Hypothesis, int]],
    setting: Setting,
    scoring: Scoring,
    record: Record,
    watch: Watch,
) -> tuple[list[Projection], dict[str, tuple[float, float]]]:
    """Project hypothesis by hypothesis, and score the model with each projection."""
    watch(f"scoring {scoring.task.name}", 0, len(sized))
    base, full = scoring.base, scoring.of_change(change)
    found = []
    for done, (each, size) in enumerate(sized):
        watch(f"projecting on {each.name} and scoring", done, len(sized))
        name = f"projection {each.name} {size}"
        if (stored := record.get(name)) is not None:
            found.append(Projection.from_json(stored))
            continue
        with threads(change.shapes) as pool:
            projection, weights = project(change, each, size, setting, pool)
        projection = with_shares(projection, scoring.losses(weights), base, full)
        record.add(name, asdict(projection))
        found.append(projection)
    return found, {part: (base[part].loss, full[part].loss) for part in base}


def _factors_for(shapes: Mapping[str, tuple[int, int]]) -> FactorCache:
    """Return a cache of decompositions that holds no more than fits in memory, and on disk those of small models alone."""
    sizes = [4 * min(shape) * (sum(shape) + 1) for shape in shapes.values()]
    folder = cache_folder() / "factors" if 2 * sum(sizes) <= FACTORS_ON_DISK else None
    return FactorCache(folder, max(2, FACTORS_IN_MEMORY // max(sizes)))
