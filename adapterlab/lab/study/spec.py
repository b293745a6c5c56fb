"""Specification of a study: contestants, tasks, training, the search for learning rates, and the reported runs.

>>> study = Study(name="mine", tasks=("prose",), budgets=(1000, 2000), contestants=(Contestant(adapter="lora"),))
>>> study.tuning.budget_steps  # 5 rates x 16 steps, then 2 rates x 32 steps
144
>>> [part.budget for part in study.at_each_budget]
[1000, 2000]
>>> [entry.name for entry in study.entrants]
['lora', 'full_ft']
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import EMBEDDED
from adapterlab.tasks.parts import FileData

Rate = Annotated[float, Field(gt=0, lt=1e3)]
Count = Annotated[int, Field(ge=1)]
FULL_FT = "full_ft"
"""Name of the adapter that trains the whole model."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Table):
    """Settings of a training run: AdamW without weight decay, linear warm-up, then linear decay of the rate to zero."""

    steps: Count = 60
    """Optimizer steps of a reported run."""
    batch: Count = 4
    """Examples in a step."""
    length: Annotated[int, Field(ge=8)] = 128
    """Tokens in a window of text, or the most in a prompt with its completion."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the base model; adapters train in float32."""


class Tuning(_Table):
    """Settings of the learning-rate search, which spends the same number of training steps on every contestant.

    The first rung trains `rates` rates for `first_steps` each: first those of `start`, then one at a time, a grid step
    beyond the edge of the grid while the best rate lies on the edge, else between the best rate and a neighbour. The second
    rung trains the best `keep` rates with another seed, for `keep * second_steps` steps together. The best of these is
    selected. All losses are on the validation part.
    """

    start: tuple[Rate, ...] = (1e-3, 1e-2)
    """First learning rates, rising."""
    rates: Annotated[int, Field(ge=2, le=30)] = 5
    """Number of rates in the first rung."""
    first_steps: Count = 16
    """Training steps of each rate in the first rung."""
    keep: Count = 2
    """Number of rates in the second rung."""
    second_steps: Count = 32
    """Training steps of each rate in the second rung; more if fewer rates than `keep` are left."""
    seeds: tuple[int, int] = (101, 102)
    """Seeds of the first and the second rung."""

    @property
    def budget_steps(self) -> int:
        """Training steps of the search, the same if rates diverge."""
        return self.rates * self.first_steps + self.keep * self.second_steps

    @field_validator("start")
    @classmethod
    def _rising(cls, start: tuple[float, ...]) -> tuple[float, ...]:
        if len(start) < 2 or sorted(set(start)) != list(start):
            raise ValueError("give at least two rates, rising")
        return start

    @model_validator(mode="after")
    def _room(self) -> Tuning:
        if self.rates < len(self.start):
            raise ValueError(
                f"start has {len(self.start)} rates, more than rates = {self.rates}: give more rates, or fewer in start"
            )
        if self.keep > self.rates:
            raise ValueError(f"keep = {self.keep} is more than rates = {self.rates}: give at most {self.rates}")
        return self


class Reporting(_Table):
    """Settings of the reported runs, which use other seeds and other data than the search."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds, one run of each contestant on each task for each."""
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

    @property
    def path_rows(self) -> int:
        """Examples scored of each part along the path, at most."""
        return min(self.windows, self.path_windows or max(8, self.windows // 4))

    @property
    def runs(self) -> int:
        """Number of reported runs of each contest."""
        return len(self.seeds) * (2 if self.tenth_of_data else 1)


class Limits(_Table):
    """Hardware and time that trials may use. None of these settings decides the outcome of a trial."""

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
    cluster: str | None = None
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


class Contestant(_Table):
    """An adapter that takes part in a study."""

    adapter: str
    """Name of the adapter."""
    label: str = ""
    """Name in the report; the adapter's if empty."""
    targets: str | tuple[str, ...] = "all-linear"
    """Modules that the adapter is attached to, as `attach` takes them."""
    budget: Count | None = None
    """Trained parameters that it is sized to in place of the study's budget; it is flagged if its size is not near that."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Hyperparameters that differ from their defaults."""

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


class Data(_Table):
    """A task made of the user's files; the fields are those of `adapterlab.tasks.parts.FileData`."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    train: str
    eval: str | None = None
    ood: str | None = None
    keep: str | None = None

    @property
    def files(self) -> FileData:
        """The files, as `task_of` takes them."""
        return FileData(**self.model_dump())

    def beside(self, folder: Path) -> Data:
        """Return the same data with paths resolved against a folder.

        Args:
            folder: The folder.
        """
        paths = self.model_dump(exclude={"name"}, exclude_none=True)
        return self.model_copy(update={key: str((folder / path).resolve()) for key, path in paths.items()})


class Study(_Table):
    """A validated study."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    """Name of the study and of its folder of results."""
    title: str = ""
    """Title of the report."""
    model: str = EMBEDDED
    """Base model: `embedded`, a folder or a hub id."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of the tasks."""
    budget: Count | None = None
    """Trained parameters that every contestant is sized to, at most; each keeps its own size if None."""
    budgets: tuple[Count, ...] = ()
    """Several budgets, rising, in place of `budget`: the study runs at each. Claims are tested at the largest."""
    reference: str = "lora"
    """Contestant that the others are compared with."""
    adapter_files: tuple[str, ...] = ()
    """Python files that define adapters; relative paths are resolved against the study's folder."""
    task_files: tuple[str, ...] = ()
    """Python files that define tasks; relative paths are resolved against the study's folder."""
    data: tuple[Data, ...] = ()
    """Tasks made of the user's files; relative paths are resolved against the study's folder."""
    contestants: tuple[Contestant, ...] = Field(min_length=1)
    """Adapters that are compared."""
    full_ft: bool = True
    """True to run full fine-tuning too, unranked, as a measure of how much there is to learn."""
    full_ft_reason: str = ""
    """Reason why full fine-tuning does not run."""
    training: Training = Training()
    tuning: Tuning = Tuning()
    report: Reporting = Reporting()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [c.name for c in self.contestants]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"two contestants are called {', '.join(sorted(repeated))}: give one a label")
        shared = set(self.tuning.seeds) & set(self.report.seeds)
        if shared:
            raise ValueError(f"seeds {sorted(shared)} are in both tuning and report: use different seeds")
        if self.budget is not None and self.budgets:
            raise ValueError("budget and budgets are both given: give one of them")
        if list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets {list(self.budgets)} do not rise: give each budget once, the smallest first")
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

    def competes(self, name: str) -> bool:
        """Return True if a contestant is ranked; full fine-tuning is not.

        Args:
            name: Name of the contestant.
        """
        return any(c.name == name and c.adapter != FULL_FT for c in self.contestants)

    @property
    def at_each_budget(self) -> tuple[Study, ...]:
        """The same study at each of its budgets, which share the trials of adapters that have one size only."""
        if not self.budgets:
            return (self,)
        return tuple(self.model_copy(update={"budget": budget, "budgets": ()}) for budget in self.budgets)
