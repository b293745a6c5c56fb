"""Parity with the reference implementation (@argdown/cli 1.7.5) on every construct of the language."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import pytest

from adapterlab import argmap
from adapterlab.argmap.model.map import Endpoint
from tests.argmap.reference import corpus, reference_cli, summary

# The sources' map is not part of the project; this is the hash of the reference's summary of it.
SOURCES_MAP_DIGEST = "3fcf7683b28b12d8f4c23c4f44b4296119e5a0fb18bf954563ed7fc8e9d0f6ff"
needs_sources = pytest.mark.skipif(not corpus.SOURCES_MAP.exists(), reason="the sources (../shared) are not here")
needs_reference = pytest.mark.skipif(
    reference_cli.binary() is None,
    reason="the reference is not installed: python -m tests.argmap.reference.regenerate --install",
)


@cache
def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(corpus.STORED.read_text(encoding="utf-8"))
    return found


def ours(text: str) -> summary.Summary | None:
    read = argmap.parse(text)
    return None if any(d.severity == "error" for d in read.diagnostics) else summary.of_map(read)


def digest(found: summary.Summary | None) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("name", corpus.written())
def test_every_construct_reads_as_in_the_reference(name: str) -> None:
    assert ours(corpus.written()[name]) == stored()[name]


def test_two_hundred_generated_maps_read_as_in_the_reference() -> None:
    texts = corpus.generated()
    assert len(texts) == 200
    differing = [name for name, text in texts.items() if ours(text) != stored()[name]]
    assert not differing


@needs_sources
def test_the_fixed_sources_map_reads_as_in_the_reference() -> None:
    found = ours(corpus.sources_map(fixed=True))
    assert found is not None
    assert (len(found["statements"]), len(found["relations"])) == (50, 17)
    assert digest(found) == SOURCES_MAP_DIGEST


@needs_reference
def test_the_stored_summaries_are_the_references() -> None:
    exported = reference_cli.export(corpus.written() | corpus.generated())
    assert {name: found and summary.of_reference(found) for name, found in exported.items()} == stored()


@needs_reference
@needs_sources
def test_the_reference_agrees_on_the_sources_map() -> None:
    exported = reference_cli.export(
        {"fixed": corpus.sources_map(fixed=True), "original": corpus.sources_map(fixed=False)}
    )
    assert exported["original"] is None
    assert exported["fixed"] is not None
    assert digest(summary.of_reference(exported["fixed"])) == SOURCES_MAP_DIGEST


TWICE = """
[A]: first
  + [B]: one

[A]: second

[A] {credence: 0.5}

[C]: kept {isCanonical: true}
  + <X>: early

[C]: late

<X>: later

[B]: two {isCanonical: true}

[B]: three {isCanonical: false}

[B]: four {isCanonical: 0}
"""
SHOWN = {"A": "second", "B": "two", "C": "kept", "X": "later"}


def test_of_several_texts_the_references_choice_is_shown() -> None:
    read = argmap.parse(TWICE)
    assert {e.title: e.text for e in (*read.claims.values(), *read.arguments.values())} == SHOWN


@needs_reference
def test_the_reference_shows_these_texts() -> None:
    assert {title: text.strip() for title, text in reference_cli.shown_texts(TWICE).items()} == SHOWN


EXPLODED = """===
model:
    explodeArguments: true
===

# Head

<A>: description #t {x: 1}
  +> [T]

<A>

(1) [P]: p
(2) [Q]: q
-- rule {inference: 0.5} --
  <_ [U]: undercut
(3) [C]: c {credence: 0.3}
  - [Z]: z
(4) [R]: r
-- second rule {uses: [1, 4]} --
(5) [D]: d {inference: 0.9}
----
(6) [E]: e {uses: [5, 2]}

<B>
  -> <A>

(1) [C]
----
(2) [E]

[P]: again

[W]: w
  _> <A>

<Last>

(1) p
-- so {from: [1]} --
(2) q
----
(3) r
"""


def exploded(found: summary.Summary) -> summary.Summary:
    """Leave out the undercuts and the inferences, whose places the reference does not adapt to the new arguments."""
    for argument in found["arguments"].values():
        argument["texts"] = [text for text in argument["texts"] if text]
        argument["inferences"] = argument["inferences"][-1][1:]
    found["relations"] = [relation for relation in found["relations"] if relation[0] != "undercut"]
    return found


@needs_reference
def test_exploded_arguments_are_the_references() -> None:
    exported = reference_cli.export({"exploded": EXPLODED})["exploded"]
    read = ours(EXPLODED)
    assert exported is not None
    assert read is not None
    assert exploded(read) == exploded(summary.of_reference(exported))


def test_undercuts_and_numbers_of_exploded_arguments_keep_their_place() -> None:
    read = argmap.parse(EXPLODED)
    undercuts = {str(r.source): r.target for r in read.relations if r.kind == "undercut"}
    assert undercuts == {"[U]": Endpoint("inference", "A - 1", 2), "[W]": Endpoint("inference", "A - 3", 2)}
    assert {title: a.inference for title, a in read.arguments.items()} == {
        "B": None,
        "A - 1": 0.5,
        "A - 2": 0.9,
        "A - 3": None,
        "Last - 1": None,
        "Last - 2": None,
    }
    whole = argmap.parse(EXPLODED.replace("explodeArguments: true", "explodeArguments: false").replace("uses", "used"))
    parts = argmap.parse(EXPLODED.replace("uses", "used"))
    before, after = argmap.score(whole, "df-quad"), argmap.score(parts, "df-quad")
    assert {t: c.credence for t, c in after.claims.items()} == pytest.approx(
        {t: c.credence for t, c in before.claims.items()}
    )


@pytest.mark.parametrize("uses", ["[0]", "[7]", "[1.5]", "[a]", "[true]"])
def test_an_argument_with_an_unknown_premise_is_not_exploded(uses: str) -> None:
    read = argmap.parse(EXPLODED.replace("[1, 4]", uses))
    assert [d.code for d in read.diagnostics] == ["explode"]
    assert "A" in read.arguments


def test_an_argument_is_not_exploded_into_one_that_exists() -> None:
    read = argmap.parse(EXPLODED.replace("<B>", "<A - 2>"))
    assert [d.code for d in read.diagnostics] == ["explode"]
    assert "A" in read.arguments
