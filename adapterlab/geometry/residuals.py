"""Residuals of the projections on many hypotheses, found layer by layer.

>>> import torch
>>> from adapterlab.geometry.change import InMemory
>>> from adapterlab.geometry.hypotheses import hypothesis
>>> change = InMemory({"up": (torch.zeros(4, 4), torch.ones(4, 4))})
>>> residuals = Residuals([(hypothesis("lora"), 1)], change.shapes)
>>> residuals.find(change, Setting(), Record(None, ""))
>>> round(residuals.projection(hypothesis("lora"), 1, {"up": 4.0}).residual, 6)
0.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapterlab.geometry.change import Change
from adapterlab.geometry.hypotheses.base import Hypothesis, Setting
from adapterlab.geometry.measure import project, sizes_within
from adapterlab.geometry.result import Projection
from adapterlab.geometry.resume import Record

GROUP_IN_MEMORY = 4 * 2**30
"""Bytes of weights of layers that share parameters, above which a hypothesis that joins them is left out."""


class Residuals:
    """Residuals of projections, found layer by layer, so that each is read and decomposed once for all hypotheses.

    Args:
        sized: Hypotheses with their sizes.
        shapes: `(out, in)` of every layer by path.
    """

    def __init__(self, sized: Sequence[tuple[Hypothesis, int]], shapes: Mapping[str, tuple[int, int]]) -> None:
        self._shapes = shapes
        self._jobs: dict[tuple[str, ...], list[tuple[Hypothesis, int]]] = {}
        self._parts: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for each, size in sized:
            for group in each.groups(shapes):
                self._jobs.setdefault(tuple(group), []).append((each, size))

    @property
    def left(self) -> list[tuple[str, ...]]:
        """Groups of layers that are not projected yet."""
        return list(self._jobs)

    def find(self, change: Change, setting: Setting, record: Record) -> None:
        """Project a group of layers on all hypotheses that have it.

        Args:
            change: The change of these layers.
            setting: Seeds, tolerance, and cached decompositions.
            record: Parts that an earlier run has finished; new ones are added.
        """
        group = tuple(change.shapes)
        for each, size in self._jobs.pop(group, ()):
            name = f"residual {each.name} {size} {' '.join(group)}"
            part = record.get(name)
            if part is None:
                found, _ = project(change, each, size, setting)
                part = {"by_path": dict(found.by_path), "converged": found.converged}
                record.add(name, part)
            self._parts.setdefault((each.name, size), []).append(part)

    def projection(self, each: Hypothesis, size: int, norms: Mapping[str, float]) -> Projection:
        """Return the projection of all layers, once each group is done.

        Args:
            each: The hypothesis.
            size: Value of its size knob.
            norms: Norm of the change of each layer by path.
        """
        parts = self._parts[each.name, size]
        known = {path: share for part in parts for path, share in part["by_path"].items()}
        by_path = {path: known[path] for path in self._shapes if path in known}
        total = sum(norms[path] ** 2 for path in by_path)
        residual = sum(share * norms[path] ** 2 for path, share in by_path.items()) / total
        count, converged = each.parameters(size, self._shapes), all(part["converged"] for part in parts)
        return Projection(each.name, size, count, residual, each.exact, converged, by_path)


def that_fit(
    chosen: Sequence[Hypothesis], shapes: Mapping[str, tuple[int, int]], budgets: Sequence[int]
) -> tuple[list[Hypothesis], list[str]]:
    """Return the hypotheses that can be projected on, and notes on the others.

    Args:
        chosen: The hypotheses.
        shapes: `(out, in)` of every layer by path.
        budgets: Numbers of parameters.
    """
    fitting, notes = [], []
    for each in chosen:
        largest = max((sum(math.prod(shapes[path]) for path in group) for group in each.groups(shapes)), default=0)
        if 16 * largest > GROUP_IN_MEMORY and any(len(group) > 1 for group in each.groups(shapes)):
            notes.append(
                f"{each.title} was left out: its layers share parameters, and need {16 * largest / 2**30:.0f} GiB at once."
            )
        elif not sizes_within(each, shapes, budgets):
            notes.append(f"{each.title} was left out: its smallest change has more than {max(budgets):,} parameters.")
        else:
            fitting.append(each)
    return fitting, notes
