"""Summaries of a map in one form for this implementation and the reference, which must be equal."""

from __future__ import annotations

from typing import Any

from adapterlab.argmap.model.map import Map, Section

Summary = dict[str, Any]
_KINDS = {"claim": "equivalence-class", "argument": "argument", "inference": "inference"}


def of_map(the_map: Map) -> Summary:
    """Return the summary of a map read by adapterlab."""
    return {
        "statements": {
            title: {
                "texts": [_text(m.text) for m in claim.mentions],
                "roles": [m.role for m in claim.mentions],
                "references": [m.reference for m in claim.mentions],
                "tags": claim.tags,
                "data": claim.data,
                "section": claim.section,
            }
            for title, claim in the_map.claims.items()
        },
        "arguments": {
            title: {
                "texts": [_text(m.text) for m in argument.mentions if m.role == "description"],
                "tags": argument.tags,
                "data": argument.data,
                "section": argument.section,
                "structure": [list(item) for item in argument.numbered],
                "inferences": [[step.conclusion_index, step.rules, step.data] for step in argument.steps],
            }
            for title, argument in the_map.arguments.items()
        },
        "relations": [
            [
                r.kind,
                _KINDS[r.source.kind],
                r.source.title,
                _KINDS[r.target.kind],
                r.target.title,
                _index(r.target.index),
            ]
            for r in the_map.relations
        ],
        "sections": [_section(section) for section in the_map.sections],
        "tags": the_map.tags,
    }


def _index(index: int) -> int | None:
    return index if index >= 0 else None


def _text(text: str | None) -> str:
    return (text or "").strip()


def _section(section: Section) -> Summary:
    return {
        "id": section.id,
        "title": section.title,
        "level": section.level,
        "tags": section.tags,
        "data": section.data,
        "children": [_section(child) for child in section.children],
    }


_ROLES = {"top-level-statement": "top-level", "relation-statement": "relation", None: "list"}


def of_reference(exported: dict[str, Any]) -> Summary:
    """Return the summary of a JSON export of the reference."""
    return {
        "statements": {
            title: {
                "texts": [_text(m.get("text")) for m in ec["members"]],
                "roles": [_ROLES.get(m.get("role"), m.get("role")) for m in ec["members"]],
                "references": [bool(m.get("isReference")) for m in ec["members"]],
                "tags": ec.get("tags", []),
                "data": ec.get("data") or {},
                "section": ec.get("section"),
            }
            for title, ec in exported["statements"].items()
        },
        "arguments": {
            title: {
                "texts": [_text(m.get("text")) for m in argument["members"]],
                "tags": argument.get("tags", []),
                "data": argument.get("data") or {},
                "section": argument.get("section"),
                "structure": [[s["role"], s["title"]] for s in argument["pcs"]],
                "inferences": [
                    [i["conclusionIndex"], i.get("inferenceRules", []), i.get("data") or {}]
                    for s in argument["pcs"]
                    if (i := s.get("inference"))
                ],
            }
            for title, argument in exported["arguments"].items()
        },
        "relations": [
            [r["relationType"], r["fromType"], r["from"], r["toType"], r["to"], r.get("conclusionIndex")]
            for r in exported["relations"]
        ],
        "sections": [_reference_section(section) for section in exported["sections"]],
        "tags": list(exported["tags"]),
    }


def _reference_section(section: dict[str, Any]) -> Summary:
    return {
        "id": section["id"],
        "title": section["title"],
        "level": section["level"],
        "tags": section.get("tags") or [],
        "data": section.get("data") or {},
        "children": [_reference_section(child) for child in section["children"]],
    }
