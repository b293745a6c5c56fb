"""JSON in the form of `argdown json`, compared with the reference implementation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapterlab import argmap
from adapterlab.argmap.model.map import Map
from adapterlab.argmap.tools.to_json import as_json, to_json
from tests.argmap.reference import corpus, reference_cli, summary

STORED: dict[str, Any] = json.loads(corpus.STORED.read_text(encoding="utf-8"))
ACCEPTED = [name for name, found in STORED.items() if found is not None]
TEXTS = corpus.written() | corpus.generated()

OURS = ("credence", "stated", "strength", "probability")
NOT_EXPORTED = ("ranges", "startColumn", "endLine", "endColumn", "isTopLevel", "isGroup", "cssClass", "priority")

COLOURS = {
    "tags": "color: {tagColors: {pro: 0, con: '#ff0000', both: {color: 3, priority: 2}}}",
    "scheme": "color: {colorScheme: colorbrewer-category10, tagColors: {pro: 1}}",
    "unknown_scheme": "color: {colorScheme: nothing}",
    "own_scheme": "color: {colorScheme: ['#111111', '#222222'], tagColors: {con: 1, pro: 7}}",
    "off": "color: {colorizeByTag: false, statementFontColor: '#123456'}",
    "named": "color: {statementColors: {T: 4, P: '#abc'}, argumentColors: {A: 'red'}, groupColors: {'Three #con': 1}}",
    "groups": "color: {colorizeGroupsByTag: true, groupColorScheme: ['#010101']}",
    "ignored": "color: {ignoreColorData: true}",
    "none": "title: no colours",
}
COLOURED = """
# One #pro

[T]: thesis #other
  + <A>: pro #pro #both
  - [N]: con #con #pro {color: 5}
  - [M]: m {color: '#00ff0g'}

## Two {color: 2}

(1) [P]: premise
----
(2) [C]: c

# Three #con

### Four

[Q]: q #a #b #c #d #e #f #g #h #i
  + [R]: r #i
"""


def scored(text: str) -> tuple[Map, argmap.Scores]:
    read = argmap.parse(text)
    return read, argmap.score(read, skip_broken=True)


def plain(value: Any) -> Any:
    """Return an export without the fields that only one of the two implementations has."""
    if isinstance(value, dict):
        kept = {k: plain(v) for k, v in value.items() if k not in (*OURS, *NOT_EXPORTED)}
        kept = {k: v for k, v in kept.items() if v not in (None, [], {}, False)}
        if "text" in kept:
            kept["text"] = kept["text"].strip()
            kept = {k: v for k, v in kept.items() if v != ""}
        if kept.get("type") == "statement" and kept.get("role") == "argument-description":
            # The reference writes the structure and the description's place there too.
            kept = {k: v for k, v in kept.items() if k != "pcs"}
        # The reference keeps some replaced relations inside elements; those of the whole map are compared.
        return {k: v for k, v in kept.items() if k != "relations" or "type" not in kept}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", [name for name in ACCEPTED if not name.startswith("generated")])
def test_an_export_has_the_statements_arguments_relations_and_sections_of_the_reference(name: str) -> None:
    read, scores = scored(TEXTS[name])
    assert summary.of_reference(json.loads(to_json(read, scores))) == STORED[name]


def test_exports_of_two_hundred_generated_maps_are_those_of_the_reference() -> None:
    names = [name for name in ACCEPTED if name.startswith("generated")]
    assert len(names) == 200
    assert [name for name in names if summary.of_reference(as_json(*scored(TEXTS[name]))) != STORED[name]] == []


@pytest.mark.skipif(reference_cli.binary() is None, reason="the reference is not installed")
def test_every_other_field_is_that_of_the_reference_colours_included() -> None:
    # Groups of the front matter have no lines there, and one that repeats an id has no colour.
    texts = {name: TEXTS[name] for name in ACCEPTED if name != "settings_regroup"}
    texts |= {f"colours_{name}": f"===\n{front}\n===\n{COLOURED}" for name, front in COLOURS.items()}
    for name, found in reference_cli.export(texts).items():
        assert found is not None, name
        assert plain(as_json(*scored(texts[name]))) == plain(found), name


def test_the_scores_are_in_the_export() -> None:
    read, scores = scored("[T]: t\n\n<A>\n\n(1) [P]: p {credence: 0.8}\n----\n(2) [C]: c {inference: 0.5}\n  +> [T]\n")
    found = as_json(read, scores)
    assert found["statements"]["P"]["credence"] == found["statements"]["P"]["stated"] == 0.8
    assert "stated" not in found["statements"]["C"]
    assert found["arguments"]["A"]["strength"] == pytest.approx(0.4)
    assert found["arguments"]["A"]["pcs"][1]["inference"]["probability"] == 0.5
