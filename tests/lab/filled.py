"""Ledgers filled with outcomes that a test makes up, as far as it says, for the commands that read them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.locate import LEDGER, record_study
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.study_play import StudyPlay
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.spec import Finished, Outcome, Trial
from adapterlab.surgery import parameter_count

PARTS = ("validation", "test", "ood", "base")


def fill(
    folder: Path,
    study: Study,
    model: object,
    loss_of: Callable[[Contest, Trial], float],
    until: Callable[[Contest, Trial], bool] = lambda contest, trial: True,
) -> Ledger:
    """A ledger in `folder` with every trial of the study for which `until` holds; an infinite loss is a divergence."""
    ledger = Ledger(folder / LEDGER)
    record_study(study, folder)
    playing = StudyPlay(prepare(study).contests())
    requests = deque(playing.start())
    while requests:
        i, trials = requests.popleft()
        contest = playing.contests[i]
        count = 0 if contest.adapter is None else parameter_count(model, contest.adapter, contest.targets)
        outcomes = {t: _outcome(t, loss_of(contest, t), count) for t in trials}
        for trial in trials:
            if until(contest, trial):
                ledger.record(Finished(trial, outcomes[trial], {"python": "3.11", "device": "cpu"}, 2.5))
        if all(until(contest, trial) for trial in trials):
            requests.extend(playing.send(i, outcomes))
    return ledger


def _outcome(trial: Trial, loss: float, parameters: int) -> Outcome:
    if math.isinf(loss):
        return Outcome("diverged", {}, (), parameters, 1.0, 0.5, "the loss was nan at step 1")
    curve = ((100, loss + 0.1),) if trial.curve_every else ()
    return Outcome("ok", dict.fromkeys(trial.parts, (loss, 0.5)), curve, parameters, 0.1 * trial.steps, 0.5)
