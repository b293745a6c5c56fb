"""The language server, started as an editor starts it and spoken to over its standard input and output."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient
from pygls.workspace import PositionCodec

from adapterlab import argmap
from adapterlab.argmap.lsp import convert
from adapterlab.argmap.lsp.complete import proposals
from adapterlab.argmap.lsp.document import Document, Edit
from adapterlab.argmap.lsp.hover import hover
from adapterlab.argmap.lsp.outline import outline
from adapterlab.argmap.lsp.positions import Text
from adapterlab.argmap.lsp.rename import renamed
from adapterlab.errors import AdapterlabError
from tests.argmap import strategies
from tests.argmap.reference import corpus

MAP = """\
===
title: Trams
===

[Brücke 😀]: The bridge holds, see @<Load Test>. {reason: "r", prior: 0.4}
  - [Old Rivets]: Its rivets are old. #remark #(two words)
    {reason: "r", credence: 0.3}

# Strength 😀

<Load Test>: It was loaded.

<Load Test>

(1) [Sagged]: It sagged. [survey](survey.md) {reason: "r", credence: 0.9}
-- by analogy --
(2) [Fine]: The load is fine. {reason: "r", inference: 0.5}
  +> [Brücke 😀]

## Deeper

A claim without title. {reason: "r", credence: 0.5}
  -> [Brücke 😀]
"""
COMMAND = (sys.executable, "-m", "adapterlab", "map", "lsp")


class Editor:
    """A client with one document."""

    def __init__(self, client: LanguageClient, uri: str) -> None:
        self.client, self.uri, self.version = client, uri, 1
        self.published: asyncio.Queue[lsp.PublishDiagnosticsParams] = asyncio.Queue()
        self.document = lsp.TextDocumentIdentifier(uri)

    def open(self, text: str) -> None:
        item = lsp.TextDocumentItem(self.uri, "argdown", self.version, text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))

    def change(self, *changes: lsp.TextDocumentContentChangeEvent) -> None:
        self.version += 1
        identifier = lsp.VersionedTextDocumentIdentifier(version=self.version, uri=self.uri)
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(identifier, list(changes)))

    async def diagnostics(self) -> list[lsp.Diagnostic]:
        return list((await asyncio.wait_for(self.published.get(), 20)).diagnostics)

    async def hover(self, line: int, column: int) -> str | None:
        found = await self.client.text_document_hover_async(lsp.HoverParams(self.document, lsp.Position(line, column)))
        return found.contents.value if found else None

    async def labels(self, line: int, column: int) -> list[str]:
        position = lsp.Position(line, column)
        found = await self.client.text_document_completion_async(lsp.CompletionParams(self.document, position))
        return [item.label for item in found.items]


@asynccontextmanager
async def editor(uri: str, encodings: list[str] | None = None) -> AsyncIterator[Editor]:
    client = LanguageClient("test", "1")
    await client.start_io(*COMMAND)
    found = Editor(client, uri)

    @client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    def _published(params: lsp.PublishDiagnosticsParams) -> None:
        found.published.put_nowait(params)

    general = lsp.GeneralClientCapabilities(position_encodings=encodings) if encodings else None
    capabilities = lsp.ClientCapabilities(general=general)
    await client.initialize_async(lsp.InitializeParams(capabilities, process_id=None, root_uri=None))
    client.initialized(lsp.InitializedParams())
    process = client._server
    assert process is not None
    try:
        yield found
        await client.shutdown_async(None)
        client.exit(None)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await client.stop()


def session(folder: Path, talk: Callable[[Editor], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Start a server, talk to it, and end it."""

    async def whole() -> None:
        async with editor((folder / "map.argdown").as_uri(), **options) as found, asyncio.timeout(60):
            await talk(found)

    asyncio.run(whole())


def place(text: str, needle: str, after: int = 0) -> lsp.Position:
    """Return the position of a string as an editor counts: in UTF-16 code units."""
    offset = text.index(needle, after)
    start = text.rfind("\n", 0, offset) + 1
    return lsp.Position(text.count("\n", 0, offset), len(text[start:offset].encode("utf-16-le")) // 2)


def words(text: str, span: lsp.Range) -> str:
    """Return the characters of a range on one line, counted in UTF-16 code units."""
    assert span.start.line == span.end.line
    line = text.split("\n")[span.start.line].encode("utf-16-le")
    return line[2 * span.start.character : 2 * span.end.character].decode("utf-16-le")


def test_diagnostics_follow_the_edits_of_the_text(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open(MAP)
        found = await editor.diagnostics()
        assert [(d.code, d.severity) for d in found] == [("missing-file", lsp.DiagnosticSeverity.Warning)]
        assert words(MAP, found[0].range) == "survey.md"
        # Take the colon away behind a title with a character of two code units, then put it back.
        colon = place(MAP, "]: The bridge")
        colon = lsp.Position(colon.line, colon.character + 1)
        behind = lsp.Position(colon.line, colon.character + 1)
        editor.change(lsp.TextDocumentContentChangePartial(lsp.Range(colon, behind), ""))
        found = await editor.diagnostics()
        assert found[0].code == "text-place"
        assert found[0].severity == lsp.DiagnosticSeverity.Error
        broken = MAP.replace("😀]: The", "😀] The")
        assert words(broken, found[0].range).strip().startswith("The bridge")
        editor.change(lsp.TextDocumentContentChangePartial(lsp.Range(colon, colon), ":"))
        assert [d.code for d in await editor.diagnostics()] == ["missing-file"]
        # The file that is linked appears; saving compares again.
        (tmp_path / "survey.md").write_text("It sagged.")
        editor.client.text_document_did_save(lsp.DidSaveTextDocumentParams(editor.document))
        assert [d.code for d in await editor.diagnostics()] == []
        editor.change(lsp.TextDocumentContentChangeWholeDocument("[A]: a\n  + [B]\n"))
        assert {d.code for d in await editor.diagnostics()} >= {"undefined"}
        editor.client.text_document_did_close(lsp.DidCloseTextDocumentParams(editor.document))
        assert await editor.diagnostics() == []

    session(tmp_path, talk)


def test_hover_shows_text_numbers_and_inferences(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open(MAP)
        scores = argmap.score(argmap.parse(MAP))
        at = place(MAP, "[Brücke 😀]", MAP.index("+> "))
        for column in (at.character, at.character + 4, at.character + 11):
            shown = await editor.hover(at.line, column)
            assert shown is not None
            assert "The bridge holds" in shown
            credence = scores.claims["Brücke 😀"].credence
            assert f"prior 0.40 stated, credence {credence:.2f} computed (quadratic-energy)" in shown
        at = place(MAP, "<Load Test>. ")
        shown = await editor.hover(at.line, at.character + 2)
        assert shown is not None
        assert "It was loaded" in shown
        assert "by analogy: inference 0.50" in shown
        assert shown.index("Sagged") < shown.index("analogy") < shown.index("Fine")
        assert f"strength {scores.arguments['Load Test'].strength:.2f} computed" in shown
        at = place(MAP, "#(two words)")
        assert "occurs 1 time" in str(await editor.hover(at.line, at.character + 3))
        assert await editor.hover(2, 0) is None

    session(tmp_path, talk)


def test_completion_of_titles_and_tags(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open(MAP)
        await editor.labels(0, 0)
        end = MAP.count("\n")
        for typed, expected in (
            ("[", ["Brücke 😀", "Old Rivets", "Sagged", "Fine"]),
            ("[Brü", ["Brücke 😀"]),
            ("[rivets", ["Old Rivets"]),
            ("<Lo", ["Load Test"]),
            ("[Fine", ["Fine"]),
            ("[Fin]", []),
            ("text #", ["remark", "two words"]),
            ("text #(tw", ["two words"]),
            ("text", []),
        ):
            text = f"{MAP}\n{typed}"
            editor.change(lsp.TextDocumentContentChangeWholeDocument(text))
            position = lsp.Position(end + 1, len(typed))
            found = await editor.client.text_document_completion_async(lsp.CompletionParams(editor.document, position))
            assert [item.label for item in found.items] == expected, typed
            if typed == "[Brü":
                edit = found.items[0].text_edit
                assert (edit.new_text, edit.range.start.character, edit.range.end.character) == ("Brücke 😀]", 1, 4)

    session(tmp_path, talk)


def test_definition_and_references(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open(MAP)
        at = place(MAP, "[Brücke 😀]", MAP.index("+> "))
        inside = lsp.Position(at.line, at.character + 9)
        [found] = await editor.client.text_document_definition_async(lsp.DefinitionParams(editor.document, inside))
        assert (found.range.start, words(MAP, found.range)) == (place(MAP, "[Brücke"), "[Brücke 😀]")
        for declaration, number in ((True, 3), (False, 2)):
            context = lsp.ReferenceContext(declaration)
            asked = lsp.ReferenceParams(context, editor.document, inside)
            places = await editor.client.text_document_references_async(asked)
            assert [words(MAP, p.range) for p in places] == ["[Brücke 😀]"] * number
        # An argument is defined by its description and above its premises.
        at = place(MAP, "<Load Test>. ")
        both = await editor.client.text_document_definition_async(lsp.DefinitionParams(editor.document, at))
        assert [p.range.start.line for p in both] == [10, 12]

    session(tmp_path, talk)


def applied(text: str, edits: list[lsp.TextEdit]) -> str:
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
        line = lines[edit.range.start.line].encode("utf-16-le")
        before, after = line[: 2 * edit.range.start.character], line[2 * edit.range.end.character :]
        lines[edit.range.start.line] = (before + edit.new_text.encode("utf-16-le") + after).decode("utf-16-le")
    return "\n".join(lines)


def test_renaming_changes_every_occurrence_and_no_other_character(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open(MAP)
        for old, new, inner in (
            ("[Brücke 😀]", "Pont 🌉", 3),
            ("<Load Test>", "Trial", 2),
            ("#remark", "seen", 3),
        ):
            at = place(MAP, old)
            at = lsp.Position(at.line, at.character + inner)
            asked = lsp.PrepareRenameParams(editor.document, at)
            prepared = await editor.client.text_document_prepare_rename_async(asked)
            assert words(MAP, prepared.range) == old.strip("[]<>#") == prepared.placeholder
            found = await editor.client.text_document_rename_async(lsp.RenameParams(editor.document, at, new))
            expected = MAP.replace(old, old.replace(old.strip("[]<>#"), new))
            assert applied(MAP, found.changes[editor.uri]) == expected
        for taken in ("Old Rivets", "a]b", "line\nbreak", ""):
            at = place(MAP, "[Brücke")
            with pytest.raises(JsonRpcException, match=r"choose another title|cannot name"):
                await editor.client.text_document_rename_async(lsp.RenameParams(editor.document, at, taken))

    session(tmp_path, talk)


def test_the_outline_lists_sections_with_their_claims_and_arguments(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open(MAP)
        found = await editor.client.text_document_document_symbol_async(lsp.DocumentSymbolParams(editor.document))
        assert [s.name for s in found] == ["[Brücke 😀]", "[Old Rivets]", "Strength 😀"]
        section = found[2]
        assert [s.name for s in section.children] == ["<Load Test>", "[Sagged]", "[Fine]", "Deeper"]
        assert [s.name for s in section.children[3].children] == ["A claim without title."]
        for symbol in flat(found):
            assert (symbol.range.start.line, symbol.range.start.character) <= (
                symbol.selection_range.start.line,
                symbol.selection_range.start.character,
            )
            for child in symbol.children or []:
                assert (
                    symbol.range.start.line <= child.range.start.line <= child.range.end.line <= symbol.range.end.line
                )

    session(tmp_path, talk)


def flat(symbols: list[lsp.DocumentSymbol]) -> list[lsp.DocumentSymbol]:
    return [inner for symbol in symbols for inner in (symbol, *flat(list(symbol.children or [])))]


def test_a_client_that_counts_in_utf_8_gets_utf_8(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open(MAP)
        line = MAP[: MAP.index("+> ")].count("\n")
        column = len("  +> [Brücke 😀".encode())
        assert await editor.hover(line, column) is not None
        asked = lsp.ReferenceParams(lsp.ReferenceContext(False), editor.document, lsp.Position(line, column))
        places = await editor.client.text_document_references_async(asked)
        assert places[0].range.end.character == len("  +> [Brücke 😀]".encode())

    session(tmp_path, talk, encodings=["utf-8"])


def test_no_request_ends_the_server(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        nowhere = lsp.TextDocumentIdentifier("file:///nowhere.argdown")
        position = lsp.Position(10**6, 10**6)
        for document in (nowhere, editor.document):
            if document is editor.document:
                editor.open("[A\n" * 50 + "(1) <<{[#((\n--\n\\")
            client = editor.client
            assert await client.text_document_hover_async(lsp.HoverParams(document, position)) is None
            found = await client.text_document_completion_async(lsp.CompletionParams(document, position))
            assert list(found.items) == []
            assert not await client.text_document_definition_async(lsp.DefinitionParams(document, position))
            assert await client.text_document_rename_async(lsp.RenameParams(document, position, "x")) is None
            await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
        # An edit of a document that is not open, edits out of range, and an unknown method.
        identifier = lsp.VersionedTextDocumentIdentifier(version=2, uri=nowhere.uri)
        whole = lsp.TextDocumentContentChangeWholeDocument("x")
        editor.client.text_document_did_change(lsp.DidChangeTextDocumentParams(identifier, [whole]))
        reverse = lsp.Range(lsp.Position(9**9, 9), lsp.Position(0, 0))
        editor.change(lsp.TextDocumentContentChangePartial(reverse, "\n\n[Z]: z"))
        with pytest.raises(JsonRpcException):
            await editor.client.protocol.send_request_async("argdown/unknown", None)
        deep = "\n\n".join(f"{'#' * level} h" for level in range(1, 1200)) + "\n\n[Deep]: x\n"
        editor.change(lsp.TextDocumentContentChangeWholeDocument(deep))
        asked = lsp.DocumentSymbolParams(editor.document)
        assert len(flat(list(await editor.client.text_document_document_symbol_async(asked)))) == 1200
        assert "Deep" in str(await editor.hover(deep.count("\n") - 1, 2))
        editor.change(lsp.TextDocumentContentChangeWholeDocument("[half \ud83d of a pair]: x\n"))
        assert "half \ufffd of" in str(await editor.hover(0, 3))

    session(tmp_path, talk)


def test_a_message_that_is_no_json_does_not_end_the_server() -> None:
    def framed(body: str) -> bytes:
        return f"Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()

    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}, "processId": None}}
    wrong = {"jsonrpc": "2.0", "id": 2, "method": "textDocument/hover", "params": {"position": 7}}
    last = {"jsonrpc": "2.0", "id": 3, "method": "shutdown"}
    end = {"jsonrpc": "2.0", "method": "exit"}
    messages = [json.dumps(request), "{no json", json.dumps(wrong), json.dumps(last), json.dumps(end)]
    done = subprocess.run(COMMAND, input=b"".join(map(framed, messages)), capture_output=True, timeout=30, check=False)
    assert b'"id": 3' in done.stdout or b'"id":3' in done.stdout
    assert done.returncode == 0


def test_without_pygls_there_is_one_clear_line() -> None:
    code = "import sys; sys.modules['pygls'] = None; from adapterlab.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "map", "lsp"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "adapterlab: the language server needs pygls 2: pip install 'adapterlab[lsp]'\n"


# Texts and positions, without a server

LETTERS = st.text(st.sampled_from("aß😀é \n\r[]"), max_size=40)


@given(LETTERS, st.data())
def test_positions_are_those_of_pygls_codec(text: str, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(text)))
    for encoding in ("utf-16", "utf-8", "utf-32"):
        ours = Text(text, encoding)
        line, column = ours.position(offset)
        assert column == PositionCodec(encoding).client_num_units(text[ours.starts[line] : offset])
        if text[offset - 1 : offset + 1] != "\r\n":
            assert ours.offset(line, column) == offset


def test_only_line_breaks_end_a_line() -> None:
    text = Text("a\u2028b\x0bc\x85d\re\r\nf")
    assert [text.position(text.text.index(letter)) for letter in "bcdef"] == [(0, 2), (0, 4), (0, 6), (1, 0), (2, 0)]
    assert text.offset(1, 9) == text.text.index("e") + 1


@given(LETTERS, st.lists(st.tuples(LETTERS, st.integers(0, 60), st.integers(0, 60)), max_size=4))
def test_edits_give_the_text_that_the_editor_has(text: str, edits: list[tuple[str, int, int]]) -> None:
    document, expected = Document("file:///x.argdown", text, 1), text
    for number, (new, one, other) in enumerate(edits, start=2):
        start, end = sorted((min(one, len(expected)), min(other, len(expected))))
        inside = [o for o in (start, end) if expected[o - 1 : o + 1] == "\r\n"]
        if inside:  # no position lies between the two characters of a line break
            continue
        state = Text(expected)
        document.change([Edit(new, *state.position(start), *state.position(end))], number)
        expected = expected[:start] + new + expected[end:]
    assert document.analysis.text.text == expected


@settings(max_examples=80, deadline=None)
@given(strategies.argument_map() | st.text(st.sampled_from("[]<>#@(){}:-+*_1.A \n\\/😀"), max_size=60), st.data())
def test_no_text_and_no_position_raises(text: str, data: st.DataObject) -> None:
    document = Document("file:///nowhere/x.argdown", text, 1)
    analysis = document.analysis
    line, column = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 40))
    convert.diagnostics(analysis)
    for entry in outline(analysis):
        convert.symbol(analysis.text, entry)
    for proposal in proposals(document, line, column):
        convert.completion(analysis.text, proposal)
    analysis.at(line, column)
    for found in analysis.occurrences:
        assert analysis.at(*analysis.text.position(found.name_start)) == found
        assert hover(analysis, found)
        try:
            places = renamed(analysis, found, "Another name")
        except AdapterlabError:
            continue
        assert found in places


@pytest.mark.parametrize("name", corpus.written())
def test_every_title_of_a_map_is_found_in_its_text(name: str) -> None:
    text = corpus.written()[name]
    analysis = Document("file:///x.argdown", text, 1).analysis
    for (kind, title), found in analysis.by_name.items():
        assert all(text[o.name_start : o.name_end] == title for o in found)
        if kind == "tag":
            assert title in analysis.map.tags or any(d.severity == "error" for d in analysis.map.diagnostics)
    for kind, elements in (("claim", analysis.map.claims), ("argument", analysis.map.arguments)):
        titled = [title for title in elements if not title.startswith("Untitled ")]
        assert [title for title in titled if (kind, title) not in analysis.by_name] == []
