"""Train an adapter on a task, have it scored, and leave the model as it was.

>>> [round(schedule(step, 20), 2) for step in (0, 1, 10, 19)]
[0.5, 0.95, 0.5, 0.05]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from adapterlab.adapters.base import Adapter
from adapterlab.lab.trial.checkpointing import checkpointed
from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.peak_memory import peak_memory
from adapterlab.lab.trial.precision import losses
from adapterlab.lab.trial.score import Progress, frozen_scores, mode, with_scores
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.lab.trial.suspension import running_seconds
from adapterlab.surgery import Handle, attach, seeded
from adapterlab.surgery.model.sharded import is_sharded
from adapterlab.tasks.base import Control, Examples, Task
from adapterlab.tasks.halving import halving, out_of_memory
from adapterlab.tasks.scoring import rows_at_once

CALIBRATION_BATCHES = 4
"""Batches given to a method that starts from gradients or activations."""
GRADIENT_CLIP = 1.0
"""Largest norm of the gradient of all trained parameters together; a larger one is scaled down to it."""
WARMUP_SHARE = 0.1
"""Share of the steps over which the learning rate rises."""


class Gradient(Protocol):
    """Computes the gradient of a batch."""

    @property
    def size(self) -> int:
        """Examples in one forward pass, after any halving; 0 if unknown."""

    @property
    def note(self) -> str:
        """Remark for the reader of the results, such as a lack of memory; empty if there is none."""

    def __call__(self, task: Task, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> float:
        """Add the gradient of the batch's mean loss to the trained parameters; return that loss."""


Shard = Callable[[nn.Module, Handle | None], Gradient]
"""Divides a model with its adapter over processes before training; returns how its gradient is computed."""
OnTrained = Callable[[Handle], None]
"""Receives the handle of a trained adapter before it is detached."""


def run(context: TrialContext, *, shard: Shard | None = None, on_trained: OnTrained | None = None) -> Outcome:
    """Run one trial, and leave the model as it was.

    Args:
        context: The resolved trial.
        shard: Divides the model over processes; the model stays whole without it.
        on_trained: Called with the handle of the trained adapter before it is detached.

    Returns:
        The outcome. Divergence and a lack of memory are outcomes, not errors.

    Raises:
        AdapterlabError: If the adapter cannot be attached to the model.
    """
    trial, model = context.trial, context.model
    config = context.config
    shard = shard or (lambda *_: MicroBatches(config.micro_batch or trial.batch, config.checkpointing, trial.precision))
    if context.adapter is None:
        shard(model, None)
        return frozen_scores(context)
    started = running_seconds()
    with peak_memory(context.device) as peak:
        try:
            handle = attach_adapter(context, context.adapter)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return Outcome("failed", {}, (), 0, 0.0, 0.0, "out of memory while the adapter was attached")
        attach_seconds = running_seconds() - started
        try:
            with seeded(trial.seed):
                outcome = _train_and_score(context, handle, shard(model, handle), attach_seconds, peak)
            if on_trained is not None and outcome.status == "ok":
                on_trained(handle)
            return outcome
        finally:
            if not is_sharded(model):  # a divided model is a copy, which ends with the trial
                handle.detach()


def _train_and_score(
    context: TrialContext, handle: Handle, gradient: Gradient, attach_seconds: float, peak: Callable[[], int]
) -> Outcome:
    trial = context.trial
    progress = Progress()
    scoring_seconds, started = 0.0, running_seconds()
    status, note, peak_bytes = "ok", "", 0
    try:
        with mode(context.model, training=True):
            for step in _steps(context, handle, gradient):
                peak_bytes = peak_bytes or peak()  # the first step allocates everything that training needs
                if on_curve(trial, step):
                    pause = running_seconds()
                    progress.measure(context, handle, step)
                    scoring_seconds += running_seconds() - pause
    except FloatingPointError as error:
        status, note = "diverged", str(error)
    except Exception as error:
        if not out_of_memory(error):
            raise
        status, note = "failed", "out of memory, even with one example at a time"
    trained = Outcome(
        status,
        {},
        tuple(progress.curve),
        0,
        running_seconds() - started - scoring_seconds,
        attach_seconds,
        note or gradient.note,
        along=tuple(progress.along),
        peak_bytes=peak_bytes,
        at_once=gradient.size,
    )
    return with_scores(trained, context, handle)


def on_curve(trial: Trial, step: int) -> bool:
    """Return True if the adapter is scored after `step` steps, for the curve over training.

    Args:
        trial: The trial; its `curve_every` is the interval, 0 for none.
        step: Steps done. The last step is scored anyway and is not on the curve.
    """
    return bool(trial.curve_every) and step % trial.curve_every == 0 and step < trial.steps


def attach_adapter(context: TrialContext, adapter: Adapter) -> Handle:
    """Attach the trial's adapter to the model.

    A method that starts from gradients or from contrasting pairs gets those of the first batches.

    Args:
        context: The resolved trial.
        adapter: The adapter to attach.

    Returns:
        The handle of the attached adapter.

    Raises:
        AdapterlabError: If the adapter does not fit the model.
    """
    trial, model = context.trial, context.model
    first = next(batches(context.training_data, CALIBRATION_BATCHES * trial.batch, 1, trial.seed))
    return attach(
        model,
        adapter,
        trial.targets,
        seed=trial.seed,
        loss=context.autocast()(lambda: calibration_loss(context)),
        runs=[context.autocast()(run) for run in context.task.contrast(model, to_device_of(model, first))],
        prompted=context.task.prompted,
        trained_too=(),  # a head that came with the model is kept; new ones are marked, and trained anyway
    )


def calibration_loss(context: TrialContext) -> Tensor:
    """Return the mean loss on the first few batches, a scalar, for methods that start from its gradient.

    Args:
        context: The resolved trial.
    """
    trial, task = context.trial, context.task
    means = []
    for batch in batches(context.training_data, trial.batch, CALIBRATION_BATCHES, trial.seed):
        moved = to_device_of(context.model, batch)
        means.append(task.loss(context.model, moved) / task.terms(moved))
    return torch.stack(means).mean()


def make_optimizer(handle: Handle, lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of every trial: AdamW without weight decay.

    Args:
        handle: The attached adapter, whose method may state that some tensors have another learning rate.
        lr: Peak learning rate.
    """
    return torch.optim.AdamW(handle.parameter_groups(lr), weight_decay=0.0)


def _steps(context: TrialContext, handle: Handle, gradient: Gradient) -> Iterator[int]:
    """Train, yielding the number of steps done after each; raise `FloatingPointError` if the loss is not finite.

    The batches depend only on the seed and the task, so every contestant sees the same batches in the same order.
    """
    trial = context.trial
    optimizer = make_optimizer(handle, trial.lr)
    for step, batch in enumerate(batches(context.training_data, trial.batch, trial.steps, trial.seed)):
        update(handle, optimizer, trial, step, gradient(context.task, context.model, batch, handle))
        yield step + 1


@dataclass
class MicroBatches:
    """Computes a batch's gradient in passes of `size` examples, halved whenever memory is short."""

    size: int
    """Examples in one pass."""
    checkpointing: bool = False
    """True to recompute activations in the backward pass."""
    precision: str = "float32"
    """Precision of the trial."""
    note: str = ""
    """Remark that the size was halved, if it was."""

    def __call__(self, task: Task, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> float:
        """Add the gradient of the batch's mean loss; return that loss."""

        def passes(size: int) -> float:
            model.zero_grad()  # an attempt that ran out of memory leaves a partial gradient
            with checkpointed(model, self.checkpointing):
                return backward(task, model, batch, size, control, self.precision)

        loss, size = halving(passes, self.size)
        if size < self.size:
            self.note = f"out of memory with {self.size} examples at a time: continued with {size}"
            self.size = size
        return loss


def update(handle: Handle, optimizer: torch.optim.Optimizer, trial: Trial, step: int, loss: float) -> None:
    """Take one optimizer step: penalty, clipping, learning-rate schedule, step, the method's `after_step`.

    Args:
        handle: The attached adapter, whose parameters hold the gradient of `loss`.
        optimizer: Optimizer over those parameters.
        trial: The trial, for its learning rate and number of steps.
        step: Index of the step, from 0.
        loss: The batch's mean loss.

    Raises:
        FloatingPointError: If the loss with its penalty is not finite.
    """
    if (penalty := handle.regularizer()) is not None:
        torch.autograd.backward(penalty)
        loss += penalty.item()
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss was {loss} at step {step}")
    clip_grad_norm_(handle.parameters(), GRADIENT_CLIP)
    for group in optimizer.param_groups:
        group["lr"] = trial.lr * group.get("lr_ratio", 1.0) * schedule(step, trial.steps)
    optimizer.step()
    handle.after_step(step)
    optimizer.zero_grad()


def backward(
    task: Task,
    model: nn.Module,
    batch: Mapping[str, Tensor],
    micro_batch: int | None,
    control: Control,
    precision: str = "float32",
) -> float:
    """Add the gradient of a batch's mean loss, computed in passes of `micro_batch` examples, or as many as have few logits.

    Args:
        task: The task, which defines the loss.
        model: The model with its adapter.
        batch: Inputs by name, one row for each example.
        micro_batch: Examples in one pass; the whole batch if None.
        control: The adapter's strength, for tasks that train at several strengths.
        precision: Precision of the trial.

    Returns:
        The mean loss over the terms of the whole batch.
    """
    terms, count = task.terms(batch), len(next(iter(batch.values())))
    size = min(micro_batch or count, rows_at_once(model, batch))
    total = 0.0
    for start in range(0, count, size):
        piece = {name: tensor[start : start + size] for name, tensor in batch.items()}
        for loss in losses(task, model, to_device_of(model, piece), control, precision):
            mean = loss / terms
            torch.autograd.backward(mean)
            total += mean.item()
    return total


def to_device_of(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch on the model's device.

    Args:
        model: The model.
        batch: Inputs by name.
    """
    device = next(model.parameters()).device
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def schedule(step: int, steps: int) -> float:
    """Return the factor on the learning rate: linear warm-up over a tenth of the steps, then linear decay to zero.

    Args:
        step: Index of the step, from 0.
        steps: Number of steps of the whole run.
    """
    return min(1.0, (step + 1) / max(1, int(WARMUP_SHARE * steps))) * (1 - step / steps)


def batches(data: Examples, batch: int, steps: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Yield `steps` batches, the examples shuffled again in every pass over them.

    Args:
        data: The training examples.
        batch: Examples in a batch.
        steps: Number of batches.
        seed: Seed of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(data), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        yield data.rows(chosen)
