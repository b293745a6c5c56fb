"""The language server: it answers the requests of an editor over standard input and output.

>>> server = create()
>>> server.name
'adapterlab map lsp'
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from adapterlab.argmap.lsp import convert
from adapterlab.argmap.lsp.complete import MOST, proposals
from adapterlab.argmap.lsp.document import Document
from adapterlab.argmap.lsp.hover import hover
from adapterlab.argmap.lsp.occurrences import Occurrence
from adapterlab.argmap.lsp.outline import outline
from adapterlab.argmap.lsp.rename import renamed
from adapterlab.errors import AdapterlabError

DELAY = 0.2
"""Seconds without a change after which diagnostics are computed."""

At = lsp.HoverParams | lsp.DefinitionParams | lsp.ReferenceParams | lsp.PrepareRenameParams | lsp.RenameParams


class MapServer(LanguageServer):
    """A language server with the documents that the editor has opened."""

    def __init__(self) -> None:
        super().__init__("adapterlab map lsp", version("adapterlab"))
        self.documents: dict[str, Document] = {}
        self.waiting: set[asyncio.Task[None]] = set()

    def publish(self, document: Document) -> None:
        """Send the diagnostics of a document.

        Args:
            document: The document.
        """
        found = convert.diagnostics(document.analysis)
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(document.uri, found, document.version))

    async def publish_later(self, document: Document) -> None:
        """Send the diagnostics of a document once it has not changed for a moment.

        Args:
            document: The document.
        """
        number = document.version
        await asyncio.sleep(DELAY)
        if document.version == number and self.documents.get(document.uri) is document:
            self.publish(document)

    def found(self, params: At) -> tuple[Document, Occurrence] | None:
        """Return the document and the title or tag that a request is about, or None.

        Args:
            params: The request.
        """
        document = self.documents.get(params.text_document.uri)
        occurrence = document.analysis.at(params.position.line, params.position.character) if document else None
        return (document, occurrence) if document and occurrence else None


def create() -> MapServer:
    """Return a server that is not started yet."""
    server = MapServer()
    _add_documents(server)
    _add_requests(server)
    return server


def start() -> None:
    """Answer requests over standard input and output until the editor ends the session."""
    create().start_io()


def _add_documents(server: MapServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def _open(params: lsp.DidOpenTextDocumentParams) -> None:
        opened = params.text_document
        agreed = server.workspace.position_encoding or "utf-16"
        encoding = str(getattr(agreed, "value", agreed))
        document = Document(opened.uri, opened.text, opened.version, encoding)
        server.documents[opened.uri] = document
        server.publish(document)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def _change(params: lsp.DidChangeTextDocumentParams) -> None:
        document = server.documents.get(params.text_document.uri)
        if document is None:
            return
        document.change([convert.edit(change) for change in params.content_changes], params.text_document.version)
        task = asyncio.get_running_loop().create_task(server.publish_later(document))
        server.waiting.add(task)
        task.add_done_callback(server.waiting.discard)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def _save(params: lsp.DidSaveTextDocumentParams) -> None:
        document = server.documents.get(params.text_document.uri)
        if document is not None:
            document.change([], document.version)  # the files that it links may have changed too
            server.publish(document)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def _close(params: lsp.DidCloseTextDocumentParams) -> None:
        if server.documents.pop(params.text_document.uri, None):
            server.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(params.text_document.uri, []))


def _add_requests(server: MapServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def _hover(params: lsp.HoverParams) -> lsp.Hover | None:
        found = server.found(params)
        if found is None:
            return None
        analysis, occurrence = found[0].analysis, found[1]
        text = lsp.MarkupContent(lsp.MarkupKind.Markdown, hover(analysis, occurrence))
        return lsp.Hover(text, convert.span(analysis.text, occurrence.start, occurrence.end))

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=["[", "<", "#"]))
    def _complete(params: lsp.CompletionParams) -> lsp.CompletionList:
        document = server.documents.get(params.text_document.uri)
        found = proposals(document, params.position.line, params.position.character) if document else []
        items = [convert.completion(document.analysis.text, proposal) for proposal in found] if document else []
        return lsp.CompletionList(is_incomplete=len(found) >= MOST, items=items)

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def _definition(params: lsp.DefinitionParams) -> list[lsp.Location]:
        found = server.found(params)
        if found is None:
            return []
        document, occurrence = found
        places = document.analysis.by_name[occurrence.kind, occurrence.name]
        return [convert.location(document, place) for place in places if place.defines]

    @server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def _references(params: lsp.ReferenceParams) -> list[lsp.Location]:
        found = server.found(params)
        if found is None:
            return []
        document, occurrence = found
        places = document.analysis.by_name[occurrence.kind, occurrence.name]
        kept = [place for place in places if params.context.include_declaration or not place.defines]
        return [convert.location(document, place) for place in kept]

    @server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
    def _prepare(params: lsp.PrepareRenameParams) -> lsp.PrepareRenamePlaceholder | None:
        found = server.found(params)
        if found is None:
            return None
        place = convert.span(found[0].analysis.text, found[1].name_start, found[1].name_end)
        return lsp.PrepareRenamePlaceholder(place, found[1].name)

    @server.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
    def _rename(params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
        found = server.found(params)
        if found is None:
            return None
        document, occurrence = found
        try:
            places = renamed(document.analysis, occurrence, params.new_name)
        except AdapterlabError as error:
            raise JsonRpcInvalidParams(str(error)) from None
        text = document.analysis.text
        edits = [lsp.TextEdit(convert.span(text, o.name_start, o.name_end), params.new_name) for o in places]
        return lsp.WorkspaceEdit(changes={document.uri: edits})

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def _symbols(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        document = server.documents.get(params.text_document.uri)
        if document is None:
            return []
        return [convert.symbol(document.analysis.text, entry) for entry in outline(document.analysis)]
