"""Run a trial in this process: load, attach, train, score, and leave the model as it was."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from adapterlab.adapters.base import Adapter
from adapterlab.lab.trial.checkpointing import checkpointed
from adapterlab.lab.trial.peak_memory import peak_memory
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.worker_config import current
from adapterlab.models.loading import CAUSAL, Head, Loaded, load
from adapterlab.surgery import Handle, attach, seeded
from adapterlab.tasks import task
from adapterlab.tasks.base import Control, Examples, Part, Task
from adapterlab.tasks.halving import halving, out_of_memory

NO_LIMIT = 1 << 30
"""More examples than any task has."""
CALIBRATION = 4
"""Batches whose gradient a method may start from."""


class Gradient(Protocol):
    """How the gradient of a batch is taken."""

    @property
    def size(self) -> int:
        """The most examples that a pass has of late; 0 if that is not known."""

    @property
    def note(self) -> str:
        """What happened on the way that a reader of the results should know."""

    def __call__(self, the_task: Task, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> float:
        """Add the gradient of the batch's mean loss to what is trained; gives that loss."""


Spread = Callable[[nn.Module, Handle | None], Gradient]
"""Changes a model with its adapter, if it has one, before it is trained; gives how its gradient is taken."""
Keep = Callable[[Handle], None]
"""Is handed a trained adapter, on its model, before it is taken off."""


def run(trial: Trial, keep: Keep | None = None) -> Outcome:
    """Run one trial in this process, as its `WorkerConfig` says. The model is loaded once per process."""
    return run_on(loaded(trial.model, trial.dtype, task(trial.task).head).model, trial, keep=keep)


def run_on(model: nn.Module, trial: Trial, spread: Spread | None = None, keep: Keep | None = None) -> Outcome:
    """Run one trial on this model, and leave it as it was, but for what `spread` does."""
    spread = spread or (lambda model, handle: InPieces(current().micro_batch or trial.batch))
    device = torch.device(current().device)
    if trial.method == FROZEN:
        spread(model, None)
        return Outcome("ok", score_parts(model, trial, Fixed(), trial.parts), (), 0, 0.0, 0.0)
    data = training_data(trial)
    adapter = trial.build()
    started = time.monotonic()
    with peak_memory(device) as peak:
        try:
            handle = put_on(model, adapter, trial, data)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return Outcome("failed", {}, (), 0, 0.0, 0.0, "out of memory while it was attached")
        attached = time.monotonic() - started
        try:
            with seeded(trial.seed):
                outcome = _trained(trial, model, handle, data, spread(model, handle), attached, peak)
            if keep is not None and outcome.status == "ok":
                keep(handle)
            return outcome
        finally:
            handle.detach()


def _trained(
    trial: Trial,
    model: nn.Module,
    handle: Handle,
    data: Examples,
    gradient: Gradient,
    attached: float,
    peak: Callable[[], int],
) -> Outcome:
    """Train what is attached, and score it."""
    curve: list[tuple[int, float]] = []
    looked, started = 0.0, time.monotonic()
    status, note, held = "ok", "", 0
    try:
        with mode(model, training=True):
            for step in _train(model, handle, trial, data, gradient):
                held = held or peak()  # of training: the first step has all of it, and no scoring
                if trial.curve_every and step % trial.curve_every == 0 and step < trial.steps:
                    pause = time.monotonic()
                    loss, _ = score_parts(model, trial, handle, (Part.VALIDATION,))[Part.VALIDATION]
                    curve.append((step, loss))
                    looked += time.monotonic() - pause
    except FloatingPointError as error:
        status, note = "diverged", str(error)
    except Exception as error:
        if not out_of_memory(error):
            raise
        status, note = "failed", "out of memory, even with one example at once"
    seconds = time.monotonic() - started - looked
    outcome = Outcome(
        status,
        {},
        tuple(curve),
        0,
        seconds,
        attached,
        note or gradient.note,
        peak_bytes=held,
        at_once=gradient.size,
    )
    return concluded(outcome, model, trial, handle)


def concluded(outcome: Outcome, model: nn.Module, trial: Trial, handle: Handle) -> Outcome:
    """The outcome of a training that has ended, with the scores of what was trained."""
    status, note, scores = outcome.status, outcome.note, outcome.scores
    path: tuple[tuple[float, dict[str, tuple[float, float]]], ...] = ()
    if status == "ok":
        scores = score_parts(model, trial, handle, trial.parts)
        if not all(math.isfinite(loss) for loss, _ in scores.values()):
            status, note, scores = "diverged", "the loss is not finite after training", {}
        else:
            path = _along(model, trial, handle)
    return replace(
        outcome,
        status=status,
        note=note,
        scores=scores,
        path=path,
        curve=tuple((step, loss) for step, loss in outcome.curve if math.isfinite(loss)),
        parameters=handle.parameter_count,
    )


def _along(model: nn.Module, trial: Trial, handle: Handle) -> tuple[tuple[float, dict[str, tuple[float, float]]], ...]:
    """The scores at other strengths than 1, but for the other domain's; none where the method has no such path."""
    found, parts = [], [part for part in trial.parts if part != Part.OOD]
    for strength in trial.path:
        if handle.adapter.strength_problem(strength) is None:
            handle.strength = strength
            found.append((strength, score_parts(model, trial, handle, parts)))
            handle.strength = 1.0
    return tuple(found)


def put_on(model: nn.Module, adapter: Adapter, trial: Trial, data: Examples) -> Handle:
    """The trial's adapter on the model; one that starts from gradients or from contrasts has those of its first batches."""
    first = Examples(next(batches(data, CALIBRATION * trial.batch, 1, trial.seed)), 0)
    return attach(
        model,
        adapter,
        trial.targets,
        seed=trial.seed,
        loss=lambda: calibration(model, trial, data),
        runs=task(trial.task).contrast(model, to_device_of(model, first.inputs)),
    )


def calibration(model: nn.Module, trial: Trial, data: Examples) -> Tensor:
    """The loss on the first few batches, for methods that start from its gradient."""
    the_task = task(trial.task)
    losses = []
    for batch in batches(data, trial.batch, CALIBRATION, trial.seed):
        moved = to_device_of(model, batch)
        losses.append(the_task.loss(model, moved) / the_task.terms(moved))
    return torch.stack(losses).mean()


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Within it, what is random in training alone (dropout, noise on a router) is on or off in the whole model."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


def _train(model: nn.Module, handle: Handle, trial: Trial, data: Examples, gradient: Gradient) -> Iterator[int]:
    """Train, and give the number of steps done after each; raises `FloatingPointError` when the loss is not finite.

    The batches follow from the seed and the task alone, so every contestant sees the same in the same order.
    """
    the_task = task(trial.task)
    optimizer = torch.optim.AdamW(handle.parameters(), lr=trial.lr, weight_decay=0.0)
    for step, batch in enumerate(batches(data, trial.batch, trial.steps, trial.seed)):
        update(handle, optimizer, trial, step, gradient(the_task, model, batch, handle))
        yield step + 1


@dataclass
class InPieces:
    """Takes a batch's gradient in passes of `size` examples; of half as many from where memory was not enough."""

    size: int
    note: str = ""

    def __call__(self, the_task: Task, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> float:
        """Add the gradient of the batch's mean loss; gives that loss."""

        def passes(size: int) -> float:
            model.zero_grad()  # of what the passes left that did fit
            with checkpointed(model, current().checkpointing):
                return backward(the_task, model, batch, size, control)

        loss, size = halving(passes, self.size)
        if size < self.size:
            self.note = f"out of memory with {self.size} examples at once: went on with {size}"
            self.size = size
        return loss


def update(handle: Handle, optimizer: torch.optim.Optimizer, trial: Trial, step: int, loss: float) -> None:
    """Take one optimizer step after the gradient of `loss` was added; raises `FloatingPointError` if that is not finite."""
    if (penalty := handle.regularizer()) is not None:
        penalty.backward()
        loss += penalty.item()
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss was {loss} at step {step}")
    clip_grad_norm_(handle.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = trial.lr * schedule(step, trial.steps)
    optimizer.step()
    handle.after_step(step)
    optimizer.zero_grad()


def backward(
    the_task: Task, model: nn.Module, batch: Mapping[str, Tensor], micro_batch: int | None, control: Control
) -> float:
    """Add the gradient of the batch's mean loss, taken in pieces of `micro_batch` examples; gives that loss."""
    terms, count = the_task.terms(batch), len(next(iter(batch.values())))
    total = 0.0
    for start in range(0, count, micro_batch or count):
        piece = {name: tensor[start : start + (micro_batch or count)] for name, tensor in batch.items()}
        for loss in the_task.losses(model, to_device_of(model, piece), control):
            mean = loss / terms
            mean.backward()
            total += mean.item()
    return total


def to_device_of(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch where the model is."""
    device = next(model.parameters()).device
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def schedule(step: int, steps: int) -> float:
    """The share of the learning rate at `step`: a rise over a tenth of the steps, then a linear fall to zero."""
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1 - step / steps)


def batches(data: Examples, batch: int, steps: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """`steps` batches of `batch` examples; the examples are shuffled anew in every pass over them."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(data), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        yield data.rows(chosen)


def score_parts(
    model: nn.Module, trial: Trial, control: Control, parts: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Loss and accuracy on each part."""
    scores: dict[str, tuple[float, float]] = {}
    with mode(model, training=False):
        for part in parts:
            loss, accuracy = task(trial.task).score(model, _examples(trial, part, trial.windows), control)
            scores[part] = (loss, accuracy)
    return scores


@dataclass
class Fixed:
    """The strength of a model that has no adapter: turning it does nothing."""

    strength: float = 1.0


@cache
def loaded(model: str, dtype: str, head: Head = CAUSAL) -> Loaded:
    """The model as trials of this process use it; in main memory, where it is to be spread over several devices."""
    found, setup = load(model, head), current()
    cast(Any, found.model).config.use_cache = False  # a cache serves generation, and costs memory
    device = setup.device if setup.ranks == 1 else "cpu"
    return Loaded(found.model.to(device=device, dtype=getattr(torch, dtype)), found.tokenizer)


def training_data(trial: Trial) -> Examples:
    """What the trial trains on: the first of its examples, in an order that a hash gives, if it gets only a share."""
    data = _examples(trial, Part.TRAIN, NO_LIMIT)
    if trial.share == 1:
        return data
    return Examples(data.rows(slice(0, max(1, round(trial.share * len(data))))), data.size)


def _examples(trial: Trial, part: str, count: int) -> Examples:
    key = (trial.model, trial.dtype, task(trial.task).head)
    return _prepared(key, trial.task, trial.data, part, trial.length, count)


@cache
def _prepared(model: tuple[str, str, Head], name: str, data: str, part: str, length: int, count: int) -> Examples:
    # `data` is the fingerprint: files of the same name may have changed.
    return task(name).examples(Part(part), loaded(*model).tokenizer, length, count)


def forget() -> None:
    """Let go of every model and of all data that trials of this process have loaded."""
    loaded.cache_clear()
    _prepared.cache_clear()
