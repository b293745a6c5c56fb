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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.activations import measure_activations
from adapterlab.geometry.change import Change, InMemory
from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.geometry.in_model import change_of, in_float32, with_weights
from adapterlab.geometry.measure import Projected, measure
from adapterlab.geometry.measures import all_measures, measure_named
from adapterlab.geometry.measures.base import Measure
from adapterlab.geometry.measures.direction import direction_against_magnitude
from adapterlab.geometry.result import LayerGeometry, Projection
from adapterlab.geometry.texts import inputs_of
from adapterlab.lab.study.geometry import DIRECTION
from adapterlab.lab.trial.context import Stopwatch, TrialContext
from adapterlab.lab.trial.score import mode, score_parts
from adapterlab.lab.trial.spec import Outcome
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.init.svd_cache import FactorCache
from adapterlab.tasks.base import Part

WHOLE = "change"
"""Name of the whole change among the names of projected ones."""
RANDOM = "random"
"""Word after the name of a measure for its value of random changes."""
DRIFT = "drift"
"""Word before the part, in the name of the mean drift of activations."""
DIRECTION_PARTS = ("magnitude_change", "direction_change")
"""Measures of a layer that it is computed from."""
SCORED = (Part.TEST, Part.OOD, Part.BASE)
"""Parts that projected models are scored on."""


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
    found = dict[str, float]()
    parts = [part.value for part in SCORED if part in context.trial.parts]
    for part in parts:
        context.load_examples(Part(part), context.trial.windows)
    # The time is this function's to count, and autocast would round the weights.
    alone = replace(
        context, scoring=Stopwatch(), generating=Stopwatch(), trial=replace(context.trial, precision="float32")
    )

    def scored(name: str, weights: Projected) -> None:
        with _control(context.model, change, weights) as control:
            for part, scores in score_parts(alone, control, parts).items():
                found[projected("loss", name, part)] = scores.loss

    def on_projection(projection: Projection, weights: Projected) -> Projection:
        name = projection.hypothesis
        found[projected("residual", name)] = projection.residual
        found[projected("parameters", name)] = projection.parameters
        found[projected("converged", name)] = projection.converged
        scored(name, weights)
        return projection

    hypotheses = all_hypotheses()
    with in_float32(context.model):
        result = measure(
            change,
            [wanted["budget"]],
            measures=measures_of(wanted["measures"]),
            hypotheses=[hypotheses[name] for name in wanted["hypotheses"] or hypotheses],
            sharing=False,  # no number of a trial
            draws=wanted["draws"],
            seed=context.trial.seed,
            factors=_factors(),
            on_projection=on_projection,
        )
        tuned = {path: change.read(path).tuned for path in change.shapes}
        scored(WHOLE, tuned)
        found |= _drifts(context, tuned)
    found |= _over_layers(result.layers)
    finite = {name: float(value) for name, value in found.items() if math.isfinite(value)}
    return replace(outcome, geometry=finite, geometry_seconds=time.monotonic() - started)


def measures_of(names: Sequence[str]) -> tuple[Measure, ...]:
    """Return measures by name.

    Args:
        names: Names of measures, `DIRECTION` among them; all measures if empty.

    Raises:
        AdapterlabError: There is no such measure.
    """
    if not names:
        return all_measures()
    each = [part for name in names for part in (DIRECTION_PARTS if name == DIRECTION else (name,))]
    return tuple(measure_named(name) for name in dict.fromkeys(each))


def _drifts(context: TrialContext, tuned: Projected) -> dict[str, float]:
    """Return the mean drift over layers on the text of each part that has any."""
    found = {}
    device = next(context.model.parameters()).device
    weights = {path: weight.to(device) for path, weight in tuned.items()}
    for part in (Part.TEST, Part.BASE):
        if part not in context.trial.parts:
            continue
        with suppress(AdapterlabError), mode(context.model, training=False):  # a task whose inputs are no tokens
            batches = inputs_of(context.task, part, context.processor, length=context.trial.length)
            moved = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
            drifts = [
                of["drift"] for of in measure_activations(context.model, weights, moved).values() if "drift" in of
            ]
            found[f"{DRIFT}({part.value})"] = _mean([(1.0, drift) for drift in drifts])
    return found


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


@contextmanager
def _control(model: nn.Module, change: Change, weights: Projected) -> Iterator[_Weights]:
    control = _Weights(model, change, weights)
    try:
        control.strength = 1.0
        yield control
    finally:
        control.strength = 0.0


class _Weights:
    """A control of the strength of a change of weights: 0 for the base, 1 for the changed weights, a line through both."""

    def __init__(self, model: nn.Module, change: Change, weights: Projected) -> None:
        self._model, self._change, self._weights = model, change, weights
        self._placed, self._strength = ExitStack(), 0.0

    @property
    def strength(self) -> float:
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._placed.close()
        self._strength = value
        if value:
            bases = ((path, weight, self._change.read(path).base) for path, weight in self._weights.items())
            between = {path: weight if value == 1 else base + value * (weight - base) for path, weight, base in bases}
            self._placed.enter_context(with_weights(self._model, between))
