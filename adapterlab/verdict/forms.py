"""Forms that the test of a claim can have.

>>> test = Better.model_validate({"better": "dora", "than": "lora", "in": "in_domain", "on": "prose"})
>>> test.sentence()
'dora is better than lora by a difference that matters: loss, in-domain on prose'
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_validator

from adapterlab.lab.analysis.matched import METRIC_OF
from adapterlab.lab.analysis.metrics import LOSS, METRICS
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks.steer import Steer
from adapterlab.verdict.wanted import Wanted

EQUAL_LEARNING = "equal_learning"
"""Value of `at` of a comparison at equal learning."""
TENFOLD = {
    "steps": "training steps",
    "data": "the data",
    "rank": "the rank",
    "budget": "the trained parameters",
    "model": "the size of the model",
}
"""By factor of a trend, its tenfold in words, after "ten times"."""
REVERSAL = "reversal"
"""Name of the metric of tests that reverse."""
BEST_RATE = "best_rate"
"""Name of the metric of tests of learning rates."""


class Form(BaseModel, ABC):
    """A test of one statement about one metric."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    names: ClassVar[tuple[str, ...]]
    """Fields with the contestants."""
    metrics: ClassVar[Collection[str] | None] = METRICS
    """Names that `in` may have; None for a form that checks them itself."""

    metric: str = Field(alias="in")
    """Name of the metric."""
    tasks: tuple[str, ...] = Field(alias="on", min_length=1)
    """Names of the tasks."""
    others: tuple[str, ...] = Field(default=(), alias="or_on")
    """Names of the tasks that take their place in a study without them, such as one of a larger model."""

    @field_validator("tasks", "others", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @property
    def parts(self) -> tuple[Self, ...]:
        """The tests of single statements that this one is made of: itself alone."""
        return (self,)

    @property
    def bound(self) -> float | None:
        """Largest size of the number for which a statement of equality holds, in its unit; None for other statements."""
        return getattr(self, "within", None)

    @property
    def share_of_size(self) -> float | None:
        """Share of the second contestant's trained parameters that the first may have; None if the claim names none."""
        return None

    def in_study(self, tasks: Collection[str]) -> Self:
        """Return the test on the tasks that a study has: the other ones if it lacks the first.

        Args:
            tasks: Names of the study's tasks.
        """
        if set(self.tasks) <= set(tasks) or not self.others or not set(self.others) <= set(tasks):
            return self
        return self.model_copy(update={"tasks": self.others, "others": ()})

    def contestants(self) -> tuple[str, ...]:
        """Return the contestants that it is about."""
        return tuple(name for field in self.names if (name := getattr(self, field)) is not None)

    def naming(self, *names: str) -> Self:
        """Return the test with other names of its contestants.

        Args:
            *names: As many as `contestants` returns.
        """
        fields = [field for field in self.names if getattr(self, field) is not None]
        return self.model_copy(update=dict(zip(fields, names, strict=True)))

    def check(self, where: str, labels: Collection[str] = ()) -> None:
        """Raise an error if no study could have its contestants.

        Args:
            where: Place of the test, for the message.
            labels: Labels that are known besides the names of the adapters.

        Raises:
            AdapterlabError: If a contestant is not valid.
            UnknownNameError: If there is no such adapter or label.
        """
        for name in self.contestants():
            Wanted.parse(name).check(where, labels)

    @abstractmethod
    def sentence(self) -> str:
        """Return the test in words."""

    def where(self) -> str:
        """Return the metric and the tasks in words."""
        return f"{METRICS[self.metric].title} on {' and '.join(self.tasks)}"


class Comparison(Form):
    """Base class of comparisons of two contestants."""

    size: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the second contestant's trained parameters that the first one may have; None if the claim names none."""

    @property
    def share_of_size(self) -> float | None:
        return self.size

    def where(self) -> str:
        size = "" if self.size is None else f", with at most {self.size:.2g} of its parameters"
        return f"{super().where()}{size}"


class Matchable(Comparison):
    """Base class of comparisons that can be made at equal learning."""

    at: Literal["equal_learning"] | None = None
    """`equal_learning` to compare what is forgotten at the same in-domain gain, along the strength path; else as trained."""

    @model_validator(mode="after")
    def _is_matched(self) -> Self:
        if self.at is not None and self.metric not in METRIC_OF.values():
            raise ValueError(f"at: equal_learning compares {' or '.join(METRIC_OF.values())}, not {self.metric}")
        return self

    def where(self) -> str:
        return super().where() + ("" if self.at is None else ", at equal learning")


class Better(Matchable):
    """Test of the claim that one adapter is better than another."""

    names = ("better", "than")

    better: str
    than: str
    by: float | None = None
    """Margin by which it must be better, in the unit of the metric; the smallest difference that matters if None."""

    def sentence(self) -> str:
        return f"{self.better} is better than {self.than}{_margin(self.by)}: {self.where()}"


class Controlled(Matchable):
    """Test of the claim that one part of a method matters: it is better than the same method without that part."""

    names = ("controlled", "against")

    controlled: str
    against: str
    """The same adapter with other settings."""
    by: float | None = None
    """Margin, as in `Better`."""

    @model_validator(mode="after")
    def _same_method(self) -> Self:
        first, second = map(Wanted.parse, (self.controlled, self.against))
        if first.name != second.name or first == second:
            raise ValueError(
                "controlled and against must be one adapter with different settings, as ssvd(rotation=free)"
            )
        return self

    def sentence(self) -> str:
        return f"{self.controlled} is better than its control {self.against}{_margin(self.by)}: {self.where()}"


class Reaches(Comparison):
    """Test of the claim that one adapter reaches a share of another's gain over the frozen model."""

    names = ("who", "of")

    reaches: Annotated[float, Field(gt=0)]
    """The share."""
    who: str
    of: str

    def sentence(self) -> str:
        return f"{self.who} reaches {self.reaches:.0%} of {self.of}'s gain: {self.where()}"


class Equivalent(Matchable):
    """Test of the claim that two adapters are equivalent."""

    names = ("equivalent", "to")

    equivalent: str
    to: str
    within: Annotated[float, Field(gt=0)]
    """Largest difference that counts as equivalent, in the unit of the metric."""

    def sentence(self) -> str:
        return f"{self.equivalent} and {self.to} differ by at most {self.within:g}: {self.where()}"


class Reverses(Form):
    """Test of the claim that strength -1 moves a trait the other way than strength 1 does.

    The tasks must measure a trait that is turned up and down. The loss of any other task rises at strength -1 whatever the
    method, since the change there is the opposite of one that lowers it.
    """

    names = ("reverses", "before")

    reverses: str
    before: str | None = None
    """Contestant that it must reverse further than, by a difference that matters; None to test it alone."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the stronger way's effect that the weaker way must have."""
    metric: str = Field(default=REVERSAL, alias="in")

    @model_validator(mode="after")
    def _turned(self) -> Self:
        if self.metric != REVERSAL:
            raise ValueError(f"reverses is measured by in: {REVERSAL}: leave in out")
        known = [name for name in (*self.tasks, *self.others) if name in all_tasks()]
        if wrong := [name for name in known if not isinstance(task(name), Steer)]:
            able = [name for name in all_tasks() if isinstance(task(name), Steer)]
            raise ValueError(
                f"{' and '.join(wrong)} cannot show a reversal, since its loss rises at strength -1 whatever the method: "
                f"give {' or '.join(able)}"
            )
        if self.before is not None and "share" in self.model_fields_set:
            raise ValueError("share is for one contestant alone: leave share or before out")
        return self

    def sentence(self) -> str:
        if self.before is not None:
            return f"{self.reverses} reverses further at strength -1 than {self.before}: {self.where()}"
        return f"{self.reverses} moves the trait the other way at strength -1, by at least {self.share:.0%}: {self.where()}"

    def where(self) -> str:
        return f"on {' and '.join(self.tasks)}"


class Trend(Form):
    """Test of the claim that a gain, or the lead of one contestant over another, changes with a factor that a study sweeps.

    The slope is the least-squares line over the decimal logarithm of the levels: the change with ten times the factor.
    """

    names = ("trend", "minus")

    trend: str
    minus: str | None = None
    """Contestant whose gain is subtracted; None for the gain over the frozen model."""
    along: Literal["steps", "data", "rank", "budget", "model"]
    """The factor. `data` is the step from a tenth of the training data to all of it."""
    falls: bool = False
    """True if the claim is that it falls."""
    by: float | None = None
    """Margin of the slope, in the unit of the metric for each tenfold; the smallest difference that matters if None."""
    within: Annotated[float, Field(gt=0)] | None = None
    """For the claim that it hardly changes, the largest slope that counts as none."""

    @model_validator(mode="after")
    def _one_claim(self) -> Self:
        if self.within is not None and (self.by is not None or self.falls):
            raise ValueError("within is for a trend that is flat: leave by and falls out")
        if self.minus == self.trend:
            raise ValueError("minus names the same contestant: give another, or leave it out")
        metric = METRICS.get(self.metric)
        if self.along == "data" and self.metric != "in_domain":
            raise ValueError("a trend along data compares in: in_domain with the same after a tenth of the data")
        if metric is not None and (metric.unit != LOSS or self.metric == "tenth_of_data"):
            able = [name for name, m in METRICS.items() if m.unit == LOSS and name != "tenth_of_data"]
            raise ValueError(f"a trend is tested in a loss: give in: {', '.join(able)}")
        return self

    def sentence(self) -> str:
        gain = f"{self.trend}'s gain" if self.minus is None else f"{self.trend}'s lead over {self.minus}"
        factor = TENFOLD[self.along]
        if self.within is not None:
            return f"{gain} changes by at most {self.within:g} with ten times {factor}: {self.where()}"
        return f"{gain} {'falls' if self.falls else 'rises'}{_margin(self.by)} with ten times {factor}: {self.where()}"


class Rate(Form):
    """Test of a claim about a best learning rate: how many times another's it is, or its own at a factor's lowest level.

    The number is the decimal logarithm of the ratio over the claimed one.
    """

    names = ("rate", "of")
    metrics = (BEST_RATE,)

    rate: str
    of: str | None = None
    """Contestant whose best rate it is compared with; None along a factor."""
    along: Literal["steps", "rank", "budget", "model"] | None = None
    """Factor from whose lowest to whose highest level it moves, which the study must sweep; of models, the width."""
    times: Annotated[float, Field(gt=0)] = 1.0
    """The ratio that the claim states."""
    within: Annotated[float, Field(gt=1)] = 2.0
    """Factor, either way, within which a ratio counts as the stated one."""
    metric: str = Field(default=BEST_RATE, alias="in")

    @model_validator(mode="after")
    def _of_one_thing(self) -> Self:
        if self.metric != BEST_RATE:
            raise ValueError(f"rate is measured by in: {BEST_RATE}: leave in out")
        if (self.of is None) == (self.along is None):
            raise ValueError("give either of, another contestant, or along, a factor that the study sweeps")
        if self.of == self.rate:
            raise ValueError("of names the same contestant: give another")
        return self

    @property
    def bound(self) -> float | None:
        return math.log10(self.within)

    def sentence(self) -> str:
        if self.of is not None:
            ratio = f"is {self.times:g} times {self.of}'s" if self.times != 1 else f"is {self.of}'s"
        else:
            factor = {"model": "width", "steps": "number of steps"}.get(str(self.along), self.along)
            ratio = (
                f"at the highest {factor} is {'' if self.times == 1 else f'{self.times:g} times '}that at the lowest"
            )
        return f"the best learning rate of {self.rate} {ratio}, within a factor of {self.within:g}: {self.where()}"

    def where(self) -> str:
        return f"on {' and '.join(self.tasks)}"


class All(BaseModel):
    """Test of a claim that makes several statements: it holds if they all do."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    parts: tuple[SerializeAsAny[Form], ...] = Field(alias="all", min_length=2)
    """The tests of its statements."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all their tasks."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.tasks))

    @property
    def others(self) -> tuple[str, ...]:
        """Names of all the tasks that may take their place."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.others))

    def in_study(self, tasks: Collection[str]) -> Self:
        """Return the test on the tasks that a study has.

        Args:
            tasks: Names of the study's tasks.
        """
        return self.model_copy(update={"parts": tuple(part.in_study(tasks) for part in self.parts)})

    def contestants(self) -> tuple[str, ...]:
        """Return all contestants that it is about."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.contestants()))

    def sentence(self) -> str:
        """Return the test in words."""
        return "; and ".join(part.sentence() for part in self.parts)


Test = Form | All
"""A test of a claim."""


def _margin(by: float | None) -> str:
    return " by a difference that matters" if by is None else f" by more than {by:g}"
