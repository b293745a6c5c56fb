r"""Content of an argument map that a verdict depends on, in a canonical form.

Two maps that differ in white space, comments, headings, reasons, links or the order of their blocks have the same content.
Any number, text, title, test or relation is part of it, and so are the rules of this package that decide a verdict.

>>> from adapterlab.argmap import parse
>>> one = parse("[T]: It is so. {prior: 0.3}\n  + [C]: Thus. {predicted: [0.7, 0.40], credence: 0.5}")
>>> two = parse("[C]:\n  Thus. {credence: .5, predicted: [0.7, 0.4]}\n  // why\n  +> [T]\n\n[T]: It is\n  so. {prior: 0.3}")
>>> digest(content_of(one)) == digest(content_of(two))
True
>>> [change] = changes(content_of(one), content_of(parse(one.source.text.replace("0.40", "0.45"))))
>>> print(change)
the predicted of [C] changed from [0.7, 0.4] to [0.7, 0.45]
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from adapterlab.argmap import Argument, Claim, Map
from adapterlab.argmap.model.map import Endpoint
from adapterlab.argmap.scoring.semantics import default_semantics
from adapterlab.evidence.fit_carry import shipped_carry
from adapterlab.lab.analysis.evidence import BETWEEN
from adapterlab.lab.analysis.metrics import METRICS, stated_difference
from adapterlab.lab.run.design import plan_of
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.study.spec import Study
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.claim_verdict import SLACK
from adapterlab.verdict.claims import BY_GEOMETRY
from adapterlab.verdict.counted import counted_sources
from adapterlab.verdict.forms import All, Better, Controlled, Form, Test, Trend
from adapterlab.verdict.geometry_forms import (
    SMALLEST_CORRELATION,
    SMALLEST_OF_VALUE,
    SMALLEST_OVER_RANDOM,
    SMALLEST_SHARE,
    Projects,
)
from adapterlab.verdict.relevance import TARGET
from adapterlab.verdict.resolution import RESOLVED
from adapterlab.verdict.statements import MIN_PAIRS

Content: TypeAlias = dict[str, Any]
"""Plain data: `semantics`, `sources`, `counted`, `claims`, `arguments`, `relations`, `tests`, `geometry_tests` if there are
any, `rules`, `study` or None."""
NOT_CONTENT = ("reason", "test", "geometry_test", "isCanonical")
"""Keys of metadata that are no part of a claim's numbers; a test is read and entered by itself."""
RULES = {
    "Bayes factor from which a claim counts as resolved": RESOLVED,
    "scale of the effects' prior, in smallest differences that matter": TYPICAL,
    "scale of their deviation between tasks, likewise": BETWEEN,
    "pairs of runs that a verdict needs": MIN_PAIRS,
    "share by which a contestant may exceed its size": SLACK,
}
"""Constants of this package that decide a verdict."""
GEOMETRY_TESTS = "geometry_tests"
"""Key of the geometry tests; a map without any has the content that it had before there were such tests."""
GEOMETRY_RULES = {
    "smallest difference from a random change, as a share of its value": SMALLEST_OVER_RANDOM,
    "smallest difference from a value, as a share of it": SMALLEST_OF_VALUE,
    "smallest difference of a residual": SMALLEST_SHARE,
    "smallest correlation": SMALLEST_CORRELATION,
}
"""Constants of this package that decide a verdict on a geometry test."""
_E = TypeVar("_E", Claim, Argument)
_UNTITLED = re.compile(r"Untitled [0-9]+")


def content_of(the_map: Map, study: ResolvedStudy | None = None, labels: Collection[str] = ()) -> Content:
    """Return the content of a map.

    Args:
        the_map: The map.
        study: Study that will test its claims, by which thresholds and tasks of the tests are resolved.
        labels: Labels of contestants that tests may name besides those of the study.

    Returns:
        Plain data without an order that depends on the file's.

    Raises:
        AdapterlabError: If a claim's test cannot be read.
    """
    names = _names(the_map)
    main = None if study is None else study.main.study
    known = [*labels, *([] if main is None else [entry.name for entry in main.entrants])]
    tests = {title: _test(test, main) for title, test in read_tests(the_map, known).items()}
    by_geometry = {title: _test(test, main) for title, test in read_tests(the_map, known, BY_GEOMETRY).items()}
    sources = the_map.settings.get("sources")
    concluded = {step.conclusion for argument in the_map.arguments.values() for step in argument.steps}
    content = {
        "semantics": default_semantics(the_map),
        "sources": sources if isinstance(sources, Mapping) else {},
        "counted": sorted(counted_sources(the_map)),
        "claims": {names[f"[{c.title}]"]: _claim(c, c.title in concluded) for c in the_map.claims.values()},
        "arguments": {names[f"<{a.title}>"]: _argument(a, names) for a in the_map.arguments.values()},
        "relations": sorted(_relations(the_map, names)),
        "tests": {names[f"[{title}]"]: test for title, test in tests.items()},
        **({GEOMETRY_TESTS: {names[f"[{title}]"]: test for title, test in by_geometry.items()}} if by_geometry else {}),
        "rules": {
            **RULES,
            **(GEOMETRY_RULES if by_geometry else {}),
            "decades of model size over which results carry": shipped_carry().size,
            "decades of training examples over which results carry": shipped_carry().examples,
            "parameters from which on claims are about all models": TARGET.parameters,
        },
        "study": None if study is None else _study(study),
    }
    found: Content = _plain(content)
    return found


def digest(value: object) -> str:
    """Return the SHA-256 of plain data as canonical JSON: sorted keys, no white space, 64 hexadecimal digits.

    Args:
        value: The data.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def changes(old: Content, new: Content) -> list[str]:
    """Return the differences between two contents in words.

    Args:
        old: The content when it was locked.
        new: The content now.
    """
    # A rule that the version of the lock had not came with a form of tests that the locked map cannot hold.
    rules = {name: value for name, value in new["rules"].items() if name in old["rules"]}
    found = [
        *(
            f"the {key} changed from {old[key]} to {new[key]}"
            for key in ("semantics", "counted")
            if old[key] != new[key]
        ),
        *_changed(old["sources"], new["sources"], "the dependence of the source {}"),
        *_elements(old["claims"], new["claims"]),
        *_elements(old["arguments"], new["arguments"]),
        *(f"a relation was removed: {text}" for text in old["relations"] if text not in new["relations"]),
        *(f"a relation was added: {text}" for text in new["relations"] if text not in old["relations"]),
        *_tests(old["tests"], new["tests"], "test"),
        *_tests(old.get(GEOMETRY_TESTS, {}), new.get(GEOMETRY_TESTS, {}), "geometry test"),
        *_changed(old["rules"], rules, "a rule of this package, {},"),
    ]
    before, now = old["study"], new["study"]
    if before is not None and now is not None:
        found += _changed(_stated(before), _stated(now), "{} of the study")
    return found


def _stated(study: Content) -> Content:
    """Return what a study states, by path: not its hash, which follows, nor keys without a value, which may be new ones."""
    return {key: value for key, value in _flat(study) if value is not None and key != "hash"}


def _names(the_map: Map) -> dict[str, str]:
    """Return by element its name, `[Title]` or `<Title>`; one without a title is named by what it contains."""
    found: dict[str, str] = {}
    for claim in _ordered(the_map.claims):
        found[f"[{claim.title}]"] = _name(claim, f"[{claim.text}]", found)
    for argument in _ordered(the_map.arguments):
        parts = [found.get(f"[{title}]", title) for _, title in argument.numbered]
        found[f"<{argument.title}>"] = _name(argument, f"<{'; '.join([argument.text, *parts])}>", found)
    return found


def _ordered(elements: Mapping[str, _E]) -> list[_E]:
    """Return elements in an order that is not that of the text, for those that are told apart by a number."""
    return sorted(elements.values(), key=lambda element: json.dumps(_plain(element.data), sort_keys=True))


def _name(element: Claim | Argument, by_text: str, taken: Mapping[str, str]) -> str:
    if not _UNTITLED.fullmatch(element.title):
        return f"[{element.title}]" if isinstance(element, Claim) else f"<{element.title}>"
    name = _text(by_text)
    return f"{name} ({sum(other.startswith(name) for other in taken.values()) + 1})" if name in taken.values() else name


def _element(element: Claim | Argument) -> Content:
    found = {"text": element.text, **_numbers(element.data)}
    source = found.get("source")
    return found | ({"source": sorted(map(str, source))} if isinstance(source, list) else {})


def _claim(claim: Claim, concluded: bool) -> Content:
    """Return the content of a claim; the inference beside a conclusion is entered with its argument."""
    return {key: value for key, value in _element(claim).items() if not (concluded and key == "inference")}


def _numbers(data: Mapping[str, Any]) -> Content:
    return {key: value for key, value in data.items() if key not in NOT_CONTENT}


def _argument(argument: Argument, names: Mapping[str, str]) -> Content:
    steps = [
        {
            "premises": [names[f"[{title}]"] for title in step.premises],
            "conclusion": names[f"[{step.conclusion}]"],
            **_numbers(step.data),
            "inference": step.inference,
        }
        for step in argument.steps
    ]
    found = {f"{key} of step {i}": value for i, step in enumerate(steps, start=1) for key, value in step.items()}
    return _element(argument) | found


def _relations(the_map: Map, names: Mapping[str, str]) -> Iterator[str]:
    for relation in the_map.relations:
        ends = [_end(end, names) for end in (relation.source, relation.target)]
        if relation.kind == "contradictory":
            ends.sort()
        yield f"{ends[0]} {relation.kind} {ends[1]}"


def _end(end: Endpoint, names: Mapping[str, str]) -> str:
    name = names[str(end)]
    return f"inference {end.index} of {name}" if end.kind == "inference" else name


def _test(test: Test, study: Study | None) -> Content:
    """Return a test with its threshold and its tasks."""
    placed = test if study is None else test.in_study(study.tasks)
    if isinstance(placed, All):
        return {"all": [_simple(part, study) for part in placed.parts]}
    return _simple(placed, study)


def _simple(test: Form, study: Study | None) -> Content:
    found = test.model_dump(by_alias=True, mode="json", exclude_none=True)
    difference = isinstance(test, Better | Controlled | Projects) or (isinstance(test, Trend) and test.within is None)
    if difference and test.metric in METRICS and getattr(test, "by", None) is None:
        found["by"] = _margin(test.metric, study)
    return found


def _margin(name: str, study: Study | None) -> float | str:
    """Return the smallest difference that matters in a metric, or the rule for it if it is not known yet."""
    metric = METRICS[name]
    stated = None if study is None else stated_difference(metric, study)
    if stated is not None:
        return stated
    if study is not None:
        return f"{metric.smallest:g} of the reference's largest value"
    return "the smallest difference that matters, by the study"


def _study(study: ResolvedStudy) -> Content:
    """Return the design of a study without its precision, which may be chosen when it runs."""
    design = {key: value for key, value in plan_of(study, None)["study"].items() if key != "precision"}
    return {"name": study.study.name, "hash": digest(_plain(design)), "design": design}


def _plain(value: object) -> Any:
    """Return plain data with one form for equal numbers and for texts that differ in white space."""
    if isinstance(value, Mapping):
        return {_text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        number = _number(value)
        return number + 0.0 if math.isfinite(number) else repr(value)
    return _text(str(value))


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _text(value: str) -> str:
    return " ".join(unicodedata.normalize("NFC", value).split())


def _elements(old: Content, new: Content) -> Iterator[str]:
    yield from (f"{name} was removed" for name in old if name not in new)
    yield from (f"{name} was added" for name in new if name not in old)
    for name in old:
        before: Content = dict(_flat(old[name]))
        now: Content = dict(_flat(new[name] if name in new else old[name]))
        if before.pop("text") != now.pop("text"):
            yield f"the text of {name} changed"
        yield from _changed(before, now, f"the {{}} of {name}")


def _tests(old: Content, new: Content, kind: str) -> Iterator[str]:
    yield from (f"the {kind} of {name} was removed" for name in old if name not in new)
    yield from (f"the {kind} of {name} was added" for name in new if name not in old)
    for name in old:
        yield from (
            f"the {kind} of {name} changed: {key} from {_shown(a)} to {_shown(b)}"
            for key, a, b in _differences(old[name], new[name] if name in new else old[name])
        )


def _changed(old: Content, new: Content, what: str) -> list[str]:
    return [f"{what.format(key)} changed from {_shown(a)} to {_shown(b)}" for key, a, b in _differences(old, new)]


def _differences(old: Content, new: Content) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*old, *new}):
        if (key in old, old.get(key)) != (key in new, new.get(key)):
            yield key, old.get(key), new.get(key)


def _flat(data: Content, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of tables inside tables, by their path."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
