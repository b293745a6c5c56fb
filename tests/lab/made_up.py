"""Finished contests whose outcomes a test makes up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from adapterlab import argmap
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.study.spec import Contestant, Study, Training, Tuning
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.verdict import Analysis, analyse

PATH = (0.25, 0.5, 0.75, 1.25)


def played(
    names: tuple[str | Mapping[str, object], ...],
    *,
    gains: Mapping[str, float],
    forgetting: Mapping[str, float] | None = None,
    parameters: Mapping[str, int] | None = None,
    noise: float = 0.0,
    carried: float = 1.0,
    best: Mapping[str, float] | None = None,
    tenth: Mapping[str, float] | None = None,
    reference: str = "lora",
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> Results:
    """A study on two tasks in which a contestant's losses are 1 less its gain, plus noise of its own.

    Out-of-domain it gains the share `carried` of that. Where `best` names a strength, the run has a path on which its
    gain is largest there and its forgetting grows as the square of the strength; during training both grow with the
    steps. `tenth` is the loss from a tenth of the data. `labels` are names in the report that no study file could give.
    A contestant may be an entry of a study, whose label is then its name in `gains` and the like.
    """
    study = Study(
        name="made-up",
        tasks=("prose", "restyle"),
        contestants=tuple(
            Contestant(adapter=name, start=3.2e-3) if isinstance(name, str) else Contestant(start=3.2e-3, **name)
            for name in names
        ),
        training=Training(steps=40),
        tuning=Tuning(regret_sample=0),
        reference=reference,
        full_ft="full_ft" in names,
        full_ft_reason="" if "full_ft" in names else "not asked here",
    )
    entries = tuple(c.model_copy(update={"label": (labels or {}).get(c.adapter, c.label)}) for c in study.contestants)
    study = study.model_copy(
        update={"contestants": entries, "title": title, "reference": (labels or {}).get(reference, reference)}
    )
    rng = np.random.default_rng(seed)
    contests = make_contests(resolve(study), {c.name: c.build() for c in study.entrants})

    def scores(gain: float, forgot: float) -> dict[str, tuple[float, float]]:
        inside, outside = (1 - gain, 0.5 + gain), (1 - carried * gain, 0.5)
        return {"validation": inside, "test": inside, "ood": outside, "base": (1 + forgot, 0.5)}

    def run(name: str, trial: Trial) -> Outcome:
        gain, kept = gains.get(name, 0.0), (forgetting or {}).get(name, 0.0)
        mine = gain - (0.1 if trial.lr not in (0.0, 3.2e-3) else 0)
        mine += rng.normal(0, noise) if noise and name != FROZEN else 0.0
        curve = ((10, 1 - gain / 2), (20, 1 - 0.9 * gain), (30, 1 - gain))
        outcome = Outcome("ok", scores(mine, kept), curve, (parameters or {}).get(name, 0), 4.0, 0.5)
        top = (best or {}).get(name)
        if top is None or trial.seed not in study.report.seeds:
            return outcome
        bend = mine / (2 / top - 1 / top**2)  # a parabola through 0 with its top there and `mine` at 1
        path = tuple((s, scores(bend * (2 * s / top - (s / top) ** 2), kept * s**2)) for s in PATH)
        along = tuple((round(40 * s), scores(mine * s, kept * s)) for s in (0.25, 0.5, 0.75))
        return replace(outcome, peak_bytes=3 << 20, path=path, along=along)

    adapters = {entry.name: entry.adapter if labels else entry.name for entry in study.entrants} | {FROZEN: FROZEN}
    play_study(contests, lambda contest, trial: run(adapters[contest.contestant], trial))
    for contest in contests:
        name = contest.contestant
        if tenth and name in tenth:
            contest.tenth = {
                s: (trial, replace(o, scores={"test": (tenth[name] + 1e-4 * s, 0.5)}))
                for s, (trial, o) in contest.reported.items()
            }
    return Results.of(contests)


def analysed(results: Results, the_map: argmap.Map | None = None, parameters: int = 4_300_000) -> Analysis:
    """The analysis of made-up results, on a model of so many parameters."""
    prepared = PreparedStudy(results.resolved, {}, parameters)
    return analyse(prepared, list(results.contests.values()), None, the_map)


def page_of(analysis: Analysis, folder: Path) -> str:
    """The text of the report."""
    from adapterlab.report.page import write_report

    write_report(analysis, folder / "report.html")
    return (folder / "report.html").read_text()
