r"""Construction of a map from its paragraphs: mentions become claims and arguments, structures become steps.

The order of processing (the numbering of untitled elements, the mention that determines a claim's section) is that of
the reference implementation.

>>> weather = parse("[Wet]: The street is wet.\n  + [Rain]: It rains.")
>>> list(weather.claims), len(weather.relations), weather.diagnostics
(['Wet', 'Rain'], 1, [])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, Mention, RelationKind, Section, Step
from adapterlab.argmap.model.mentions import add_mention, mention_of, title_of
from adapterlab.argmap.model.relations import WrittenRelation, resolve
from adapterlab.argmap.model.roles import assign_roles
from adapterlab.argmap.model.settings import explode_arguments, model_settings, regroup
from adapterlab.argmap.syntax.descent import MisplacedError, parse_paragraph
from adapterlab.argmap.syntax.diagnostics import Diagnostic, Source
from adapterlab.argmap.syntax.gc_pause import gc_paused
from adapterlab.argmap.syntax.includes import MAX_CHARACTERS, directives, expand
from adapterlab.argmap.syntax.inline import read_inline
from adapterlab.argmap.syntax.lexer import Lexer
from adapterlab.argmap.syntax.metadata import Metadata, MetadataError, read_block, read_front_matter
from adapterlab.argmap.syntax.nodes import (
    Element,
    FrontMatter,
    Heading,
    Inference,
    ListNode,
    Node,
    Numbered,
    RelationNode,
    Structure,
)
from adapterlab.argmap.syntax.recovery import explain, statements_of
from adapterlab.argmap.syntax.tokens import Paragraph, Token

_KINDS: dict[str, RelationKind] = {"+": "support", "-": "attack", "_": "undercut"}


def parse(text: str, name: str = "<map>", folder: Path | None = None) -> Map:
    """Read a map. Never raises: errors are collected in `Map.diagnostics`, and the rest of the map is read.

    Args:
        text: A text in Argdown, as the reference implementation (`@argdown/cli` 1.7.5) reads it.
        name: Name of the text in messages, for example its path.
        folder: Folder of the text, in which `@include(file)` finds files. Without it, no file is read, and the
            directives remain in the text, with a warning.

    Returns:
        The map. A text of more than 20 million characters gives an empty map with one error.
    """
    if len(text) > MAX_CHARACTERS:
        result = Map(Source("", name))
        message = f"a map has at most {MAX_CHARACTERS:,} characters, this one has {len(text):,}"
        result.diagnostics.append(Diagnostic("error", "too-large", message, 1))
        return result
    with gc_paused():
        if folder is not None:
            source, found = expand(text, name, folder)
        else:
            source = Source(text, name)
            found = [_not_included(source, at, end) for at, end in directives(text)]
        return _Reader(source, found).read()


def _not_included(source: Source, start: int, end: int) -> Diagnostic:
    message = f"{source.text[start:end]} remains in the text: it is not known which folder the map is in"
    return source.at("warning", "not-included", message, start, end, "read the map from a file")


class _Reader:
    def __init__(self, source: Source, found: list[Diagnostic]) -> None:
        self.source = source
        self.map = Map(source, diagnostics=found)
        self.untitled = 0
        self.section: Section | None = None
        self.open_sections: list[Section] = []
        self.section_count = 0
        self.relations: list[WrittenRelation] = []
        self.last_inference: Endpoint | None = None
        self.previous_argument: str | None = None
        self.in_relation = False
        self.structure: str | None = None
        """The argument whose premise-conclusion structure is being read."""
        self.tags: dict[str, None] = {}
        self.model: Mapping[str, object] = {}
        """The `model:` settings of the front matter."""
        self.without_tags = False
        """True if texts are without their tags."""

    def read(self) -> Map:
        lexer = Lexer(self.source)
        # A paragraph can consist of line breaks after a comment; the reference makes an empty claim of it.
        paragraphs = [p for p in lexer.read() if any(t.type not in ("NEWLINE", "DEDENT") for t in p.tokens)]
        self.map.diagnostics.extend(lexer.diagnostics)
        del lexer
        self._opening(paragraphs)
        if not paragraphs:
            self.map.diagnostics.append(self.source.at("error", "empty", "the map is empty", 0))
        paragraphs.reverse()
        while paragraphs:  # to save memory, each is dropped when it has been read, and the lexer was before
            self._paragraph(paragraphs.pop())
        for element in (*self.map.claims.values(), *self.map.arguments.values()):
            if element.section is None and element.mentions:
                element.section = element.mentions[0].section
            if len(element.mentions) == 1:
                element.tags = list(element.mentions[0].tags)
            else:
                element.tags = list(dict.fromkeys(chain.from_iterable(m.tags for m in element.mentions)))
        self.map.tags = list(self.tags)
        self.map.relations = resolve(self.relations, self.map)
        if self.model.get("explodeArguments"):
            explode_arguments(self.map)
        regroup(self.map)
        assign_roles(self.map)
        self.map.diagnostics.sort(key=lambda d: d.order)
        return self.map

    def _opening(self, paragraphs: list[Paragraph]) -> None:
        if paragraphs and paragraphs[0].tokens[0].type == "NEWLINE":
            del paragraphs[0].tokens[0]
            if not paragraphs[0].tokens:
                del paragraphs[0]
        if paragraphs and paragraphs[0].tokens[0].type == "FRONT_MATTER":
            first = paragraphs.pop(0)
            try:
                node = parse_paragraph(first.tokens)
            except MisplacedError as misplaced:
                self.map.diagnostics.append(explain(self.source, first, misplaced, None))
                return
            if isinstance(node, FrontMatter):
                self.map.settings = self._yaml(node.token, read_front_matter)
                self.model = model_settings(self.map.settings)
                self.without_tags = bool(self.model.get("removeTagsFromText"))

    def _paragraph(self, paragraph: Paragraph) -> None:
        argument, self.previous_argument = self.previous_argument, None
        if paragraph.failed:
            self._salvage(paragraph, argument)
            return
        try:
            node: Node = parse_paragraph(paragraph.tokens)
        except MisplacedError as misplaced:
            self.map.diagnostics.append(explain(self.source, paragraph, misplaced, argument))
            self._salvage(paragraph, argument)
            return
        if isinstance(node, Heading):
            self._heading(node)
        elif isinstance(node, Structure):
            self._structure(node, argument)
        elif isinstance(node, ListNode):
            for element in node.elements:
                self._element(element, "list")
        elif isinstance(node, FrontMatter):
            message = "front matter (===) is only allowed at the start of a file"
            self.map.diagnostics.append(self.source.at("error", "misplaced-front-matter", message, node.token.start))
        else:
            end = self._element(node, "top-level")
            self.previous_argument = end.title if end.kind == "argument" else None

    def _salvage(self, paragraph: Paragraph, argument: str | None) -> None:
        """Keep the definitions of a broken paragraph, so that references to them give no further errors."""
        first = paragraph.tokens[0]
        if first.type in ("ARGUMENT_DEFINITION", "ARGUMENT_REFERENCE"):
            self.previous_argument = self._argument(title_of(first) or "").title
            self.map.arguments[self.previous_argument].broken = True
        if first.type == "NUMBER" and argument is not None:
            self.map.arguments[argument].broken = True
        for element in statements_of(paragraph):
            element.relations = []
            self._element(element, "broken")
        for token in paragraph.tokens:
            title = title_of(token) if token.type == "STATEMENT_DEFINITION" else None
            if title and title not in self.map.claims:
                claim = self._claim(title)
                line, _ = self.source.place(token.start)
                claim.mentions.append(Mention(line, token.start, token.end, "broken"))

    # Sections

    def _heading(self, node: Heading) -> None:
        inline = read_inline(node.content, without_tags=self.without_tags)
        self.section_count += 1
        data = self._yaml(node.data, read_block) if node.data else {}
        line, _ = self.source.place(node.sign.start)
        level = len(node.sign.text) - 1
        section = Section(f"s{self.section_count}", (inline.text or "").strip(), level, line, inline.tags, data)
        self.tags |= dict.fromkeys(inline.tags)
        while self.open_sections and self.open_sections[-1].level >= level:
            self.open_sections.pop()
        (self.open_sections[-1].children if self.open_sections else self.map.sections).append(section)
        self.open_sections.append(section)
        self.section = section

    # Statements and arguments

    def _element(self, element: Element, role: str) -> Endpoint:
        title = title_of(element.head.title) if element.head.title else None
        if title is None:
            title = self._untitled()
        claim_or_argument = self._claim(title) if element.kind == "statement" else self._argument(title)
        mention = self._mention(element, role)
        end = Endpoint("claim" if element.kind == "statement" else "argument", title)
        for relation in element.relations:
            self._relation(end, relation)
        add_mention(claim_or_argument, mention)
        return end

    def _mention(self, element: Element, role: str) -> Mention:
        if role != "broken" and (element.kind == "argument" or self.in_relation):
            role = "description" if element.kind == "argument" else "relation"
        mention = mention_of(element, role, self.source, self.without_tags)
        if mention.tags:
            self.tags |= dict.fromkeys(mention.tags)
        if element.data:
            mention.data = self._yaml(element.data, read_block)
        if self.section:
            mention.section = self.section.id
        return mention

    def _claim(self, title: str) -> Claim:
        claim = self.map.claims.get(title)
        if claim is None:
            claim = self.map.claims[title] = Claim(title)
        return claim

    def _argument(self, title: str) -> Argument:
        argument = self.map.arguments.get(title)
        if argument is None:
            argument = self.map.arguments[title] = Argument(title)
        return argument

    def _untitled(self) -> str:
        self.untitled += 1
        return f"Untitled {self.untitled}"

    # Relations

    def _relation(self, parent: Endpoint, node: RelationNode) -> None:
        sign = node.sign.text
        kind: RelationKind = "contradictory" if sign == "><" else _KINDS[sign.strip("<>")]
        outer, self.in_relation = self.in_relation, True
        member = self._element(node.member, "relation")
        self.in_relation = outer
        forward = sign.endswith(">")
        source, target = (parent, member) if forward or sign == "><" else (member, parent)
        if kind == "undercut" and not forward and target.kind == "claim" and self.last_inference:
            # As in the reference, an undercut below a claim undercuts the last inference before it.
            if self.structure != self.last_inference.title:
                message = (
                    f"this undercut below {target} is read as an undercut of the last inference before it,"
                    f" in {self.last_inference}"
                )
                fix = "write the undercut below the argument or inference that it undercuts"
                found = self.source.at("warning", "undercut-of-claim", message, node.sign.start, node.sign.end, fix)
                self.map.diagnostics.append(found)
            target = self.last_inference
        line, _ = self.source.place(node.sign.start)
        self.relations.append(WrittenRelation(kind, source, target, line))

    # Premise-conclusion structures

    def _structure(self, node: Structure, title: str | None) -> None:
        argument = self._argument(title if title is not None else self._untitled())
        if argument.steps:
            message = f"<{argument.title}> has two premise-conclusion structures"
            first = node.items[0]
            start = first.number.start if isinstance(first, Numbered) else first.start.start
            fix = "give the second structure its own argument title"
            self.map.diagnostics.append(self.source.at("error", "two-structures", message, start, fix=fix))
            return
        if self.section:
            argument.section = self.section.id
        self.structure = argument.title
        premises: list[str] = []
        inference: Inference | None = None
        for item in node.items:
            if isinstance(item, Inference):
                inference = item
                self._undercuts(item, Endpoint("inference", argument.title, len(argument.numbered)))
                continue
            role = "premise" if inference is None else "intermediary-conclusion"
            end = self._element(item.statement, role)
            mention = self.map.claims[end.title].mentions[-1]
            mention.role, mention.argument = role, argument.title
            if inference is None:
                premises.append(end.title)
            else:
                step = self._step(inference, premises, end.title, mention)
                step.conclusion_index = len(argument.numbered)
                argument.steps.append(step)
                premises, inference = [], None
            argument.numbered.append((role, end.title))
            if not argument.mentions:
                argument.mentions.append(Mention(mention.line, mention.start, mention.end, "structure", reference=True))
        self.structure = None
        main = self.map.claims[argument.steps[-1].conclusion]
        main.mentions[-1].role = "main-conclusion"
        argument.numbered[-1] = ("main-conclusion", argument.numbered[-1][1])

    def _undercuts(self, node: Inference, end: Endpoint) -> None:
        self.last_inference = end
        for relation in node.undercuts:
            self._relation(end, relation)

    def _step(self, node: Inference, premises: list[str], conclusion: str, mention: Mention) -> Step:
        data = self._yaml(node.data, read_block) if node.data else {}
        stated = next(
            (v for v in (mention.data.get("inference"), data.get("inference"), data.get("credence")) if v is not None),
            None,
        )
        number = float(stated) if isinstance(stated, int | float) and not isinstance(stated, bool) else None
        step = Step(premises, conclusion, number, [rule.text.strip() for rule in node.rules], data)
        step.line, _ = self.source.place(node.start.start)
        if node.data:
            step.data_start, step.data_end = node.data.start, node.data.end
        return step

    def _yaml(self, token: Token, read: Callable[[str], Metadata]) -> Metadata:
        try:
            return read(token.text)
        except MetadataError as error:
            self.map.diagnostics.append(self.source.at("error", "metadata", str(error), token.start + error.offset))
            return {}
