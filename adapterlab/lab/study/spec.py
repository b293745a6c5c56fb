"""Specification of a study: contestants, tasks, training, the search for learning rates, and the reported runs.

>>> study = Study(name="mine", tasks=("prose",), budgets=(1000, 2000), contestants=(Contestant(adapter="lora"),))
>>> study.tuning.first_steps(study.training.steps)
30
>>> [part.budget for part in study.at_each_budget]
[1000, 2000]
>>> [entry.name for entry in study.entrants]
['lora', 'full_ft']
"""

from __future__ import annotations

import math
import random
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
    seeds: tuple[int, int] = (101, 102)
    """Seeds of the first and the second rung."""
    regret_sample: Annotated[int, Field(ge=0)] = 2
    """Number of contestants whose regret is measured, the reference among them; 0 to measure none."""
    regret_contestants: tuple[str, ...] = ()
    """Contestants whose regret is measured beside the reference's, in place of a sample."""
    regret_seeds: Annotated[tuple[int, ...], Field(min_length=2)] = (201, 202)
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


class Reporting(_Table):
    """Settings of the reported runs, which use other seeds and other data than the search."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds, one run of each contestant on each task for each; in a race, the most that a contestant may get."""
    design: Literal["fixed", "racing"] = "fixed"
    """`racing` to stop a contestant once further seeds cannot change the answer."""
    fewest_seeds: Annotated[int, Field(ge=2)] = 2
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
    start: Rate | None = None
    """Rate at which its search starts, in place of the method's prior rate."""
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

    @property
    def at_each_budget(self) -> tuple[Study, ...]:
        """The same study at each of its budgets, which share the trials of adapters that have one size only."""
        if not self.budgets:
            return (self,)
        return tuple(self.model_copy(update={"budget": budget, "budgets": ()}) for budget in self.budgets)
