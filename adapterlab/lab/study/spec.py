"""A study: contestants x tasks x learning rates x seeds."""

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
"""The adapter that trains the whole model: the other end of the scale from the frozen model."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Table):
    """One training run: AdamW without weight decay, a short warm-up, a linear fall of the rate to zero."""

    steps: Count = 60
    batch: Count = 4
    length: Annotated[int, Field(ge=8)] = 128
    """Tokens in a window, or the most in a prompt with its completion."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the base model; what an adapter trains is float32."""


class Tuning(_Table):
    """How a learning rate is found: the same number of training steps for every contestant.

    `rates` of them are tried for `first_steps`: all of `start`, then one at a time, a grid step beyond the edge while the
    best lies on it, and between the best and its neighbours once it does not. The best `keep` share `keep * second_steps`,
    with a seed of their own; the best of these is chosen. Everything is judged by the loss on the validation part.
    """

    start: tuple[Rate, ...] = (1e-3, 1e-2)
    rates: Annotated[int, Field(ge=2, le=30)] = 5
    first_steps: Count = 16
    keep: Count = 2
    second_steps: Count = 32
    seeds: tuple[int, int] = (101, 102)

    @property
    def budget_steps(self) -> int:
        """The training steps that finding a rate takes, whatever comes of them."""
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
            raise ValueError(f"start has {len(self.start)} rates, more than rates = {self.rates}")
        if self.keep > self.rates:
            raise ValueError(f"keep = {self.keep} is more than the rates = {self.rates} that are tried")
        return self


class Reporting(_Table):
    """What is reported: other seeds, other data."""

    seeds: tuple[int, ...] = (1, 2, 3)
    windows: Count = 48
    """Windows (or prompts) scored of each part, in tuning too."""
    curve_every: Count = 20
    """Steps between two looks at the validation loss."""
    path: tuple[Annotated[float, Field(ge=-2, le=2)], ...] = ()
    """Strengths other than 0 and 1 at which every trained adapter is scored too."""
    tenth_of_data: bool = False
    """Whether every reported run is repeated on a tenth of the training data."""
    smallest: Annotated[float, Field(gt=0)] = 0.005
    """The smallest difference that matters, in nats per byte: what is surely below it is called the same."""

    @property
    def runs(self) -> int:
        """Number of reported runs of each contest."""
        return len(self.seeds) * (2 if self.tenth_of_data else 1)


class Limits(_Table):
    """Where trials run and what they may use; none of it decides what comes of them."""

    trial_seconds: Annotated[float, Field(gt=0)] | None = None
    """A trial that takes longer is stopped and tried again; derived from what others took if not given."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """With several GPUs there is one worker for each."""
    workers: Count | None = None
    """Processes; as many as the cores give if not given."""
    threads: Count = 1
    """Of a worker on a CPU; one, so that what comes of a trial does not depend on the machine's cores."""
    lanes: Count = 1
    """Trials that differ by learning rate and seed alone and may run in one pass."""
    shard: Count = 1
    """Devices that one trial's model is spread over."""
    cluster: str | None = None
    """The address of a Ray cluster that runs the trials."""
    micro_batch: Count | None = None
    """Examples in one pass, where a whole batch does not fit in memory; gradients are summed up to the batch."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass, to hold less memory."""

    @model_validator(mode="after")
    def _one_place(self) -> Limits:
        if self.shard > 1 and (self.cluster is not None or self.lanes > 1):
            raise ValueError("shard goes neither with cluster nor with lanes: give one of them")
        return self


class Contestant(_Table):
    """An adapter in the contest, with settings other than its defaults."""

    adapter: str
    label: str = ""
    targets: str | tuple[str, ...] = "all-linear"
    budget: Count | None = None
    """Trained parameters that it is sized to instead of the study's; it is flagged if that is not near."""
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in the report."""
        return self.label or self.adapter

    def build(self) -> Adapter:
        """The adapter, before it is sized; raises `AdapterlabError` for an unknown name or setting."""
        return make_adapter(self.adapter, **self.settings)


class Data(_Table):
    """Files of one's own that make a task of this name: see `adapterlab.tasks.parts.FileData`."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    train: str
    eval: str | None = None
    ood: str | None = None
    keep: str | None = None

    @property
    def files(self) -> FileData:
        """What a task is made of."""
        return FileData(**self.model_dump())

    def beside(self, folder: Path) -> Data:
        """The same, with paths taken from `folder`."""
        named = self.model_dump(exclude={"name"}, exclude_none=True)
        return self.model_copy(update={key: str((folder / file).resolve()) for key, file in named.items()})


class Study(_Table):
    """All that decides what a study runs."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    title: str = ""
    model: str = EMBEDDED
    tasks: tuple[str, ...] = Field(min_length=1)
    budget: Count | None = None
    """Trainable parameters that every contestant is sized to, as near below as it can."""
    budgets: tuple[Count, ...] = ()
    """Several of them, rising, instead of `budget`: the contest is held at each. Claims are judged at the largest."""
    reference: str = "lora"
    """The contestant whose score others are timed against."""
    adapter_files: tuple[str, ...] = ()
    """Python files that define adapters of your own; a relative path is taken from the study's folder."""
    task_files: tuple[str, ...] = ()
    """Python files that define tasks of your own, taken from the same folder."""
    data: tuple[Data, ...] = ()
    """Tasks made of files of one's own; relative paths are taken from the study's folder."""
    contestants: tuple[Contestant, ...] = Field(min_length=1)
    full_ft: bool = True
    """Whether full fine-tuning runs along, unranked, to show what there is to learn."""
    full_ft_reason: str = ""
    """Why it does not."""
    training: Training = Training()
    tuning: Tuning = Tuning()
    report: Reporting = Reporting()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [c.name for c in self.contestants]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two contestants are called {', '.join(sorted(twice))}: give one a label")
        shared = set(self.tuning.seeds) & set(self.report.seeds)
        if shared:
            raise ValueError(
                f"seeds {sorted(shared)} are in both tuning and report: choose and report with different seeds"
            )
        if self.budget is not None and self.budgets:
            raise ValueError("budget and budgets are both given: give one of them")
        if list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets {list(self.budgets)} do not rise: give each once, the smallest first")
        if not self.full_ft and not self.full_ft_reason.strip():
            raise ValueError(
                'full_ft = false needs full_ft_reason = "...": say why full fine-tuning does not run along'
            )
        return self

    def limited(self, **given: Any) -> Study:
        """The same study where `limits` has these values; those that are None stay as they are.

        Raises `AdapterlabError` for limits that do not go together.
        """
        values = self.limits.model_dump() | {key: value for key, value in given.items() if value is not None}
        try:
            return self.model_copy(update={"limits": Limits.model_validate(values)})
        except ValidationError as error:
            raise AdapterlabError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error

    @property
    def entrants(self) -> tuple[Contestant, ...]:
        """The contestants, and full fine-tuning, which runs along whether it is among them or not."""
        if not self.full_ft or any(c.adapter == FULL_FT for c in self.contestants):
            return self.contestants
        return *self.contestants, Contestant(adapter=FULL_FT)

    def competes(self, name: str) -> bool:
        """Whether this contestant is ranked; full fine-tuning is not."""
        return any(c.name == name and c.adapter != FULL_FT for c in self.contestants)

    @property
    def at_each_budget(self) -> tuple[Study, ...]:
        """The same study at each of its budgets; they share the trials of what cannot be sized."""
        if not self.budgets:
            return (self,)
        return tuple(self.model_copy(update={"budget": budget, "budgets": ()}) for budget in self.budgets)
