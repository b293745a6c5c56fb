"""Studies with a metric in worker processes: a scorer that fails late, and a model divided over two processes."""

from __future__ import annotations

import multiprocessing

import pytest

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.executors import LocalPool
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.trust import UntrustedCodeError
from tests.lab.answered import save_answered
from tests.lab.processes import start_run

SCORER = """def score(prediction, reference, row):
    print("scoring", row)
    if "x" in prediction:
        raise ValueError("I know no x")
    return 0.0
"""


def test_a_scorer_that_fails_late_stops_the_study_with_one_line_and_loses_nothing(tmp_path):
    study = save_answered(tmp_path, "python:mine.score", steps=6)
    (tmp_path / "mine.py").write_text(SCORER)
    with pytest.raises(UntrustedCodeError, match=r"mine.py, which is not trusted on this machine"):
        load_study(study)
    process = start_run(study, tmp_path / "out", "--workers", "1", "--trust")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 2, said
    (line,) = [line for line in said.splitlines() if line.startswith("adapterlab: ")]
    assert f"the scorer score in {tmp_path / 'mine.py'} on {tmp_path / 'rows.jsonl'}:" in line
    assert "raised ValueError: I know no x (line 4)" in line
    assert "Traceback" not in said
    assert "scoring" not in said
    kept = {trial.method for trial, _, _ in Ledger(tmp_path / "out" / "ledger.sqlite")}
    assert {FROZEN, "lora", "ia3"} & kept
    assert FROZEN in kept


def test_a_model_over_two_processes_answers_as_it_does_whole(tmp_path):
    resolved = prepare(load_study(save_answered(tmp_path))).resolved
    contests = prepare(resolved.study).contests()
    frozen, lora = (next(c for c in contests if c.contestant == name) for name in (FROZEN, "lora"))
    trials = [frozen.frozen_trial(), lora.trial(0.01, 1, 12, reported=True)]
    data = tuple(entry.files for entry in resolved.study.data)
    pool = LocalPool([(WorkerConfig(data=data), WorkerConfig(data=data))], resolved.tasks)
    try:
        pool.submit(trials)
        found = {finished.trial: finished.outcome for finished in pool}
    finally:
        pool.close()
    runner = Runner(resolved.worker_config())
    for trial in trials:
        assert found[trial].status == "ok", found[trial].note
        assert found[trial].answers == runner.run(trial).answers
    assert not multiprocessing.active_children()
