"""One trial: an adapter trained on a task at one learning rate with one seed, and what came of it.

A trial is named by a hash of everything that decides its outcome, so the same trial is never run twice.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import math
import pkgutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from adapterlab import surgery
from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters
from adapterlab.adapters import base as adapters_base
from adapterlab.models.loading import Loaded, load_causal
from adapterlab.surgery import Handle, attach, seeded
from adapterlab.tasks import base as tasks_base
from adapterlab.tasks import base_domain, task
from adapterlab.tasks.base import Part, Windows, score

FROZEN = "frozen"
"""The contestant that is not trained."""
BASE_DOMAIN = "base"
"""The name under which the score on the base's own domain is kept; forgetting is its rise over the frozen model's."""
CALIBRATION = 4
"""Batches whose gradient a method may start from."""


@dataclass(frozen=True)
class Trial:
    """Everything that decides the outcome of one training run."""

    model: str
    model_hash: str
    task: str
    data: str
    """Fingerprint of the task's data."""
    adapter: str
    """Name and settings of the adapter as JSON with sorted keys."""
    targets: str | tuple[str, ...]
    lr: float
    seed: int
    steps: int
    batch: int
    length: int
    parts: tuple[str, ...]
    """The parts scored at the end."""
    windows: int
    """Windows scored of each part."""
    curve_every: int
    """Steps between two looks at the validation loss; 0 for none."""
    code: str
    """Fingerprint of the code that runs it."""

    @property
    def id(self) -> str:
        """The trial's name: 16 hexadecimal digits. Where the model lies does not matter, only its hash."""
        decides = {key: value for key, value in asdict(self).items() if key != "model"}
        return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which `from_json` makes the same trial."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trial:
        """The trial that `to_json` gave."""
        targets = data["targets"]
        return cls(
            **(
                data
                | {"parts": tuple(data["parts"]), "targets": targets if isinstance(targets, str) else tuple(targets)}
            )
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    status: str
    """`ok`; `diverged` if the loss left the finite numbers; `failed` if no worker survived it."""
    scores: dict[str, tuple[float, float]]
    """By part, the loss in nats per byte and the accuracy; empty unless `ok`."""
    curve: tuple[tuple[int, float], ...]
    """Steps done and the validation loss then."""
    parameters: int
    seconds: float
    """Of training alone."""
    attach_seconds: float
    note: str = ""
    path: tuple[tuple[float, dict[str, tuple[float, float]]], ...] = ()
    """Strength and the scores by part there, of a reported trial; 0 and 1 are left out."""
    peak_bytes: int = 0
    """Peak memory of training; 0 where it was not measured."""

    @property
    def validation(self) -> float:
        """The loss that choices are made on; infinite for a trial that came to nothing."""
        return self.scores[Part.VALIDATION][0] if self.status == "ok" else math.inf

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which `from_json` makes the same outcome."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """The outcome that `to_json` gave."""
        path = tuple((strength, _read_scores(scores)) for strength, scores in data.get("path", ()))
        curve = tuple((step, loss) for step, loss in data["curve"])
        return cls(**(data | {"scores": _read_scores(data["scores"]), "curve": curve, "path": path}))


def _read_scores(data: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {part: (loss, accuracy) for part, (loss, accuracy) in data.items()}


def run(trial: Trial) -> Outcome:
    """Run one trial in this process, on the CPU. The model is loaded once per process."""
    loaded = _loaded(trial.model)
    model = loaded.model
    settings = json.loads(trial.adapter)
    started = time.monotonic()
    if settings["name"] == FROZEN:
        return Outcome("ok", _scores(model, trial, loaded), (), 0, 0.0, 0.0)
    name = settings.pop("name")
    data = _windows(trial, Part.TRAIN, 1 << 30)
    adapter = make_adapter(name, **settings).scheduled(trial.steps)
    handle = attach(model, adapter, trial.targets, seed=trial.seed, loss=lambda: _calibration(model, trial, data))
    attached = time.monotonic() - started
    try:
        with seeded(trial.seed):
            return _trained(trial, loaded, handle, data, attached)
    finally:
        handle.detach()


def _trained(trial: Trial, loaded: Loaded, handle: Handle, data: Windows, attached: float) -> Outcome:
    """Train what is attached, and score it."""
    model = loaded.model
    curve: list[tuple[int, float]] = []
    looked, started = 0.0, time.monotonic()
    try:
        for step in _train(model, handle, trial, data):
            if trial.curve_every and step % trial.curve_every == 0 and step < trial.steps:
                pause = time.monotonic()
                curve.append((step, score(model, _windows(trial, Part.VALIDATION, trial.windows)).loss))
                looked += time.monotonic() - pause
        seconds = time.monotonic() - started - looked
        count = handle.parameter_count
        scores = _scores(model, trial, loaded)
        if not all(math.isfinite(loss) for loss, _ in scores.values()):
            return Outcome(
                "diverged", {}, tuple(curve), count, seconds, attached, "the loss is not finite after training"
            )
        return Outcome("ok", scores, tuple(curve), count, seconds, attached)
    except FloatingPointError as error:
        seconds = time.monotonic() - started
        finite = tuple((step, loss) for step, loss in curve if math.isfinite(loss))
        return Outcome("diverged", {}, finite, handle.parameter_count, seconds, attached, str(error))


def _calibration(model: nn.Module, trial: Trial, data: Windows) -> Tensor:
    """The loss on the first few batches, for methods that start from its gradient."""
    return torch.stack([_loss(model, ids) for ids in batches(data, trial.batch, CALIBRATION, trial.seed)]).mean()


def _loss(model: nn.Module, ids: Tensor) -> Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _train(model: nn.Module, handle: Handle, trial: Trial, data: Windows) -> Iterator[int]:
    """Train, and give the number of steps done after each; raises `FloatingPointError` when the loss is not finite.

    The batches follow from the seed and the task alone, so every contestant sees the same in the same order.
    """
    parameters = handle.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=trial.lr, weight_decay=0.0)
    for step, ids in enumerate(batches(data, trial.batch, trial.steps, trial.seed)):
        for group in optimizer.param_groups:
            group["lr"] = trial.lr * schedule(step, trial.steps)
        loss = _loss(model, ids)
        penalty = handle.regularizer()
        (loss if penalty is None else loss + penalty).backward()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss was {loss.item()} at step {step}")
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        handle.after_step(step)
        optimizer.zero_grad()
        yield step + 1


def schedule(step: int, steps: int) -> float:
    """The share of the learning rate at `step`: a rise over a tenth of the steps, then a linear fall to zero."""
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1 - step / steps)


def batches(data: Windows, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` batches of token ids, `(batch, length)`; the windows are shuffled anew in every pass over them."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(data.ids), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        yield data.ids[chosen]


def _scores(model: nn.Module, trial: Trial, loaded: Loaded) -> dict[str, tuple[float, float]]:
    scores: dict[str, tuple[float, float]] = {}
    for part in trial.parts:
        loss, accuracy = score(model, _windows(trial, part, trial.windows))
        scores[part] = (loss, accuracy)
    return scores


@cache
def _loaded(model: str) -> Loaded:
    return load_causal(model)


def _windows(trial: Trial, part: str, count: int) -> Windows:
    return _cut(trial.model, trial.task, part, trial.length, count)


@cache
def _cut(model: str, name: str, part: str, length: int, count: int) -> Windows:
    tokenizer = _loaded(model).tokenizer
    if part == BASE_DOMAIN:
        return base_domain(tokenizer, length, count)
    return task(name).windows(Part(part), tokenizer, length, count)


@cache
def code_version(adapter: str, task_name: str) -> str:
    """A hash of the code that decides a trial's outcome; comments and docstrings do not count."""
    decisive = [__name__, adapters_base.__name__, tasks_base.__name__, type(task(task_name)).__module__]
    decisive += [f"adapterlab.surgery.{module.name}" for module in pkgutil.iter_modules(surgery.__path__)]
    if adapter != FROZEN:
        decisive.append(all_adapters()[adapter].__module__)
    digest = hashlib.blake2b(digest_size=6)
    for module in decisive:
        digest.update(_meaning(inspect.getsource(importlib.import_module(module))).encode())
    return digest.hexdigest()


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)
