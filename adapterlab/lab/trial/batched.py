"""Several trials in one pass: they share all but the learning rate and the seed, and each is a lane of the pass.

The model runs once, under `torch.func.vmap` over the states of the lanes and their batches. Each lane has its own
parameters, optimizer and clipping, so that it learns what it would learn alone, up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from adapterlab.adapters.base import Adapter
from adapterlab.lab.trial import train
from adapterlab.lab.trial.peak_memory import peak_memory
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.worker_config import current
from adapterlab.surgery import Handle
from adapterlab.tasks import task
from adapterlab.tasks.base import Part, Task
from adapterlab.tasks.text import TextTask


def shared(trial: Trial) -> Hashable:
    """What two trials must have in common to be lanes of one pass; None for one that runs alone."""
    if trial.method == FROZEN or alone(trial.build(), task(trial.task)):
        return None
    return replace(trial, lr=0.0, seed=0)


def alone(adapter: Adapter, the_task: Task) -> str | None:
    """Why trials of this adapter on this task cannot be lanes, or None."""
    if adapter.draws_in_training:
        return "it draws random numbers while it trains, and lanes would draw others than trials alone"
    if not isinstance(the_task, TextTask) or type(the_task).loss is not TextTask.loss:
        return "the task asks the model for more than its logits"
    return None


@dataclass
class _Lane:
    """One trial: its tensors at every site, and how far it has come."""

    trial: Trial
    tensors: dict[str, dict[str, Tensor]]
    """By site, what `init` made of it, parameters and buffers."""
    batches: Iterator[dict[str, Tensor]]
    optimizer: torch.optim.Optimizer
    curve: list[tuple[int, float]] = field(default_factory=list)
    note: str = ""
    """Why it diverged, if it did."""

    def enter(self, handle: Handle) -> None:
        """Let the model's sites hold this lane's tensors, at full strength."""
        handle.strength = 1.0
        for path, tensors in self.tensors.items():
            for name, tensor in tensors.items():
                setattr(handle.sites[path], name, tensor)


def run(trials: Sequence[Trial]) -> list[Outcome]:
    """Run trials for which `shared` is the same in one pass, and leave the model as it was."""
    first = trials[0]
    model = train.loaded(first.model, first.dtype).model
    started = time.monotonic()
    with peak_memory(torch.device(current().device)) as peak:
        handle, lanes = _attached(model, trials)
        attached = (time.monotonic() - started) / len(trials)
        try:
            return _trained(model, handle, lanes, attached, peak)
        finally:
            handle.detach()


def _attached(model: nn.Module, trials: Sequence[Trial]) -> tuple[Handle, list[_Lane]]:
    """The lanes, and the handle whose sites they take turns in."""
    adapter = trials[0].build()
    data, lanes, handle = train.training_data(trials[0]), [], None
    for trial in trials:
        if handle is not None:
            handle.detach()
        handle = train.put_on(model, adapter, trial, data)
        tensors = {
            path: {**dict(site.named_parameters()), **dict(site.named_buffers())} for path, site in handle.sites.items()
        }
        batches = train.batches(data, trial.batch, trial.steps, trial.seed)
        lanes.append(
            _Lane(trial, tensors, batches, torch.optim.AdamW(handle.parameters(), lr=trial.lr, weight_decay=0.0))
        )
    assert handle is not None
    return handle, lanes


def _trained(
    model: nn.Module, handle: Handle, lanes: Sequence[_Lane], attached: float, peak: Callable[[], int]
) -> list[Outcome]:
    trial, held, looked, started = lanes[0].trial, 0, 0.0, time.monotonic()
    stack = _Stack(model, handle, lanes)
    for step in range(trial.steps):
        running = [lane for lane in lanes if not lane.note]
        if not running:
            break
        _step(model, handle, stack, running, step)
        held = held or peak()
        if trial.curve_every and (step + 1) % trial.curve_every == 0 and step + 1 < trial.steps:
            pause = time.monotonic()
            for lane in running:
                lane.enter(handle)
                loss, _ = train.score_parts(model, lane.trial, handle, (Part.VALIDATION,))[Part.VALIDATION]
                lane.curve.append((step + 1, loss))
            looked += time.monotonic() - pause
    seconds = (time.monotonic() - started - looked) / len(lanes)
    outcomes = []
    for lane in lanes:
        lane.enter(handle)
        status = "diverged" if lane.note else "ok"
        ended = Outcome(status, {}, tuple(lane.curve), 0, seconds, attached, lane.note, peak_bytes=held // len(lanes))
        outcomes.append(train.concluded(ended, model, lane.trial, handle))
    return outcomes


def _step(model: nn.Module, handle: Handle, stack: _Stack, lanes: Sequence[_Lane], step: int) -> None:
    """One optimizer step of every lane; one whose loss is not finite gets its note and stays as it is."""
    with train.mode(model, training=True):
        losses = _gradients(model, stack, lanes)
    for lane, loss in zip(lanes, losses, strict=True):
        lane.enter(handle)
        try:
            train.update(handle, lane.optimizer, lane.trial, step, loss)
        except FloatingPointError as error:
            lane.note = str(error)


def _gradients(model: nn.Module, stack: _Stack, lanes: Sequence[_Lane]) -> list[float]:
    """Add the gradient of each lane's mean loss on its next batch, all in one pass; gives these losses."""
    the_task, batches = task(lanes[0].trial.task), [next(lane.batches) for lane in lanes]
    terms, count = [the_task.terms(batch) for batch in batches], lanes[0].trial.batch
    totals = [0.0] * len(lanes)
    size = current().micro_batch or count
    for start in range(0, count, size):
        pieces = [
            train.to_device_of(model, {name: t[start : start + size] for name, t in batch.items()}) for batch in batches
        ]
        inputs = {name: torch.stack([piece[name] for piece in pieces]) for name in pieces[0] if name != "scored"}
        answers = stack(lanes, inputs)
        losses = [
            the_task.loss(lambda logits=logits, **_: SimpleNamespace(logits=logits), piece) / n  # type: ignore[arg-type]
            for logits, piece, n in zip(answers, pieces, terms, strict=True)
        ]
        torch.stack(losses).sum().backward()
        totals = [total + loss.item() for total, loss in zip(totals, losses, strict=True)]
    return totals


class _Stack:
    """The model with the tensors of many lanes in the places of one's."""

    def __init__(self, model: nn.Module, handle: Handle, lanes: Sequence[_Lane]) -> None:
        self._model = model
        prefixes = {module: prefix for prefix, module in model.named_modules()}
        self._names = {
            (path, name): f"{prefixes[handle.sites[path]]}.{name}"
            for path, tensors in lanes[0].tensors.items()
            for name in tensors
        }
        self._same = {place for place in self._names if _alike([lane.tensors[place[0]][place[1]] for lane in lanes])}

    def __call__(self, lanes: Sequence[_Lane], inputs: Mapping[str, Tensor]) -> Tensor:
        """The logits of each lane for its own inputs, `(lanes, batch, length, vocabulary)`."""
        stacked: dict[str, Tensor] = {}
        dims: dict[str, int | None] = {}
        once: dict[Tensor, Tensor] = {}  # what several sites share is stacked once
        for (path, name), full in self._names.items():
            own = [lane.tensors[path][name] for lane in lanes]
            if (path, name) in self._same:
                stacked[full], dims[full] = own[0], None
            else:
                if own[0] not in once:
                    once[own[0]] = torch.stack(own)
                stacked[full], dims[full] = once[own[0]], 0

        def answer(tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
            result: Any = functional_call(self._model, dict(tensors), (), dict(inputs), tie_weights=False)
            return result.logits

        return vmap(answer, in_dims=(dims, 0))(stacked, inputs)


def _alike(tensors: Sequence[Tensor]) -> bool:
    """Whether a frozen tensor is the same in all lanes, so that it need not be stacked."""
    first = tensors[0]
    return not isinstance(first, nn.Parameter) and all(torch.equal(first, other) for other in tensors[1:])
