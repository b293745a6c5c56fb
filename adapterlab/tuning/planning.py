"""Plan the study that answers a tuning request: time the contestants here, and choose steps and seeds to fill the time.

>>> spoken(200)
'3 min'
"""

from __future__ import annotations

import gc
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from adapterlab.adapters import adapter as make_adapter
from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text
from adapterlab.lab.run.capacity import BYTES_OF_FULL_FT, find_device, free_memory, measure_capacity
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.data_notes import answer_notes
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.prepare import PreparedStudy, prepare
from adapterlab.lab.run.progress import ContestState, Costs, seconds_left
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.sizing import size_to_budget
from adapterlab.lab.study.spec import FULL_FT, Contestant, Data, Limits, Reporting, Study, Training, Tuning
from adapterlab.lab.trial.environment import environment
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Finished
from adapterlab.models.loading import CAUSAL, Head, load
from adapterlab.surgery import parameter_count
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.new_heads import new_head_parameters
from adapterlab.tasks.base import Part, Task
from adapterlab.tasks.files import FileData, parts_of, task_of
from adapterlab.tasks.generation import prompt_room
from adapterlab.tasks.truncation import truncations
from adapterlab.tuning.request import Request, parameters

MIN_STEPS, ENOUGH_STEPS, MAX_STEPS = 20, 100, 5000
"""Steps of a reported run: at least, enough to prefer more seeds over more steps, and at most."""
MAX_PASSES = 3
"""Passes over the training rows, at most."""
SEEDS = (5, 4, 3)
"""Numbers of seeds, tried until there is time for enough steps."""
MAX_SEEDS = 10
"""Seeds of a study that has time left after the most steps."""
MAX_LENGTH = 512
"""Tokens of an example, at most, if no length is asked for."""
MAX_SCORED = 128
"""Rows scored of each part, at most."""
PLANNED_SHARE = 0.9
"""Share of the time that is planned for."""


@dataclass(frozen=True)
class TuningPlan:
    """The study that answers a request."""

    study: Study
    notes: tuple[str, ...]
    """Remarks for the user: what was chosen, what did not fit, what was left out."""
    model_parameters: int


def plan_tuning(
    request: Request,
    file: Path,
    workers: int | None,
    watch: Callable[[str], None],
    record: Callable[[Finished], None] = lambda _: None,
) -> TuningPlan:
    """Plan the study that answers a request.

    A plan for the same request is read back from its file: with another plan, the trials of the ledger would not be reused.

    Args:
        request: The request.
        file: File of the plan.
        workers: Number of worker processes; None for one for each core or GPU.
        watch: Called with what is being done.
        record: Called with the trial of the frozen model, which is part of the study and is run to plan it.

    Returns:
        The plan.

    Raises:
        AdapterlabError: If the data do not fit the model, or the budget is below the smallest size of every contestant.
    """
    request_json = json.loads(json.dumps(request.to_json()))
    if file.exists():
        known = json.loads(file.read_text())
        if known["request"] == request_json:
            with suppress(ValidationError):  # a plan of an older version, whose trials are not used either
                study = Study.model_validate(known["study"])
                return TuningPlan(study, tuple(known["notes"]), known["model_parameters"])
    plan = _planned(request, file.parent, workers, watch, record)
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "request": request_json,
        "study": plan.study.model_dump(mode="json"),
        "notes": plan.notes,
        "model_parameters": plan.model_parameters,
    }
    write_text(file, json.dumps(content, indent=1) + "\n")
    return plan


def _planned(
    request: Request,
    folder: Path,
    workers: int | None,
    watch: Callable[[str], None],
    record: Callable[[Finished], None],
) -> TuningPlan:
    task, rows = task_of(request.data), parts_of(request.data).rows
    watch("reading the model")
    model, processor = load(request.model, task.head)
    whole = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in new_head_parameters(model).values())
    notes = [*parts_of(request.data).notes, _adapted(model, task.head)]
    length = request.length or longest_row(request.data, task, processor, model)
    if task.metric:
        room = prompt_room(model, task.max_new_tokens)
        notes += answer_notes(task, processor, room, Reporting().metric_rows)
    if task.head.kind != "image":
        notes += truncations(rows, parts_of(request.data).form, processor, length)
    budget = _lora_of_rank_8(model) if request.budget is None else parameters(request.budget, whole)
    contestants = []
    for name in request.contestants:
        try:
            size = size_to_budget(Contestant(adapter=name), model, budget).parameters
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
        training=Training(batch=request.batch, length=length),
        tuning=Tuning(regret_sample=1),
        report=Reporting(windows=min(MAX_SCORED, max(len(rows[part]) for part in rows if part is not Part.TRAIN) * 4)),
        limits=Limits(workers=workers),
    )
    crew = len(crews(draft.limits, resolve(draft).worker_config()))
    need, free = whole * BYTES_OF_FULL_FT * (1 if device == "cuda" else crew), free_memory(device)
    if free is not None and need > free / 2:
        notes.append(
            f"full fine-tuning is left out: it takes about {need / 1e9:.0f} GB, but {free / 1e9:.0f} GB are free"
        )
        draft = draft.model_copy(update={"full_ft": False, "full_ft_reason": notes[-1]})
    watch("choosing the precision")
    prepared = prepare(draft, folder)
    notes.append(str(prepared.resolved.precision))
    return _timed(request, prepared, crew, notes, whole, watch, record)


def _timed(
    request: Request,
    prepared: PreparedStudy,
    crew: int,
    notes: list[str],
    whole: int,
    watch: Callable[[str], None],
    record: Callable[[Finished], None],
) -> TuningPlan:
    """Time every contestant here, and choose steps and seeds."""
    started = time.monotonic()
    draft, contests = prepared.study, prepared.contests()
    runner = Runner(replace(prepared.resolved.worker_config(), device=find_device()))
    trials = {c.contestant: c.trial(c.start, 0, 1, reported=False) for c in contests if c.adapter is not None}
    watch("scoring the untrained model")
    frozen = next(c for c in contests if c.adapter is None)
    trial = frozen.frozen_trial()
    outcome = runner.run(trial)
    start_up = time.monotonic() - started - outcome.scoring_seconds - outcome.generating_seconds
    scoring = outcome.scoring_seconds / len(trial.parts)
    record(Finished(trial, outcome, environment(runner.device), outcome.scoring_seconds + outcome.generating_seconds))
    watch("timing a few steps of each contestant")
    capacity = measure_capacity(trials, runner)
    runner.clear()
    gc.collect()
    notes += capacity.notes
    fitting = tuple(entry for entry in draft.contestants if entry.name in capacity.costs)
    study = draft.model_copy(
        update={
            "contestants": fitting,
            **({} if FULL_FT in capacity.costs else {"full_ft": False, "full_ft_reason": "it does not fit in memory"}),
            "reference": draft.reference if draft.reference in capacity.costs else fitting[0].name,
            "limits": draft.limits.model_copy(
                update={"micro_batch": capacity.micro_batch, "checkpointing": capacity.checkpointing}
            ),
        }
    )
    rows = len(parts_of(request.data).rows[Part.TRAIN])
    most = max(3 * MIN_STEPS, min(MAX_STEPS, -(-MAX_PASSES * rows // request.batch)))
    costs = {(study.model, name, frozen.task): cost for name, cost in capacity.costs.items()}
    timed = [c for c in contests if c.contestant in capacity.costs]
    clock = _Clock(timed, costs, scoring, start_up, crew, outcome.generating_seconds)
    study = _filling(request, study, most, clock)
    return TuningPlan(study, (*notes, _chosen(request, study, clock)), whole)


@dataclass(frozen=True)
class _Clock:
    """Times measured on this machine."""

    contests: Sequence[Contest]
    costs: Costs
    scoring: float
    """Seconds to score one part of the task."""
    start_up: float
    workers: int
    generating: float = 0.0
    """Seconds to generate the answers of a reported trial."""

    def seconds(self, study: Study) -> float:
        """Estimate the time of these contests in a study, and of training the winner again."""
        scoring = {(study.model, task): self.scoring for task in study.tasks}
        each = [
            seconds_left(
                [ContestState(replace(contest, resolved=replace(contest.resolved, study=study)), {})],
                self.costs,
                scoring,
                1,
                dict.fromkeys(scoring, self.generating),
            )
            or 0.0
            for contest in self.contests
        ]
        slowest = max(cost.step for cost in self.costs.values())
        again = (
            study.training.steps * slowest + len(self.contests[0].resolved.tasks[study.tasks[0]].parts) * self.scoring
        )
        return self.start_up + max(sum(each) / self.workers, max(each)) + again


def _filling(request: Request, study: Study, most: int, clock: _Clock) -> Study:
    """Return the study with as many steps and seeds as fit in the time."""
    room = request.seconds * PLANNED_SHARE

    def of(steps: int, seeds: int) -> Study:
        return study.model_copy(
            update={
                "training": study.training.model_copy(update={"steps": steps}),
                "report": study.report.model_copy(
                    update={"seeds": tuple(range(1, seeds + 1)), "curve_every": max(1, steps // 5)}
                ),
            }
        )

    def longest(seeds: int) -> int:
        lengths = range(MIN_STEPS, most + 1)
        count = bisect_right(lengths, room, key=lambda steps: clock.seconds(of(steps, seeds)))
        return lengths[max(0, count - 1)]

    for seeds in SEEDS if request.seeds is None else (request.seeds,):
        steps = longest(seeds)
        if steps >= min(ENOUGH_STEPS, most):
            break
    if request.seeds is None and steps == most:
        while seeds < MAX_SEEDS and clock.seconds(of(steps, seeds + 1)) <= room:
            seeds += 1
    return of(steps, seeds)


def _chosen(request: Request, study: Study, clock: _Clock) -> str:
    seconds = clock.seconds(study)
    note = (
        f"{study.training.steps} steps of {study.training.batch} examples, {len(study.report.seeds)} seeds, "
        f"{len(clock.costs)} contestants, of at most {study.budget:,} trained parameters, on {find_device()} in "
        f"{clock.contests[0].resolved.precision.precision}: about {spoken(seconds)}"
    )
    return (
        note if seconds <= request.seconds else f"{note}, the shortest useful study; it takes more than the time given"
    )


def spoken(seconds: float) -> str:
    """Return a length of time in words.

    Args:
        seconds: The time in seconds.
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _adapted(model: torch.nn.Module, head: Head) -> str:
    """Return which layers are adapted, and which are not, in words."""
    layers = linears(model)
    names = dict.fromkeys(path.rpartition(".")[2] for path in layers)
    left = {p.rpartition(".")[2] for p, t in model.named_parameters() if t.ndim == 3}
    note = f"{len(layers)} linear layers are adapted ({', '.join(names)})"
    if left:
        note += f"; the three-dimensional weights of experts ({', '.join(sorted(left))}) are not adapted"
    fresh = new_head_parameters(model)
    if fresh:
        note += f"; {', '.join(fresh)} is new and is trained too"
    return note if head == CAUSAL or fresh else f"{note}; the model's own head is kept"


def _lora_of_rank_8(model: torch.nn.Module) -> int:
    smallest = min(min(module.weight.shape) for module in linears(model).values())
    return parameter_count(model, make_adapter("lora", rank=min(8, smallest)))


def longest_row(data: FileData, task: Task, processor: Any, model: torch.nn.Module) -> int:
    """Return the tokens that the longest row needs, limited by `MAX_LENGTH` and by the model.

    Args:
        data: The user's data files.
        task: Their task.
        processor: The model's tokenizer or image processor.
        model: The model.
    """
    if task.head.kind == "image":
        return 8
    most: int = getattr(model.config.get_text_config(), "max_position_embeddings", MAX_LENGTH)  # type: ignore[union-attr, operator]
    rows = parts_of(data).rows
    texts = [
        " ".join(str(value) for value in row.values.values())
        for part in rows
        for row in rows[part][:2000]
        if part is not Part.BASE
    ]
    longest = max(len(ids) for ids in processor(texts, add_special_tokens=True)["input_ids"]) + 8
    return max(16, min(MAX_LENGTH, most, 8 * -(-longest // 8)))
