"""Formatting, writing numbers back, diff, sensitivity, intervals and drawing."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapterlab import argmap
from adapterlab.argmap.scoring.sensitivity import one_way_sensitivities
from adapterlab.argmap.scoring.uncertainty import intervals
from adapterlab.argmap.tools.diff import diff_maps
from adapterlab.argmap.tools.export import to_dot, to_html
from adapterlab.argmap.tools.fmt import format_map, meaning
from adapterlab.errors import AdapterlabError
from tests.argmap import strategies
from tests.argmap.reference import corpus

BUILT_IN = corpus.read(corpus.BUILT_IN)


def sound(text: str) -> bool:
    return not any(d.severity == "error" for d in argmap.parse(text).diagnostics)


@settings(max_examples=120, deadline=None)
@given(strategies.argument_map())
def test_formatting_keeps_the_content_and_is_idempotent(text: str) -> None:
    assume(sound(text))
    formatted = format_map(text)
    assert meaning(argmap.parse(formatted)) == meaning(argmap.parse(text))
    assert format_map(formatted) == formatted


@pytest.mark.parametrize("name", [n for n, t in corpus.written().items() if sound(t)])
def test_every_construct_keeps_its_meaning_and_its_comments(name: str) -> None:
    text = corpus.written()[name]
    formatted = format_map(text)
    assert meaning(argmap.parse(formatted)) == meaning(argmap.parse(text))
    for comment in re.findall(r"(?<![:/])// .*|<!--.*?-->", text):
        assert comment.rstrip() in formatted


def test_formatting_of_an_untidy_map() -> None:
    untidy = (
        "\n\n[A]:  text   \n   more\n      <+[B]\n          -  <C>\n\n\n\n"
        "\n<C>\n \n(3) [P]: p\n        q\n-----\n(7) [D]\n   +> [A]"
    )
    tidy = "[A]:  text\n  more\n  + [B]\n    - <C>\n\n<C>\n\n(1) [P]: p\n    q\n----\n(2) [D]\n  +> [A]\n"
    assert format_map(untidy) == tidy


@pytest.mark.parametrize("text", ["[A]: It <  \n  > quoted\n", "[A]: a \\ \n  b\n", "[A]: x\n\n(1) a\n----\n(2) b //"])
def test_spaces_and_line_breaks_that_matter_are_kept(text: str) -> None:
    assert meaning(argmap.parse(format_map(text))) == meaning(argmap.parse(text))


def test_a_broken_map_is_not_formatted() -> None:
    with pytest.raises(AdapterlabError, match="fix them first"):
        format_map("[A] is so\n")


number = st.floats(0, 1).map(lambda x: round(x, 3))


@settings(max_examples=40, deadline=None)
@given(
    new=number, title=st.sampled_from([t for t, c in argmap.parse(BUILT_IN).claims.items() if c.credence is not None])
)
def test_writing_back_changes_the_number_and_no_other_byte(new: float, title: str) -> None:
    edited = argmap.with_credences(BUILT_IN, {title: new})
    assert argmap.parse(edited).claims[title].credence == new
    before, after = BUILT_IN.splitlines(keepends=True), edited.splitlines(keepends=True)
    changed = [(b, a) for b, a in zip(before, after, strict=True) if b != a]
    assert len(changed) <= 1
    for old, now in changed:
        assert re.sub(r"credence: [0-9.]+", "", old) == re.sub(r"credence: [0-9.]+", "", now)


def test_writing_back_through_every_form_of_metadata() -> None:
    text = (
        "[T]: t {prior: 0.5}\r\n  + [A]: a {reason: 'credence: 0.1',   credence:   .5}\r\n  + [B]: b\n"
        "    {\n      reason: |\n        credence: 0.9\n      credence: 0.25\n    }\n\n"
        "<X>\n\n(1) [A]\n-- r {inference: 0.5} --\n(2) [C]: c\n  +> [T]\n"
    )
    edited = argmap.with_credences(text, {"[A]": 0.125, "B": 1, "<X>": 0.75, "T": 0.3})
    expected = text.replace("credence:   .5", "credence:   0.125").replace(
        "      credence: 0.25", "      credence: 1.00"
    )
    assert edited == expected.replace("inference: 0.5", "inference: 0.75").replace("prior: 0.5", "prior: 0.3")


def test_writing_back_refuses_missing_numbers_and_unknown_titles() -> None:
    text = "[A]: a {credence: 0.5}\n  + [B]: b\n"
    with pytest.raises(AdapterlabError, match="has no credence to replace"):
        argmap.with_credences(text, {"B": 0.5})
    with pytest.raises(AdapterlabError, match="did you mean"):
        argmap.with_credences("[Long title]: a {credence: 0.5}\n", {"Long titel": 0.5})
    with pytest.raises(AdapterlabError, match="between 0 and 1"):
        argmap.with_credences(text, {"A": 1.5})


TIPPING = """
[T]: thesis
  - [Con]: con {credence: 0.4}

<A>

(1) [P]: premise {credence: 0.9}
----
(2) [C]: end {inference: 0.8}
  +> [T]
"""


@pytest.mark.parametrize("semantics", ["quadratic-energy", "df-quad"])
def test_one_way_sensitivities_name_the_tipping_point(semantics: str) -> None:
    found = {crux.name: crux for crux in one_way_sensitivities(argmap.parse(TIPPING), semantics=semantics)}
    # The credence of the thesis is one half where 0.4 = P x inference.
    assert found["[P]"].tips_at == pytest.approx(0.5, abs=1e-6)
    assert found["<A>"].tips_at == pytest.approx(0.4 / 0.9, abs=1e-6)
    assert found["[Con]"].tips_at == pytest.approx(0.72, abs=1e-6)
    assert found["[Con]"].slope < 0 < found["[P]"].slope
    assert found["[P]"].low < 0.5 < found["[P]"].high


def test_an_interval_narrows_with_the_sample_size() -> None:
    read = argmap.parse(TIPPING)
    wide, narrow = (intervals(read, size=n)["T"] for n in (5, 500))
    assert wide.low < narrow.low < argmap.score(read).claims["T"].credence < narrow.high < wide.high
    # A stated n is the claim's own: Beta(40, 60) has its 5 and 95 percent points here.
    sized = argmap.parse(TIPPING.replace("credence: 0.4", "credence: 0.4, n: 100"))
    assert intervals(sized)["Con"] == pytest.approx((0.3206, 0.4, 0.4816), abs=2e-3)
    assert intervals(read) == intervals(read)


def test_diff_lists_the_differences_between_two_maps() -> None:
    other = (
        TIPPING.replace("0.4", "0.6").replace("premise", "another premise").replace("inference: 0.8", "inference: 0.7")
    )
    changes = diff_maps(argmap.parse(TIPPING), argmap.parse(other + "\n[T]\n  + [New]: n {credence: 0.5}\n")).changes
    shown = {(c.kind, c.name, c.before, c.after) for c in changes if c.kind != "score"}
    assert shown == {
        ("added", "[New]", "", ""),
        ("added", "[New] supports [T]", "", ""),
        ("number", "[Con] credence", "0.4", "0.6"),
        ("number", "<A> inference", "0.8", "0.7"),
        ("text", "[P]", "premise", "another premise"),
        ("text", "[C] inference", "0.8", "0.7"),
    }
    assert {"[T]", "[C]", "[Con]"} == {c.name for c in changes if c.kind == "score"}


@settings(max_examples=60, deadline=None)
@given(strategies.argument_map())
def test_any_map_gives_valid_svg_html_and_dot(text: str) -> None:
    read = argmap.parse(text)
    assume(sound(text))
    try:
        scores = argmap.score(read)
    except AdapterlabError:
        assume(False)
    svg = argmap.to_svg(read, scores, scores)
    root = ElementTree.fromstring(svg)
    assert float(root.attrib["width"]) >= 1100
    for title in scores.claims:
        assert any(
            node.text and node.text.split(":")[0] == title.split(":")[0]
            for node in root.iter()
            if node.tag.endswith("title")
        )
    assert "<script" not in to_html(read, scores)
    assert to_dot(read, scores).count("{") >= 1


def test_a_title_cannot_put_markup_into_a_page() -> None:
    read = argmap.parse(
        '[<script>alert(1)</script>]: & "text" [x](https://e.org/"onclick="y) {credence: 0.5}\n  +> [T]: t\n'
    )
    page = to_html(read, argmap.score(read))
    assert "<script" not in page
    assert 'onclick="y' not in page


def test_a_drawing_of_a_long_chain_needs_no_deep_stack() -> None:
    text = "\n\n".join(f"[C{i}]: c {{credence: 0.5}}\n  +> [C{i + 1}]" for i in range(3000))
    read = argmap.parse(text + "\n\n[C3000]: end\n")
    assert argmap.to_svg(read, argmap.score(read)).startswith("<svg")
