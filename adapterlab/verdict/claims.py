"""Tests of claims, read from the `test:` metadata of an argument map.

There are six forms of a statement about contestants, and one of several statements:

    {better: pissa, than: lora, in: in_domain, on: [restyle, prose], by: 0.01}
    {controlled: ssvd, against: ssvd(rotation=free), in: forgetting, at: equal_learning, on: [prose]}
    {reaches: 0.6, who: ia3, of: full_ft, in: in_domain, on: [restyle]}
    {equivalent: goft, to: oft, within: 0.01, in: in_domain, on: [restyle]}
    {reverses: antipasto, share: 0.5, on: [steer]}
    {trend: full_ft, minus: lora, along: steps, in: in_domain, on: [prose]}
    {all: [{reaches: 0.9, who: ia3, of: lora, in: in_domain, on: [restyle]}, {better: lora, than: ia3, ...}]}

A contestant is a label, or an adapter with settings (`adapterlab.verdict.wanted`). `size: 0.5` says that the claim is about
a first contestant with at most half of the second one's trained parameters. `or_on` names tasks that take the place of
those of `on` in a study that lacks them.

>>> read_test("DoRA Beats LoRA", {"better": "dora", "than": "lora", "in": "in_domain", "on": "prose"}).sentence()
'dora is better than lora by a difference that matters: loss, in-domain on prose'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import ValidationError

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis.metrics import METRICS
from adapterlab.verdict.forms import (
    All,
    Better,
    Controlled,
    Equivalent,
    Reaches,
    Reverses,
    Simple,
    Test,
    Trend,
)
from adapterlab.verdict.wanted import Wanted

__all__ = ["All", "Better", "Controlled", "Equivalent", "Reaches", "Reverses", "Simple", "Test", "Trend", "read_test"]

ALL = "all"
"""Key of a test of several statements."""
_FORMS: dict[str, type[Simple]] = {
    "better": Better,
    "controlled": Controlled,
    "reaches": Reaches,
    "equivalent": Equivalent,
    "reverses": Reverses,
    "trend": Trend,
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
    if ALL not in data:
        return _read(where, data, labels)
    if further := [str(key) for key in data if key != ALL]:
        raise AdapterlabError(f"{where}: {further[0]} stands beside {ALL}: write it in each of the tests of {ALL}")
    parts = data[ALL]
    if not isinstance(parts, list) or len(parts) < 2 or not all(isinstance(part, Mapping) for part in parts):
        raise AdapterlabError(f"{where}: {ALL} needs a list of two or more tests: [{{better: ...}}, {{reaches: ...}}]")
    return All(all=tuple(_read(f"part {i} of {where}", part, labels) for i, part in enumerate(parts, 1)))


def _read(where: str, data: Mapping[str, object], labels: Collection[str]) -> Simple:
    form = next((form for key, form in _FORMS.items() if key in data), None)
    if form is None:
        raise AdapterlabError(f"{where} has none of the keys {', '.join([*_FORMS, ALL])}: give one of them")
    try:
        test = form.model_validate(data)
    except ValidationError as error:
        _refuse_names(where, form, data)
        first = error.errors()[0]
        key = str(first["loc"][-1]) if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise AdapterlabError(f"{where}: {f'{key}: ' if key else ''}{reason}") from error
    _refuse_names(where, form, data)
    for name in test.contestants():
        Wanted.parse(name).check(where, labels)
    return test


def _refuse_names(where: str, form: type[Simple], data: Mapping[str, object]) -> None:
    """Raise an error for a key that a form lacks, since a misspelt one is also missing under its right name, or a metric."""
    known = [field.alias or name for name, field in form.model_fields.items()]
    for key in data:
        if key not in known:
            raise UnknownNameError("key", str(key), known, where=where)
    if "in" in data and str(data["in"]) not in METRICS:
        raise UnknownNameError("metric", str(data["in"]), METRICS, where=where)
