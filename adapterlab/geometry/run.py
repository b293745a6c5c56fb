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

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median

from adapterlab.errors import AdapterlabError
from adapterlab.files import cache_folder
from adapterlab.geometry.change import Change, SomeLayers
from adapterlab.geometry.hypotheses.base import Hypothesis, Setting
from adapterlab.geometry.leading import Leading, needed, note
from adapterlab.geometry.measure import SPECTRUM_LENGTH, measure_layer, project, sizes_within
from adapterlab.geometry.parallel import threads
from adapterlab.geometry.plan import Plan
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
    factors: FactorCache | None = None,
    watch: Watch = lambda *_: None,
) -> GeometryResult:
    """Measure a weight change, project it on hypotheses, and score the projections.

    All weights are read once before anything is computed, so that a mistake in the input surfaces first.

    Args:
        change: The change.
        plan: What is measured.
        scoring: Scores models with other weights; None to score none.
        record: Parts that an earlier run has finished; those of this run are added.
        factors: Cache of decompositions; if None, one that holds what fits in memory, and that of small models on disk.
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
    budgets = plan.all_budgets(within.shapes)
    chosen, left_out = that_fit(plan.chosen_hypotheses(), within.shapes, budgets)
    sized = _sized(chosen, within.shapes, budgets)
    to_score = _sized(chosen, within.shapes, plan.scored_budgets(within.shapes)) if scoring else []
    unscored = [each for each in sized if each not in to_score]
    cache = factors or _factors_for(within.shapes)
    setting = Setting(Leading(cache, needed(plan.chosen_measures(), sized, SPECTRUM_LENGTH)), plan.seed)
    residuals = Residuals(unscored, within.shapes)
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
        if plan.sharing:
            watch("comparing the layers", 0, 1)
            shared = sharing(within, setting, plan.draws, record)
        if left:
            watch("projecting layers that share parameters", 0, len(left))
        joint.result()
    randomized = note({layer.path: layer.left_out for layer in layers})
    norms = {path: norm for path, (norm, _) in sizes.items()}
    found = {(each.name, size): residuals.projection(each, size, norms) for each, size in unscored}
    scores: dict[str, tuple[float, float]] = {}
    if scoring is not None:
        if plan.activations:
            watch("measuring activations", 0, 1)
            in_activations = activations(within, scoring, record)
        of_scored, scores = _scored(within, to_score, setting, scoring, record, watch)
        found |= {(each.hypothesis, each.size): each for each in of_scored}
    return GeometryResult(
        change.base_name,
        change.tuned_name,
        tuple(layers),
        tuple(path for path, (norm, _) in sizes.items() if not norm),
        tuple((each.path, each.norm, each.relative_norm) for each in change.others),
        sharing=shared.values,
        sharing_nulls=shared.nulls,
        projections=tuple(found[each.name, size] for each, size in sized),
        activations=in_activations.values,
        scores=scores,
        task="" if scoring is None else scoring.task.name,
        unit="" if scoring is None else scoring.task.unit,
        notes=(*notes, *left_out, *randomized, *shared.notes, *in_activations.notes),
        budgets=budgets,
    )


def _sized(
    chosen: Collection[Hypothesis], shapes: Mapping[str, tuple[int, int]], budgets: Sequence[int]
) -> list[tuple[Hypothesis, int]]:
    return [(each, size) for each in chosen for size in sizes_within(each, shapes, budgets)]


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
    watch(f"scoring the base and the full change on {scoring.task.name}", 0, 1)
    base = scoring.base
    started = time.monotonic()
    full = scoring.of_change(change)
    # The first estimate knows the time of scoring alone, and later ones that of projecting too.
    seconds = [time.monotonic() - started]
    names = {f"projection {each.name} {size}": (each, size) for each, size in sized}
    missing = sum(record.get(name) is None for name in names)
    if missing:
        watch(f"{missing} projections to score, at least {_spoken(missing * seconds[0])}", 0, 1)
    found = []
    for done, (name, (each, size)) in enumerate(names.items()):
        if (stored := record.get(name)) is not None:
            found.append(Projection.from_json(stored))
            continue
        watch(
            f"projecting on {each.name} and scoring, about {_spoken(missing * fmean(seconds))} left", done, len(sized)
        )
        started = time.monotonic()
        with threads(change.shapes) as pool:
            projection, weights = project(change, each, size, setting, pool)
        projection = with_shares(projection, scoring.losses(weights), base, full)
        record.add(name, asdict(projection))
        found.append(projection)
        seconds = [*(seconds if len(found) > 1 else []), time.monotonic() - started]
        missing -= 1
    return found, {part: (base[part].loss, full[part].loss) for part in base}


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _factors_for(shapes: Mapping[str, tuple[int, int]]) -> FactorCache:
    """Return a cache of decompositions that holds no more than fits in memory, and on disk those of small models alone."""
    sizes = [4 * min(shape) * (sum(shape) + 1) for shape in shapes.values()]
    folder = cache_folder() / "factors" if 2 * sum(sizes) <= FACTORS_ON_DISK else None
    return FactorCache(folder, max(2, FACTORS_IN_MEMORY // max(sizes)))
