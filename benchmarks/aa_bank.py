"""Train the bank of runs from which A/A studies are drawn: `python benchmarks/aa_bank.py runs.jsonl [--part 0 --parts 2]`.

The bank holds runs of one adapter, LoRA, at several learning rates, with several seeds, and from two starts for each seed:
twins that see the same batches but draw another initialization. A study drawn from it compares LoRA with itself, with a
search of its own for each twin, and every run is a real training of the embedded model. `tests/lab/analysis/test_aa.py`
counts how often such studies report a difference. A run that the file has is not trained again; `--pack` writes the compact
file that the test reads.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from adapterlab.adapters.context import Context
from adapterlab.adapters.rank.lora import LoRA
from adapterlab.adapters.state import State
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Trial

TASKS = ("prose", "restyle")
LATTICE = (1e-3, 1.8e-3, 3.2e-3, 5.6e-3, 1e-2, 1.8e-2, 3.2e-2, 5.6e-2)
"""Learning rates; whole runs are at the four about the best."""
NEAR = LATTICE[2:6]
STARTS = (0, 1)
TUNING_SEEDS, REPORT_SEEDS = range(101, 109), range(1, 11)
STEPS = 20


@dataclass(frozen=True)
class LoRAStart(LoRA):
    """LoRA with another draw of its initialization for the same seed and batches."""

    name = "lora_start"

    skipped: int = 0
    """Number of the draw."""

    def init(self, weight, context: Context) -> State:
        context.uniform(1, 1 + self.skipped, bound=1.0)  # moves the generator on
        return super().init(weight, context)


class Run(NamedTuple):
    """One run of the bank."""

    task: str
    rate: float
    seed: int
    start: int
    steps: int


def study() -> Study:
    """Return the study that the runs belong to."""
    return Study(
        name="aa",
        tasks=TASKS,
        contestants=(Contestant(adapter="lora"),),
        full_ft=False,
        full_ft_reason="an adapter is compared with itself",
        training=Training(steps=STEPS, length=64, precision="float32"),
        report=Reporting(windows=24, curve_every=STEPS, path=(0.5, 1.25)),
    )


def runs() -> Iterator[Run]:
    """Yield the runs of the bank: short ones for the search, and whole ones."""
    for task, seed, start, rate in itertools.product(TASKS, TUNING_SEEDS, STARTS, LATTICE):
        yield Run(task, rate, seed, start, STEPS // 2)
    for task, seed, start, rate in itertools.product(TASKS, REPORT_SEEDS, STARTS, NEAR):
        yield Run(task, rate, seed, start, STEPS)
    for task in TASKS:
        yield Run(task, 0.0, 0, 0, 0)


def trial_of(run: Run) -> Trial:
    """Return the trial of a run.

    Args:
        run: The run.
    """
    adapter = None if run.steps == 0 else LoRAStart(skipped=run.start)
    whole = run.steps in (0, STEPS)
    trial = resolve(study()).trial(run.task, adapter, "all-linear", run.rate, run.seed, run.steps, reported=whole)
    return replace(trial, curve_every=0, path=() if run.steps == 0 else trial.path)


def main() -> None:
    """Train what the file lacks, or pack it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--part", type=int, default=0, help="this process's part of the runs, from 0")
    parser.add_argument("--parts", type=int, default=1, help="number of processes")
    parser.add_argument("--pack", type=Path, help="write the compact file and train nothing")
    given = parser.parse_args()
    known = {}
    for file in given.file.parent.glob(f"{given.file.stem}*.jsonl"):
        for line in file.read_text("utf-8").splitlines():
            record = json.loads(line)
            known[Run(*record["run"])] = record["outcome"]
    if given.pack:
        pack(known, given.pack)
        return
    runner = Runner()
    with given.file.with_stem(f"{given.file.stem}.{given.part}").open("a", encoding="utf-8") as out:
        for run in list(runs())[given.part :: given.parts]:
            if run not in known:
                outcome = runner.run(trial_of(run))
                out.write(json.dumps({"run": run, "outcome": outcome.to_json()}) + "\n")
                out.flush()


def pack(known: dict[Run, dict], file: Path) -> None:
    """Write the scores, rows and paths of all runs, without times and memory, as compressed JSON.

    Args:
        known: The outcome of each run as JSON.
        file: The file to write.
    """
    fields = ("status", "scores", "rows", "path", "parameters")
    wanted = sorted(set(runs()) & set(known))
    records = [[*run, {name: known[run][name] for name in fields}] for run in wanted]
    text = json.dumps(records, separators=(",", ":"))
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
