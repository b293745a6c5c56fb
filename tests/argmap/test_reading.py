"""Reading of maps, and the errors for maps that are wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterlab import argmap
from adapterlab.errors import AdapterlabError
from tests.argmap import strategies
from tests.argmap.reference import corpus

needs_sources = pytest.mark.skipif(not corpus.SOURCES_MAP.exists(), reason="the sources (../shared) are not here")

SMALL = """
[Thesis]: The main claim. {prior: 0.4}

<Evidence> #strong

(1) [Seen]: It was seen. #observation [a paper](https://example.org/p)
    > as it was seen
    {reason: "twice", credence: 0.9, test: {better: a, than: b, in: c, on: [d]}}
(2) [Assumed]: It holds. {reason: "why not", credence: 0.7}
-- by analogy {inference: 0.8} --
(3) [Then]: So it follows.
  +> [Thesis]
"""


def test_a_map_gives_claims_arguments_relations_and_tests() -> None:
    read = argmap.parse(SMALL)
    assert read.diagnostics == []
    assert read.theses == ["Thesis"]
    seen = read.claims["Seen"]
    assert (seen.text, seen.tags, seen.credence, seen.role) == ("It was seen. a paper", ["observation"], 0.9, "premise")
    assert seen.mentions[0].quotes == ["as it was seen"]
    assert seen.mentions[0].links == [("a paper", "https://example.org/p")]
    assert read.claims["Thesis"].prior == 0.4
    evidence = read.arguments["Evidence"]
    assert (evidence.premises, evidence.conclusion, evidence.inference) == (["Seen", "Assumed"], "Then", 0.8)
    assert evidence.steps[0].rules == ["by analogy"]
    assert [(r.kind, str(r.source), str(r.target)) for r in read.relations] == [("support", "[Then]", "[Thesis]")]
    assert read.tests == {"Seen": {"better": "a", "than": "b", "in": "c", "on": ["d"]}}


def test_a_contradiction_does_not_change_the_theses() -> None:
    read = argmap.parse("[T]: thesis\n  + [P]: pro {credence: 0.5}\n  >< [Rival]: rival {credence: 0.2}\n")
    assert read.theses == ["T"]
    assert read.claims["Rival"].role == "claim"


BROKEN = {
    "no inference line": (
        "<A>\n\n(1) [P]: one\n(2) [C]: two\n  +> [T]\n",
        "<A> has no conclusion: there is no inference line before (2)",
        4,
        "insert a line `----` before line",
    ),
    "text after a title": (
        "[A] is so\n",
        "text follows a title without a colon",
        1,
        "write [Title]: text to define it",
    ),
    "relation not indented": (
        "[A]: a\n+ [B]: b\n",
        "a relation is not indented further than its parent",
        2,
        "indent it further",
    ),
    "bold not closed": ("[A]: this **is open\n", "** is opened but not closed", 1, "close it"),
    "data inside a text": ("[A]: a set {x: 1} of things\n", "metadata is in the middle of a text", 1, "move {...}"),
    "heading inside a paragraph": ("[A]: text\n# Heading\n", "a heading is inside a paragraph", 2, "empty line"),
    "structure without empty line": (
        "<A>\n(1) [P]: p\n----\n(2) [C]: c\n",
        "is inside a paragraph",
        2,
        "empty line",
    ),
    "no conclusion": (
        "<A>\n\n(1) [P]: p\n----\n",
        "<A> ends with an inference line",
        4,
        "write the numbered conclusion",
    ),
    "inference not closed": (
        "<A>\n\n(1) [P]: p\n-- rule\n(2) [C]: c\n",
        "an inference line is not closed",
        4,
        "end it with --",
    ),
    "argument as premise": (
        "<A>\n\n(1) <P>\n----\n(2) [C]: c\n",
        "an argument cannot be a premise",
        3,
        "write a [Statement]",
    ),
    "metadata that is no YAML": ("[A]: text {a: [1, 2}\n", "metadata is not YAML", 1, ""),
    "a key twice": ("[A]: text {a: 1, a: 2}\n", "the key 'a' is given twice", 1, ""),
    "a definition without text": (
        "[A]:\n\n[B]: b\n",
        "[A]: has a colon but no text",
        1,
        "write the text after the colon",
    ),
    "two structures": (
        "<A>\n\n(1) [P]: p\n----\n(2) [C]: c\n\n<A>\n\n(1) [Q]: q\n----\n(2) [D]: d\n",
        "<A> has two premise-conclusion structures",
        9,
        "its own argument title",
    ),
    "front matter too late": (
        "[A]: a\n\n===\ntitle: x\n===\n",
        "front matter (===) is only allowed at the start of a file",
        3,
        "",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_mistake_gives_one_message_and_the_rest_is_read(name: str) -> None:
    text, message, line, fix = BROKEN[name]
    before, after = "[Before]: here. {credence: 0.5}\n\n", "\n\n[After]: there. {credence: 0.5}\n  +> [Before]\n"
    read = argmap.parse(before + text + after)
    found = [d for d in read.diagnostics if d.severity == "error"]
    assert len(found) == 1
    assert message in found[0].message
    assert found[0].line == line + 2
    assert fix in found[0].fix
    assert {"Before", "After"} <= read.claims.keys()
    assert any(str(r.source) == "[After]" for r in read.relations)


def test_a_message_shows_the_line_with_a_caret() -> None:
    read = argmap.parse("[A]: a\n\n[B] is so\n", "file.argdown")
    shown = read.diagnostics[0].render(read.source).split("\n")
    assert shown[0].startswith("file.argdown:3:5: error: ")
    assert shown[1] == "    3 | [B] is so"
    assert shown[2].index("^") == shown[1].index("is so")
    assert json.loads(json.dumps(read.diagnostics[0].to_json()))["line"] == 3


@needs_sources
def test_the_error_in_the_sources_map_is_named_with_its_fix() -> None:
    read = argmap.parse(corpus.sources_map(fixed=False))
    assert len(read.diagnostics) == 1
    found = read.diagnostics[0]
    assert "<AntiPaSTO OOD Transfer>" in found.message
    assert read.source.line(found.line).startswith("(2) [SVD Causal Not Correlational]")
    assert found.fix == f"insert a line `----` before line {found.line}"
    assert len(read.claims) == 50
    assert len(read.relations) == 16
    with pytest.raises(AdapterlabError, match="AntiPaSTO OOD Transfer"):
        argmap.score(read)
    assert argmap.score(read, skip_broken=True).claims["Natural Manifold"].credence > 0.5


def test_loading_a_broken_or_missing_file_names_the_error_and_its_place(tmp_path) -> None:
    path = tmp_path / "broken.argdown"
    path.write_text("[A] is so\n")
    with pytest.raises(AdapterlabError, match=r"broken.argdown:1:5: error"):
        argmap.load(path)
    with pytest.raises(AdapterlabError, match="cannot be read"):
        argmap.load(tmp_path / "missing.argdown")
    path.write_bytes(b"[A]: \xff\xfe\n")
    with pytest.raises(AdapterlabError, match="not UTF-8 text: byte 5"):
        argmap.load(path)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300).map(lambda b: b.decode("utf-8", "replace")), st.text(max_size=300)))
def test_any_bytes_give_a_map_or_diagnostics(text: str) -> None:
    read = argmap.parse(text)
    for diagnostic in read.diagnostics:
        assert diagnostic.render(read.source)


marks = st.sampled_from(
    [*list("[]<>(){}#*_+->:@\\/=.,'\"~ \t\n\r1aé"), "----", "\n\n", "  + ", "(1) ", "===", "//", "/*", "{a: 1}"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(marks, max_size=60).map("".join))
def test_any_mixture_of_signs_gives_a_map_or_diagnostics(text: str) -> None:
    read = argmap.parse(text)
    assert read.claims or read.arguments or read.sections or read.diagnostics
    for diagnostic in read.diagnostics:
        assert diagnostic.render(read.source)
    argmap.score(read, skip_broken=True) if not _impossible(read) else None


def _impossible(read: argmap.Map) -> bool:
    return any(
        isinstance(claim.data.get(key), int | float) for claim in read.claims.values() for key in ("credence", "prior")
    )


@settings(max_examples=100, deadline=None)
@given(strategies.argument_map(), st.data())
def test_a_map_cut_or_spliced_anywhere_gives_a_map_or_diagnostics(text: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(text)))
    second = data.draw(st.integers(0, len(text)))
    read = argmap.parse(text[:first] + text[second:])
    for diagnostic in read.diagnostics:
        assert diagnostic.render(read.source)


HOSTILE = {
    "brackets": "[" * 200_000,
    "angles": "<" * 200_000,
    "braces": "{" * 200_000,
    "braces and commas": "{" * 50_000 + "},\n" * 50_000,
    "stars": "*" * 200_000,
    "bold": "[A]: " + "**a " * 50_000,
    "underscores": "_a" * 100_000,
    "slashes": "/" * 200_000,
    "block comments": "/*" * 100_000,
    "html comments": "<!--" * 50_000,
    "equals": "=" * 200_000 + "a",
    "fences": "=== a " * 50_000,
    "links": "[a](" * 50_000,
    "tags": "#(" * 100_000,
    "mentions": "@[" * 100_000,
    "dots": ".a" * 100_000,
    "quotation marks": "'" * 200_000 + "x\n" + " " * 200_000,
    "nesting": "[A]\n" + "".join(" " * (i + 1) + "+ [B]\n" for i in range(600)),
    "lists": "[A]: a {x: " + "[" * 50_000 + "]" * 50_000 + "}",
    "block lists": "[A]: a {\n " + "- " * 20_000 + "x\n}",
    "aliases": "[A]: a {a: &a [x, x], b: [*a, *a, *a]}",
    "headings": "# a\n\n" * 20_000,
    "inference": "(1) a\n" + "--\n" * 50_000,
    "backslashes": "\\" * 100_001,
    "line ends": "\r" * 100_000,
    "nul": "\0" * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_gives_a_map_or_diagnostics(name: str) -> None:
    read = argmap.parse(HOSTILE[name])  # in quadratic time, any of these would take minutes
    assert read.claims or read.arguments or read.sections or read.diagnostics


def test_nesting_beyond_its_bound_is_a_clear_error() -> None:
    deep = "[A]: a\n" + "".join(" " * (i + 1) + "+ [B]: b\n" for i in range(600))
    assert any(d.code == "too-deep" for d in argmap.parse(deep).diagnostics)


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, adapterlab.argmap; "
        "print([m for m in ('torch', 'lark', 'scipy', 'numpy', 'yaml', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
