"""Geometry of a trial: measures of its trained change of weights, and scores of what hypotheses express of it.

The numbers are a flat table, small enough for a ledger:

- `MEASURE` and `MEASURE random`: a measure of the change, and its mean for random changes of the same norm, as a mean over
  layers weighted by the squared norm of their change. `relative_norm` is that of all layers together.
- `direction_against_magnitude`: correlation over layers of the change of magnitude with that of direction (DoRA's figure 2),
  over the queries if there are three layers of them, else over all layers.
- `residual(HYPOTHESIS)`: squared distance of the nearest change that a hypothesis allows within the budget, as a share of
  the change's squared norm; `parameters(HYPOTHESIS)`: its number of parameters; `converged(HYPOTHESIS)`: 1, or 0 if a fit
  was stopped early.
- `drift(PART)`: mean over layers of `E|dW h|^2 / E|W h|^2`, with the base's inputs `h` on the text of a part of the task.
- `loss(HYPOTHESIS, PART)`: loss of the base with that nearest change; `loss(change, PART)`: with the whole change of its
  linear layers. Other parameters, such as those of norms, are the base's.

Everything is computed in float32. A number that is not finite is left out.

>>> projected("residual", "low_rank"), projected("loss", "low_rank", "test")
('residual(low_rank)', 'loss(low_rank, test)')
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import Change, InMemory
from adapterlab.geometry.in_model import ChangeStrength, change_of, in_float32
from adapterlab.geometry.measures import all_measures, measure_named
from adapterlab.geometry.measures.direction import direction_against_magnitude
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.result import GeometryResult, LayerGeometry
from adapterlab.geometry.run import run_geometry
from adapterlab.geometry.score import PARTS, Scoring
from adapterlab.geometry.shared import TEXTS
from adapterlab.lab.study.geometry import DIRECTION
from adapterlab.lab.trial.context import Stopwatch, TrialContext
from adapterlab.lab.trial.score import score_parts
from adapterlab.lab.trial.spec import Outcome
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.init.svd_cache import FactorCache
from adapterlab.tasks.base import Part, Scores

WHOLE = "change"
"""Name of the whole change among the names of projected ones."""
RANDOM = "random"
"""Word after the name of a measure for its value of random changes."""
DRIFT = "drift"
"""Word before the part, in the name of the mean drift of activations."""
DIRECTION_PARTS = ("magnitude_change", "direction_change")
"""Measures of a layer that it is computed from."""


def projected(number: str, hypothesis: str, part: str = "") -> str:
    """Return the name of a number about the projection on a hypothesis.

    Args:
        number: `residual`, `parameters`, `converged` or `loss`.
        hypothesis: Name of the hypothesis, or `WHOLE`.
        part: Part of the task, for a loss.
    """
    return f"{number}({hypothesis}, {part})" if part else f"{number}({hypothesis})"


@torch.no_grad()
def change_in_memory(handle: Handle) -> Change:
    """Return the change that a trained adapter makes, in main memory, where it outlives the adapter.

    Args:
        handle: The trained adapter.

    Raises:
        AdapterlabError: The method changes no weight of a linear layer.
    """
    found = change_of(handle)
    read = {path: found.read(path) for path in found.shapes}
    return InMemory({path: (each.base.cpu(), each.tuned.cpu()) for path, each in read.items()}, others=found.others)


def with_geometry(outcome: Outcome, context: TrialContext, change: Change) -> Outcome:
    """Add the geometry of a trained change to the outcome of its trial.

    Args:
        outcome: The outcome of the trial.
        context: The resolved trial, whose adapter is detached.
        change: The change that the adapter made.

    Returns:
        The outcome with its numbers, and the time that they took.
    """
    started = time.monotonic()
    wanted = json.loads(context.trial.geometry)
    plan = Plan(
        (wanted["budget"],),
        tuple(wanted["hypotheses"]) or None,
        tuple(measures_named(wanted["measures"])),
        wanted["draws"],
        context.trial.seed,
        sharing=False,  # no number of a trial
    )
    try:
        with in_float32(context.model):
            result = run_geometry(change, plan, scoring=_scoring(context), factors=_factors())
    except AdapterlabError as error:  # such as a change of zero: the trial itself was fine
        return replace(outcome, note=f"no geometry: {error}", geometry_seconds=time.monotonic() - started)
    numbers = {name: float(value) for name, value in _numbers(result).items() if math.isfinite(value)}
    return replace(outcome, geometry=numbers, geometry_seconds=time.monotonic() - started)


def measures_named(names: Sequence[str]) -> list[str]:
    """Return the names of measures of a layer that the measures of a study are computed from.

    Args:
        names: Names of measures, `DIRECTION` among them; all measures if empty.

    Raises:
        AdapterlabError: There is no such measure.

    >>> measures_named(["rank", "direction_against_magnitude"])
    ['rank', 'magnitude_change', 'direction_change']
    """
    if not names:
        return [measure.name for measure in all_measures()]
    each = [part for name in names for part in (DIRECTION_PARTS if name == DIRECTION else (name,))]
    return [measure_named(name).name for name in dict.fromkeys(each)]


def _scoring(context: TrialContext) -> Scoring:
    """Return the scoring of a trial's task on the trial's own examples, in float32."""
    parts = [Part(part) for part in context.trial.parts]
    for part in parts:
        context.load_examples(part, context.trial.windows)
    # The time is that of the geometry, and autocast would round the weights.
    alone = replace(
        context, scoring=Stopwatch(), generating=Stopwatch(), trial=replace(context.trial, precision="float32")
    )

    def score(control: ChangeStrength, part: Part) -> Scores:
        return score_parts(alone, control, [part])[part]

    trial = context.trial
    return Scoring(
        context.model, context.processor, context.task, trial.length, trial.windows, parts=parts, score=score
    )


def _numbers(result: GeometryResult) -> dict[str, float]:
    """Return the table of numbers of a result."""
    part_of = {name: part.value for part, name in PARTS.items()}
    found = dict[str, float]()
    for each in result.projections:
        name = each.hypothesis
        found[projected("residual", name)] = each.residual
        found[projected("parameters", name)] = each.parameters
        found[projected("converged", name)] = each.converged
        found |= {projected("loss", name, part_of[part]): scores.loss for part, scores in each.scores.items()}
    found |= {projected("loss", WHOLE, part_of[part]): full for part, (_, full) in result.scores.items()}
    for text, measured in result.activations.items():
        drifts = [(1.0, of["drift"]) for of in measured.values() if "drift" in of]
        found[f"{DRIFT}({TEXTS[text].value})"] = _mean(drifts)
    return found | _over_layers(result.layers)


def _direction(layers: Sequence[LayerGeometry]) -> float:
    """Return the correlation of magnitude changes with direction changes; NaN if it is not known."""
    if not all(set(DIRECTION_PARTS) <= layer.measures.keys() for layer in layers):
        return math.nan
    for role in ("query", None):
        with suppress(AdapterlabError):  # too few layers of this role
            return direction_against_magnitude(layers, role).correlation
    return math.nan


def _over_layers(layers: Sequence[LayerGeometry]) -> dict[str, float]:
    """Return means over layers, weighted by the squared norm of their change."""
    found = {"relative_norm": _relative_norm(layers), DIRECTION: _direction(layers)}
    for name in dict.fromkeys(name for layer in layers for name in layer.measures):
        found[name] = _mean([(layer.norm, layer.measures[name]) for layer in layers if name in layer.measures])
        nulls = [(layer.norm, layer.nulls[name].mean) for layer in layers if name in layer.nulls]
        if nulls:
            found[f"{name} {RANDOM}"] = _mean(nulls)
    return found


def _mean(pairs: Sequence[tuple[float, float]]) -> float:
    finite = [(norm**2, value) for norm, value in pairs if math.isfinite(value)]
    total = sum(weight for weight, _ in finite)
    return sum(weight * value for weight, value in finite) / total if total else math.nan


def _relative_norm(layers: Sequence[LayerGeometry]) -> float:
    base = sum((layer.norm / layer.relative_norm) ** 2 for layer in layers if layer.relative_norm)
    return math.sqrt(sum(layer.norm**2 for layer in layers) / base) if base else math.nan


@cache
def _factors() -> FactorCache:
    """Return the decompositions of this process, in memory alone: those of a change are of no use to another trial."""
    return FactorCache()
