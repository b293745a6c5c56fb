"""What a claim of a map says would test it, read from its `test:` metadata.

{better: pissa, than: lora, in: in_domain, on: [restyle, prose], by: 0.01}
{reaches: 0.6, who: ia3, of: full_ft, in: in_domain, on: [restyle]}
{equivalent: goft, to: boft, within: 0.01, in: in_domain, on: [restyle]}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapterlab.adapters import all_adapters
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis.metrics import METRICS


class _Test(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    metric: str = Field(alias="in")
    tasks: tuple[str, ...] = Field(alias="on", min_length=1)

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @abstractmethod
    def contestants(self) -> tuple[str, str]:
        """The two that are compared."""

    @abstractmethod
    def sentence(self) -> str:
        """The test in words."""

    def where(self) -> str:
        """Metric and tasks in words."""
        return f"{METRICS[self.metric].title} on {' and '.join(self.tasks)}"


class Better(_Test):
    """One adapter is better than another, by more than `by`."""

    better: str
    than: str
    by: float = 0.0

    def contestants(self) -> tuple[str, str]:
        return self.better, self.than

    def sentence(self) -> str:
        margin = f" by more than {self.by:g}" if self.by else ""
        return f"{self.better} is better than {self.than}{margin}: {self.where()}"


class Reaches(_Test):
    """One adapter reaches at least a share of another's gain over the frozen model."""

    reaches: Annotated[float, Field(gt=0)]
    who: str
    of: str

    def contestants(self) -> tuple[str, str]:
        return self.who, self.of

    def sentence(self) -> str:
        return f"{self.who} reaches {self.reaches:.0%} of {self.of}'s gain: {self.where()}"


class Equivalent(_Test):
    """Two adapters differ by no more than `within`."""

    equivalent: str
    to: str
    within: Annotated[float, Field(gt=0)]

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


def read_test(claim: str, data: Mapping[str, Any]) -> Test:
    """The test that a claim's metadata gives; raises `AdapterlabError` naming the claim, the key and the nearest names."""
    where = f"the test of [{claim}]"
    form = next((form for key, form in _FORMS.items() if key in data), None)
    if form is None:
        raise AdapterlabError(f"{where} has none of the keys {', '.join(_FORMS)}: it says nothing that can be tested")
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
