"""Measures of what changes of layers have in common, and of what a change does to activations, for a run.

>>> import torch
>>> from adapterlab.geometry.change import InMemory
>>> row = torch.ones(1, 4)
>>> change = InMemory({f"h.{i}.up": (torch.zeros(4, 4), torch.randn(4, 1) @ row) for i in range(2)})
>>> found = sharing(change, Setting(), 2, Record(None, ""))
>>> round(next(iter(found.values.values()))["right_overlap(8)"], 4)
1.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.activations import measure_activations
from adapterlab.geometry.change import Change, SomeLayers
from adapterlab.geometry.hypotheses.base import Setting
from adapterlab.geometry.measures.sharing import share
from adapterlab.geometry.residuals import GROUP_IN_MEMORY
from adapterlab.geometry.result import Null
from adapterlab.geometry.resume import Record
from adapterlab.geometry.score import Scoring
from adapterlab.geometry.texts import inputs_of
from adapterlab.surgery.model.roles import role_of
from adapterlab.tasks.base import Part

TEXTS = {"task": Part.TEST, "general": Part.BASE}
"""Names in results of the texts that activations are measured on, with their parts of the task."""


class Sharing(NamedTuple):
    """Measures of what the changes of layers have in common."""

    values: Mapping[str, Mapping[str, float]] = {}
    """By group of layers, values by name of the measure."""
    nulls: Mapping[str, Mapping[str, Null]] = {}
    """The same for random changes of the same norm."""
    notes: Sequence[str] = ()
    """Remarks on groups that are too large."""


class Activations(NamedTuple):
    """Effects of a change on activations."""

    values: Mapping[str, Mapping[str, Mapping[str, float]]] = {}
    """By text and path of the layer or block, values by name of the measure."""
    notes: Sequence[str] = ()
    """Remarks on texts that have none."""


def sharing(change: Change, setting: Setting, draws: int, record: Record) -> Sharing:
    """Measure what the changes of layers of one role and shape have in common, group by group.

    Args:
        change: The change.
        setting: Cached decompositions, and the seed of the draws.
        draws: Random changes that a null is estimated from.
        record: Parts that an earlier run has finished; new ones are added.

    Returns:
        The measures, their nulls, and notes.
    """
    groups: dict[tuple[str, tuple[int, int]], list[str]] = {}
    for path, shape in change.shapes.items():
        groups.setdefault((role_of(path).value, shape), []).append(path)
    values: dict[str, dict[str, float]] = {}
    nulls: dict[str, dict[str, Null]] = {}
    left_out = []
    for (role, shape), paths in groups.items():
        if 12 * math.prod(shape) * len(paths) > GROUP_IN_MEMORY:
            left_out.append(f"{len(paths)} {role} layers")
            continue
        name = f"sharing {' '.join(paths)}"
        part = record.get(name)
        if part is None:
            part = share(SomeLayers(change, paths), draws=draws, seed=setting.seed, factors=setting.factors)
            record.add(name, part)
        values |= {group: dict(found) for group, found in part[0].items()}
        nulls |= {group: {name: Null(*null) for name, null in found.items()} for group, found in part[1].items()}
    if not left_out:
        return Sharing(values, nulls)
    return Sharing(
        values, nulls, [f"Shared subspaces were left out of {', '.join(left_out)}, which do not fit in memory at once."]
    )


def activations(change: Change, scoring: Scoring, record: Record) -> Activations:
    """Measure what a change does to the activations of its base model, on a task's text and on general text.

    Args:
        change: The change.
        scoring: The base model and the task.
        record: Parts that an earlier run has finished; new ones are added.

    Returns:
        The measures, and notes.
    """
    device = next(scoring.model.parameters()).device
    found: dict[str, dict[str, dict[str, float]]] = {}
    notes = []
    for name, part in TEXTS.items():
        if part not in scoring.parts:
            continue
        if (stored := record.get(f"activations {name}")) is not None:
            found[name] = stored
            continue
        training = scoring.model.training
        scoring.model.eval()
        try:
            batches = inputs_of(scoring.task, part, scoring.processor, length=scoring.length)
            moved = [{key: tensor.to(device) for key, tensor in batch.items()} for batch in batches]
            weights = {path: change.read(path).tuned.to(device) for path in change.shapes}
            found[name] = measure_activations(scoring.model, weights, moved)
            record.add(f"activations {name}", found[name])
        except AdapterlabError as error:
            notes.append(f"Activations on {name} text were not measured: {error}.")
        finally:
            scoring.model.train(training)
    return Activations(found, notes)
