"""Tests of claims by geometry: by measures of a trained change of weights, or by what hypotheses express of it.

They are read from the `geometry_test:` metadata of an argument map:

    {geometry: energy_in_top, of: full_ft, k: 0.1, above: random, on: [prose]}
    {projects: svft, better_than: lora, of: full_ft, in: in_domain, on: [prose, restyle]}
    {correlates: drift, with: forgetting, of: [full_ft, lora], above: 0, on: [prose, restyle]}

>>> data = {"geometry": "energy_in_top", "of": "full_ft", "k": 0.1, "above": "random", "on": "prose"}
>>> MeasuredChange.model_validate(data).sentence()
"full_ft's change has more energy_in_top(0.1) than a random change of its size, by a difference that matters: on prose"
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.hypotheses import hypothesis
from adapterlab.geometry.in_model import changes_linear_weights
from adapterlab.geometry.measures import measure_named
from adapterlab.lab.analysis.metrics import METRICS
from adapterlab.lab.study.geometry import DIRECTION
from adapterlab.tasks.base import Part
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


SMALLEST_CORRELATION = 0.1
"""Smallest correlation that matters, a small one by Cohen (1988); of small ones, Fisher's z is the same number."""
DRIFT, RELATIVE_NORM = "drift", "relative_norm"
"""Names of the drift of activations, which is measured on two texts, and of the norm of a change relative to the base's."""
_SCORES = {"forgetting": "forgetting", "in_domain": "the gain in-domain", "out_of_domain": "the gain out of domain"}
"""By metric, what a change is compared with, in words."""


class OfChange(Form):
    """Base class of tests of the change of weights that a contestant learned."""

    metrics = None

    def check(self, where: str, labels: Collection[str] = ()) -> None:
        super().check(where, labels)
        for name in self.contestants():
            wanted = Wanted.parse(name)
            known = wanted.name in all_adapters()
            if known and not changes_linear_weights(make_adapter(wanted.name, **dict(wanted.settings))):
                raise AdapterlabError(
                    f"{where}: {name} changes no weight of a linear layer and so has no geometry: give another"
                )


class MeasuredChange(OfChange):
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


class Projects(OfChange):
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


class Correlates(OfChange):
    """Test of the claim that what training costs or gains follows a number of the learned change, over trained changes.

    The rank correlation is over means: one for each contestant and task, since runs that differ by their seed alone are not
    independent of each other.
    """

    correlates: str
    """Number of the change: `drift` of activations, `relative_norm`, or a measure, without its parameter."""
    metric: Literal["forgetting", "in_domain", "out_of_domain"] = Field(alias="with")
    """`forgetting`, or the gain on the task's data or out of domain, of the base with the whole change."""
    of: Annotated[tuple[str, ...], Field(min_length=1)]
    """Contestants whose changes are compared."""
    k: float | None = None
    """Parameter of the measure, for one that has it."""
    text: Literal["general", "task"] | None = None
    """Text of a drift, general text if None; of no other number."""
    above: Annotated[float, Field(gt=-1, lt=1)] | None = None
    """Correlation that it must exceed."""
    below: Annotated[float, Field(gt=-1, lt=1)] | None = None
    """Correlation that it must stay below."""

    @field_validator("of", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> Correlates:
        if (self.above is None) == (self.below is None):
            raise ValueError("give either above or below: a correlation, such as 0")
        if self.correlates == DRIFT:
            if self.k is not None:
                raise ValueError("drift has no parameter: leave k out")
            return self
        if self.text is not None:
            raise ValueError("text is for drift: leave it out")
        if self.correlates != RELATIVE_NORM or self.k is not None:
            try:
                measure_named(self.number)
            except AdapterlabError as error:
                raise ValueError(f"{error}; or give {DRIFT} or {RELATIVE_NORM}") from error
        return self

    @property
    def number(self) -> str:
        """Name of the number of a change that it is about, as trials have it (`Outcome.geometry`)."""
        if self.correlates == DRIFT:
            return f"{DRIFT}({(Part.TEST if self.text == 'task' else Part.BASE).value})"
        return self.correlates if self.k is None else f"{self.correlates}({self.k:g})"

    @property
    def measure(self) -> str | None:
        """Name of the measure that a study must compute for it; None for a number that it computes in any case."""
        return None if self.correlates in (DRIFT, RELATIVE_NORM) else self.number

    @property
    def value(self) -> float:
        """Correlation that it is compared with."""
        found = self.above if self.below is None else self.below
        return found or 0.0

    @property
    def sign(self) -> int:
        """1 if the claim is that the correlation is large, -1 if small."""
        return 1 if self.below is None else -1

    def contestants(self) -> tuple[str, ...]:
        return self.of

    def naming(self, *names: str) -> Self:
        return self.model_copy(update={"of": names})

    def sentence(self) -> str:
        way = f"{'more' if self.sign > 0 else 'less'} than {self.value:g}"
        return (
            f"{self.title} of {' and '.join(self.of)} correlates with {_SCORES[self.metric]} by {way}: {self.where()}"
        )

    @property
    def title(self) -> str:
        """The number in words."""
        if self.correlates != DRIFT:
            return self.number
        return f"drift of activations on {'the task' if self.text == 'task' else 'general'} text"

    def where(self) -> str:
        return f"on {' and '.join(self.tasks)}"
