"""What to say of a paragraph that does not parse, and what can be kept of it."""

from __future__ import annotations

from adapterlab.argmap.syntax.diagnostics import Diagnostic, Source
from adapterlab.argmap.syntax.grammar import Element, MisplacedError, parse_paragraph
from adapterlab.argmap.syntax.tokens import Paragraph, Token

_MENTION_INSTEAD = "to name it inside a text, write @[Title] or @<Title>"


def explain(source: Source, paragraph: Paragraph, misplaced: MisplacedError, argument: str | None) -> Diagnostic:
    """One message for the mistake: what, where, and the mend.

    Args:
        source: the text.
        paragraph: the paragraph that does not parse.
        misplaced: the token where the parser gave up.
        argument: the title of the argument that the paragraph before names.
    """
    tokens, token = paragraph.tokens, misplaced.token
    before = _before(tokens, token)
    at = token.start if token else tokens[-1].end
    kind = token.type if token else ""

    def error(code: str, message: str, fix: str, where: Token | None = token) -> Diagnostic:
        start = where.start if where else at
        return source.at("error", code, message, start, where.end if where else None, fix)

    if tokens[0].type == "NUMBER" and not kind.endswith("_END"):
        return _structure_error(source, tokens, token, misplaced, argument)
    if kind == "INDENT" or kind in ("RELATION", "UNDERCUT", "CONTRADICTION"):
        if before is None or before.type == "INDENT":
            return error(
                "no-parent", "a paragraph begins with a relation", "put it below a statement or argument", token
            )
        if kind != "INDENT":
            return error("indentation", "a relation stands at its parent's indentation", "indent it further")
        return error(
            "indentation", "nothing here can have relations below it", "indent relations below a statement or argument"
        )
    if before is not None and before.type in ("RELATION", "UNDERCUT", "CONTRADICTION"):
        return error(
            "no-member", "a relation leads to nothing", "write a [Statement], an <Argument> or a text behind it", before
        )
    if kind == "DATA" or (before is not None and before.type == "DATA"):
        return error(
            "metadata-place",
            "metadata stands in the middle of a text",
            "move {...} behind the text; \\{ writes a brace",
            token or before,
        )
    if kind == "HEADING":
        return error("heading-place", "a heading stands inside a paragraph", "put an empty line before it")
    if kind == "NUMBER":
        return error(
            "structure-place", "a premise-conclusion structure stands inside a paragraph", "put an empty line before it"
        )
    if kind == "INFERENCE_START":
        return error(
            "inference-place",
            "an inference line stands outside a premise-conclusion structure",
            "number the statements around it: (1), (2)",
        )
    if kind in ("STATEMENT_REFERENCE", "STATEMENT_DEFINITION", "ARGUMENT_REFERENCE", "ARGUMENT_DEFINITION"):
        return error(
            "element-place",
            f"{token.text if token else ''} stands inside a text",
            f"begin a line or paragraph with it; {_MENTION_INSTEAD}",
        )
    if before is not None and before.type.endswith("_DEFINITION"):
        return error(
            "no-text",
            f"{before.text} defines nothing",
            "write the text behind the colon, or drop the colon to refer to it",
            before,
        )
    if any(name.endswith("_END") for name in misplaced.expected) and (opening := _open_emphasis(tokens, token)):
        return error(
            "open-emphasis",
            f"{opening.text} opens and nothing closes it",
            f"close it, or write \\{opening.text[0]} for the sign itself",
            opening,
        )
    if kind == "FRONT_MATTER":
        return error(
            "misplaced-front-matter", "front matter (===) may only open a file", "move it to the top, or escape \\="
        )
    if (before is not None and before.type.endswith("_REFERENCE")) or kind == "TEXT":
        return error(
            "text-place", "text follows a title without a colon", f"write [Title]: to define; {_MENTION_INSTEAD}"
        )
    return error("syntax", f"{token.text!r} cannot stand here" if token else "the paragraph ends too soon", "")


def _structure_error(
    source: Source, tokens: list[Token], token: Token | None, misplaced: MisplacedError, argument: str | None
) -> Diagnostic:
    name = f"<{argument}>" if argument else "the argument"
    numbers = [t for t in tokens if t.type == "NUMBER"]
    inferences = [t for t in tokens if t.type == "INFERENCE_START"]
    before = _before(tokens, token)
    if token is None and numbers and (not inferences or numbers[-1].start > inferences[-1].start):
        last = numbers[-1]
        line, _ = source.place(last.start)
        if len(numbers) == 1:
            message = f"{name} has a single statement and no inference"
            return source.at(
                "error", "missing-inference", message, last.start, last.end, "add `----` and a conclusion below it"
            )
        message = f"{name} draws no conclusion: no inference line stands before {last.text}"
        return source.at(
            "error", "missing-inference", message, last.start, last.end, f"insert a line `----` before line {line}"
        )
    if inferences and not any(t.type == "INFERENCE_END" and t.start >= inferences[-1].start for t in tokens):
        message = f"{name}: an inference line is not closed"
        return source.at(
            "error",
            "open-inference",
            message,
            inferences[-1].start,
            inferences[-1].end,
            "end it with --, or write ----",
        )
    if token is None and inferences:
        message = f"{name} ends with an inference line"
        fix = "write the numbered conclusion below it"
        return source.at("error", "missing-conclusion", message, inferences[-1].start, inferences[-1].end, fix)
    at = token or tokens[-1]
    if token and token.type in ("ARGUMENT_REFERENCE", "ARGUMENT_DEFINITION"):
        message, fix = f"{name}: an argument cannot be a premise or conclusion", "write a [Statement] there"
    elif token and token.type == "INFERENCE_START":
        message, fix = f"{name}: two inference lines follow one another", "put a numbered conclusion between them"
    elif (before is not None and before.type == "INFERENCE_START") or (token and token.type == "INFERENCE_END"):
        message, fix = f"{name}: the inference line is malformed", "write ---- or -- Rule one, Rule two {key: value} --"
    elif before is not None and before.type == "NUMBER":
        message, fix = f"{name}: {before.text} says nothing", "write a statement behind the number"
        at = before
    elif token and token.type == "INDENT":
        message, fix = f"{name}: nothing here can have relations below it", "indent relations below a statement"
    else:
        opening = _open_emphasis(tokens, token)
        if opening and any(n.endswith("_END") for n in misplaced.expected):
            message, fix, at = (
                f"{name}: {opening.text} opens and nothing closes it",
                f"close it, or write \\{opening.text[0]}",
                opening,
            )
        elif token and token.type == "DATA":
            message, fix = f"{name}: metadata stands in the middle of a text", "move {...} behind the text"
        else:
            message = f"{name}: {at.text.strip()!r} cannot stand here"
            fix = "an empty line ends a premise-conclusion structure; every statement in it begins with a number"
    return source.at("error", "structure", message, at.start, at.end, fix)


def _before(tokens: list[Token], token: Token | None) -> Token | None:
    if token is None:
        return tokens[-1] if tokens else None
    index = next((i for i, t in enumerate(tokens) if t is token), 0)
    return tokens[index - 1] if index else None


def _open_emphasis(tokens: list[Token], token: Token | None) -> Token | None:
    opened: list[Token] = []
    for t in tokens:
        if t is token:
            break
        if t.type.endswith(("BOLD_START", "ITALIC_START")):
            opened.append(t)
        elif t.type.endswith(("BOLD_END", "ITALIC_END")) and opened:
            opened.pop()
    return opened[-1] if opened else None


def statements_of(paragraph: Paragraph) -> list[Element]:
    """The numbered statements of a broken premise-conclusion structure that parse by themselves."""
    groups: list[list[Token]] = []
    for token in paragraph.tokens:
        if token.type == "NUMBER" or (token.type == "INFERENCE_START" and groups):
            groups.append([])
        elif groups:
            groups[-1].append(token)
    elements = []
    for group in groups:
        if group and group[0].type in ("STATEMENT_DEFINITION", "STATEMENT_REFERENCE"):
            try:
                node = parse_paragraph(group)
            except MisplacedError:
                continue
            if isinstance(node, Element) and node.kind == "statement":
                elements.append(node)
    return elements
