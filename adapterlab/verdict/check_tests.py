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
from adapterlab.verdict.claims import CONTEST, KINDS, Kind, Test, read_test


def read_tests(the_map: Map, labels: Collection[str] = (), kind: Kind = CONTEST) -> dict[str, Test]:
    """Read the tests of all claims.

    Args:
        the_map: The map.
        labels: Labels of contestants that are known besides those of the studies that come with the package.
        kind: Kind of the tests.

    Returns:
        Tests by title of the claim.

    Raises:
        AdapterlabError: If a test cannot be read.
    """
    return {
        title: _read(claim, {*labels, *shipped_labels()}, kind)
        for title, claim in the_map.claims.items()
        if kind.key in claim.data
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
        for kind in KINDS:
            if kind.key not in claim.data:
                continue
            try:
                test = _read(claim, shipped_labels(), kind)
            except AdapterlabError as error:
                found.append(_at(the_map, claim, "error", kind.key, str(error)))
                continue
            unknown = [name for name in (*test.tasks, *test.others) if name not in all_tasks()]
            if unknown:
                message = (
                    f"the {kind.title} of [{title}] names {' and '.join(unknown)}, which must be a task of the study"
                )
                found.append(_at(the_map, claim, "warning", kind.key, message))
    return found


@cache
def shipped_labels() -> frozenset[str]:
    """Return the labels of the contestants of the studies that come with the package."""
    labels = set()
    for file in sorted(shipped("studies", "quick.toml").parent.glob("*.toml")):
        entries: list[dict[str, Any]] = tomllib.loads(file.read_text("utf-8")).get("contestants", [])
        labels |= {entry["label"] for entry in entries if "label" in entry}
    return frozenset(labels)


def _read(claim: Claim, labels: Collection[str], kind: Kind) -> Test:
    data = claim.data[kind.key]
    if not isinstance(data, dict):
        raise AdapterlabError(f"the {kind.title} of [{claim.title}] is {data!r}: write {kind.example}")
    return read_test(claim.title, data, labels, kind)


def _at(the_map: Map, claim: Claim, severity: Any, key: str, message: str) -> Diagnostic:
    place = next(mention for mention in claim.mentions if key in mention.data)
    code = "test" if severity == "error" else "test-task"
    return the_map.source.at(severity, code, message, place.data_start, place.data_end)
