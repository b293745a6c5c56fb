"""Tests of claims, read from the metadata of an argument map: contests (`test:`) and tests by geometry (`geometry_test:`).

There are seven forms of a statement about contestants, three about the change of weights that one of them learned, and of
both kinds one of several statements:

    {better: pissa, than: lora, in: in_domain, on: [restyle, prose], by: 0.01}
    {controlled: ssvd, against: ssvd(rotation=free), in: forgetting, at: equal_learning, on: [prose]}
    {reaches: 0.6, who: ia3, of: full_ft, in: in_domain, on: [restyle]}
    {equivalent: goft, to: oft, within: 0.01, in: in_domain, on: [restyle]}
    {reverses: antipasto, share: 0.5, on: [steer]}
    {trend: full_ft, minus: lora, along: steps, in: in_domain, on: [prose]}
    {rate: lora, of: full_ft, times: 10, within: 2, on: [prose]}
    {all: [{reaches: 0.9, who: ia3, of: lora, in: in_domain, on: [restyle]}, {better: lora, than: ia3, ...}]}
    {geometry: energy_in_top, of: full_ft, k: 0.1, above: random, on: [prose]}
    {projects: svft, better_than: lora, of: full_ft, in: in_domain, on: [prose, restyle]}
    {correlates: drift, with: forgetting, of: [full_ft, lora], above: 0, on: [prose, restyle]}

A contestant is a label, or an adapter with settings (`adapterlab.verdict.wanted`). `size: 0.5` says that the claim is about
a first contestant with at most half of the second one's trained parameters. `or_on` names tasks that take the place of
those of `on` in a study that lacks them.

>>> read_test("DoRA Beats LoRA", {"better": "dora", "than": "lora", "in": "in_domain", "on": "prose"}).sentence()
'dora is better than lora by a difference that matters: loss, in-domain on prose'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.verdict.forms import All, Better, Controlled, Equivalent, Form, Rate, Reaches, Reverses, Test, Trend
from adapterlab.verdict.geometry_forms import Correlates, MeasuredChange, Projects

__all__ = [
    "All",
    "Better",
    "Controlled",
    "Equivalent",
    "Form",
    "Rate",
    "Reaches",
    "Reverses",
    "Test",
    "Trend",
    "read_test",
]

ALL = "all"
"""Key of a test of several statements."""


@dataclass(frozen=True)
class Kind:
    """A kind of tests: contests between adapters, or measurements of the changes that they learned."""

    key: str
    """Key of the metadata of a claim."""
    forms: Mapping[str, type[Form]]
    """Forms of a statement, each by the key that it alone has."""
    example: str
    """A test of this kind, for error messages."""

    @property
    def title(self) -> str:
        """The kind in words."""
        return self.key.replace("_", " ")


CONTEST = Kind(
    "test",
    {
        "better": Better,
        "controlled": Controlled,
        "reaches": Reaches,
        "equivalent": Equivalent,
        "reverses": Reverses,
        "trend": Trend,
        "rate": Rate,
    },
    "{better: dora, than: lora, in: in_domain, on: [prose]}",
)
"""Tests by contests."""
BY_GEOMETRY = Kind(
    "geometry_test",
    {"geometry": MeasuredChange, "projects": Projects, "correlates": Correlates},
    "{geometry: energy_in_top, of: full_ft, k: 0.1, above: random, on: [prose]}",
)
"""Tests by the geometry of trained changes."""
KINDS = CONTEST, BY_GEOMETRY
"""All kinds of tests."""


def read_test(claim: str, data: Mapping[str, object], labels: Collection[str] = (), kind: Kind = CONTEST) -> Test:
    """Read a test of a claim.

    Args:
        claim: Title of the claim, for error messages.
        data: Its metadata under the key of the kind.
        labels: Labels of contestants that are known besides the names of the adapters.
        kind: Kind of the test.

    Returns:
        The test.

    Raises:
        AdapterlabError: If the metadata has none of the forms, or a value is not valid.
        UnknownNameError: If there is no such key, adapter, setting, hypothesis or metric.
    """
    where = f"the {kind.title} of [{claim}]"
    if ALL not in data:
        return _read(where, data, labels, kind)
    if further := [str(key) for key in data if key != ALL]:
        raise AdapterlabError(f"{where}: {further[0]} stands beside {ALL}: write it in each of the tests of {ALL}")
    parts = data[ALL]
    if not isinstance(parts, list) or len(parts) < 2 or not all(isinstance(part, Mapping) for part in parts):
        first, second, *_ = kind.forms
        raise AdapterlabError(
            f"{where}: {ALL} needs a list of two or more tests: [{{{first}: ...}}, {{{second}: ...}}]"
        )
    return All(all=tuple(_read(f"part {i} of {where}", part, labels, kind) for i, part in enumerate(parts, 1)))


def _read(where: str, data: Mapping[str, object], labels: Collection[str], kind: Kind) -> Form:
    form = next((form for key, form in kind.forms.items() if key in data), None)
    if form is None:
        raise AdapterlabError(f"{where} has none of the keys {', '.join([*kind.forms, ALL])}: give one of them")
    try:
        test = form.model_validate(data)
    except ValidationError as error:
        _refuse_names(where, form, data)
        first = error.errors()[0]
        key = str(first["loc"][-1]) if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise AdapterlabError(f"{where}: {f'{key}: ' if key else ''}{reason}") from error
    except UnknownNameError as error:  # of a name that the form looks up itself, such as a hypothesis
        raise AdapterlabError(f"{where}: {error}") from error
    _refuse_names(where, form, data)
    test.check(where, labels)
    return test


def _refuse_names(where: str, form: type[Form], data: Mapping[str, object]) -> None:
    """Raise an error for a key that a form lacks, since a misspelt one is also missing under its right name, or a metric."""
    known = [field.alias or name for name, field in form.model_fields.items()]
    for key in data:
        if key not in known:
            raise UnknownNameError("key", str(key), known, where=where)
    if form.metrics is not None and "in" in data and str(data["in"]) not in form.metrics:
        raise UnknownNameError("metric", str(data["in"]), form.metrics, where=where)
