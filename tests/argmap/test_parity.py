"""Parity with the reference implementation (@argdown/cli 1.7.5) on every construct of the language."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import pytest

from adapterlab import argmap
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
