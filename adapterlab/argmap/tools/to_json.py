r"""Export of a map as JSON in the form of the reference implementation's `argdown json`.

Fields of the reference that describe positions inside a text (`ranges`, `endLine`, `endColumn`) are left out. Fields of
our own are `credence` and `stated` of statements, `strength` of arguments, and `inference.probability`.

>>> from adapterlab.argmap.model.build import parse
>>> from adapterlab.argmap.scoring.scores import score
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> exported = as_json(weather, score(weather))
>>> exported["relations"][0]["from"], exported["statements"]["Rain"]["credence"]
('Rain', 0.8)
"""

from __future__ import annotations

import json
from typing import Any

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, Mention, Relation, Section, Step
from adapterlab.argmap.scoring.scores import Scores
from adapterlab.argmap.tools.characters import legible
from adapterlab.argmap.tools.colours import Colours
from adapterlab.argmap.tools.section_depth import refuse_deep_sections

Json = dict[str, Any]
_TYPES = {"claim": "equivalence-class", "argument": "argument", "inference": "inference"}
_ROLES = {
    "top-level": "top-level-statement",
    "relation": "relation-statement",
    "description": "argument-description",
    "list": None,
    "broken": None,
}
_USES = {
    "top-level": "isUsedAsTopLevelStatement",
    "relation": "isUsedAsRelationStatement",
    "premise": "isUsedAsPremise",
    "intermediary-conclusion": "isUsedAsIntermediaryConclusion",
    "main-conclusion": "isUsedAsMainConclusion",
}


def to_json(the_map: Map, scores: Scores) -> str:
    """Return a map as the text of a JSON file.

    Args:
        the_map: The map.
        scores: Its scores.

    Raises:
        AdapterlabError: Sections are nested more than 100 levels deep.
    """
    return legible(json.dumps(as_json(the_map, scores), ensure_ascii=False, indent=2)) + "\n"


def as_json(the_map: Map, scores: Scores) -> Json:
    """Return a map as a JSON object.

    Args:
        the_map: The map.
        scores: Its scores; claims and arguments without a score have no `credence` or `strength`.

    Returns:
        `arguments`, `statements`, `relations`, `sections` and `tags`.

    Raises:
        AdapterlabError: Sections are nested more than 100 levels deep.
    """
    refuse_deep_sections(the_map)
    return _Export(the_map, scores).whole()


class _Export:
    def __init__(self, the_map: Map, scores: Scores) -> None:
        self.map, self.scores, self.colours = the_map, scores, Colours(the_map)
        self.relations: dict[Endpoint, list[Json]] = {}
        for relation in the_map.relations:
            shown = _relation(relation)
            for end in dict.fromkeys((relation.source, relation.target)):
                self.relations.setdefault(end, []).append(shown)
        self.steps = {(a.title, s.conclusion_index): s for a in the_map.arguments.values() for s in a.steps}
        places: dict[tuple[str, str], list[int]] = {}
        for argument in the_map.arguments.values():
            for index, (_, title) in enumerate(argument.numbered):
                places.setdefault((argument.title, title), []).append(index)
        self.places = {key: iter(indices) for key, indices in places.items()}
        """Positions of each statement in each structure, in the order of its mentions."""
        self.members: dict[tuple[str, int], Json] = {}
        """Statements of structures, by argument and position."""

    def whole(self) -> Json:
        statements = {title: self._statement(claim) for title, claim in self.map.claims.items()}
        return {
            "arguments": {title: self._argument(argument) for title, argument in self.map.arguments.items()},
            "statements": statements,
            "relations": [_relation(relation) for relation in self.map.relations],
            "sections": [self._section(section, None) for section in self.map.sections],
            "tags": {
                tag: {"tag": tag, "occurrenceIndex": number, **_given(color=self.colours.tag_colours.get(tag))}
                for number, tag in enumerate(self.map.tags)
            },
        }

    def _statement(self, claim: Claim) -> Json:
        end = Endpoint("claim", claim.title)
        found = self.scores.claims.get(claim.title)
        members = [self._member(mention, claim.title) for mention in claim.mentions]
        uses = {_USES[m.role]: True for m in claim.mentions if m.role in _USES}
        return {
            "type": "equivalence-class",
            "title": claim.title,
            "relations": self.relations.get(end, []),
            "members": members,
            **_given(tags=claim.tags, data=claim.data, section=claim.section),
            **uses,
            "fontColor": self.colours.font("statementFontColor"),
            **_given(color=self.colours.of(end), credence=found.credence if found else None, stated=claim.credence),
        }

    def _member(self, mention: Mention, title: str) -> Json:
        line, column = self.map.source.place(mention.start)
        member: Json = {
            "type": "statement",
            **_given(role=_ROLES.get(mention.role, mention.role)),
            "title": title,
            **_given(
                isTopLevel=mention.role == "top-level" or None,
                isReference=mention.reference or None,
                text=mention.text,
                tags=mention.tags,
                data=mention.data,
                section=mention.section,
                argumentTitle=mention.argument,
            ),
            "startLine": line,
            "startColumn": column,
        }
        if mention.argument in self.map.arguments:
            self._place(member, mention)
        return member

    def _place(self, member: Json, mention: Mention) -> None:
        """Keep a member for `pcs` of its argument, and add the inference that leads to it."""
        argument = self.map.arguments[str(mention.argument)]
        index = next(self.places[argument.title, member["title"]])
        self.members[argument.title, index] = member
        step = self.steps.get((argument.title, index))
        if step:
            member["inference"] = self._inference(argument, step)

    def _inference(self, argument: Argument, step: Step) -> Json:
        end = Endpoint("inference", argument.title, step.conclusion_index)
        return {
            "type": "inference",
            "relations": self.relations.get(end, []),
            "inferenceRules": step.rules,
            **_given(data=step.data),
            "conclusionIndex": step.conclusion_index,
            "argumentTitle": argument.title,
            "startLine": step.line,
            **_given(probability=step.inference),
        }

    def _argument(self, argument: Argument) -> Json:
        end = Endpoint("argument", argument.title)
        found = self.scores.arguments.get(argument.title)
        places = [m for m in argument.mentions if m.role != "structure"]
        pcs = [self.members[argument.title, index] for index in range(len(argument.numbered))]
        return {
            "type": "argument",
            "title": argument.title,
            "relations": self.relations.get(end, []),
            "members": [self._member(mention, argument.title) for mention in places],
            "pcs": pcs,
            **_given(tags=argument.tags, data=argument.data, section=argument.section),
            **({"startLine": pcs[0]["startLine"]} if pcs else {}),
            "fontColor": self.colours.font("argumentFontColor"),
            **_given(color=self.colours.of(end), strength=found.strength if found else None),
        }

    def _section(self, section: Section, parent: str | None) -> Json:
        return {
            "type": "section",
            "id": section.id,
            "level": section.level,
            "title": section.title,
            "children": [self._section(child, section.id) for child in section.children],
            **_given(tags=section.tags, data=section.data, parent=parent),
            "startLine": section.line,
            "fontColor": self.colours.font("groupFontColor"),
            **_given(color=self.colours.of_section(section)),
        }


def _relation(relation: Relation) -> Json:
    source, target = relation.source, relation.target
    return {
        "type": "relation",
        "relationType": relation.kind,
        "from": source.title,
        "fromType": _TYPES[source.kind],
        "to": target.title,
        "toType": _TYPES[target.kind],
        **({"conclusionIndex": target.index} if target.kind == "inference" else {}),
    }


def _given(**fields: object) -> Json:
    """Return the fields that are neither None nor empty."""
    return {key: value for key, value in fields.items() if value is not None and value != [] and value != {}}
