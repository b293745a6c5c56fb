"""Specification of a study: contestants, tasks, training, the search for learning rates, and the reported runs.

>>> study = Study(name="mine", tasks=("prose",), sweep={"budgets": (1000, 2000)}, contestants=({"adapter": "lora"},))
>>> study.tuning.first_steps(study.training.steps)
30
>>> [study.at(cell).budget for cell in study.sweep.cells], study.budget
([1000, 2000], 2000)
>>> [entry.name for entry in study.entrants]
['lora', 'full_ft']
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.adapter_types import RoutedAdapter
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_config import PREFIX
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.geometry import Geometry
from adapterlab.lab.study.sweep import RISING, Cell, Level, Sweep, main_level
from adapterlab.lab.study.table import LARGEST, Count, Line, Name, Rate, Seed, Table, distinct
from adapterlab.models.fingerprint import EMBEDDED
from adapterlab.names import name_problem
from adapterlab.tasks.answer_metrics import MAX_NEW_TOKENS, beside, scorer_of
from adapterlab.tasks.parts import FileData

ALL_LINEAR = "all-linear"
"""Targets of a contestant that names none."""
FULL_FT = "full_ft"
"""Name of the adapter that trains the whole model."""
RESERVED = {"frozen": "the frozen model", FULL_FT: "full fine-tuning"}
"""Labels that the lab itself uses, with what they stand for."""
ALL_TASKS = "all"
"""Name of the line for all tasks in a comparison, which no task can have."""
UNDIVIDED = (
    "geometry is not measured of a model that is divided over devices: give limits.shard = 1, or leave geometry out"
)
"""Error message of a study that measures geometry and divides its model."""
MOST_TRIALS = 1_000_000
"""Most trials of a study."""


class Training(Table):
    """Settings of a training run: AdamW without weight decay, linear warm-up, then linear decay of the rate to zero."""

    steps: Count = 60
    """Optimizer steps of a reported run."""
    batch: Count = 4
    """Examples in a step."""
    length: Annotated[int, Field(ge=8, le=LARGEST)] = 128
    """Tokens in a window of text, or the most in a prompt with its completion."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """`bf16` for a base in bfloat16 and autocast, with all that is trained in float32; `auto` to choose by a check."""


class Tuning(Table):
    """Settings of the learning-rate search, with the same refinement for every contestant.

    The first rung trains `bracket` rates half a decade apart, or a quarter about a trusted prediction, then more beyond the
    best of them until a worse rate lies on either side of it (growth), then those of the two rates a quarter of a decade
    beside the best that were not tried. Unless the best confirms a trusted prediction, the second rung trains the best
    `keep` at full length with another seed. All losses are on the validation part.
    """

    start: Rate = 3.2e-3
    """Rate at which the search starts for a method without a prior rate."""
    first_rung: Annotated[float, Field(ge=0.5, le=1)] = 0.5
    """Length of the first rung's runs, as a share of `training.steps`; shorter runs prefer other rates than long ones."""
    bracket: Annotated[int, Field(ge=3, le=15)] = 3
    """Rates that every search begins with about the start; more than three are half a decade apart for every contestant, to
    show which rates work."""
    growth: Annotated[int, Field(ge=0, le=40)] = 8
    """Rates that may be added to bracket the best one, at most; an optimum without a bracket is flagged."""
    keep: Annotated[int, Field(ge=1, le=5)] = 2
    """Number of rates in the second rung; with 1, the first rung decides and the second is left out."""
    seeds: tuple[Seed, Seed] = (101, 102)
    """Seeds of the first and the second rung."""
    regret_sample: Annotated[int, Field(ge=0, le=LARGEST)] = 2
    """Number of contestants whose regret is measured, the reference among them; 0 to measure none."""
    regret_contestants: tuple[str, ...] = ()
    """Contestants whose regret is measured beside the reference's, in place of a sample."""
    regret_seeds: Annotated[tuple[Seed, ...], Field(min_length=2)] = (201, 202)
    """Seeds of the runs that measure the regret."""
    extensions: Annotated[int, Field(ge=0, le=5)] = 2
    """Times that all searches are extended while the regret exceeds `report.smallest`, at most."""

    @field_validator("bracket")
    @classmethod
    def _odd(cls, bracket: int) -> int:
        if bracket % 2 == 0:
            raise ValueError("give an odd number: the start, and as many rates below it as above")
        return bracket

    @property
    def narrow(self) -> bool:
        """True if a search that starts at a trusted prediction begins with rates a quarter of a decade apart."""
        return self.bracket == 3

    def first_steps(self, steps: int) -> int:
        """Return the training steps of each run of the first rung.

        Args:
            steps: Training steps of a reported run.
        """
        return math.ceil(self.first_rung * steps)


class Reporting(Table):
    """Settings of the reported runs, which use other seeds and other data than the search."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1, 2, 3)
    """Seeds, one run of each contestant on each task for each; in a race, the most that a contestant may get."""
    design: Literal["fixed", "racing"] = "fixed"
    """`racing` to stop a contestant once further seeds cannot change the answer."""
    fewest_seeds: Annotated[int, Field(ge=2, le=LARGEST)] = 2
    """Seeds that every contestant of a race gets."""
    windows: Count = 48
    """Examples (windows of text or prompts) scored of each part, at most, in the search too."""
    curve_every: Count = 20
    """Steps between two measurements of the validation loss."""
    path: tuple[Annotated[float, Field(ge=-2, le=2)], ...] = ()
    """Strengths, besides 0 and 1, at which trained adapters are scored."""
    path_windows: Count | None = None
    """Examples scored of each part along the path, its first ones; if None, a quarter of `windows`, and at least 8."""
    tenth_of_data: bool = False
    """True to repeat every reported run on a tenth of the training data."""
    smallest: Annotated[float, Field(gt=0)] = 0.005
    """Smallest difference that matters, in the unit of the loss; contestants that differ by less are called equivalent."""
    metric_rows: Count = 48
    """Answers generated of each of the test and the out-of-domain part, at most, for tasks with a metric."""
    smallest_metric: Annotated[float, Field(gt=0)] = 0.01
    """Smallest difference in the metric of answers that matters, in its unit."""

    @property
    def path_rows(self) -> int:
        """Examples scored of each part along the path, at most."""
        return min(self.windows, self.path_windows or max(8, self.windows // 4))

    @property
    def racing(self) -> bool:
        """True if contestants may stop before they have run with all seeds."""
        return self.design == "racing"

    @property
    def rounds(self) -> tuple[tuple[int, ...], ...]:
        """Seeds that are run together, one round after the other; a contest may end after each."""
        if not self.racing:
            return (self.seeds,)
        return self.seeds[: self.fewest_seeds], *((seed,) for seed in self.seeds[self.fewest_seeds :])

    @property
    def runs(self) -> int:
        """Number of reported runs of each contest; in a race, the most."""
        return len(self.seeds) * self.runs_of_seed

    @property
    def runs_of_seed(self) -> int:
        """Number of reported runs of each contest with one seed."""
        return 2 if self.tenth_of_data else 1


class Limits(Table):
    """Hardware and time that trials may use. None of them changes the outcome of a trial by as much as its seed does."""

    trial_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which a trial is stopped and tried again; derived from the times of other trials if None."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Kind of device; several GPUs get one worker each."""
    workers: Count | None = None
    """Worker processes; one for each core or GPU if None."""
    threads: Count = 1
    """Threads of a worker on a CPU; one, so that outcomes do not depend on the machine's number of cores."""
    lanes: Count = 1
    """Trials that may be trained together in one pass; they differ only by learning rate and seed."""
    shard: Count = 1
    """Devices that the model of one trial is divided over."""
    cluster: Line | None = None
    """Address of a Ray cluster that runs the trials, `HOST:PORT` or `auto`; None to run them here."""
    micro_batch: Count | None = None
    """Examples in one pass where a whole batch does not fit in memory; gradients are summed up to the batch."""
    checkpointing: bool = False
    """True to recompute activations in the backward pass (gradient checkpointing), which takes less memory."""

    @model_validator(mode="after")
    def _one_place(self) -> Limits:
        if self.shard > 1 and (self.cluster is not None or self.lanes > 1):
            raise ValueError("shard cannot be combined with cluster or lanes: give one of them")
        return self


class Contestant(Table):
    """An adapter that takes part in a study.

    `peft = "HIRA"` names a method of PEFT in place of `adapter`; the fields of PEFT's config are then keys of the entry.
    """

    adapter: Name
    """Name of the adapter."""
    label: Line = ""
    """Name in the report; the adapter's if empty."""
    targets: Line | tuple[Line, ...] = ALL_LINEAR
    """Modules that the adapter is attached to, as `attach` takes them."""
    budget: Count | None = None
    """Trained parameters that it is sized to in place of the study's budget; it is flagged if its size is not near that."""
    start: Rate | None = None
    """Rate at which its search starts, in place of the method's prior rate."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Hyperparameters that differ from their defaults."""

    @model_validator(mode="before")
    @classmethod
    def _of_peft(cls, data: Any) -> Any:
        """Take an entry with `peft` as the adapter of that name, and its other keys as settings."""
        if not isinstance(data, Mapping) or "peft" not in data:
            return data
        if not isinstance(data["peft"], str) or "adapter" in data:
            raise ValueError('give either adapter = "..." or peft = "...", the name of a method of PEFT such as "HIRA"')
        if not isinstance(data.get("settings", {}), Mapping):
            raise ValueError("settings must be a table")
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        settings = {key: value for key, value in data.items() if key not in own and key != "peft"}
        return {**own, "adapter": PREFIX + data["peft"], "settings": {**own.get("settings", {}), **settings}}

    @model_validator(mode="after")
    def _own_name(self) -> Contestant:
        if self.label and (problem := name_problem(self.label)):
            raise ValueError(f"label {self.label!r} {problem}")
        if self.name in RESERVED and self.adapter != self.name:
            raise ValueError(f"label {self.name!r} is the name of {RESERVED[self.name]} in the report: give another")
        return self

    @property
    def name(self) -> str:
        """Name in the report."""
        return self.label or self.adapter

    def build(self) -> Adapter:
        """Return the adapter before it is sized.

        Raises:
            AdapterlabError: If there is no such adapter or setting.
        """
        return make_adapter(self.adapter, **self.settings)

    def responds_to(self, factor: str) -> bool:
        """Return True if a sweep of a factor changes this contestant; what it states itself is left as it is.

        Args:
            factor: Name of the factor.

        Raises:
            AdapterlabError: If there is no such adapter or setting.
        """
        if factor == "rank":
            return self.build().size_knob == "rank" and "rank" not in self.settings and self.budget is None
        if factor == "budget":
            return self.build().size_knob is not None and self.budget is None
        if factor == "targets":
            return self.targets == ALL_LINEAR and isinstance(self.build(), LinearAdapter | RoutedAdapter)
        return True

    def at(self, levels: Mapping[str, Level]) -> Contestant:
        """Return the contestant at levels of the factors of a sweep.

        Args:
            levels: By factor, its level; only `rank` and `targets` change a contestant.
        """
        changes: dict[str, object] = {}
        if "rank" in levels and self.responds_to("rank"):
            changes["settings"] = {**self.settings, "rank": levels["rank"]}
        if "targets" in levels and self.responds_to("targets"):
            changes["targets"] = levels["targets"]
        return self.model_copy(update=changes)


class Data(Table):
    """A task made of the user's files; the fields are those of `adapterlab.tasks.parts.FileData`."""

    name: Annotated[Name, Field(pattern=r"^[\w-]+$")]
    train: Line
    eval: Line | None = None
    ood: Line | None = None
    keep: Line | None = None
    metric: Line = ""
    max_new_tokens: Count = MAX_NEW_TOKENS

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        try:
            scorer_of(metric)
        except AdapterlabError as error:
            raise ValueError(str(error)) from error
        return metric

    @model_validator(mode="after")
    def _has_answers(self) -> Data:
        if not self.metric and self.max_new_tokens != MAX_NEW_TOKENS:
            raise ValueError("max_new_tokens needs a metric, since no answers are generated without one: give both")
        return self

    @property
    def files(self) -> FileData:
        """The files, as `task_of` takes them."""
        return FileData(**self.model_dump())

    def beside(self, folder: Path) -> Data:
        """Return the same data with paths resolved against a folder.

        Args:
            folder: The folder.
        """
        paths = self.model_dump(include={"train", "eval", "ood", "keep"}, exclude_none=True)
        found = {key: str((folder / path).resolve()) for key, path in paths.items()}
        return self.model_copy(update={**found, "metric": beside(self.metric, folder)})


class Study(Table):
    """A validated study."""

    name: Annotated[Name, Field(pattern=r"^[\w-]+$")]
    """Name of the study and of its folder of results."""
    title: Line = ""
    """Title of the report."""
    model: Line = EMBEDDED
    """Base model: `embedded`, a folder or a hub id."""
    tasks: tuple[Name, ...] = Field(min_length=1)
    """Names of the tasks."""
    budget: Count | None = None
    """Trained parameters that every contestant is sized to, at most; each keeps its own size if None."""
    reference: str = "lora"
    """Contestant that the others are compared with."""
    adapter_files: tuple[Line, ...] = ()
    """Python files that define adapters; relative paths are resolved against the study's folder."""
    task_files: tuple[Line, ...] = ()
    """Python files that define tasks; relative paths are resolved against the study's folder."""
    data: tuple[Data, ...] = ()
    """Tasks made of the user's files; relative paths are resolved against the study's folder."""
    contestants: tuple[Contestant, ...] = Field(min_length=1)
    """Adapters that are compared."""
    full_ft: bool = True
    """True to run full fine-tuning too, unranked, as a measure of how much there is to learn."""
    full_ft_reason: Line = ""
    """Reason why full fine-tuning does not run."""
    sweep: Sweep = Sweep()
    training: Training = Training()
    tuning: Tuning = Tuning()
    report: Reporting = Reporting()
    geometry: Geometry | None = None
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _main_levels(cls, data: Any) -> Any:
        """Take what the file leaves out from the main cell of the sweep, so that the study's own keys describe that cell."""
        sweep = data.get("sweep") if isinstance(data, Mapping) else None
        if not sweep:
            return data
        if not isinstance(sweep, Mapping | Sweep):
            return data
        given = sweep if isinstance(sweep, Mapping) else sweep.model_dump()
        main = {key: main_level(key, found) for key, found in _swept(given).items()}
        sized = given.get("model_budgets")
        if isinstance(sized, Mapping) and main.get("model") in sized:
            main["budget"] = sized[main["model"]]
        training = data.get("training", {})
        if not isinstance(training, Mapping | Training):
            return data
        stated = training if isinstance(training, Mapping) else training.model_dump(exclude_unset=True)
        if "steps" in main:
            training = {"steps": main["steps"], **stated}
        return {key: main[key] for key in ("model", "budget") if key in main} | {**data, "training": training}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [c.name for c in self.contestants]
        distinct("tasks", self.tasks)
        if wrong := sorted({ALL_TASKS} & {*self.tasks, *(entry.name for entry in self.data)}):
            raise ValueError(f"a task cannot be called {wrong[0]!r}, as the line of all tasks in a comparison is")
        distinct("report.seeds", self.report.seeds)
        distinct("tuning.seeds", self.tuning.seeds)
        distinct("tuning.regret_seeds", self.tuning.regret_seeds)
        distinct("data", tuple(entry.name for entry in self.data))
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"two contestants are called {', '.join(sorted(repeated))}: give one a label")
        tuned, measured = set(self.tuning.seeds), set(self.tuning.regret_seeds)
        if shared := tuned & set(self.report.seeds):
            raise ValueError(f"seeds {sorted(shared)} are in both tuning and report: use different seeds")
        if shared := measured & {*tuned, *self.report.seeds}:
            raise ValueError(
                f"seeds {sorted(shared)} of tuning.regret_seeds are in tuning.seeds or report.seeds: use different seeds"
            )
        if unknown := set(self.tuning.regret_contestants) - {entry.name for entry in self.entrants}:
            raise ValueError(
                f"tuning.regret_contestants names {', '.join(sorted(unknown))}, which the study lacks: name contestants"
            )
        if self.report.racing and len(self.report.seeds) <= self.report.fewest_seeds:
            raise ValueError(
                f"report.design is racing, but report.seeds has only the {self.report.fewest_seeds} seeds that every "
                "contestant gets: give more seeds, or the fixed design"
            )
        main, own = (
            self.sweep.main.by_factor,
            {"steps": self.training.steps, "budget": self.budget, "model": self.model},
        )
        if (sized := self.sweep.model_budgets) is not None and self.budget != sized[self.model]:
            raise ValueError(
                f"budget is {self.budget!r}, but sweep.model_budgets has {sized[self.model]!r} for {self.model}: "
                "leave budget out"
            )
        for factor, value in own.items():
            if factor in main and main[factor] != value:
                which, key = ("largest", "training.steps") if factor == "steps" else ("largest", factor)
                which = which if factor in RISING else "first"
                swept = factor if factor == "steps" else f"{factor}s"
                raise ValueError(
                    f"{key} is {value!r}, but the {which} level of sweep.{swept} is {main[factor]!r}: leave {key} out"
                )
        if "rank" in main and self.budget is not None:
            raise ValueError("sweep.rank and budget both set the size of the contestants: give one of them")
        runs = self.tuning.bracket + self.report.runs
        if (least := len(self.entrants) * len(self.tasks) * self.sweep.count * runs) > MOST_TRIALS:
            raise ValueError(
                f"the study has {least:,} trials, more than {MOST_TRIALS:,}: give fewer seeds, tasks or levels"
            )
        if self.geometry is not None and self.geometry.budget is None and not (self.budget or self.sweep.budgets):
            raise ValueError(
                "geometry needs a budget for its projections, and the study has none: give geometry.budget"
            )
        if self.geometry is not None and self.limits.shard > 1:
            raise ValueError(UNDIVIDED)
        if not self.full_ft and not self.full_ft_reason.strip():
            raise ValueError('full_ft = false needs full_ft_reason = "...": state why full fine-tuning does not run')
        return self

    def limited(self, **given: int | str | None) -> Study:
        """Return the study with other limits.

        Args:
            **given: Fields of `Limits` with their new values; those that are None keep the study's.

        Raises:
            AdapterlabError: If a limit is out of range, or two cannot be combined.
        """
        if self.geometry is not None and (given.get("shard") or 1) != 1:
            raise AdapterlabError(UNDIVIDED)
        values = self.limits.model_dump() | {key: value for key, value in given.items() if value is not None}
        try:
            return self.model_copy(update={"limits": Limits.model_validate(values)})
        except ValidationError as error:
            raise AdapterlabError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error

    @property
    def entrants(self) -> tuple[Contestant, ...]:
        """The contestants, with full fine-tuning added if it is not among them and not switched off."""
        if not self.full_ft or any(c.adapter == FULL_FT for c in self.contestants):
            return self.contestants
        return *self.contestants, Contestant(adapter=FULL_FT)

    @property
    def regret_sample(self) -> tuple[str, ...]:
        """Names of the contestants whose regret is measured, the reference first; the others are drawn if not given."""
        others = [name for name in self.tuning.regret_contestants if name != self.reference]
        if not self.tuning.regret_contestants:
            if not self.tuning.regret_sample:
                return ()
            known = sorted(entry.name for entry in self.entrants if entry.name != self.reference)
            others = random.Random(self.name).sample(known, min(self.tuning.regret_sample - 1, len(known)))
        return self.reference, *others

    def competes(self, name: str) -> bool:
        """Return True if a contestant is ranked; full fine-tuning is not.

        Args:
            name: Name of the contestant.
        """
        return any(c.name == name and c.adapter != FULL_FT for c in self.contestants)

    def at(self, cell: Cell) -> Study:
        """Return the study at one cell of its sweep, without the sweep.

        Args:
            cell: One of the cells of `sweep`.
        """
        if not cell.levels:
            return self
        levels = cell.by_factor
        changes: dict[str, object] = {key: levels[key] for key in ("model", "budget") if key in levels}
        if self.sweep.model_budgets is not None:
            changes["budget"] = self.sweep.model_budgets[str(levels["model"])]
        if "steps" in levels:
            changes["training"] = self.training.model_copy(update={"steps": levels["steps"]})
        entries = tuple(entry.at(levels) for entry in self.contestants)
        return self.model_copy(update={**changes, "contestants": entries, "sweep": Sweep()})

    def check_sweep(self) -> None:
        """Check that each factor of the sweep changes a contestant.

        Raises:
            AdapterlabError: If a factor changes none, or the adapter of a contestant is not known.
        """
        reasons = {
            "rank": "the size of none of the contestants is set by a rank that the study leaves open",
            "budget": "none of the contestants has a size that the study leaves open",
            "targets": f'none of the contestants adapts linear layers with the targets "{ALL_LINEAR}"',
        }
        for factor, reason in reasons.items():
            swept = "budgets" if factor == "budget" else factor
            if factor in self.sweep.factors and not any(entry.responds_to(factor) for entry in self.contestants):
                raise AdapterlabError(f"sweep.{swept} changes nothing: {reason}")


def _swept(sweep: Mapping[str, Any]) -> dict[str, tuple[Level, ...]]:
    """Return by factor the levels of a sweep that was not validated, as far as they are lists."""
    keys = {"steps": "steps", "models": "model", "budgets": "budget"}
    lists = {name: sweep.get(key) for key, name in keys.items()}
    kinds = {name: int if name in RISING else str for name in lists}
    return {
        name: tuple(levels)
        for name, levels in lists.items()
        if isinstance(levels, list | tuple) and levels and all(isinstance(level, kinds[name]) for level in levels)
    }
