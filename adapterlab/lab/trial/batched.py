"""Batched trials: several trials trained in one pass, each a lane of it.

The trials differ only by learning rate and seed. The model runs once under `torch.func.vmap` over the states of all lanes
and their batches; each lane has parameters, optimizer and clipping of its own, so it learns what it would learn alone, up
to rounding.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.tasks import task
>>> unsupported(adapter("lora"), task("prose")) is None
True
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers.utils.generic import ModelOutput

from adapterlab.adapters.base import Adapter
from adapterlab.lab.trial import train
from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.peak_memory import peak_memory
from adapterlab.lab.trial.score import Progress, mode, with_scores
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.suspension import running_seconds
from adapterlab.surgery import Handle
from adapterlab.tasks.base import Task
from adapterlab.tasks.scoring import Query, logits_at, query, rows_at_once, used_length
from adapterlab.tasks.text import TextTask


def batch_key(trial: Trial, task: Task) -> Hashable:
    """Return a key that is equal for trials that can share one pass, or None for a trial that must run alone.

    A trial that measures geometry runs alone, since that needs copies of the model's weights for each trial.

    Args:
        trial: The trial.
        task: The trial's task.
    """
    if trial.method == FROZEN or trial.geometry or unsupported(trial.build(), task):
        return None
    return replace(trial, lr=0.0, seed=0)


def unsupported(adapter: Adapter, task: Task) -> str | None:
    """Return the reason why trials of an adapter on a task cannot be batched, or None if they can.

    Args:
        adapter: The adapter.
        task: The task.
    """
    if adapter.draws_in_training:
        return "it draws random numbers while it trains; batched trials would draw other numbers than trials alone"
    if not isinstance(task, TextTask) or type(task).loss is not TextTask.loss:
        return "the task needs more of the model than its logits"
    return None


@dataclass
class _Lane:
    """One trial of the pass: its tensors at every site, and its progress."""

    context: TrialContext
    tensors: dict[str, dict[str, Tensor]]
    """By site, the parameters and buffers that `init` made."""
    batches: Iterator[dict[str, Tensor]]
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)
    note: str = ""
    """Reason of its divergence, if it diverged."""

    @property
    def trial(self) -> Trial:
        return self.context.trial

    def enter(self, handle: Handle) -> None:
        """Put this lane's tensors into the model's sites, at full strength."""
        handle.strength = 1.0
        for path, tensors in self.tensors.items():
            for name, tensor in tensors.items():
                owner, key = handle.sites[path].owner_of(name)
                setattr(owner, key, tensor)


def run(contexts: Sequence[TrialContext]) -> list[Outcome]:
    """Run trials with the same `batch_key` in one pass, and leave the model as it was.

    Args:
        contexts: The resolved trials.

    Returns:
        Their outcomes, in the same order.

    Raises:
        RuntimeError: If the method cannot run under vmap, or memory is short.
    """
    first = contexts[0]
    started = running_seconds()
    with peak_memory(first.device) as peak:
        handle, lanes = _attach(contexts)
        attach_seconds = (running_seconds() - started) / len(contexts)
        try:
            return _train(first, handle, lanes, attach_seconds, peak)
        finally:
            handle.detach()


def _attach(contexts: Sequence[TrialContext]) -> tuple[Handle, list[_Lane]]:
    """Make the lanes; return them with the handle of the sites that they take turns in."""
    lanes: list[_Lane] = []
    handle: Handle | None = None
    for context in contexts:
        if handle is not None:
            handle.detach()
        assert context.adapter is not None
        handle = train.attach_adapter(context, context.adapter)
        tensors = {path: {**site.trained, **dict(site.named_buffers())} for path, site in handle.sites.items()}
        trial = context.trial
        batches = train.batches(context.training_data, trial.batch, trial.steps, trial.seed)
        lanes.append(_Lane(context, tensors, batches, train.make_optimizer(handle, trial.lr)))
    assert handle is not None
    return handle, lanes


def _train(
    first: TrialContext, handle: Handle, lanes: Sequence[_Lane], attach_seconds: float, peak: Callable[[], int]
) -> list[Outcome]:
    trial, peak_bytes, scoring_seconds, started = first.trial, 0, 0.0, running_seconds()
    stack = _Stack(first.model, handle, lanes)
    for step in range(trial.steps):
        running = [lane for lane in lanes if not lane.note]
        if not running:
            break
        _step(first, handle, stack, running, step)
        peak_bytes = peak_bytes or peak()
        if train.on_curve(trial, step + 1):
            pause = running_seconds()
            for lane in running:
                lane.enter(handle)
                lane.progress.measure(lane.context, handle, step + 1)
            scoring_seconds += running_seconds() - pause
    seconds = (running_seconds() - started - scoring_seconds) / len(lanes)
    outcomes = []
    for lane in lanes:
        lane.enter(handle)
        status = "diverged" if lane.note else "ok"
        trained = Outcome(
            status,
            {},
            tuple(lane.progress.curve),
            0,
            seconds,
            attach_seconds,
            lane.note,
            along=tuple(lane.progress.along),
            peak_bytes=peak_bytes // len(lanes),
        )
        outcomes.append(with_scores(trained, lane.context, handle))
    return outcomes


def _step(context: TrialContext, handle: Handle, stack: _Stack, lanes: Sequence[_Lane], step: int) -> None:
    """Take one optimizer step in every lane; one whose loss is not finite gets a note and is left as it is."""
    with mode(context.model, training=True):
        losses = _gradients(context, stack, lanes)
    for lane, loss in zip(lanes, losses, strict=True):
        lane.enter(handle)
        try:
            train.update(handle, lane.optimizer, lane.trial, step, loss)
        except FloatingPointError as error:
            lane.note = str(error)


def _gradients(context: TrialContext, stack: _Stack, lanes: Sequence[_Lane]) -> list[float]:
    """Add the gradient of each lane's mean loss on its next batch, all in one pass; return these losses."""
    task, model, batches = context.task, context.model, [next(lane.batches) for lane in lanes]
    terms, count = [task.terms(batch) for batch in batches], context.trial.batch
    totals = [0.0] * len(lanes)
    size = min(context.config.micro_batch or count, *(rows_at_once(model, batch, len(lanes)) for batch in batches))
    for start in range(0, count, size):
        pieces = [
            train.to_device_of(model, {name: t[start : start + size] for name, t in batch.items()}) for batch in batches
        ]
        length = max(map(used_length, pieces))
        asked = [query(model, piece, length) for piece in pieces]
        with context.autocast():
            found = stack(lanes, asked)
        losses = [
            cross_entropy(logits[: len(each.targets)].float(), each.targets, reduction="sum") / n
            for logits, each, n in zip(found, asked, terms, strict=True)
        ]
        torch.autograd.backward(torch.stack(losses).sum())
        totals = [total + loss.item() for total, loss in zip(totals, losses, strict=True)]
    return totals


class _Stack:
    """The model, run with the stacked tensors of several lanes."""

    def __init__(self, model: nn.Module, handle: Handle, lanes: Sequence[_Lane]) -> None:
        self._model = model
        prefixes = {module: prefix for prefix, module in model.named_modules()}
        owners = {
            (path, name): handle.sites[path].owner_of(name)
            for path, tensors in lanes[0].tensors.items()
            for name in tensors
        }
        self._names = {place: f"{prefixes[owner]}.{key}" for place, (owner, key) in owners.items()}
        self._identical_places = {
            place for place in self._names if _identical([lane.tensors[place[0]][place[1]] for lane in lanes])
        }

    def __call__(self, lanes: Sequence[_Lane], asked: Sequence[Query]) -> Tensor:
        """Return each lane's logits for its own query, `(lanes, most terms, vocabulary)`, with unused ones at the end."""
        # An attention mask cannot be used under vmap; the padding is on the right, where it changes no scored prediction.
        names = [name for name in asked[0].inputs if name != "attention_mask"]
        inputs = {name: torch.stack([each.inputs[name] for each in asked]) for name in names}
        index = pad_sequence([each.places for each in asked], batch_first=True)
        stacked: dict[str, Tensor] = {}
        dims: dict[str, int | None] = {}
        once: dict[Tensor, Tensor] = {}  # a tensor that several sites share is stacked once
        for (path, name), full in self._names.items():
            own = [lane.tensors[path][name] for lane in lanes]
            if (path, name) in self._identical_places:
                stacked[full], dims[full] = own[0], None
            else:
                if own[0] not in once:
                    once[own[0]] = torch.stack(own)
                stacked[full], dims[full] = once[own[0]], 0

        def answer(tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor], index: Tensor) -> Tensor:
            def call(**inputs: Tensor) -> ModelOutput:
                output: ModelOutput = functional_call(self._model, dict(tensors), (), inputs, tie_weights=False)
                return output

            return logits_at(self._model, inputs, index, call)

        return vmap(answer, in_dims=(dims, 0, 0))(stacked, inputs, index)


def _identical(tensors: Sequence[Tensor]) -> bool:
    """Return True for a frozen tensor that is the same in all lanes, which need not be stacked."""
    first = tensors[0]
    return not isinstance(first, nn.Parameter) and all(torch.equal(first, other) for other in tensors[1:])
