"""A finished study as it was after some of its seeds, as a race or as a fixed design, for tests that look more than once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from adapterlab.lab.analysis.effects import Effects, variance_priors
from adapterlab.lab.analysis.metrics import Results, measure
from adapterlab.lab.analysis.rows import measure_rows
from adapterlab.lab.study.spec import Reporting
from adapterlab.lab.trial.spec import FROZEN


def looks(results: Results, *, design: str = "racing", fewest: int = 2) -> Iterator[Effects]:
    """The effects after each number of seeds. The search is the same in all of them, and so is its variance."""
    whole, seeds = Effects.of(results), results.study.report.seeds
    for count in range(fewest, len(seeds) + 1):
        settings = results.study.report.model_dump() | {"design": design, "seeds": seeds[: max(count, fewest + 1)]}
        if design == "fixed":
            settings["seeds"] = seeds[:count]
        study = results.study.model_copy(update={"report": Reporting(**settings)})
        resolved = replace(results.resolved, study=study)
        contests = {
            key: replace(contest, resolved=resolved)
            if contest.contestant == FROZEN
            else replace(contest, resolved=resolved, reported=dict(list(contest.reported.items())[:count]))
            for key, contest in results.contests.items()
        }
        seen = replace(results, contests=contests, resolved=resolved)
        measured = measure(seen)
        priors, df = variance_priors(seen, measured)
        yield replace(whole, results=seen, measured=measured, rows=measure_rows(seen), priors=priors, pooled_df=df)
