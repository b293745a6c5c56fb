"""Hypothesis strategies for argument maps with every construct of the language."""

from __future__ import annotations

from hypothesis import strategies as st

TITLES = ["Rain", "Wet Street", "Ümlaut-Title", "A (b) c", "Sun 2", "It's so", "50% more", "Claim, with comma", "x_y*z"]
WORDS = [
    "rain",
    "falls",
    "Straße",
    "1,5",
    "a-b",
    "3.14",
    "e.g.",
    "(so)",
    "it's",
    "50%",
    "x = y",
    "and/or",
    "a: b",
    "q?",
    "-- so",
    "~",
    '"said"',
    "😀",
    "\\*",
    "\\[x\\]",
    "\\{",
    "\\\\",
    "<",
    ">",
    "+",
    "a\\_b",
    "*",
    ".^.",
    ":->:",
    ".x.",
    "end.",
    "@",
    "#",
    "; ",
]
title = st.sampled_from(TITLES)
word = st.sampled_from(WORDS)
tag = st.sampled_from(["#tag", "#observation", "#(two words)", "#a-b_c", "#ä"])
link = st.sampled_from(["[paper](https://example.org/a?b=1#L2)", "[two words](docs/x.md#L1-L2)", "[w](./y)"])
mention = st.one_of(title.map(lambda t: f"@[{t}]"), title.map(lambda t: f"@<{t}>"))


@st.composite
def phrase(draw: st.DrawFn) -> str:
    """Words, some in bold or italic, with tags, links and mentions between them."""
    first = draw(st.sampled_from(["It", "Rain", "All", "Because"]))
    parts = [first]
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.integers(0, 9))
        if kind < 5:
            parts.append(draw(word))
        elif kind == 5:
            mark = draw(st.sampled_from(["**", "*", "__", "_"]))
            parts.append(f"{mark}{draw(st.sampled_from(['bold', 'two words', 'x-y']))}{mark}")
        elif kind == 6:
            parts.append(draw(link))
        elif kind == 7:
            parts.append(draw(tag))
        elif kind == 8:
            parts.append(draw(mention))
        else:
            parts.append("**bold *and italic* too**")
    return draw(st.sampled_from([" ", "  ", " "])).join(parts)


@st.composite
def content(draw: st.DrawFn, indent: str) -> str:
    """One to three lines; later ones may be a quote, a comment or a tag."""
    lines = [draw(phrase())]
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.integers(0, 4))
        line = draw(phrase())
        lines.append(indent + ("> " + line if kind == 0 else draw(tag) if kind == 1 else line))
        if kind == 2:
            lines.append(indent + "// a comment - with + signs")
    return draw(st.sampled_from(["\n", "\n", "  \n"])).join(lines)


number = st.sampled_from(["0.5", "0.80", "1", "0", "0.25", ".5", "1e-1"])
scalar = st.one_of(
    number,
    st.sampled_from(
        ['"a reason: with, signs"', "yes", "on", "true", "null", "'it''s'", "plain words", "[1, 2, a]", "{b: 1}", "~"]
    ),
)
key = st.sampled_from(["credence", "reason", "inference", "on", "n", "a-b", "test"])


@st.composite
def metadata(draw: st.DrawFn, indent: str) -> str:
    """A block in braces, on one line or in YAML's indented form."""
    items = draw(st.lists(st.tuples(key, scalar), max_size=3, unique_by=lambda item: item[0]))
    if items and draw(st.integers(0, 4)) == 0:
        inner = "\n".join(f"{indent}    {k}: {v}" for k, v in items)
        return "{\n" + inner + f"\n{indent}}}"
    return "{" + ", ".join(f"{k}: {v}" for k, v in items) + "}"


@st.composite
def element(draw: st.DrawFn, indent: str, depth: int, statement_only: bool = False) -> str:
    """A statement or an argument with metadata and relations."""
    name = draw(title)
    form = draw(st.integers(0, 2 if statement_only else 4))
    if form == 0:
        text = draw(content(indent + "  "))
    elif form == 1:
        text = f"[{name}]: {draw(content(indent + '  '))}"
    elif form == 2:
        text = f"[{name}]" + draw(st.sampled_from(["", " #tag", " #a #b", "\n"]))
    elif form == 3:
        text = f"<{name}>: {draw(content(indent + '  '))}"
    else:
        text = f"<{name}>" + draw(st.sampled_from(["", " #tag", ""]))
    if draw(st.integers(0, 2)) == 0:
        gap = "" if text.endswith("\n") else draw(st.sampled_from([" ", f"\n{indent}  "]))
        text += gap + draw(metadata(indent + "  "))
    if depth > 0 and draw(st.integers(0, 2)) == 0:
        inner = indent + draw(st.sampled_from(["  ", "    ", " ", "\t"]))
        for _ in range(draw(st.integers(1, 3))):
            sign = draw(st.sampled_from(["+", "-", "+>", "->", "<+", "<-", "_>", "<_", "_", "><"]))
            member = draw(element(inner, depth - 1, statement_only=sign == "><"))
            text += ("" if text.endswith("\n") else "\n") + f"{inner}{sign} {member}"
    return text


@st.composite
def structure(draw: st.DrawFn) -> str:
    """A premise-conclusion structure of one to three steps."""
    lines, count = [], 1
    for _ in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(0 if lines else 1, 2))):
            lines.append(f"({count}) {draw(element('    ', 1, statement_only=True))}")
            count += 1
        rule = draw(
            st.sampled_from(
                ["----", "-----", "-- modus ponens --", "--\nrule one, rule two\n--", "-- so {inference: 0.5} --"]
            )
        )
        lines.append(rule)
        if draw(st.integers(0, 5)) == 0:
            lines.append(f"  <_ [{draw(title)}]")
        lines.append(f"({count}) {draw(element('    ', 1, statement_only=True))}")
        count += 1
    return "\n".join(line.rstrip("\n") for line in lines)


@st.composite
def paragraph(draw: st.DrawFn) -> str:
    """Any paragraph, or an argument with its structure."""
    kind = draw(st.integers(0, 9))
    if kind < 5:
        return draw(element("", 3))
    if kind < 7:
        name = draw(title)
        return f"<{name}>\n\n{draw(structure())}"
    if kind == 7:
        level = "#" * draw(st.integers(1, 3))
        extra = draw(st.sampled_from(["", " #tag", " {color: 1}", " {isGroup: false}"]))
        return f"{level} {draw(phrase())}{extra}"
    if kind == 8:
        bullet = draw(st.sampled_from(["*", "1."]))
        return "\n".join(f"  {bullet} {draw(element('    ', 1))}".rstrip("\n") for _ in range(draw(st.integers(1, 2))))
    return (
        draw(st.sampled_from(["// only a comment", "/* a\n\nlong one */", "<!-- hidden -->"]))
        + "\n"
        + draw(element("", 1))
    )


@st.composite
def argument_map(draw: st.DrawFn) -> str:
    """A complete file."""
    mode = draw(st.sampled_from(["", "", "===\nmodel:\n    mode: strict\n===\n\n", "===\ntitle: A map\n===\n\n"]))
    opening = draw(st.sampled_from(["", "\n", "\n\n", "// first\n\n"]))
    gap = draw(st.sampled_from(["\n\n", "\n\n\n", "\n  \n"]))
    body = gap.join(draw(st.lists(paragraph(), min_size=1, max_size=5)))
    return (mode or opening) + body + draw(st.sampled_from(["", "\n", "\n\n"]))
