"""What this machine can run: the device, the dtype, and how many examples fit in memory at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig

STEPS = 4
"""Training steps that are timed of each contestant."""
BYTES_OF_FULL_FT = 4 * 5
"""Of each parameter in full fine-tuning: its change, the changed value, the gradient and Adam's two moments, in float32."""


def find_device() -> str:
    """`cuda` before `mps` before `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_dtype(device: str) -> Literal["float32", "bfloat16"]:
    """`bfloat16` on a GPU that computes in it, else `float32`."""
    return "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def free_memory(device: str) -> int | None:
    """The bytes that are free on the device; None where that cannot be told."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


@dataclass(frozen=True)
class Cost:
    """What a contestant's training takes on one task, in seconds of one worker."""

    step: float
    attach: float


@dataclass(frozen=True)
class Fit:
    """How trials run here, and what each contestant then takes, by name."""

    micro_batch: int | None
    """None where the whole batch fits."""
    checkpointing: bool
    costs: dict[str, Cost]
    notes: Sequence[str]
    """What did not fit at first, and who never did."""


def fit(trials: dict[str, Trial], setup: WorkerConfig, run: Callable[[Trial], Outcome]) -> Fit:
    """Try a few steps of each contestant's trial in this process, with the largest pieces of a batch that fit.

    Memory that is not enough halves the pieces; where not one example fits, activations are computed again in the backward
    pass, for every contestant. One that does not fit even so is left out of the costs and named in the notes. Raises
    `AdapterlabError` if none fits.
    """
    notes: list[str] = []
    checkpointing = False
    while True:
        dataclasses.replace(setup, checkpointing=checkpointing).enter()
        outcomes = {
            name: run(dataclasses.replace(trial, steps=STEPS, parts=(), curve_every=0, path=()))
            for name, trial in trials.items()
        }
        lost = [name for name, outcome in outcomes.items() if outcome.status == "failed"]
        if not lost or checkpointing:
            break
        notes.append(f"{', '.join(lost)}: out of memory with one example at once, so activations are computed twice")
        checkpointing = True
    notes += [f"{name} is left out: it does not fit in memory with one example at once" for name in lost]
    fits = {name: outcome for name, outcome in outcomes.items() if name not in lost}
    if not fits:
        raise AdapterlabError(
            "not one example fits in memory, whatever the adapter: give a smaller --length, or a smaller model"
        )
    batch = next(iter(trials.values())).batch
    micro_batch = min(outcome.at_once for outcome in fits.values())
    if micro_batch < batch:
        notes.append(
            f"a batch of {batch} does not fit in memory: it is taken {micro_batch} at a time, gradients summed"
        )
    costs = {name: Cost(o.seconds / STEPS, o.attach_seconds) for name, o in fits.items()}
    return Fit(None if micro_batch >= batch else micro_batch, checkpointing, costs, notes)
