"""From a request to a study: the contestants timed here, and steps and seeds that fill the time."""

from __future__ import annotations

import gc
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapterlab.adapters import adapter as make_adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.capacity import BYTES_OF_FULL_FT, find_device, find_dtype, fit, free_memory
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.progress import Costs, State, seconds_left
from adapterlab.lab.run.scheduler import prepare, worker_config
from adapterlab.lab.run.sizing import fitted
from adapterlab.lab.study.spec import FULL_FT, Contestant, Data, Limits, Reporting, Study, Training, Tuning
from adapterlab.lab.trial import train
from adapterlab.models.loading import CAUSAL, Head, load
from adapterlab.surgery import parameter_count
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.new_heads import new_head_parameters
from adapterlab.tasks import add_task, task
from adapterlab.tasks.base import Part
from adapterlab.tasks.files import parts_of, task_of
from adapterlab.tune.request import Request, parameters

LEAST_STEPS, ENOUGH_STEPS, MOST_STEPS = 20, 100, 5000
PASSES = 3
"""Over the training rows, at most."""
SEEDS = (5, 4, 3)
"""As many as can be had with enough steps."""
MOST_SEEDS = 10
LONGEST = 512
"""Tokens of an example, if no length was asked for."""
SCORED = 128
"""Rows scored of each part, at most."""
CALM = 0.9
"""The share of the time that is planned for."""
RATES = (3e-4, 1e-3, 3e-3)


@dataclass(frozen=True)
class Plan:
    """The study that answers a request, and what was found on the way to it."""

    study: Study
    notes: tuple[str, ...]
    """For the user: what was chosen, what did not fit, what was left out."""
    model_parameters: int


def make_plan(request: Request, file: Path, workers: int | None, watch: Callable[[str], None]) -> Plan:
    """The plan of this request; the one in `file` if it is for the same, since what was chosen then names the trials.

    Raises `AdapterlabError` for what cannot be: data that do not fit the model, a budget below the smallest size.
    """
    add_task(task_of(request.data))
    asked = json.loads(json.dumps(request.to_json()))
    if file.exists():
        known = json.loads(file.read_text())
        if known["request"] == asked:
            return Plan(Study.model_validate(known["study"]), tuple(known["notes"]), known["model_parameters"])
    plan = _planned(request, workers, watch)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    content = {
        "request": asked,
        "study": plan.study.model_dump(mode="json"),
        "notes": plan.notes,
        "model_parameters": plan.model_parameters,
    }
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(file)
    return plan


def _planned(request: Request, workers: int | None, watch: Callable[[str], None]) -> Plan:
    the_task, rows = task(request.data.name), parts_of(request.data).rows
    watch("reading the model")
    model, processor = load(request.model, the_task.head)
    whole = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in new_head_parameters(model).values())
    notes = [*parts_of(request.data).notes, _adapted(model, the_task.head)]
    length = request.length or _length(request, processor, model)
    budget = _lora_of_rank_8(model) if request.budget is None else parameters(request.budget, whole)
    contestants = []
    for name in request.contestants:
        try:
            size = parameter_count(model, fitted(Contestant(adapter=name), model, budget))
        except AdapterlabError as error:
            if request.chosen:
                raise
            notes.append(f"{name} is left out: {error}")
            continue
        if size > budget and not request.chosen:
            notes.append(f"{name} is left out: its smallest size trains {size:,} parameters, above {budget:,}")
        else:
            contestants.append(name)
    if not contestants:
        raise AdapterlabError(f"--budget {budget:,} is below the smallest size of every contestant: give more")
    del model
    device = find_device()
    draft = Study(
        name=request.data.name,
        title=f"{Path(request.model).name} on {Path(request.data.train).name}",
        model=request.model,
        tasks=(request.data.name,),
        budget=budget,
        reference="lora" if "lora" in contestants else contestants[0],
        data=(Data(**vars(request.data)),),
        contestants=tuple(Contestant(adapter=name) for name in contestants),
        training=Training(batch=request.batch, length=length, dtype=find_dtype(device)),
        tuning=Tuning(start=RATES, rates=5),
        report=Reporting(windows=min(SCORED, max(len(rows[part]) for part in rows if part is not Part.TRAIN) * 4)),
        limits=Limits(workers=workers),
    )
    crew = len(crews(draft.limits, worker_config(draft)))
    need, free = whole * BYTES_OF_FULL_FT * (1 if device == "cuda" else crew), free_memory(device)
    if free is not None and need > free / 2:
        notes.append(f"full fine-tuning is left out: it takes about {need / 1e9:.0f} GB, and {free / 1e9:.0f} are free")
        draft = draft.model_copy(update={"full_ft": False, "full_ft_reason": notes[-1]})
    return _timed(request, draft, crew, notes, whole, watch)


def _timed(
    request: Request, draft: Study, crew: int, notes: list[str], whole: int, watch: Callable[[str], None]
) -> Plan:
    """Time every contestant here, and choose steps and seeds."""
    started = time.monotonic()
    contests = prepare(draft)
    setup = replace(worker_config(draft), device=find_device())
    setup.enter()
    trials = {c.contestant: c.trial(RATES[0], 0, 1, reported=False) for c in contests if c.adapter is not None}
    watch("scoring the untrained model")
    frozen = next(c for c in contests if c.adapter is None)
    train.run(replace(frozen.trial(0.0, 0, 0, reported=True), parts=(Part.VALIDATION,)))
    start_up = time.monotonic() - started
    scoring = _time_to_score(frozen)
    watch("timing a few steps of each contestant")
    found = fit(trials, setup, train.run)
    train.forget()
    gc.collect()
    notes += found.notes
    kept = tuple(entry for entry in draft.contestants if entry.name in found.costs)
    study = draft.model_copy(
        update={
            "contestants": kept,
            **({} if FULL_FT in found.costs else {"full_ft": False, "full_ft_reason": "it does not fit in memory"}),
            "reference": draft.reference if draft.reference in found.costs else kept[0].name,
            "limits": draft.limits.model_copy(
                update={"micro_batch": found.micro_batch, "checkpointing": found.checkpointing}
            ),
        }
    )
    rows = len(parts_of(request.data).rows[Part.TRAIN])
    most = max(3 * LEAST_STEPS, min(MOST_STEPS, -(-PASSES * rows // request.batch)))
    costs = {(name, frozen.task): cost for name, cost in found.costs.items()}
    clock = _Clock([c for c in contests if c.contestant in found.costs], costs, scoring, start_up, crew)
    study = _filling(request, study, most, clock)
    return Plan(study, (*notes, _chosen(request, study, clock)), whole)


def _time_to_score(frozen: Contest) -> float:
    """Seconds for one part of a task."""
    trial = frozen.trial(0.0, 0, 0, reported=True)
    train.run(trial)  # the data of all parts are made once
    started = time.monotonic()
    train.run(trial)
    return (time.monotonic() - started) / len(trial.parts)


@dataclass(frozen=True)
class _Clock:
    """What things take here."""

    contests: Sequence[Contest]
    costs: Costs
    scoring: float
    """Seconds for one part of the task."""
    start_up: float
    workers: int

    def seconds(self, study: Study) -> float:
        """About how long these contests take in a study, the training of the winner with it."""
        scoring = dict.fromkeys(study.tasks, self.scoring)
        each = [
            seconds_left([State(replace(contest, study=study), {})], self.costs, scoring, 1) or 0.0
            for contest in self.contests
        ]
        slowest = max(cost.step for cost in self.costs.values())
        again = study.training.steps * slowest + len(task(study.tasks[0]).parts) * self.scoring
        return self.start_up + max(sum(each) / self.workers, max(each)) + again


def _filling(request: Request, study: Study, most: int, clock: _Clock) -> Study:
    """The study with as many steps and seeds as the time has room for."""
    room = request.seconds * CALM

    def of(steps: int, seeds: int) -> Study:
        return study.model_copy(
            update={
                "training": study.training.model_copy(update={"steps": steps}),
                "tuning": study.tuning.model_copy(
                    update={"first_steps": max(8, steps // 4), "second_steps": max(8, steps // 2)}
                ),
                "report": study.report.model_copy(
                    update={"seeds": tuple(range(1, seeds + 1)), "curve_every": max(1, steps // 5)}
                ),
            }
        )

    def longest(seeds: int) -> int:
        lengths = range(LEAST_STEPS, most + 1)
        fitting = bisect_right(lengths, room, key=lambda steps: clock.seconds(of(steps, seeds)))
        return lengths[max(0, fitting - 1)]

    for seeds in SEEDS if request.seeds is None else (request.seeds,):
        steps = longest(seeds)
        if steps >= min(ENOUGH_STEPS, most):
            break
    if request.seeds is None and steps == most:
        while seeds < MOST_SEEDS and clock.seconds(of(steps, seeds + 1)) <= room:
            seeds += 1
    return of(steps, seeds)


def _chosen(request: Request, study: Study, clock: _Clock) -> str:
    took = clock.seconds(study)
    said = (
        f"{study.training.steps} steps of {study.training.batch} examples, {len(study.report.seeds)} seeds, "
        f"{len(clock.costs)} contestants, of at most {study.budget:,} trained parameters, on {find_device()} in "
        f"{study.training.dtype}: about {_spoken(took)}"
    )
    return said if took <= request.seconds else f"{said}, more than asked, and as short as makes sense"


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _adapted(model: torch.nn.Module, head: Head) -> str:
    """What adapters of linear layers stand on, and what they leave alone."""
    layers = linears(model)
    names = dict.fromkeys(path.rpartition(".")[2] for path in layers)
    left = {p.rpartition(".")[2] for p, t in model.named_parameters() if t.ndim == 3}
    said = f"adapted are {len(layers)} linear layers ({', '.join(names)})"
    if left:
        said += f"; the experts' weights, three-dimensional ({', '.join(sorted(left))}), are left as they are"
    fresh = new_head_parameters(model)
    if fresh:
        said += f"; {', '.join(fresh)} is new, and is trained along"
    return said if head == CAUSAL or fresh else f"{said}; the model's own head is kept"


def _lora_of_rank_8(model: torch.nn.Module) -> int:
    smallest = min(min(module.weight.shape) for module in linears(model).values())
    return parameter_count(model, make_adapter("lora", rank=min(8, smallest)))


def _length(request: Request, processor: Any, model: torch.nn.Module) -> int:
    """Tokens that the longest training row needs, up to a limit and to what the model takes."""
    if task(request.data.name).head.kind == "image":
        return 8
    most: int = getattr(model.config.get_text_config(), "max_position_embeddings", LONGEST)  # type: ignore[union-attr, operator]
    rows = parts_of(request.data).rows
    texts = [
        " ".join(str(value) for value in row.values.values())
        for part in rows
        for row in rows[part][:2000]
        if part is not Part.BASE
    ]
    longest = max(len(ids) for ids in processor(texts, add_special_tokens=True)["input_ids"]) + 8
    return max(16, min(LONGEST, most, 8 * -(-longest // 8)))
