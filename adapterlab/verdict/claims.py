"""Tests of claims, read from the `test:` metadata of an argument map.

There are four forms:

    {better: pissa, than: lora, in: in_domain, on: [restyle, prose], by: 0.01}
    {controlled: ssvd, against: ssvd(rotation=free), in: in_domain, on: [prose]}
    {reaches: 0.6, who: ia3, of: full_ft, in: in_domain, on: [restyle]}
    {equivalent: goft, to: oft, within: 0.01, in: in_domain, on: [restyle]}

A contestant is a label, or an adapter with settings (`adapterlab.verdict.wanted`). `size: 0.5` says that the claim is about
a first contestant with at most half of the second one's trained parameters. `or_on` names tasks that take the place of
those of `on` in a study that lacks them.

>>> read_test("DoRA Beats LoRA", {"better": "dora", "than": "lora", "in": "in_domain", "on": "prose"}).sentence()
'dora is better than lora by a difference that matters: loss, in-domain on prose'
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis.metrics import METRICS
from adapterlab.verdict.wanted import Wanted


class _Test(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    pair: ClassVar[tuple[str, str]]
    """Fields with the two contestants."""

    metric: str = Field(alias="in")
    """Name of the metric."""
    tasks: tuple[str, ...] = Field(alias="on", min_length=1)
    """Names of the tasks."""
    others: tuple[str, ...] = Field(default=(), alias="or_on")
    """Names of the tasks that take their place in a study without them, such as one of a larger model."""
    size: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the second contestant's trained parameters that the first one may have; None if the claim names none."""

    @field_validator("tasks", "others", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    def in_study(self, tasks: Collection[str]) -> Self:
        """Return the test on the tasks that a study has: the other ones if it lacks the first.

        Args:
            tasks: Names of the study's tasks.
        """
        if set(self.tasks) <= set(tasks) or not self.others or not set(self.others) <= set(tasks):
            return self
        return self.model_copy(update={"tasks": self.others, "others": ()})

    def contestants(self) -> tuple[str, str]:
        """Return the two contestants that are compared."""
        first, second = (getattr(self, name) for name in self.pair)
        return first, second

    def naming(self, first: str, second: str) -> Self:
        """Return the test with other names of its contestants.

        Args:
            first: Name of the first.
            second: Name of the second.
        """
        return self.model_copy(update=dict(zip(self.pair, (first, second), strict=True)))

    @abstractmethod
    def sentence(self) -> str:
        """Return the test in words."""

    def where(self) -> str:
        """Return the metric and the tasks in words."""
        size = "" if self.size is None else f", with at most {self.size:.2g} of its parameters"
        return f"{METRICS[self.metric].title} on {' and '.join(self.tasks)}{size}"


class Better(_Test):
    """Test of the claim that one adapter is better than another."""

    pair = ("better", "than")

    better: str
    than: str
    by: float | None = None
    """Margin by which it must be better, in the unit of the metric; the smallest difference that matters if None."""

    def sentence(self) -> str:
        margin = " by a difference that matters" if self.by is None else f" by more than {self.by:g}"
        return f"{self.better} is better than {self.than}{margin}: {self.where()}"


class Controlled(_Test):
    """Test of the claim that one part of a method matters: it is better than the same method without that part."""

    pair = ("controlled", "against")

    controlled: str
    against: str
    """The same adapter with other settings."""
    by: float | None = None
    """Margin, as in `Better`."""

    @model_validator(mode="after")
    def _same_method(self) -> Self:
        first, second = map(Wanted.parse, self.contestants())
        if first.name != second.name or first == second:
            raise ValueError(
                "controlled and against must be one adapter with different settings, as ssvd(rotation=free)"
            )
        return self

    def sentence(self) -> str:
        margin = " by a difference that matters" if self.by is None else f" by more than {self.by:g}"
        return f"{self.controlled} is better than its control {self.against}{margin}: {self.where()}"


class Reaches(_Test):
    """Test of the claim that one adapter reaches a share of another's gain over the frozen model."""

    pair = ("who", "of")

    reaches: Annotated[float, Field(gt=0)]
    """The share."""
    who: str
    of: str

    def sentence(self) -> str:
        return f"{self.who} reaches {self.reaches:.0%} of {self.of}'s gain: {self.where()}"


class Equivalent(_Test):
    """Test of the claim that two adapters are equivalent."""

    pair = ("equivalent", "to")

    equivalent: str
    to: str
    within: Annotated[float, Field(gt=0)]
    """Largest difference that counts as equivalent, in the unit of the metric."""

    def sentence(self) -> str:
        return f"{self.equivalent} and {self.to} differ by at most {self.within:g}: {self.where()}"


Test = Better | Controlled | Reaches | Equivalent
_FORMS: dict[str, type[Better] | type[Controlled] | type[Reaches] | type[Equivalent]] = {
    "better": Better,
    "controlled": Controlled,
    "reaches": Reaches,
    "equivalent": Equivalent,
}


def read_test(claim: str, data: Mapping[str, object], labels: Collection[str] = ()) -> Test:
    """Read the test of a claim.

    Args:
        claim: Title of the claim, for error messages.
        data: Its `test:` metadata.
        labels: Labels of contestants that are known besides the names of the adapters.

    Returns:
        The test.

    Raises:
        AdapterlabError: If the metadata has none of the forms, or a value is not valid.
        UnknownNameError: If there is no such key, adapter, setting or metric.
    """
    where = f"the test of [{claim}]"
    form = next((form for key, form in _FORMS.items() if key in data), None)
    if form is None:
        raise AdapterlabError(f"{where} has none of the keys {', '.join(_FORMS)}: give one of them")
    try:
        test = form.model_validate(data)
    except ValidationError as error:
        # A misspelt key is both unknown and missing under its right name; the former error is the useful one.
        found = error.errors()
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        key = str(first["loc"][-1]) if first["loc"] else ""
        known = [field.alias or name for name, field in form.model_fields.items()]
        if first["type"] == "extra_forbidden":
            raise UnknownNameError("key", key, known, where=where) from error
        reason = first["msg"].removeprefix("Value error, ")
        raise AdapterlabError(f"{where}: {f'{key}: ' if key else ''}{reason}") from error
    for name in test.contestants():
        Wanted.parse(name).check(where, labels)
    if test.metric not in METRICS:
        raise UnknownNameError("metric", test.metric, METRICS, where=where)
    return test
