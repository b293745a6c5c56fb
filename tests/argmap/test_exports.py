"""GraphML, DOT, selection, colours, Markdown and --watch."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import networkx
import pytest
from hypothesis import assume, given, settings

from adapterlab import argmap
from adapterlab.argmap.model.map import Map
from adapterlab.argmap.tools.export import to_dot, to_html
from adapterlab.argmap.tools.formats import FORMATS, write
from adapterlab.argmap.tools.graphml import to_graphml
from adapterlab.argmap.tools.select import select
from adapterlab.argmap.tools.to_json import to_json
from adapterlab.cli import main
from adapterlab.errors import AdapterlabError
from tests.argmap import strategies
from tests.argmap.reference import corpus, reference_cli

MAP = """
===
title: Trams
color: {tagColors: {pro: '#00aa00', con: '#aa0000'}, groupColors: {Rust: '#0000aa'}}
===

[T]: thesis {prior: 0.5}
  + <A>: it is strong #pro
  - [R]: it rusts #con {credence: 0.4}

# Strength

<A>

(1) [P]: it held {credence: 0.9}
(2) [Q]: it holds more {credence: 0.8}
----
(3) [C]: it is strong {inference: 0.7}
  _> <B>

# Rust

<B>: rust weakens {credence: 0.3}
  -> [T]

## Old rust #pro

[O]: old {credence: 0.2}
  + [P]
"""


def scored(text: str) -> tuple[Map, argmap.Scores]:
    read = argmap.parse(text)
    return read, argmap.score(read)


def graph_of(text: str) -> networkx.MultiDiGraph:
    return networkx.MultiDiGraph(networkx.parse_graphml(to_graphml(*scored(text))))


def test_networkx_reads_the_graph_with_numbers_texts_and_colours() -> None:
    graph = graph_of(MAP)
    assert graph.nodes["[P]"] | {"credence": 0.0} == {
        "kind": "claim",
        "title": "P",
        "text": "it held",
        "section": "Strength",
        "role": "premise",
        "credence": 0.0,
        "stated": 0.9,
    }
    assert graph.nodes["<A>"]["strength"] == pytest.approx(0.9 * 0.8 * 0.7, rel=0.2)
    assert (graph.nodes["<A>"]["color"], graph.nodes["[R]"]["color"]) == ("#00aa00", "#aa0000")
    assert (graph.nodes["<B>"]["color"], graph.nodes["<A>"]["tags"]) == ("#0000aa", "pro")
    found = {(one, other, relation) for one, other, relation in graph.edges.data("relation")}
    assert found == {
        ("[P]", "<A>", "premise"),
        ("[Q]", "<A>", "premise"),
        ("<A>", "[C]", "conclusion"),
        ("[C]", "[T]", "support"),
        ("[R]", "[T]", "attack"),
        ("[C]", "<B>", "undercut"),
        ("<B>", "[T]", "attack"),
        ("[P]", "[O]", "support"),
    }


@settings(max_examples=60, deadline=None)
@given(strategies.argument_map())
def test_the_graph_of_any_map_has_all_its_elements_and_relations(text: str) -> None:
    read = argmap.parse(text)
    assume(not any(d.severity == "error" for d in read.diagnostics))
    try:
        graph = graph_of(text)
    except AdapterlabError:
        assume(False)
    assert set(graph) == {f"[{t}]" for t in read.claims} | {f"<{t}>" for t in read.arguments}
    found = {(one, other, relation) for one, other, relation in graph.edges.data("relation")}
    assert {(str(r.source), str(r.target), r.kind) for r in read.relations} <= found


def test_every_element_of_the_built_in_map_reaches_its_thesis_in_the_graph() -> None:
    graph = graph_of(corpus.read(corpus.BUILT_IN))
    assert networkx.ancestors(graph, "[Natural Manifold]") == set(graph) - {"[Natural Manifold]"}


CONTROLS = '[A]: a {reason: "\\u0001\\uD800", credence: 0.5}\n  +> [B\x0b]: b & "\n'


@pytest.mark.parametrize("suffix", FORMATS)
def test_characters_that_a_file_cannot_hold_are_replaced(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"x{suffix}"
    write(argmap.parse(CONTROLS), out)
    text = out.read_text(encoding="utf-8")
    assert "\x01" not in text
    assert "\x0b" not in text
    if suffix == ".graphml":
        assert len(networkx.read_graphml(out)) == 2


# DOT, read by Graphviz as the reference contains it

VIZ = """
const render = require("@aduh95/viz.js/sync");
const text = require("fs").readFileSync(0, "utf8");
process.stdout.write(render(text, { format: "json", engine: "dot" }));
"""


@pytest.mark.skipif(reference_cli.binary() is None, reason="the reference is not installed")
def test_graphviz_reads_the_dot_file_with_clusters_and_colours() -> None:
    text = MAP.replace("[O]", '[O "x" & y]')
    command = [str(shutil.which("node")), "-e", VIZ]
    done = subprocess.run(
        command, input=to_dot(*scored(text)), capture_output=True, text=True, cwd=reference_cli.HERE, check=True
    )
    found = json.loads(done.stdout)
    objects = {item["name"]: item for item in found["objects"]}
    assert {"c:T", "c:P", "c:Q", "c:C", "c:R", 'c:O "x" & y', "a:A", "a:B"} <= set(objects)
    clusters = {item.get("label"): item for name, item in objects.items() if name.startswith("cluster")}
    assert set(clusters) == {"Strength", "Rust", "Old rust #pro"}
    assert clusters["Rust"]["color"] == "#0000aa"
    assert objects["a:A"]["fillcolor"] == "#00aa00"
    assert objects["c:R"]["color"] == "#aa0000"
    assert len(found["edges"]) == 8


# Colours


def test_tags_and_sections_have_their_colours_in_drawing_and_page() -> None:
    svg, page = argmap.to_svg(*scored(MAP)), to_html(*scored(MAP))
    assert svg.count('class="stripe"') == 3
    for colour in ("#00aa00", "#aa0000", "#0000aa"):
        assert colour in svg
        assert f"solid {colour}" in page
    plain = MAP.replace("color:", "colour:")
    assert 'class="stripe"' not in argmap.to_svg(*scored(plain))


def test_a_colour_cannot_put_markup_into_a_drawing() -> None:
    text = "[A]: a {color: '\"/><script>', credence: 0.5}\n  +> [B]: b {color: 'red;}'}\n"
    for drawn in (argmap.to_svg(*scored(text)), to_html(*scored(text)), to_dot(*scored(text))):
        assert "script" not in drawn.replace("script-src", "")
        assert "red;" not in drawn.replace("&#39;", "")


# Selection

SELECTIONS = {
    "tags": "selectedTags: [pro]",
    "tags_or_none": "selectedTags: [con], selectElementsWithoutTag: true",
    "section": "selectedSections: [Rust]",
    "no_section": "selectedSections: [Strength], selectElementsWithoutSection: true",
    "both": "selectedSections: [Rust, 'Old rust #pro'], selectedTags: [seen]",
    "excluded": "excludeStatements: [R, O], excludeArguments: [B]",
    "in_map": "ignoreIsInMap: true",
    "none": "",
}
SELECTED = (
    MAP.replace("[O]: old", "[O]: old #seen").replace("credence: 0.4}", "credence: 0.4, isInMap: false}")
    + "\n[S]: seen #seen {credence: 0.5, isInMap: true}\n"
)


def selected(front: str) -> str:
    every = "excludeDisconnected: false, statementSelectionMode: all"
    return SELECTED.replace("===\n", f"===\nselection: {{{every}{', ' * bool(front)}{front}}}\n", 1)


@pytest.mark.skipif(reference_cli.binary() is None, reason="the reference is not installed")
def test_the_selection_settings_choose_what_the_reference_chooses(tmp_path: Path) -> None:
    steps = ["load-file", "parse-input", "build-model", "build-map", "colorize", "export-json", "save-as-json"]
    (tmp_path / "argdown.config.json").write_text(
        json.dumps({"inputPath": "./in/*.argdown", "processes": {"all": {"process": steps}}})
    )
    (tmp_path / "in").mkdir()
    for name, front in SELECTIONS.items():
        (tmp_path / "in" / f"{name}.argdown").write_text(selected(front))
    subprocess.run([str(reference_cli.binary()), "run", "all"], cwd=tmp_path, check=True, capture_output=True)
    for name, front in SELECTIONS.items():
        nodes = flat(json.loads(next(tmp_path.glob(f"**/{name}.json")).read_text())["map"]["nodes"])
        read = argmap.parse(selected(front))
        part = select(read)
        assert set(part.arguments) == {n["title"] for n in nodes if n["type"] == "argument-map-node"}, name
        # Here the statements of an argument come with it; in the reference they are inside its node.
        inside = {title for argument in part.arguments.values() for _, title in argument.numbered}
        assert set(part.claims) == {n["title"] for n in nodes if n["type"] == "statement-map-node"} | inside, name


def flat(nodes: list[dict]) -> list[dict]:
    return [inner for node in nodes for inner in (node, *flat(node.get("children") or []))]


def test_options_select_tags_and_sections_with_their_subsections() -> None:
    read = argmap.parse(MAP)
    part = select(read, sections=["Rust"])
    assert (set(part.claims), set(part.arguments)) == ({"O"}, {"B"})
    assert [section.title for section in part.all_sections] == ["Rust", "Old rust #pro"]
    part = select(read, tags=["pro", "con"])
    assert (set(part.claims), set(part.arguments)) == ({"R", "P", "Q", "C"}, {"A"})
    assert part.relations == []
    assert select(read) is read
    for wrong in ({"tags": ["prro"]}, {"sections": ["Rost"]}, {"tags": ["con"], "sections": ["Rust"]}):
        with pytest.raises(AdapterlabError, match=r"did you mean|no claim or argument is selected"):
            select(read, **wrong)
    for wrong in ({"tags": ["pro"]}, {"sections": ["Rust"]}):
        with pytest.raises(AdapterlabError, match=r"has no (tags|sections)"):
            select(argmap.parse("[A]: a {credence: 0.5}\n"), **wrong)


@settings(max_examples=60, deadline=None)
@given(strategies.argument_map())
def test_every_part_of_a_map_can_be_drawn_and_exported(text: str) -> None:
    read = argmap.parse(text)
    assume(not any(d.severity == "error" for d in read.diagnostics))
    try:
        scores = argmap.score(read)
    except AdapterlabError:
        assume(False)
    for options in [{"tags": [tag]} for tag in read.tags[:2]] + [
        {"sections": [s.title]} for s in read.all_sections[:2]
    ]:
        try:
            part = select(read, **options)
        except AdapterlabError:
            continue
        for draw in (argmap.to_svg, to_html, to_dot, to_graphml, to_json):
            assert draw(part, scores)


def test_a_selection_keeps_the_credences_of_the_whole_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "map.argdown", tmp_path / "part.json"
    source.write_text(MAP)
    run("render", source, "--out", out, "--tags", "#pro,con", "--tags", "pro")
    assert capsys.readouterr().out == f"{out}: 4 of 6 claims, 1 of 2 arguments\n"
    found = json.loads(out.read_text())
    assert found["statements"]["P"]["credence"] == argmap.score(argmap.parse(MAP)).claims["P"].credence
    assert set(found["arguments"]) == {"A"}


def run(*arguments: object) -> None:
    from adapterlab.argmap.cli import app

    app([str(argument) for argument in arguments], standalone_mode=False)


# Markdown

NOTES = """# Notes on <b>

```argdown
===
title: A [map]
===

[Wet]: It is wet.
  + [Rain]: It rains. {credence: 0.8}
```

> - item
>   ~~~~ argdown-map
>   [A]: a {credence: 0.5}
>     -> [B]: b
>   ~~~~

```python
"[A]: a"
```
"""


def test_maps_in_markdown_become_drawings_in_their_place(tmp_path: Path) -> None:
    source, page, text = (tmp_path / name for name in ("notes.md", "notes.html", "drawn.md"))
    source.write_text(NOTES)
    run("markdown", source, "--out", page)
    shown = page.read_text()
    assert shown.count("<svg") == 2
    assert shown.index("Notes on &lt;b&gt;</h1>") < shown.index(">Rain<") < shown.index("<blockquote>")
    assert shown.index("<blockquote>") < shown.index(">B<") < shown.index("</blockquote>")
    assert "<b>" not in shown
    assert "language-python" in shown
    run("markdown", source, "--out", text)
    first, rest = NOTES.index("```argdown"), NOTES.index("\n```python")
    expected = "![A \\[map\\]](<drawn-1.svg>)\n\n> - item\n>   ![argument map](<drawn-2.svg>)\n"
    assert text.read_text() == NOTES[:first] + expected + NOTES[rest:]
    assert ">Rain<" in (tmp_path / "drawn-1.svg").read_text()
    assert ">B<" in (tmp_path / "drawn-2.svg").read_text()


def test_an_error_in_a_fence_names_the_line_of_the_markdown_file(tmp_path: Path) -> None:
    source = tmp_path / "notes.md"
    source.write_text(NOTES.replace("[A]: a {", "[A] a {"))
    with pytest.raises(AdapterlabError, match=r"notes\.md:14:\d+: error"):
        run("markdown", source, "--out", tmp_path / "x.html")
    with pytest.raises(AdapterlabError, match="the file itself"):
        run("markdown", source, "--out", source)
    with pytest.raises(AdapterlabError, match=r"\.pdf"):
        run("markdown", source, "--out", tmp_path / "x.pdf")


def test_sections_that_are_nested_too_deeply_give_one_line() -> None:
    text = "\n\n".join(f"{'#' * level} h" for level in range(1, 1500)) + "\n\n[A]: a {credence: 0.5}\n  +> [B]: b\n"
    for export in (to_json, to_dot):
        with pytest.raises(AdapterlabError, match="more than 100 levels"):
            export(*scored(text))
    assert "<svg" in to_html(*scored(text))
    assert len(graph_of(text)) == 2


LARGE = {
    "chain": "\n\n".join(f"[C{i}]: c {{credence: 0.5}}\n  +> [C{i + 1}]" for i in range(10_000))
    + "\n\n[C10000]: end\n",
    "star": "[T]: t\n" + "".join(f"  + [C{i}]: c #t{i} {{credence: 0.5}}\n" for i in range(10_000)),
    "arguments": "".join(
        f"# s{i}\n\n<A{i}>\n\n(1) [P]: p {{credence: 0.9}}\n----\n(2) [C]: c {{inference: 0.1}}\n\n"
        for i in range(5_000)
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("suffix", FORMATS)
def test_maps_of_ten_thousand_statements_are_written(name: str, suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"x{suffix}"
    write(argmap.parse(LARGE[name]), out)
    assert out.stat().st_size > 100_000
    if suffix == ".graphml":
        assert len(networkx.read_graphml(out)) > 5_000


# Watching


def lines_of(command: list[str], change: Path, contents: list[str]) -> tuple[list[str], int]:
    """Start a watching command, write each text to a file after a build, interrupt it, and return all lines and the code."""
    process = subprocess.Popen([sys.executable, "-m", "adapterlab", "map", *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines = [process.stdout.readline()]
    for content in [None, *contents]:
        if content is not None:
            change.write_text(content)
        lines.append(process.stdout.readline())
        while not BUILT.match(lines[-1]):
            lines.append(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    return [line.rstrip("\n") for line in (*lines, *rest.splitlines())], process.returncode


BUILT = re.compile("[0-9]{2}:[0-9]{2}:[0-9]{2} |$")


def test_watching_renders_again_with_one_line_for_each_change(tmp_path: Path) -> None:
    source, out = tmp_path / "map.argdown", tmp_path / "map.json"
    source.write_text("[A]: a {credence: 0.5}\n  +> [B]: b\n")
    contents = ["[A] a\n", "[A]: a {credence: 0.7}\n  +> [B]: b\n"]
    lines, code = lines_of(["render", str(source), "--out", str(out), "--watch"], source, contents)
    assert code in (0, 130)
    assert lines[0].startswith(f"watching {source}")
    built = [line[9:] for line in lines if BUILT.match(line) and line]
    assert built == [str(out), f"{source} has 1 error", str(out)]
    assert json.loads(out.read_text())["statements"]["A"]["credence"] == 0.7


def test_watching_checks_again(tmp_path: Path) -> None:
    source = tmp_path / "map.argdown"
    source.write_text("[A]: a {credence: 0.5}\n  +> [B]: b\n")
    lines, code = lines_of(["check", str(source), "--watch"], source, ["[A]: a\n  +> [B]: b {prior: 0.5}\n"])
    assert code in (0, 130)
    built = [line for line in lines if BUILT.match(line) and line]
    assert ["0 errors" in line for line in built] == [True, False]
    assert "1 error," in built[-1]
    assert any("[A] has no credence" in line for line in lines)


def test_wrong_options_end_watching_at_once(tmp_path: Path, capsys, monkeypatch) -> None:
    source = tmp_path / "x.argdown"
    source.write_text(MAP)
    out = str(tmp_path / "x.pdf")
    for command, shown in ((["check", "--json"], "--watch"), (["render", "--out", out], "unknown format '.pdf'")):
        monkeypatch.setattr(sys, "argv", ["adapterlab", "map", *command, str(source), "--watch"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert shown in capsys.readouterr().err
