"""Tests of claims by geometry: by measures of a trained change of weights, or by what hypotheses express of it.

They are read from the `geometry_test:` metadata of an argument map:

    {geometry: energy_in_top, of: full_ft, k: 0.1, above: random, on: [prose]}
    {projects: svft, better_than: lora, of: full_ft, in: in_domain, on: [prose, restyle]}

>>> data = {"geometry": "energy_in_top", "of": "full_ft", "k": 0.1, "above": "random", "on": "prose"}
>>> read_geometry_test("Basis Carries Signal", data).sentence()
"full_ft's change has more energy_in_top(0.1) than a random change of its size, by a difference that matters: on prose"
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.geometry.hypotheses import hypothesis
from adapterlab.geometry.in_model import changes_linear_weights
from adapterlab.geometry.measures import measure_named
from adapterlab.lab.analysis.metrics import METRICS
from adapterlab.lab.study.geometry import DIRECTION
from adapterlab.verdict.forms import Form
from adapterlab.verdict.wanted import Wanted

RANDOM = "random"
"""Value of `above` and `below` for a random change of the same norm."""
GEOMETRY, RESIDUAL = "geometry", "residual"
"""Names of what geometry tests measure that are no metrics of contests."""
SMALLEST_OVER_RANDOM = 0.5
"""Smallest difference from a random change that matters, as a share of the random change's value."""
SMALLEST_OF_VALUE = 0.1
"""Smallest difference from a given value that matters, as a share of that value."""
SMALLEST_SHARE = 0.05
"""Smallest difference that matters of a residual, a share of the change's squared norm, and of a measure from 0."""


class MeasuredChange(Form):
    """Test of the claim that a measure of a trained change is large or small."""

    names = ("of",)

    geometry: str
    """Name of the measure, without its parameter."""
    of: str
    """Contestant whose change is measured."""
    k: float | None = None
    """Parameter of the measure, for one that has it."""
    above: float | Literal["random"] | None = None
    """Value that it must exceed, or `random`."""
    below: float | Literal["random"] | None = None
    """Value that it must stay below, or `random`."""
    by: Annotated[float, Field(ge=0)] | None = None
    """Margin; from a random change the smallest difference that matters if None, from a value 0."""
    metric: str = Field(default=GEOMETRY, alias="in")

    @model_validator(mode="after")
    def _known(self) -> MeasuredChange:
        if self.metric != GEOMETRY:
            raise ValueError("in does not apply to a measure of the change: leave it out")
        if (self.above is None) == (self.below is None):
            raise ValueError("give either above or below: a value, or random")
        try:
            compared = self.measure != DIRECTION and measure_named(self.measure).compared
        except AdapterlabError as error:
            raise ValueError(f"{error}; the number in parentheses is given as k") from error
        if self.from_random and not compared:
            raise ValueError(f"{self.measure} is not compared with a random change: give a value in place of random")
        return self

    @property
    def measure(self) -> str:
        """Name of the measure with its parameter."""
        return self.geometry if self.k is None else f"{self.geometry}({self.k:g})"

    @property
    def value(self) -> float | None:
        """Value that the measure is compared with; None for that of a random change."""
        found = self.above if self.below is None else self.below
        return None if isinstance(found, str) else found

    @property
    def from_random(self) -> bool:
        """True if the measure is compared with that of a random change."""
        return self.value is None

    @property
    def sign(self) -> int:
        """1 if the claim is that the measure is large, -1 if small."""
        return 1 if self.below is None else -1

    def sentence(self) -> str:
        had = f"{self.of}'s change has {'more' if self.sign > 0 else 'less'} {self.measure} than"
        if self.value is None:
            margin = "a difference that matters" if self.by is None else f"more than {self.by:g}"
            return f"{had} a random change of its size, by {margin}: {self.where()}"
        return f"{had} {self.value + self.sign * (self.by or 0.0):g}: {self.where()}"

    def where(self) -> str:
        return f"on {' and '.join(self.tasks)}"


class Projects(Form):
    """Test of the claim that one hypothesis expresses a trained change better than another, at equal parameters."""

    names = ("of",)

    projects: str
    """Hypothesis, or an adapter that states it."""
    better_than: str
    """Another one."""
    of: str
    """Contestant whose change is projected."""
    metric: Literal["in_domain", "out_of_domain", "forgetting", "residual"] = Field(default="residual", alias="in")
    """Score of the base with the projected change, or `residual` for its distance from the change."""
    by: Annotated[float, Field(ge=0)] | None = None
    """Margin by which it must be better; the smallest difference that matters if None."""

    @field_validator("metric", mode="before")
    @classmethod
    def _short(cls, name: object) -> object:
        return "out_of_domain" if name == "ood" else name

    @model_validator(mode="after")
    def _two(self) -> Projects:
        if self.hypotheses[0] == self.hypotheses[1]:
            raise ValueError(f"{self.projects} and {self.better_than} are one hypothesis, {self.hypotheses[0]}")
        return self

    @property
    def hypotheses(self) -> tuple[str, str]:
        """Names of the two hypotheses."""
        return hypothesis(self.projects).name, hypothesis(self.better_than).name

    def sentence(self) -> str:
        margin = "a difference that matters" if self.by is None else f"more than {self.by:g}"
        return (
            f"{self.projects} expresses {self.of}'s change better than {self.better_than} at equal parameters, by {margin}: "
            f"{self.where()}"
        )

    def where(self) -> str:
        title = "distance from it" if self.metric == RESIDUAL else METRICS[self.metric].title
        return f"{title} on {' and '.join(self.tasks)}"


GeometryTest = MeasuredChange | Projects
"""A test of a claim by geometry."""
_FORMS: dict[str, type[MeasuredChange] | type[Projects]] = {"geometry": MeasuredChange, "projects": Projects}


def read_geometry_test(claim: str, data: Mapping[str, object], labels: Collection[str] = ()) -> GeometryTest:
    """Read the geometry test of a claim.

    Args:
        claim: Title of the claim, for error messages.
        data: Its `geometry_test:` metadata.
        labels: Labels of contestants that are known besides the names of the adapters.

    Returns:
        The test.

    Raises:
        AdapterlabError: If the metadata has none of the forms, or a value is not valid.
        UnknownNameError: If there is no such key, adapter, setting or hypothesis.
    """
    where = f"the geometry test of [{claim}]"
    form = next((form for key, form in _FORMS.items() if key in data), None)
    if form is None:
        raise AdapterlabError(f"{where} has none of the keys {', '.join(_FORMS)}: give one of them")
    known = [field.alias or name for name, field in form.model_fields.items()]
    for key in data:
        if key not in known:
            raise UnknownNameError("key", str(key), known, where=where)
    try:
        test = form.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise AdapterlabError(f"{where}: {f'{key}: ' if key else ''}{reason}") from error
    except UnknownNameError as error:
        raise AdapterlabError(f"{where}: {error}") from error
    wanted = Wanted.parse(test.of)
    wanted.check(where, labels)
    if wanted.name in all_adapters() and not changes_linear_weights(make_adapter(wanted.name, **dict(wanted.settings))):
        raise AdapterlabError(
            f"{where}: {test.of} changes no weight of a linear layer and so has no geometry: give another"
        )
    return test
