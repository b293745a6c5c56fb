r"""Relations of a map: those in the text, with arguments replaced by their conclusions and duplicates merged.

The rules are those of the reference implementation's model plugin.

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("<A>\n\n(1) [Rain]: It rains.\n----\n(2) [Wet]: It is wet.\n\n<A>\n  +> [Slippery]: It is slippery.")
>>> [(relation.kind, str(relation.source), str(relation.target)) for relation in weather.relations]
[('support', '[Wet]', '[Slippery]')]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapterlab.argmap.model.map import Endpoint, Relation, RelationKind

if TYPE_CHECKING:
    from adapterlab.argmap.model.map import Map

_Key = tuple[Endpoint, Endpoint, RelationKind]


@dataclass
class WrittenRelation:
    """One occurrence of a relation in the text."""

    kind: RelationKind
    source: Endpoint
    target: Endpoint
    line: int
    """Line number, from 1."""


def resolve(written: list[WrittenRelation], the_map: Map) -> list[Relation]:
    """Return the relations of a map, each once, in the order of the text.

    An argument with a premise-conclusion structure is replaced by its conclusion, and in strict mode support becomes
    entailment and attack becomes contrariness.

    Args:
        written: All occurrences of relations in the text.
        the_map: The map, with its arguments and settings.
    """
    relations = _written_once(written)
    relations = _from_conclusions(relations, the_map)
    if the_map.strict:
        relations = _logical(relations)
    return _without_repeated_attacks(relations, the_map)


def _written_once(written: list[WrittenRelation]) -> list[Relation]:
    known: dict[_Key, Relation] = {}
    pointing: dict[tuple[Endpoint, RelationKind], Relation] = {}
    for raw in written:
        key = (raw.source, raw.target, raw.kind)
        place = (raw.source, raw.target, raw.line)
        mirrored = (raw.target, raw.source, raw.kind)
        same = known.get(key) or (known.get(mirrored) if raw.kind == "contradictory" else None)
        if raw.source == raw.target:  # the reference merges it with any relation of this kind that has this target
            same = same or pointing.get((raw.target, raw.kind))
        if same:
            same.written.append(place)
        else:
            known[key] = Relation(raw.kind, raw.source, raw.target, [place])
            pointing.setdefault((raw.target, raw.kind), known[key])
    return list(known.values())


def _from_conclusions(relations: list[Relation], the_map: Map) -> list[Relation]:
    """Replace arguments that have a structure: as sources by their conclusions, as undercut targets by inferences."""
    known = {(r.source, r.target, r.kind): r for r in relations}
    kept: list[Relation] = []
    for relation in relations:
        source, target = relation.source, relation.target
        if source.kind == "argument" and (conclusion := the_map.arguments[source.title].conclusion) is not None:
            source = Endpoint("claim", conclusion)
        if relation.kind == "undercut" and target.kind == "argument" and the_map.arguments[target.title].steps:
            target = Endpoint("inference", target.title, the_map.arguments[target.title].steps[-1].conclusion_index)
        if (source, target) != (relation.source, relation.target):
            del known[relation.source, relation.target, relation.kind]
            if source == target:  # a relation of an argument to its own conclusion
                continue
            same = known.get((source, target, relation.kind))
            if same:
                same.written.extend(relation.written)
                continue
            relation.source, relation.target = source, target
            known[source, target, relation.kind] = relation
        kept.append(relation)
    return kept


def _logical(relations: list[Relation]) -> list[Relation]:
    kept: list[Relation] = []
    contraries: set[frozenset[Endpoint]] = set()
    for relation in relations:
        if relation.source.kind == relation.target.kind == "claim":
            if relation.kind == "support":
                relation.kind = "entails"
            elif relation.kind == "attack":
                pair = frozenset((relation.source, relation.target))
                if pair in contraries:
                    continue
                contraries.add(pair)
                relation.kind = "contrary"
        kept.append(relation)
    return kept


def _without_repeated_attacks(relations: list[Relation], the_map: Map) -> list[Relation]:
    """Drop attacks on an argument by a claim that already attacks one of its premises."""
    opposed: dict[_Key | tuple[Endpoint, Endpoint], Relation] = {}
    for relation in relations:
        if relation.source.kind == relation.target.kind == "claim":
            if relation.kind in ("attack", "contrary", "contradictory"):
                opposed.setdefault((relation.source, relation.target), relation)
            if relation.kind in ("contrary", "contradictory"):
                opposed.setdefault((relation.target, relation.source), relation)
    kept: list[Relation] = []
    for relation in relations:
        if relation.kind == "attack" and relation.source.kind == "claim" and relation.target.kind == "argument":
            premises = the_map.arguments[relation.target.title].premises
            same = next(
                (opposed[k] for p in premises if (k := (relation.source, Endpoint("claim", p))) in opposed), None
            )
            if same:
                same.written.extend(relation.written)
                continue
        kept.append(relation)
    return kept
