"""Plan the study that answers a tuning request: time the contestants here, and choose what fills the time.

>>> spoken(200)
'3 min'
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from adapterlab.adapters import adapter as make_adapter
from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text
from adapterlab.lab.run.capacity import BYTES_OF_FULL_FT, find_device, free_memory
from adapterlab.lab.run.data_notes import answer_notes
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.prepare import PreparedStudy, prepare
from adapterlab.lab.run.progress import Cost
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.sizing import SizedAdapter, size_to_budget
from adapterlab.lab.study.spec import FULL_FT, Contestant, Data, Limits, Study, Training
from adapterlab.lab.study.sweep import Sweep
from adapterlab.models.fingerprint import fingerprint
from adapterlab.models.loading import CAUSAL, Head, load
from adapterlab.surgery import parameter_count
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.new_heads import new_head_parameters
from adapterlab.tasks.base import Part, Task
from adapterlab.tasks.files import FileData, parts_of, task_of
from adapterlab.tasks.generation import prompt_room
from adapterlab.tasks.own_answers import asks, give_answers, own_answers
from adapterlab.tasks.truncation import truncations
from adapterlab.tuning.clock import Clock
from adapterlab.tuning.request import Request, parameters
from adapterlab.tuning.row_lengths import RowLengths
from adapterlab.tuning.scale import FEWEST_SEEDS, MAX_ROWS, MAX_SEEDS, MAX_STEPS, MIN_STEPS, fit, least_seconds
from adapterlab.tuning.timing import MANY_STEPS, PROBED_ROWS, SLOW_STEP, Timing
from adapterlab.tuning.workers import Workers

MAX_PASSES = 3
"""Passes over the training rows, at most."""
MAX_LENGTH = 512
"""Tokens of an example, at most, if no length is asked for."""
COLD = 1.5
"""Factor by which the first step may be slower than later ones."""


@dataclass(frozen=True)
class TuningPlan:
    """The study that answers a request."""

    study: Study
    notes: tuple[str, ...]
    """Remarks for the user: what was chosen, what did not fit, what was left out."""
    model_parameters: int
    workers: int
    """Number of workers that the study was planned for."""
    done: bool = False
    """True once the study has run to its end: no more seeds are added then."""


class PlanFile:
    """The file of a plan. A plan for the same request is read back: with another one, the ledger's trials would not be used.

    Args:
        path: The file.
        request: The request.
    """

    def __init__(self, path: Path, request: Request) -> None:
        self._path = path
        self._request = json.loads(json.dumps(request.to_json()))

    def read(self) -> TuningPlan | None:
        """Return the plan, or None if there is none for this request."""
        if not self._path.exists():
            return None
        known = json.loads(self._path.read_text())
        if known["request"] != self._request:
            return None
        with suppress(ValidationError, KeyError):  # a plan of an older version, whose trials are not used either
            study = Study.model_validate(known["study"])
            return TuningPlan(study, tuple(known["notes"]), known["model_parameters"], known["workers"], known["done"])
        return None

    def write(self, plan: TuningPlan) -> None:
        """Replace the plan.

        Args:
            plan: The plan.
        """
        content = {
            "request": self._request,
            "study": plan.study.model_dump(mode="json"),
            "notes": plan.notes,
            "model_parameters": plan.model_parameters,
            "workers": plan.workers,
            "done": plan.done,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps(content, indent=1) + "\n")


def plan_tuning(
    request: Request, folder: Path, workers: int | None, pool: Workers, started: float, watch: Callable[[str], None]
) -> TuningPlan:
    """Plan the study that answers a request.

    Args:
        request: The request.
        folder: Folder of the results.
        workers: Number of worker processes; None for one for each core or GPU.
        pool: Worker processes, which time the contestants.
        started: Start of the command, on `time.monotonic`'s clock.
        watch: Called with what is being done.

    Returns:
        The plan.

    Raises:
        AdapterlabError: If the data do not fit the model, the budget is below the smallest size of every contestant, or the
            time is too short for the smallest useful study.
    """
    prepared, notes, whole, lengths = _draft(request, folder, workers, watch)
    return _timed(request, prepared, lengths, notes, whole, pool, started, watch)


def _draft(
    request: Request, folder: Path, workers: int | None, watch: Callable[[str], None]
) -> tuple[PreparedStudy, list[str], int, RowLengths]:
    """Return the study with all contestants that fit the model, notes, the model's size, and the lengths of the rows."""
    task, rows = task_of(request.data), parts_of(request.data).rows
    watch("reading the model")
    loaded = load(request.model, task.head)
    model, processor = loaded
    whole = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in new_head_parameters(model).values())
    notes = [*parts_of(request.data).notes, _adapted(model, task.head)]
    if task.scores_answers and asks(processor):
        watch("asking the model, to measure what it forgets")
        give_answers(processor, own_answers(request.model, fingerprint(request.model), loaded))
    watch("reading the data")
    length = request.length or longest_row(request.data, task, processor, model)
    if task.metric:
        room = prompt_room(model, task.max_new_tokens)
        notes += answer_notes(task, processor, room, MAX_ROWS)
    if task.head.kind != "image":
        notes += truncations(rows, parts_of(request.data).form, processor, length)
    lengths = RowLengths.of(request.data, processor, length)
    watch("sizing the contestants")
    budget = _budget(request, model, whole)
    contestants = _fitting(request, model, budget, notes)
    device = find_device()
    targets = tuple(tuple(level.split("+")) if "+" in level else level for level in request.targets)
    sweep = Sweep(rank=request.ranks or None, targets=targets or None, design="factorial")
    draft = Study(
        name=request.data.name,
        title=f"{Path(request.model).name} on {Path(request.data.train).name}",
        model=request.model,
        tasks=(request.data.name,),
        budget=budget,
        reference="lora" if "lora" in contestants else next(iter(contestants)),
        data=(Data(**vars(request.data)),),
        contestants=tuple(Contestant(adapter=name) for name in contestants),
        sweep=sweep,
        training=Training(batch=request.batch, length=length),
        limits=Limits(workers=workers),
    )
    if request.racing:
        report = draft.report.model_copy(update={"design": "racing", "fewest_seeds": FEWEST_SEEDS})
        draft = draft.model_copy(update={"report": report})
    crew = len(crews(draft.limits, resolve(draft).worker_config()))
    need, free = whole * BYTES_OF_FULL_FT * (1 if device == "cuda" else crew), free_memory(device)
    if free is not None and need > free / 2:
        notes.append(
            f"full fine-tuning is left out: it takes about {need / 1e9:.0f} GB, but {free / 1e9:.0f} GB are free"
        )
        draft = draft.model_copy(update={"full_ft": False, "full_ft_reason": notes[-1]})
    watch("choosing the precision")
    sizes = None if draft.sweep.factors else contestants
    prepared = prepare(draft, folder, loaded=loaded, sizes=sizes)
    notes.append(str(prepared.resolved.precision))
    return prepared, notes, whole, lengths


def _budget(request: Request, model: torch.nn.Module, whole: int) -> int | None:
    """Return the trained parameters of every contestant, at most; None if the study compares ranks."""
    if request.ranks:
        return None
    return _lora_of_rank_8(model) if request.budget is None else parameters(request.budget, whole)


def _fitting(request: Request, model: torch.nn.Module, budget: int | None, notes: list[str]) -> dict[str, SizedAdapter]:
    """Return the sized contestants that fit the model and the budget; those that the user did not name may be left out."""
    contestants, too_large = dict[str, SizedAdapter](), list[str]()
    for name in request.contestants:
        try:
            sized = size_to_budget(Contestant(adapter=name), model, budget)
        except AdapterlabError as error:
            if request.chosen:
                raise
            notes.append(f"{name} is left out: {error}")
            continue
        if budget is not None and sized.parameters > budget and not request.chosen:
            too_large.append(f"{name} ({sized.parameters:,})")
        else:
            contestants[name] = sized
    if too_large:
        notes.append(f"left out, since their smallest sizes train more than {budget:,}: {', '.join(too_large)}")
    if not contestants:
        raise AdapterlabError(f"--budget {budget:,} is below the smallest size of every contestant: give more")
    return contestants


def _timed(
    request: Request,
    prepared: PreparedStudy,
    lengths: RowLengths,
    notes: list[str],
    whole: int,
    pool: Workers,
    started: float,
    watch: Callable[[str], None],
) -> TuningPlan:
    """Time every contestant here, and choose what fills the time."""
    draft, contests = prepared.study, prepared.contests()
    rows = len(parts_of(request.data).rows[Part.TRAIN])
    most = max(3 * MIN_STEPS, min(MAX_STEPS, -(-MAX_PASSES * rows // request.batch)))
    timing = Timing(prepared, contests, lengths, pool)
    watch(f"timing {PROBED_ROWS} rows of the untrained model")
    token = timing.token()
    answer = 0.0
    if timing.answers:
        watch(f"timing {PROBED_ROWS} answers of the untrained model")
        answer = timing.answer()
    watch(f"timing a step of {draft.reference}")
    first = timing.first_step()
    everyone = {contest.contestant: Cost(first, 0.0) for contest in contests if contest.adapter is not None}
    _refuse_if_short(request, draft, timing.clock(everyone, token, answer), started, doubt=COLD)
    capacity = timing.capacity(1 if first > SLOW_STEP else MANY_STEPS, watch)
    notes += capacity.notes
    fitting = tuple(entry for entry in draft.contestants if entry.name in capacity.costs)
    draft = draft.model_copy(
        update={
            "contestants": fitting,
            **({} if FULL_FT in capacity.costs else {"full_ft": False, "full_ft_reason": "it does not fit in memory"}),
            "reference": draft.reference if draft.reference in capacity.costs else fitting[0].name,
            "limits": draft.limits.model_copy(
                update={"micro_batch": capacity.micro_batch, "checkpointing": capacity.checkpointing}
            ),
        }
    )
    clock = timing.clock(capacity.costs, token, answer)
    _refuse_if_short(request, draft, clock, started)
    left = request.seconds - (time.monotonic() - started)
    found = fit(draft, clock, left, most=most, seeds=request.seeds, chosen=not request.shortlisted)
    if found is None:
        raise _too_short(
            request, least_seconds(draft, clock, seeds=request.seeds, chosen=not request.shortlisted), started
        )
    if found.left_out:
        notes.append(f"left out, since there is no time for all contestants: {', '.join(found.left_out)}")
    if draft.full_ft and not found.study.full_ft:
        notes.append(f"full fine-tuning is left out: {found.study.full_ft_reason}")
    return TuningPlan(found.study, (*notes, _chosen(request, found.study, clock, started)), whole, clock.workers)


def _refuse_if_short(request: Request, draft: Study, clock: Clock, started: float, doubt: float = 1.0) -> None:
    """Raise an error if the smallest useful study takes too long, even if it is faster by the factor `doubt`."""
    if not all(math.isfinite(cost.step) for cost in clock.costs.values()):
        return  # the reference does not fit in memory as it is
    least = least_seconds(draft, clock, seeds=request.seeds, chosen=not request.shortlisted)
    if least / doubt > request.seconds - (time.monotonic() - started):
        raise _too_short(request, least, started)


def _too_short(request: Request, least: float, started: float) -> AdapterlabError:
    minutes = math.ceil((least + time.monotonic() - started) * 1.1 / 60)
    return AdapterlabError(
        f"--time {spoken(request.seconds)} is too short: the smallest study that can compare adapters on this model and "
        f"data takes about {minutes} min here: give --time {minutes}m, fewer --contestants, or a smaller --length or --batch"
    )


def _chosen(request: Request, study: Study, clock: Clock, started: float) -> str:
    seconds = clock.seconds(study) + time.monotonic() - started
    more = (
        ""
        if request.seeds or len(study.report.seeds) == MAX_SEEDS
        else f"; seeds are added while there is time, up to {spoken(request.seconds)}"
    )
    cells = "" if study.sweep.count == 1 else f" at {study.sweep.count} combinations"
    size = "" if study.budget is None else f" of at most {study.budget:,} trained parameters,"
    return (
        f"{study.training.steps} steps of {study.training.batch} examples, {len(study.report.seeds)} seeds, "
        f"{len(study.entrants)} contestants{cells},{size} {study.report.windows} rows scored of each part, on "
        f"{find_device()} in {clock.contests[0].resolved.precision.precision}: about {spoken(seconds)}{more}"
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
