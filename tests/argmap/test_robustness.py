"""Texts that no one would write: they give a map, diagnostics or an AdapterlabError, and never take long."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from typer.testing import CliRunner

from adapterlab import argmap
from adapterlab.argmap.cli import app
from adapterlab.argmap.lint.checks import check
from adapterlab.argmap.scoring.uncertainty import LARGE, beta_quantiles, intervals
from adapterlab.argmap.tools.fmt import format_map
from adapterlab.errors import AdapterlabError
from tests.argmap import strategies

MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Fail instead of hanging. The seconds are processor time, which other work on the machine does not affect."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def survives(text: str) -> None:
    """Read, check, score and format a text."""
    with limit(10):
        read = argmap.parse(text)
        for diagnostic in check(read, strict=True):
            diagnostic.render(read.source)
        for skip_broken in (False, True):
            with suppress(AdapterlabError):
                argmap.score(read, skip_broken=skip_broken).to_json()
        with suppress(AdapterlabError):
            format_map(text)


digits = st.one_of(
    st.sampled_from(["1" + "0" * 400, "-" + "9" * 5000, "0x" + "f" * 400, "1e400", "-1e-400", ".nan", ".inf", "-.inf"]),
    st.sampled_from(["1e14", "1e-320", "0b1", "0o7", "1_0", "true", "2020-01-01", "[0.5]", "{a: 1}", "'0.5'", "high"]),
    st.integers().map(str),
    st.floats().map(str),
)
block = st.lists(st.tuples(st.sampled_from(["credence", "prior", "inference", "n", "reason"]), digits), max_size=3).map(
    lambda items: " {" + ", ".join(f"{key}: {value}" for key, value in items) + "}"
)
text_of_anything = st.text(st.characters(), max_size=20)  # includes control characters and surrogates
title = st.one_of(strategies.title, text_of_anything)
ends = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n", "\r", "\n \t\n", "\u2028", ""])
indent = st.text(" \t'", max_size=6)
sign = st.sampled_from(["+ ", "- ", "_ ", "+>", "->", "_>", "><", "<_", "* ", "1. ", "(1) ", "# ", "--", "----", "==="])
piece = st.one_of(
    title.map(lambda words: f"[{words}]"),
    title.map(lambda words: f"[{words}]: text"),
    title.map(lambda words: f"<{words}>"),
    block,
    text_of_anything,
    strategies.link,
    st.text("[]()<>{}#@*_-+=.:/\\,;'\"!", max_size=12),
)
line = st.tuples(indent, st.one_of(sign, st.just("")), piece, st.one_of(block, st.just("")), ends).map("".join)
setting = st.sampled_from(["5", "[]", "{}", "true", "null", "[5, {title: 1}]", "{mode: strict, explodeArguments: 1}"])
nested = st.sampled_from(["{regroup: [{children: {}}, {title: [], statements: [1], arguments: x}]}", "{shortcodes: 5}"])
codes = st.sampled_from(['{shortcodes: {":x:": 5, ".y.": {unicode: null}, z: {}}}', "{removeTagsFromText: []}"])
front_matter = st.tuples(st.sampled_from(["model", "group", "x"]), st.one_of(setting, nested, codes)).map(
    lambda pair: f"===\n{pair[0]}: {pair[1]}\n===\n\n"
)
lines = st.tuples(st.one_of(st.just(""), front_matter), st.lists(line, max_size=12).map("".join)).map("".join)
hostile = st.one_of(lines, st.text(st.characters(), max_size=200))


@settings(max_examples=400, deadline=None)
@given(hostile)
def test_no_text_raises_anything_but_an_adapterlab_error(text: str) -> None:
    survives(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("TPCI"), block), max_size=4).map(dict))
def test_no_number_raises_anything_but_an_adapterlab_error(blocks: dict[str, str]) -> None:
    text = "[T]: thesis{T}\n\n<A>\n\n(1) [P]: premise{P}\n-- rule{I} --\n(2) [C]: conclusion{C}\n  +> [T]\n"
    for key in "TPCI":
        text = text.replace(f"{{{key}}}", blocks.get(key, ""))
    survives(text)
    with suppress(AdapterlabError), limit(10):
        intervals(argmap.parse(text), skip_broken=True)


CHARACTERS, ITEMS = 100_000, 5_000  # enough to exceed the limit in quadratic time
LONG: dict[str, Callable[[], str]] = {
    "title": lambda: f"[{'x' * CHARACTERS}]: text\n  + [{'x' * CHARACTERS}]\n",
    "open titles": lambda: "[" * CHARACTERS,
    "links over a line break": lambda: "[" * CHARACTERS + "\n](x)",
    "spaces on an inference line": lambda: f"(1) a\n-- {' ' * CHARACTERS} --\n(2) b\n",
    "tags": lambda: "[A]: a " + " ".join(f"#t{i}" for i in range(ITEMS)),
    "mentions with tags": lambda: "\n\n".join(f"[A] #t{i}" for i in range(ITEMS)),
    "quotes": lambda: "[A]: a\n" + "  > quoted words\n" * ITEMS,
    "comments on a line": lambda: "[A]: a\n\n" + "/* c */ " * ITEMS + "\n\n[B]: b\n",
    "emphasis": lambda: "*a " * ITEMS,
    "empty emphasis": lambda: "[A]: " + "**" * ITEMS,
    "braces": lambda: "[A]: a " + "{" * CHARACTERS + "}" * CHARACTERS,
    "metadata": lambda: "[A]: a {" + ", ".join(f"k{i}: 1.5" for i in range(2000)) + "}\n",
    "list in metadata": lambda: "[A]: a {x: " + "[" * CHARACTERS + "]" * CHARACTERS + "}\n",
    "indented metadata": lambda: "[A]: a {\n" + "- " * CHARACTERS + "\n}\n",
    "relations": lambda: "[T]: t\n" + "".join(f"  + [A{i}]\n" for i in range(ITEMS)),
    "nested relations": lambda: "".join(f"{' ' * i}+ [A{i}]\n" for i in range(500)),
    "self attacks": lambda: "".join("[A]\n  - [A]\n\n" for _ in range(ITEMS)),
    "dots": lambda: "[A]: " + ".:" * CHARACTERS,
    "apostrophes": lambda: "[A]: a\n" + "'" * CHARACTERS,
    "carriage returns": lambda: "[A]: a" + "\r" * CHARACTERS,
    "dashes": lambda: "(1) a\n" + "-" * CHARACTERS + "\n(2) b\n",
    "hashes": lambda: "#" * CHARACTERS + " heading",
    "equals signs": lambda: "=" * CHARACTERS,
    "front matter": lambda: "===\n" + "a:\n" * ITEMS + "===\n\n[A]: a\n",
    "attacks on premises": lambda: (
        "<A>\n\n"
        + "".join(f"({i}) [P{i}]: p\n" for i in range(1500))
        + "----\n(9) [C]: c\n\n"
        + "".join(f"[X{i % 9}]\n  -> [P{i}]\n  -> <A>\n\n" for i in range(1500))
    ),
    "a dense cycle": lambda: "\n\n".join(f"[A{i}]\n" + "".join(f"  - [A{j}]\n" for j in range(60)) for i in range(60)),
}


@pytest.mark.parametrize("name", LONG)
def test_no_construct_takes_more_than_linear_time(name: str) -> None:
    survives(LONG[name]())


def test_numbers_are_those_of_the_reference() -> None:
    # In JavaScript every number is a double.
    data = argmap.parse(f"[A]: a {{x: {10**400}, y: -{'9' * 5000}, z: 0x{'f' * 400}, i: {2**53}, j: {2**60}}}").claims
    assert data["A"].data == {"x": np.inf, "y": -np.inf, "z": np.inf, "i": 2**53, "j": float(2**60)}


@pytest.mark.parametrize("mean", [0.5, 0.9, 0.01, 1e-6])
@pytest.mark.parametrize("factor", [0.9, 1.1, 1e4])
def test_large_sample_sizes_have_the_quantiles_of_their_beta_distribution(mean: float, factor: float) -> None:
    size = factor * LARGE / (mean * (1 - mean))
    shares = np.array([0.001, 0.05, 0.3, 0.5, 0.95])
    expected = beta.isf(1 - shares, mean * size, (1 - mean) * size)
    deviation = float(np.sqrt(mean * (1 - mean) / (size + 1)))
    assert beta_quantiles(mean, size, shares) == pytest.approx(expected, abs=1e-5 * deviation + 1e-12 * mean)


@pytest.mark.parametrize("n", ["1e14", "1e300", ".inf", "1" + "0" * 400])
def test_an_interval_of_any_sample_size_is_fast(n: str) -> None:
    with limit(10):
        found = intervals(argmap.parse(f"[A]: a {{credence: 0.3, n: {n}}}\n  +> [T]: t\n"))["A"]
    assert found == pytest.approx((0.3, 0.3, 0.3), abs=1e-6)


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert outcome.exception is None, outcome.exception
    return outcome.stdout


@pytest.mark.parametrize("breaks", ["\n", "\r\n"])
def test_a_byte_order_mark_and_line_ends_survive_all_edits(tmp_path: Path, breaks: str) -> None:
    text = MARK + breaks.join(["===", "title: t", "===", "", "[T]: t {prior: 0.5}", "  + [A]: a {credence: 0.5}", ""])
    path = tmp_path / "map.argdown"
    path.write_bytes(text.encode())
    run("fmt", path)
    assert path.read_bytes() == text.encode()
    run("what-if", path, "--set", "A=0.25", "--write")
    assert path.read_bytes() == text.replace("credence: 0.5", "credence: 0.25").encode()
    path.write_bytes(text.replace("  +", "    +").encode())
    run("fmt", path)
    assert path.read_bytes() == text.encode()


def test_a_byte_order_mark_is_no_part_of_the_map() -> None:
    plain = "[T] is so\n\n[A]: a\n"
    with_mark, without = argmap.parse(MARK + plain), argmap.parse(plain)
    assert with_mark.diagnostics == without.diagnostics
    shown = [[d.render(m.source) for d in m.diagnostics] for m in (with_mark, without)]
    assert shown[0] == shown[1]
    assert with_mark.claims.keys() == without.claims.keys()
    assert argmap.parse(MARK).diagnostics == argmap.parse("").diagnostics
