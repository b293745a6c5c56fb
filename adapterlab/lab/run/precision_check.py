"""Choose a study's precision by measurements: the speed of bfloat16 on this machine, then its effect on the losses.

The first check times a product of the model's own size in both dtypes, which takes a fraction of a second. Only where
bfloat16 is clearly faster, the second trains the reference in both precisions, on the study's first task. The losses must
move by less than a tenth of the noise that another seed makes.

>>> from adapterlab.lab.run.contest import make_contests
>>> from adapterlab.lab.run.resolve import resolve
>>> from adapterlab.lab.study.spec import Contestant, Study
>>> study = Study(name="mine", tasks=("prose",), contestants=(Contestant(adapter="lora"),))
>>> contests = make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})
>>> slow = lambda device, shape: 0.1
>>> choose_precision((512, 256, 256), torch.device("cpu"), contests, run=None, measure=slow).precision
'float32'
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TypeAlias

import torch
from torch import nn

from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.precision_choice import BF16, FLOAT32, PrecisionChoice, read_choice, record_choice
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.weights import shape_of
from adapterlab.tasks.base import Part
from adapterlab.tasks.halving import out_of_memory

FAST = 1.3
"""Speed in bfloat16, relative to float32, from which it is used."""
SHARE_OF_NOISE = 0.1
"""Largest change of the losses, as a share of the seed noise."""
SEEDS = (301, 302, 303)
"""Seeds of the runs that are compared."""
STEPS = 20
"""Training steps of these runs, at most."""
ROUNDS = 5
"""Measurements of each dtype; the fastest counts."""
MULTIPLICATIONS = {"cpu": 2 * 10**7}
"""By kind of device, the multiplications of the timed product, at most: a millisecond in float32 on one core."""
MANY_MULTIPLICATIONS = 10**11
"""The same for other kinds: a smaller product would measure how fast a GPU starts its work."""
CPU_ROWS = 128
"""Rows of the product on a CPU, at most."""
HOPELESS = 0.25
"""Speed in bfloat16 after one measurement of each dtype at which no others are made."""

Shape: TypeAlias = tuple[int, int, int]
"""Rows, inner and outer size of a product."""
Measure: TypeAlias = Callable[[torch.device, Shape], float | None]
"""Measures the speed of a product in bfloat16 relative to float32; None where bfloat16 is not supported."""
Run: TypeAlias = Callable[[Trial], Outcome]
"""Runs a trial on the study's device."""


def settle_precision(
    resolved: ResolvedStudy,
    contests: Sequence[Contest],
    shape: Shape,
    folder: Path | None = None,
    measure: Measure | None = None,
) -> PrecisionChoice:
    """Return the recorded choice, or choose by measurements on the device of the study and record it.

    Args:
        resolved: The study.
        contests: Its contests, not yet played.
        shape: The product that is timed.
        folder: Folder of the results, for the record; None for no record.
        measure: Measures the speed; `measure_speedup` if None.

    Returns:
        The choice, with a remark if it is a recorded `bf16` and this machine is slow at it.

    Raises:
        AdapterlabError: If the record cannot be read or written, or a device that the study asks for is not there.
    """
    known = None if folder is None else read_choice(folder, resolved.model_hash)
    if known is not None and known.precision == FLOAT32:
        return known
    config, runners = _config_of(resolved), list[Runner]()
    device = torch.device(config.device)

    def run(trial: Trial) -> Outcome:
        if not runners:
            runners.append(Runner(config))
        return runners[0].run(trial)

    with _threads(config.threads):
        if known is not None:
            return replace(known, here=_remark(device, (measure or measure_speedup)(device, shape)))
        choice = choose_precision(shape, device, contests, run, measure)
    for runner in runners:
        runner.clear()
    return choice if folder is None else record_choice(folder, resolved.model_hash, choice)


def _config_of(resolved: ResolvedStudy) -> WorkerConfig:
    """Return the settings of the study's first worker; for a cluster, those of a worker on this machine."""
    limits, config = resolved.study.limits, resolved.worker_config()
    return crews(limits if limits.cluster is None else limits.model_copy(update={"device": "auto"}), config)[0][0]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of threads of torch within a `with` block to that of a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _remark(device: torch.device, speedup: float | None) -> str:
    if speedup is not None and speedup >= FAST:
        return ""
    speed = (
        "has no products in bfloat16"
        if speedup is None
        else f"multiplies bfloat16 at {speedup:.2g} times the speed of float32"
    )
    return f"The study keeps bf16, in which it was prepared, although {_name(device)} {speed}."


def product_of(model: nn.Module, study: Study) -> Shape:
    """Return the product that is timed: a batch of the study with the largest linear layer of the model.

    Args:
        model: The study's model.
        study: The study.
    """
    rows = max(64, study.training.batch * study.training.length)
    outer, inner = max((shape_of(layer) for layer in linears(model).values()), key=math.prod)
    return rows, inner, outer


def choose_precision(
    shape: Shape, device: torch.device, contests: Sequence[Contest], run: Run, measure: Measure | None = None
) -> PrecisionChoice:
    """Choose `bf16` if it is fast on the device and does not move the losses of the model, else `float32`.

    Args:
        shape: The product that is timed.
        device: Device of the study.
        contests: Contests of the study, not yet played; those on its first task, at the last budget, are used.
        run: Runs a trial on the device.
        measure: Measures the speed; `measure_speedup` if None.

    Returns:
        The choice with the measured figures.
    """
    speedup = (measure or measure_speedup)(device, shape)
    if speedup is None:
        return PrecisionChoice(FLOAT32, f"{_name(device)} has no products in bfloat16")
    speed = f"{_name(device)} multiplies bfloat16 at {speedup:.2g} times the speed of float32"
    if speedup < FAST:
        return PrecisionChoice(FLOAT32, speed, speedup)
    if contests[-1].study.limits.shard > 1:
        unknown = "but the losses of a sharded model are not compared: give training.precision to use it"
        return PrecisionChoice(FLOAT32, f"{speed}, {unknown}", speedup)
    try:
        change, noise = compare_losses(compared_trials(contests), run)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return PrecisionChoice(BF16, f"{speed}; in float32 the check of the losses does not fit in memory", speedup)
    limit = SHARE_OF_NOISE * noise
    figures = f"losses move by {change:.2g}, a tenth of the seed noise is {limit:.2g}"
    if not change < limit:  # also if a loss is not finite
        return PrecisionChoice(FLOAT32, f"{speed}, but {figures}", speedup, change, noise)
    return PrecisionChoice(BF16, f"{speed}; {figures}", speedup, change, noise)


def compared_trials(contests: Sequence[Contest]) -> list[Trial]:
    """Return the trials that are run in both precisions: the frozen model's, then the reference's with one seed each.

    Args:
        contests: Contests of a study, not yet played; those on its first task, at the last budget, are used.
    """
    study = contests[-1].study
    own = {c.contestant: c for c in contests if c.task == study.tasks[0] and c.study == study}
    frozen = replace(own[FROZEN].frozen_trial(), parts=(Part.VALIDATION.value,), path=(), path_windows=0)
    reference, steps = own[study.reference], min(STEPS, study.training.steps)
    return [frozen, *(reference.trial(reference.start, seed, steps, reported=False) for seed in SEEDS)]


def compare_losses(trials: Sequence[Trial], run: Run) -> tuple[float, float]:
    """Run trials in both precisions.

    The change of the frozen model's loss is taken as large as it may be on other rows: its mean over the validation rows
    and two standard errors. Of the trained reference, the largest change of the validation loss counts.

    Args:
        trials: The frozen model's trial, then those of the reference with one seed each, at least two.
        run: Runs a trial.

    Returns:
        The larger of the two changes, and the standard deviation of the reference's loss over the seeds, both infinite if a
        run diverged.

    Raises:
        MemoryError: If a trained trial does not fit in memory.
    """
    frozen, *trained = [[_run(run, replace(trial, precision=p)) for p in (FLOAT32, BF16)] for trial in trials]
    rows = [other - one for one, other in zip(*(outcome.rows[Part.VALIDATION] for outcome in frozen), strict=True)]
    shift = abs(fmean(rows)) + (2 * stdev(rows) / len(rows) ** 0.5 if len(rows) > 1 else 0.0)
    losses = [[outcome.validation for outcome in pair] for pair in trained]
    if not all(math.isfinite(loss) for pair in losses for loss in pair):
        return math.inf, math.inf
    return max(shift, *(abs(b - a) for a, b in losses)), stdev(a for a, _ in losses)


def _run(run: Run, trial: Trial) -> Outcome:
    outcome = run(trial)
    if outcome.status == "failed":
        raise MemoryError(outcome.note)
    return outcome


def measure_speedup(device: torch.device, shape: Shape) -> float | None:
    """Time a product in both dtypes in turns; return the speed in bfloat16 relative to float32, from the fastest of each.

    Of a large product, a part with fewer rows and columns is timed.

    Args:
        device: The device.
        shape: Rows, inner and outer size of the product.

    Returns:
        The ratio, or None if the device has no products in bfloat16.

    >>> measure_speedup(torch.device("cpu"), (64, 32, 32)) > 0
    True
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    rows, inner, outer = shape
    if device.type == "cpu":
        rows = min(rows, CPU_ROWS)
    outer = max(1, min(outer, MULTIPLICATIONS.get(device.type, MANY_MULTIPLICATIONS) // (rows * inner)))
    fastest: dict[torch.dtype, float] = {}
    try:
        factors = {
            dtype: [torch.ones(n, inner, device=device, dtype=dtype) for n in (rows, outer)]
            for dtype in (torch.float32, torch.bfloat16)
        }
        for round_ in range(ROUNDS + 1):
            for dtype, (x, y) in factors.items():
                _wait(device)
                started = time.perf_counter()
                torch.nn.functional.linear(x, y)
                _wait(device)
                if round_:  # the first round loads kernels
                    fastest[dtype] = min(fastest.get(dtype, math.inf), time.perf_counter() - started)
            if round_ and fastest[torch.float32] < HOPELESS * fastest[torch.bfloat16]:
                break
    except (RuntimeError, TypeError) as error:
        if out_of_memory(error):
            raise
        return None
    return fastest[torch.float32] / max(fastest[torch.bfloat16], 1e-9)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"this processor ({platform.machine()})" if device.type == "cpu" else device.type
