"""Prepare a study: resolve its names, size every contestant to each budget, and settle its precision.

Nothing is trained, unless the precision must be chosen and bfloat16 is fast here: then a few runs of the reference show what
it does to the losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adapterlab.lab.run.contest import Contest, make_contests
from adapterlab.lab.run.precision_check import Measure, measure_speedup, product_of, settle_precision
from adapterlab.lab.run.precision_choice import AUTO
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.run.sizing import SizedAdapter, size_to_budget
from adapterlab.lab.study.spec import Study
from adapterlab.models.loading import load


@dataclass(frozen=True)
class PreparedStudy:
    """A study whose names are resolved and whose adapters are sized.

    >>> from adapterlab.lab.study.spec import Contestant, Study
    >>> study = Study(name="mine", tasks=("prose",), budget=20_000, contestants=(Contestant(adapter="lora"),))
    >>> prepared = prepare(study)
    >>> prepared.sized[20_000]["lora"].parameters
    19712
    """

    resolved: ResolvedStudy
    sized: Mapping[int | None, Mapping[str, SizedAdapter]]
    """By budget and contestant, the sized adapter."""
    model_parameters: int
    """Number of parameters of the base model."""

    @property
    def study(self) -> Study:
        """The study with all its budgets."""
        return self.resolved.study

    def contests(self) -> list[Contest]:
        """Return the study's contests at each budget, the smallest first, none of them played."""
        return [
            contest
            for part in self.resolved.at_each_budget
            for contest in make_contests(
                part, {name: sized.adapter for name, sized in self.sized[part.study.budget].items()}
            )
        ]


def prepare(study: Study, folder: Path | None = None, measure: Measure = measure_speedup) -> PreparedStudy:
    """Resolve a study, size its contestants and settle its precision.

    Args:
        study: A valid study.
        folder: Folder of the results, where a precision that is chosen here is recorded and read again; None to choose it
            without a record.
        measure: Measures the speed of bfloat16.

    Returns:
        The study, ready to run.

    Raises:
        AdapterlabError: If a file or the model cannot be read, or a contestant does not fit the model.
    """
    resolved = resolve(study)
    model = load(study.model, resolved.tasks[study.tasks[0]].head).model
    sized = {
        part.budget: {entry.name: size_to_budget(entry, model, entry.budget or part.budget) for entry in part.entrants}
        for part in study.at_each_budget
    }
    prepared = PreparedStudy(resolved, sized, sum(p.numel() for p in model.parameters()))
    if study.training.precision != AUTO:
        return prepared
    shape = product_of(model, study)
    del model
    chosen = settle_precision(resolved, prepared.contests(), shape, folder, measure)
    return replace(prepared, resolved=replace(resolved, chosen=chosen))
