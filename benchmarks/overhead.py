"""Measure the overhead of the lab: a trial in a worker pool with a ledger, against a bare training loop.

    python benchmarks/overhead.py [--steps 120] [--rounds 7] [--training-only]

Both do the same work with one thread each and take turns, after a first run that loads the model and encodes the texts.
The cost of a trial is the time of the main process and its worker together. CPU time is reported along with wall time,
since other programs on the machine affect it less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import adapterlab
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors import LocalPool
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Study, Training
from adapterlab.lab.trial.spec import Trial
from adapterlab.lab.trial.train import on_curve
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.loading import load_causal
from adapterlab.surgery import attach
from adapterlab.tasks import task
from adapterlab.tasks.base import Part

RESULTS = Path(__file__).parent / "results"
TARGET = 0.03
"""Largest overhead wanted, as a share of a trial of about 20 seconds."""


def lora_trial(steps: int, scored: bool = True) -> Trial:
    """Return a trial of LoRA on the embedded model, scored on every part at the end.

    Args:
        steps: Training steps. After each tenth of them the validation part is scored.
        scored: False to leave out all scoring.
    """
    study = Study(
        name="overhead",
        tasks=("prose",),
        contestants=(Contestant(adapter="lora"),),
        training=Training(precision="float32"),
    )
    contest = Contest("lora", "prose", adapterlab.adapter("lora"), "all-linear", resolve(study))
    trial = replace(contest.trial(1e-3, 1, steps, reported=True), path=(), curve_every=max(1, steps // 10))
    return trial if scored else replace(trial, parts=(), curve_every=0)


class Bare:
    """The same training and scoring as a trial, written by hand.

    Args:
        trial: The trial to imitate; gives the model, the task and the scored parts.
    """

    def __init__(self, trial: Trial) -> None:
        self.model, tokenizer = load_causal(trial.model)
        self.ids = {
            part: task(trial.task).examples(Part(part), tokenizer, trial.length, 1 << 30).inputs["input_ids"]
            for part in (Part.TRAIN.value, *trial.parts)
        }

    def run(self, trial: Trial) -> None:
        """Attach LoRA, train, score and detach.

        Args:
            trial: Gives the steps, the learning rate and the seed.
        """
        handle = attach(self.model, adapterlab.adapter("lora"), seed=trial.seed)
        optimizer = torch.optim.AdamW(handle.parameters(), lr=trial.lr, weight_decay=0.0)
        warm = max(1, trial.steps // 10)
        shape = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, (s + 1) / warm) * (1 - s / trial.steps))
        generator = torch.Generator().manual_seed(trial.seed)
        for step in range(trial.steps):
            rows = torch.randint(len(self.ids["train"]), (trial.batch,), generator=generator)
            loss = next_token_loss(self.model, self.ids["train"][rows])
            loss.backward()
            loss.item()
            torch.nn.utils.clip_grad_norm_(handle.parameters(), 1.0)
            optimizer.step()
            shape.step()
            optimizer.zero_grad()
            if on_curve(trial, step + 1):
                self.score(trial, "validation")
        for part in trial.parts:
            self.score(trial, part)
        handle.detach()

    @torch.no_grad()
    def score(self, trial: Trial, part: str) -> None:
        """Compute the loss and the number of correct tokens on a part, and discard them.

        Args:
            trial: Gives the number of windows.
            part: Part to score.
        """
        for rows in self.ids[part][: trial.windows].split(64):
            logits = self.model(input_ids=rows).logits[:, :-1].float()
            cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
            (logits.argmax(-1) == rows[:, 1:]).sum().item()


def next_token_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Return the mean loss of the next token, in nats.

    Args:
        model: A causal language model.
        ids: Token ids `(rows, tokens)`.
    """
    logits = model(input_ids=ids).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU seconds that some processes and this one have used so far.

    Args:
        pids: Ids of other processes.
    """
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + time.process_time()


def spent(work: Callable[[], object], pids: list[int]) -> tuple[float, float]:
    """Return the wall and CPU seconds that some work takes.

    Args:
        work: Function to run.
        pids: Ids of worker processes whose CPU time counts too.
    """
    wall, cpu = time.perf_counter(), cpu_seconds(pids)
    work()
    return time.perf_counter() - wall, cpu_seconds(pids) - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="training steps (the bare loop should take about 20 s)")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each side")
    parser.add_argument("--training-only", action="store_true", help="leave out scoring on both sides; prints only")
    options = parser.parse_args()
    torch.set_num_threads(1)

    trial = lora_trial(options.steps, not options.training_only)
    bare = Bare(trial)
    bare.run(lora_trial(10, not options.training_only))
    pool = LocalPool([(WorkerConfig(),)], {"prose": task("prose")})
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")

        def lab(one: Trial) -> None:
            pool.submit([one])
            for finished in pool:
                ledger.record(finished)

        lab(lora_trial(10, not options.training_only))
        pids = pool.worker_pids()
        times: dict[str, list[tuple[float, float]]] = {"bare": [], "lab": []}
        main_process = []
        for turn in range(options.rounds):
            one = replace(trial, seed=turn)
            for kind in ("bare", "lab") if turn % 2 else ("lab", "bare"):
                before = time.process_time()
                times[kind].append(spent(lambda: bare.run(one) if kind == "bare" else lab(one), pids))  # noqa: B023
                if kind == "lab":
                    main_process.append(time.process_time() - before)
            print(turn, {kind: tuple(round(x, 2) for x in taken[-1]) for kind, taken in times.items()}, flush=True)
    pool.close()

    def overhead(clock: int) -> float:
        return statistics.median(
            lab[clock] / bare[clock] - 1 for bare, lab in zip(times["bare"], times["lab"], strict=True)
        )

    result = {
        "steps": options.steps,
        "rounds": options.rounds,
        "bare_cpu_seconds": statistics.median(cpu for _, cpu in times["bare"]),
        "lab_cpu_seconds": statistics.median(cpu for _, cpu in times["lab"]),
        "overhead_cpu": overhead(1),
        "bare_wall_seconds": statistics.median(wall for wall, _ in times["bare"]),
        "lab_wall_seconds": statistics.median(wall for wall, _ in times["lab"]),
        "overhead_wall": overhead(0),
        "driver_cpu_seconds": statistics.median(main_process),
        "target": TARGET,
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    if not options.training_only:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "overhead.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "overhead.md").write_text(as_markdown(result))
    print(as_markdown(result))


def as_markdown(result: dict[str, float | str]) -> str:
    """Return the report.

    Args:
        result: The measured values, as in `benchmarks/results/overhead.json`.
    """
    return f"""# Overhead of the lab

A trial of {result["steps"]} steps (LoRA on the embedded model, one thread) in a worker pool with a ledger, against a bare
training loop that does the same work. Both are warm and take turns; the numbers are medians of {result["rounds"]} rounds.
Target: an overhead below {TARGET:.0%} of a trial of 20 s.

| | bare loop | the lab | overhead (median of paired ratios) |
|---|---:|---:|---:|
| CPU seconds | {result["bare_cpu_seconds"]:.2f} | {result["lab_cpu_seconds"]:.2f} | {result["overhead_cpu"]:+.1%} |
| wall seconds | {result["bare_wall_seconds"]:.2f} | {result["lab_wall_seconds"]:.2f} | {result["overhead_wall"]:+.1%} |

The main process (scheduling, ledger) uses {result["driver_cpu_seconds"]:.3f} of the lab's CPU seconds per trial.
{result["machine"]}, torch {result["torch"]}; load average {result["load_average"]:.1f} at the end. If that is above the
number of cores, use the CPU seconds and ignore the wall seconds.
"""


if __name__ == "__main__":
    main()
