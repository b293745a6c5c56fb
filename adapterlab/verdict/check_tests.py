"""Checks of the tests that a map's claims state, before anything is trained.

>>> from adapterlab.argmap import parse
>>> the_map = parse("[A]: a {test: {better: dora, than: lorra, in: in_domain, on: prose}}")
>>> [found.message for found in check_tests(the_map)]
["unknown adapter 'lorra' in the test of [A]: did you mean lora, xlora, vblora?"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from functools import cache
from typing import Any

from adapterlab.argmap import Claim, Diagnostic, Map
from adapterlab.errors import AdapterlabError
from adapterlab.resources import shipped
from adapterlab.tasks import all_tasks
from adapterlab.verdict.claims import Test, read_test
from adapterlab.verdict.geometry_forms import GeometryTest, read_geometry_test

TEST, GEOMETRY_TEST = "test", "geometry_test"
"""Keys of a claim's tests: its contest, and its test by geometry."""


def read_tests(the_map: Map, labels: Collection[str] = ()) -> dict[str, Test]:
    """Read the tests of all claims.

    Args:
        the_map: The map.
        labels: Labels of contestants that are known besides those of the studies that come with the package.

    Returns:
        Tests by title of the claim.

    Raises:
        AdapterlabError: If a test cannot be read.
    """
    return {
        title: read_test(title, _table(claim), {*labels, *shipped_labels()})
        for title, claim in the_map.claims.items()
        if "test" in claim.data
    }


def read_geometry_tests(the_map: Map, labels: Collection[str] = ()) -> dict[str, GeometryTest]:
    """Read the geometry tests of all claims.

    Args:
        the_map: The map.
        labels: Labels of contestants that are known besides those of the studies that come with the package.

    Returns:
        Tests by title of the claim.

    Raises:
        AdapterlabError: If a test cannot be read.
    """
    return {
        title: _read_geometry_test(title, claim, {*labels, *shipped_labels()})
        for title, claim in the_map.claims.items()
        if GEOMETRY_TEST in claim.data
    }


def check_tests(the_map: Map) -> list[Diagnostic]:
    """Find mistakes in the tests of a map's claims.

    Args:
        the_map: The map.

    Returns:
        An error for each test that cannot be read, and a warning for each task that no package of tasks has.
    """
    found = []
    for title, claim in the_map.claims.items():
        for key in (TEST, GEOMETRY_TEST):
            if key not in claim.data:
                continue
            test: Test | GeometryTest
            try:
                if key == TEST:
                    test = read_test(title, _table(claim), shipped_labels())
                else:
                    test = _read_geometry_test(title, claim, shipped_labels())
            except AdapterlabError as error:
                found.append(_at(the_map, claim, "error", key, str(error)))
                continue
            unknown = [name for name in (*test.tasks, *test.others) if name not in all_tasks()]
            if unknown:
                words = key.replace("_", " ")
                message = f"the {words} of [{title}] names {' and '.join(unknown)}, which must be a task of the study"
                found.append(_at(the_map, claim, "warning", key, message))
    return found


@cache
def shipped_labels() -> frozenset[str]:
    """Return the labels of the contestants of the studies that come with the package."""
    labels = set()
    for file in sorted(shipped("studies", "quick.toml").parent.glob("*.toml")):
        entries: list[dict[str, Any]] = tomllib.loads(file.read_text("utf-8")).get("contestants", [])
        labels |= {entry["label"] for entry in entries if "label" in entry}
    return frozenset(labels)


def _read_geometry_test(title: str, claim: Claim, labels: Collection[str]) -> GeometryTest:
    data = claim.data[GEOMETRY_TEST]
    if not isinstance(data, dict):
        example = "{geometry: energy_in_top, of: full_ft, k: 0.1, above: random, on: [prose]}"
        raise AdapterlabError(f"the geometry test of [{title}] is {data!r}: write {example}")
    return read_geometry_test(title, data, labels)


def _table(claim: Claim) -> dict[str, Any]:
    test = claim.data["test"]
    if not isinstance(test, dict):
        raise AdapterlabError(
            f"the test of [{claim.title}] is {test!r}: write {{better: dora, than: lora, in: in_domain, on: [prose]}}"
        )
    return test


def _at(the_map: Map, claim: Claim, severity: Any, key: str, message: str) -> Diagnostic:
    place = next(mention for mention in claim.mentions if key in mention.data)
    code = "test" if severity == "error" else "test-task"
    return the_map.source.at(severity, code, message, place.data_start, place.data_end)
