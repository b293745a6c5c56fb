"""Predict a learning rate for a method on a user's model and training rows, from its gradient and curvature at the start.

Nothing is trained: the adapter is attached, a few gradients are computed, and it is detached again.

>>> from adapterlab.lab.trial.start_scale import StartScale
>>> scale = StartScale(slope=30.5, curvature=1440.0, norm=0.9, parameters=157696)
>>> found = RatePrediction("lora", 0.01, 0.0062, 0.016, 0.0094, 0.011, scale, 60, ())
>>> print(in_words(found).splitlines()[0])
learning rate of lora: 0.01
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.capacity import find_device
from adapterlab.lab.run.rate_prediction import RatePrediction, predict
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Data, Study, Training
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.start_scale import BATCHES, measure_start
from adapterlab.models.fingerprint import EMBEDDED, fingerprint
from adapterlab.models.loading import load
from adapterlab.tasks.files import FileData, forget_changed, task_of
from adapterlab.tuning.planning import longest_row
from adapterlab.tuning.request import model_name, task_name

SEED = 1
"""Seed of the batches and of the adapter's start."""


@dataclass(frozen=True)
class RateRequest:
    """A checked request for a learning rate."""

    adapter: Adapter
    model: str
    """Base model: a folder or a hub id."""
    data: FileData
    steps: int
    """Training steps."""
    batch: int
    """Examples in a step."""
    length: int | None
    """Tokens in an example, at most; None to choose by the data."""


def make_rate_request(
    method: str,
    model: str,
    train: Path,
    *,
    steps: int,
    rank: int | None,
    batch: int,
    length: int | None,
) -> RateRequest:
    """Check the options of the command.

    Args:
        method: Name of the method.
        model: A folder, a hub id, or `embedded`.
        train: File or folder of the training rows.
        steps: Training steps.
        rank: Rank of the method, if it has one; its default if None.
        batch: Examples in a step.
        length: Tokens in an example, at most.

    Returns:
        The request, with absolute paths.

    Raises:
        AdapterlabError: If there is no such method, or it has no rank, or several learning rates.
    """
    adapter = make_adapter(method, **({} if rank is None else {"rank": rank}))
    for option, value in (("steps", steps), ("batch", batch)):
        if value < 1:
            raise AdapterlabError(f"--{option} {value}: give at least 1")
    if several := {name: ratio for name, ratio in adapter.lr_ratios.items() if ratio != 1}:
        ratios = ", ".join(f"{name} at {ratio:g} times the others'" for name, ratio in several.items())
        raise AdapterlabError(
            f"{method} trains with several learning rates ({ratios}), so no single one is predicted: find its rate with "
            f"`adapterlab tune --contestants {method}`"
        )
    data = FileData(task_name(train), str(train.resolve()))
    forget_changed(data)
    return RateRequest(adapter, model_name(model), data, steps, batch, length)


def predict_rate(request: RateRequest) -> RatePrediction:
    """Predict a learning rate.

    Args:
        request: The method, the model, the rows and the training.

    Returns:
        The prediction.

    Raises:
        AdapterlabError: If the model or the rows cannot be read, or the method does not fit the model.
    """
    task = task_of(request.data)
    model, processor = load(request.model, task.head)
    length = request.length or longest_row(request.data, task, processor, model)
    del model
    settings = {key: value for key, value in request.adapter.settings().items() if key != "name"}
    study = Study(
        name="rate",
        model=request.model,
        tasks=(request.data.name,),
        data=(Data(**vars(request.data)),),
        contestants=(Contestant(adapter=request.adapter.name, settings=settings),),
        reference=request.adapter.name,
        training=Training(steps=request.steps, batch=request.batch, length=length, precision="float32"),
    )
    resolved = resolve(study)
    trial = resolved.trial(request.data.name, request.adapter, "all-linear", 1.0, SEED, request.steps, reported=False)
    runner = Runner(replace(resolved.worker_config(), device=find_device()))
    context = runner.context(trial)
    if len(context.training_data) == 0:
        raise AdapterlabError(f"{request.data.train} has no training rows: give at least one")
    scale = measure_start(context)
    return predict(
        request.adapter.name,
        request.adapter.settings(),
        scale,
        steps=request.steps,
        width=resolved.width,
        embedded=resolved.model_hash == fingerprint(EMBEDDED),
    )


def in_words(found: RatePrediction) -> str:
    """Return a prediction as text: the rate, its range, its origin, and how to use it.

    Args:
        found: The prediction.
    """
    scale = found.scale
    curvature = "the loss does not bend up" if found.by_curvature is None else f"{found.by_curvature:.2g}"
    lines = [
        f"learning rate of {found.method}: {found.rate:g}",
        f"the best one is from {found.low:g} to {found.high:g} in 90 % of cases (cross-validation)",
        "",
        f"from gradient and curvature at the start: {curvature}",
        f"  slope {scale.slope:.3g}, curvature {scale.curvature:.3g} along the first step of Adam, {BATCHES} batches; "
        f"gradient norm {scale.norm:.3g}; {scale.parameters:,} trained parameters",
        f"from studies of {found.method}: {'none recorded' if found.prior is None else f'{found.prior:.2g}'}",
        f"for {found.steps} steps",
        *found.notes,
        "",
        f"To use it: TrainingArguments(learning_rate={found.rate:g}), with AdamW, warm-up and a decay to zero.",
        f"To search for the best one: adapterlab tune; in a study: start = {found.rate:g} under [[contestants]].",
    ]
    return "\n".join(lines)
