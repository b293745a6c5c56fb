"""Prepare a study: resolve its names, size every contestant at each cell, and settle its precision.

Nothing is trained, unless the precision must be chosen and bfloat16 is fast here: then a few runs of the reference show what
it does to the losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adapterlab.adapters.base import Adapter
from adapterlab.lab.run.contest import Contest, make_contests
from adapterlab.lab.run.data_notes import answer_notes
from adapterlab.lab.run.precision_check import Measure, product_of, settle_precision
from adapterlab.lab.run.precision_choice import AUTO
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.run.sizing import SizedAdapter, size_at
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.models.loading import Loaded, load
from adapterlab.tasks.generation import prompt_room


@dataclass(frozen=True)
class PreparedStudy:
    """A study whose names are resolved and whose adapters are sized.

    >>> from adapterlab.lab.study.spec import Contestant, Study
    >>> study = Study(name="mine", tasks=("prose",), budget=20_000, contestants=(Contestant(adapter="lora"),))
    >>> prepared = prepare(study)
    >>> prepared.sized[Cell()]["lora"].parameters
    19712
    """

    resolved: ResolvedStudy
    sized: Mapping[Cell, Mapping[str, SizedAdapter]]
    """By cell and contestant, the sized adapter."""
    model_parameters: int
    """Number of parameters of the base model, of the main cell if it is swept."""

    @property
    def study(self) -> Study:
        """The study with all its cells."""
        return self.resolved.study

    def contests(self) -> list[Contest]:
        """Return the study's contests at each cell, the main cell last, none of them played."""
        return [contest for part in self.resolved.cells for contest in make_contests(part, self.adapters(part.cell))]

    def adapters(self, cell: Cell) -> dict[str, Adapter]:
        """Return the sized adapter of each contestant.

        Args:
            cell: The cell.
        """
        return {name: sized.adapter for name, sized in self.sized[cell].items()}


def prepare(
    study: Study,
    folder: Path | None = None,
    measure: Measure | None = None,
    *,
    loaded: Loaded | None = None,
    sizes: Mapping[str, SizedAdapter] | None = None,
) -> PreparedStudy:
    """Resolve a study, size its contestants and settle its precision.

    Args:
        study: A valid study.
        folder: Folder of the results, where a precision that is chosen here is recorded and read again; None to choose it
            without a record.
        measure: Measures the speed of bfloat16; `measure_speedup` if None.
        loaded: The base model of the main cell, if the caller has loaded it.
        sizes: By contestant, its sized adapter, if the caller has sized it for a study without a sweep.

    Returns:
        The study, ready to run.

    Raises:
        AdapterlabError: If a file or a model cannot be read, a contestant does not fit a model, or no prompt of a task with
            a metric fits its context.
    """
    resolved = resolve(study)
    study.check_sweep()
    head = resolved.tasks[study.tasks[0]].head
    sized: dict[Cell, dict[str, SizedAdapter]] = {}
    parameters, shape = 0, None
    for name in resolved.models:
        base, processor = loaded if loaded is not None and name == study.model else load(name, head)
        for task in resolved.tasks.values():
            if task.metric:  # a prompt that cannot be answered is an error before anything runs
                room = prompt_room(base, task.max_new_tokens)
                answer_notes(task, processor, room, study.report.metric_rows)
        for part in (part for part in resolved.cells if part.study.model == name):
            rank = part.cell.by_factor.get("rank")
            sized[part.cell] = {
                entry.name: (sizes or {}).get(entry.name)
                or size_at(entry, base, part.study.budget, rank if isinstance(rank, int) else None)
                for entry in part.study.entrants
            }
        if name == study.model:
            parameters, shape = sum(p.numel() for p in base.parameters()), product_of(base, study)
        del base
    prepared = PreparedStudy(resolved, sized, parameters)
    if study.training.precision != AUTO or shape is None:
        return prepared
    chosen = settle_precision(resolved, prepared.contests(), shape, folder, measure)
    return replace(prepared, resolved=replace(resolved, chosen=chosen))
