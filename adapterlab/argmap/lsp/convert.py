r"""Objects of the language server protocol, made from those of this package.

>>> from adapterlab.argmap.lsp.positions import Text
>>> span(Text("[Rain]"), 1, 5)
0:1-0:5
"""

from __future__ import annotations

from lsprotocol import types as lsp

from adapterlab.argmap.lsp.complete import Proposal
from adapterlab.argmap.lsp.document import Analysis, Document, Edit
from adapterlab.argmap.lsp.occurrences import Occurrence
from adapterlab.argmap.lsp.outline import Entry
from adapterlab.argmap.lsp.positions import Text
from adapterlab.argmap.syntax.diagnostics import Diagnostic

MOST_DIAGNOSTICS = 1000
"""Diagnostics that are sent for one document, errors first."""
_SYMBOLS = {
    "section": lsp.SymbolKind.Namespace,
    "claim": lsp.SymbolKind.Variable,
    "argument": lsp.SymbolKind.Function,
}
_ITEMS = {
    "claim": lsp.CompletionItemKind.Variable,
    "argument": lsp.CompletionItemKind.Function,
    "tag": lsp.CompletionItemKind.Keyword,
}


def span(text: Text, start: int, end: int) -> lsp.Range:
    """Return a range of the protocol.

    Args:
        text: The text.
        start: Offset of the first character.
        end: Offset behind the last character.
    """
    return lsp.Range(lsp.Position(*text.position(start)), lsp.Position(*text.position(end)))


def edit(change: lsp.TextDocumentContentChangeEvent) -> Edit:
    """Return an edit of the editor.

    Args:
        change: The edit in the form of the protocol.
    """
    if isinstance(change, lsp.TextDocumentContentChangePartial):
        start, end = change.range.start, change.range.end
        return Edit(change.text, start.line, start.character, end.line, end.character)
    return Edit(change.text)


def location(document: Document, found: Occurrence) -> lsp.Location:
    """Return the place of a title or tag.

    Args:
        document: The document.
        found: The title or tag.
    """
    return lsp.Location(document.uri, span(document.analysis.text, found.start, found.end))


def diagnostics(analysis: Analysis) -> list[lsp.Diagnostic]:
    """Return the diagnostics of a document; if there are too many, the last states the number of the others.

    Args:
        analysis: The document.
    """
    found = analysis.diagnostics
    starts = [0, *(index + 1 for index, character in enumerate(analysis.text.text) if character == "\n")]
    shown = [_diagnostic(analysis.text, starts, one) for one in found[:MOST_DIAGNOSTICS]]
    if len(found) > MOST_DIAGNOSTICS:
        message = f"{len(found) - MOST_DIAGNOSTICS} more findings: adapterlab map check shows all"
        shown.append(
            lsp.Diagnostic(span(analysis.text, 0, 0), message, lsp.DiagnosticSeverity.Warning, source="adapterlab")
        )
    return shown


def _diagnostic(text: Text, starts: list[int], found: Diagnostic) -> lsp.Diagnostic:
    start = starts[found.line - 1] + found.column - 1
    line, _ = text.position(start)
    end = min(start + found.length, max(text.line_end(line), start))
    severity = lsp.DiagnosticSeverity.Error if found.severity == "error" else lsp.DiagnosticSeverity.Warning
    message = f"{found.message}\n{found.fix}" if found.fix else found.message
    return lsp.Diagnostic(span(text, start, end), message, severity, found.code, source="adapterlab")


def completion(text: Text, proposal: Proposal) -> lsp.CompletionItem:
    """Return a completion.

    Args:
        text: The text.
        proposal: The title or tag to insert.
    """
    return lsp.CompletionItem(
        label=proposal.name,
        kind=_ITEMS[proposal.kind],
        detail=proposal.detail or None,
        filter_text=proposal.name,
        text_edit=lsp.TextEdit(span(text, proposal.start, proposal.end), proposal.insert),
    )


def symbol(text: Text, entry: Entry) -> lsp.DocumentSymbol:
    """Return an entry of an outline, with those below it.

    Args:
        text: The text.
        entry: The entry.
    """
    return lsp.DocumentSymbol(
        name=entry.name,
        kind=_SYMBOLS[entry.kind],
        range=span(text, entry.start, max(entry.end, entry.name_end)),
        selection_range=span(text, entry.start, entry.name_end),
        detail=entry.detail or None,
        children=[symbol(text, child) for child in entry.children] or None,
    )
