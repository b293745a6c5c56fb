"""Capacity of this machine: the device, and the number of examples that fit in memory at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.progress import Cost
from adapterlab.lab.trial.spec import Outcome, Trial

PROBE_STEPS = 4
"""Training steps of a trial that is only timed."""
BYTES_OF_FULL_FT = 4 * 5
"""Bytes for each parameter in full fine-tuning: the change, the changed value, the gradient and Adam's two moments, all
in float32."""


def find_device() -> str:
    """Return the fastest kind of device here: `cuda` before `mps` before `cpu`.

    >>> find_device() in ("cuda", "mps", "cpu")
    True
    """
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def free_memory(device: str) -> int | None:
    """Return the free memory of a device in bytes, or None where it cannot be determined.

    Args:
        device: Kind of device; for a CPU, the machine's available memory.
    """
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def probe(trial: Trial, steps: int = PROBE_STEPS) -> Trial:
    """Return a trial that only trains for a few steps.

    Args:
        trial: The trial to take the settings from.
        steps: Training steps.
    """
    return dataclasses.replace(trial, steps=steps, parts=(), curve_every=0, path=(), path_windows=0, rows=False)


@dataclass(frozen=True)
class Capacity:
    """Settings with which every contestant fits in memory, and the cost of each."""

    micro_batch: int | None
    """Examples in one forward pass; None if the whole batch fits."""
    checkpointing: bool
    """True if activations must be recomputed in the backward pass."""
    costs: dict[str, Cost]
    """By contestant, without those that do not fit at all."""
    notes: Sequence[str]
    """Remarks for the user: what did not fit in memory, and how that was handled."""


RunProbes = Callable[[Mapping[str, Trial], bool], Mapping[str, Outcome]]
"""Runs a short trial of each contestant and returns their outcomes; its second argument: True to recompute activations."""


def measure_capacity(trials: Mapping[str, Trial], run: RunProbes) -> Capacity:
    """Train each contestant for a few steps, with the largest micro-batch that fits in memory.

    If memory is short, the micro-batch is halved; where not even one example fits, activations are recomputed in the
    backward pass, for every contestant.

    Args:
        trials: By contestant, a trial of a few steps (`probe`).
        run: Runs the trials.

    Returns:
        The settings that fit, and each contestant's cost.

    Raises:
        AdapterlabError: If no contestant fits.
    """
    notes: list[str] = []
    checkpointing = False
    while True:
        outcomes = run(trials, checkpointing)
        failed = [name for name, outcome in outcomes.items() if outcome.status == "failed"]
        if not failed or checkpointing:
            break
        notes.append(
            f"{', '.join(failed)}: out of memory with one example at a time; activations are recomputed in the backward pass"
        )
        checkpointing = True
    notes += [f"{name} is left out: it does not fit in memory with one example at a time" for name in failed]
    fits = {name: outcome for name, outcome in outcomes.items() if name not in failed}
    if not fits:
        raise AdapterlabError(
            "not even one example fits in memory, with any adapter: give a smaller --length, or a smaller model"
        )
    batch = next(iter(trials.values())).batch
    micro_batch = min(outcome.at_once for outcome in fits.values())
    if micro_batch < batch:
        notes.append(
            f"a batch of {batch} does not fit in memory: it is split into passes of {micro_batch}, and gradients are summed"
        )
    costs = {name: Cost(o.seconds / trials[name].steps, o.attach_seconds) for name, o in fits.items()}
    return Capacity(None if micro_batch >= batch else micro_batch, checkpointing, costs, notes)
