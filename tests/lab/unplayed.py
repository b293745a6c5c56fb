"""Studies on the embedded model that are prepared without loading it, for tests that make up the outcomes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.sizing import SizedAdapter
from adapterlab.lab.run.study_play import StudyPlay
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training, Tuning
from adapterlab.lab.trial.spec import Finished, Outcome, Trial
from tests.lab.in_process import ENVIRONMENT

TUNING = Tuning(regret_sample=0)
START, FIRST = 1e-2, (3.2e-3, 1e-2, 3.2e-2)
"""The rate at which every search starts, and the three rates of its first runs."""
RUN_STEPS = 20
SEARCH_TRIALS, SEARCH_STEPS = 5 + 2, 5 * RUN_STEPS // 2 + 2 * RUN_STEPS
WHOLE = SEARCH_STEPS + 2 * RUN_STEPS
"""Steps of one contest."""


def study_of(*names: str, **changes: Any) -> Study:
    """Two reported runs of 20 steps after a search of 90, without full fine-tuning or a measured regret."""
    settings = {
        "name": "made-up",
        "tasks": ("prose",),
        "contestants": tuple(Contestant(adapter=name, start=START) for name in names or ("lora", "ia3")),
        "training": Training(steps=RUN_STEPS),
        "tuning": TUNING,
        "report": Reporting(seeds=(1, 2), windows=16, curve_every=5),
        "full_ft": False,
        "full_ft_reason": "not asked here",
    }
    return Study(**(settings | changes))


def prepared_of(study: Study, parameters: int = 1_000_000) -> PreparedStudy:
    """Size every contestant by its default settings; LoRA gets rank 4 at a budget below 1000."""

    def sized(entry: Contestant, budget: int | None) -> SizedAdapter:
        small = {"rank": 4} if entry.adapter == "lora" and (budget or 1000) < 1000 else {}
        settings = entry.settings | small
        return SizedAdapter(entry.model_copy(update={"settings": settings}).build(), 700 if small else 900)

    resolved = resolve(study)
    return PreparedStudy(
        resolved,
        {
            part.cell: {entry.name: sized(entry, part.study.budget) for entry in part.study.entrants}
            for part in resolved.cells
        },
        parameters,
    )


def outcome_of(trial: Trial, loss: float = 1.0, parameters: int = 900) -> Outcome:
    """Make up an outcome that took 0.1 seconds a step; an infinite loss is a divergence."""
    if math.isinf(loss):
        return Outcome("diverged", {}, (), parameters, 1.0, 0.5, "the loss was nan at step 1")
    return Outcome("ok", dict.fromkeys(trial.parts, (loss, 0.5)), (), parameters, 0.1 * trial.steps, 0.5)


def record(
    ledger: Ledger,
    prepared: PreparedStudy,
    loss_of: Callable[[Contest, Trial], float] = lambda contest, trial: 1.0,
    until: Callable[[Contest, Trial], bool] = lambda contest, trial: True,
) -> list[Trial]:
    """Record every trial of a study for which `until` returns True; return them."""
    recorded: list[Trial] = []
    playing = StudyPlay(prepared.contests())
    requests = deque(playing.start())
    while requests:
        i, trials = requests.popleft()
        contest = playing.contests[i]
        outcomes = {trial: outcome_of(trial, loss_of(contest, trial)) for trial in trials}
        done = [trial for trial in trials if until(contest, trial)]
        for trial in done:
            ledger.record(Finished(trial, outcomes[trial], ENVIRONMENT, 2.5))
        recorded += done
        if len(done) == len(trials):
            requests.extend(playing.send(i, outcomes))
    return recorded
