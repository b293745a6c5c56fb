"""Tests of claims, read from the `test:` metadata of an argument map.

There are three forms:

    {better: pissa, than: lora, in: in_domain, on: [restyle, prose], by: 0.01}
    {reaches: 0.6, who: ia3, of: full_ft, in: in_domain, on: [restyle]}
    {equivalent: goft, to: boft, within: 0.01, in: in_domain, on: [restyle]}

`or_on` names tasks that take the place of those of `on` in a study that lacks them.

>>> read_test("DoRA Beats LoRA", {"better": "dora", "than": "lora", "in": "in_domain", "on": "prose"}).sentence()
'dora is better than lora by a difference that matters: loss, in-domain on prose'
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapterlab.adapters import all_adapters
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis.metrics import METRICS


class _Test(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

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

    def in_study(self, tasks: Collection[str]) -> Self:
        """Return the test on the tasks that a study has: the other ones if it lacks the first.

        Args:
            tasks: Names of the study's tasks.
        """
        if set(self.tasks) <= set(tasks) or not self.others or not set(self.others) <= set(tasks):
            return self
        return self.model_copy(update={"tasks": self.others, "others": ()})

    @abstractmethod
    def contestants(self) -> tuple[str, str]:
        """Return the two contestants that are compared."""

    @abstractmethod
    def sentence(self) -> str:
        """Return the test in words."""

    def where(self) -> str:
        """Return the metric and the tasks in words."""
        return f"{METRICS[self.metric].title} on {' and '.join(self.tasks)}"


class Better(_Test):
    """Test of the claim that one adapter is better than another."""

    better: str
    than: str
    by: float | None = None
    """Margin by which it must be better, in the unit of the metric; the smallest difference that matters if None."""

    def contestants(self) -> tuple[str, str]:
        return self.better, self.than

    def sentence(self) -> str:
        margin = " by a difference that matters" if self.by is None else f" by more than {self.by:g}"
        return f"{self.better} is better than {self.than}{margin}: {self.where()}"


class Reaches(_Test):
    """Test of the claim that one adapter reaches a share of another's gain over the frozen model."""

    reaches: Annotated[float, Field(gt=0)]
    """The share."""
    who: str
    of: str

    def contestants(self) -> tuple[str, str]:
        return self.who, self.of

    def sentence(self) -> str:
        return f"{self.who} reaches {self.reaches:.0%} of {self.of}'s gain: {self.where()}"


class Equivalent(_Test):
    """Test of the claim that two adapters are equivalent."""

    equivalent: str
    to: str
    within: Annotated[float, Field(gt=0)]
    """Largest difference that counts as equivalent, in the unit of the metric."""

    def contestants(self) -> tuple[str, str]:
        return self.equivalent, self.to

    def sentence(self) -> str:
        return f"{self.equivalent} and {self.to} differ by at most {self.within:g}: {self.where()}"


Test = Better | Reaches | Equivalent
_FORMS: dict[str, type[Better] | type[Reaches] | type[Equivalent]] = {
    "better": Better,
    "reaches": Reaches,
    "equivalent": Equivalent,
}


def read_test(claim: str, data: Mapping[str, object]) -> Test:
    """Read the test of a claim.

    Args:
        claim: Title of the claim, for error messages.
        data: Its `test:` metadata.

    Returns:
        The test.

    Raises:
        AdapterlabError: If the metadata has none of the three forms, or a value is not valid.
        UnknownNameError: If there is no such key, adapter or metric.
    """
    where = f"the test of [{claim}]"
    form = next((form for key, form in _FORMS.items() if key in data), None)
    if form is None:
        raise AdapterlabError(f"{where} has none of the keys {', '.join(_FORMS)}: give one of them")
    try:
        test = form.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][-1])
        known = [field.alias or name for name, field in form.model_fields.items()]
        if first["type"] == "extra_forbidden":
            raise UnknownNameError("key", key, known, where=where) from error
        raise AdapterlabError(f"{where}: {key}: {first['msg']}") from error
    for adapter in test.contestants():
        if adapter not in all_adapters():
            raise UnknownNameError("adapter", adapter, all_adapters(), where=where)
    if test.metric not in METRICS:
        raise UnknownNameError("metric", test.metric, METRICS, where=where)
    return test
